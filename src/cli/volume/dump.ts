/** `juicepod dump`: the metadata of a volume as a file, spelled as `juicefs dump` spells it. */
import { UserError } from '../../lib/errors.ts';
import { dumpBinary } from '../../meta/dump/binary-dump.ts';
import { writeFile } from '../../meta/dump/files.ts';
import { dumpJson, type JsonDumpOptions } from '../../meta/dump/json-dump.ts';
import { openEngine } from '../../meta/open.ts';
import { redactUrl } from '../../meta/url.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { showProgress } from '../progress.ts';
import type { Output } from '../report.ts';
import { COMMAND_PATIENCE_MS, formatOf } from '../volume.ts';

interface Options {
  readonly subdir?: string;
  readonly keepSecretKey?: boolean;
  readonly threads: string;
  readonly skipTrash?: boolean;
  readonly binary?: boolean;
  readonly output: Output;
}

export async function dumpCommand(url: string, file: string | undefined, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const path = file === '' || file === '-' ? undefined : file;
  const threads = wholeNumberOf(options.threads, '--threads', 1, 50);
  const signal = endingSignal();
  const warnings = new Set<string>();
  let count = 0;
  const common: JsonDumpOptions = {
    keepSecrets: options.keepSecretKey ?? false,
    threads,
    signal,
    onProgress: (more) => (count += more),
    // A volume may be damaged in many places.
    onWarning: (message) => {
      if (warnings.size < 1000) warnings.add(message);
    },
  };
  const engine = await openEngine(url, { existing: true, readOnly: true, patience: COMMAND_PATIENCE_MS });
  const what = options.binary ? 'records' : 'files and directories';
  const progress = showProgress(() => `${count} ${what}`);
  try {
    const format = await formatOf(engine, url);
    const { binary = false, skipTrash = false, subdir } = options;
    if (binary && (subdir !== undefined || skipTrash))
      throw new UserError('InvalidOption', '--binary dumps the whole volume: --subdir and --skip-trash are for JSON.');
    if (binary && !options.keepSecretKey && format.encryptKey !== '')
      warnings.add(
        'the key of this encrypted volume is not in the dump (it is with --keep-secret-key): without it no object can be read',
      );
    await writeFile(
      path,
      (sink) =>
        binary
          ? dumpBinary(engine, sink, common)
          : dumpJson(engine, sink, { ...common, skipTrash, ...(subdir === undefined ? {} : { directory: subdir }) }),
      signal,
    );
    progress.end();
    const removed = !options.keepSecretKey && (format.secretKey !== '' || format.sessionToken !== '');
    if (removed) warnings.add('keys of the object store are not in the dump (they are with --keep-secret-key)');
    for (const warning of warnings) process.stderr.write(`juicepod: ${warning}\n`);
    // Standard output may be the dump itself.
    if (options.output === 'json' && path !== undefined)
      process.stdout.write(
        `${JSON.stringify({ file: path, [binary ? 'records' : 'entries']: count, warnings: [...warnings] }, undefined, 2)}\n`,
      );
    else process.stderr.write(`${redactUrl(url)} dumped to ${path ?? 'standard output'}: ${count} ${what}\n`);
  } catch (error) {
    if (signal.aborted)
      throw new UserError(
        'Interrupted',
        `The dump was interrupted after ${count} ${what}${path === undefined ? '' : `; ${path} was not written`}.`,
      );
    throw error;
  } finally {
    progress.end();
    await engine.close();
  }
}
