/** `juicepod load`: makes a volume in an empty database of a dump, and shows what is in a binary one. */
import { readFileSync } from 'node:fs';
import { messageOf, UserError } from '../../lib/errors.ts';
import { loadBinary } from '../../meta/dump/binary-load.ts';
import { readFile } from '../../meta/dump/files.ts';
import type { LoadOptions } from '../../meta/dump/guard.ts';
import { loadJson } from '../../meta/dump/json-load.ts';
import { openSealed } from '../../meta/dump/sealed.ts';
import { segmentText, summaryOf } from '../../meta/dump/stat.ts';
import { openEngine } from '../../meta/open.ts';
import { redactUrl } from '../../meta/url.ts';
import { endingSignal, readText } from '../options.ts';
import { showProgress } from '../progress.ts';
import { columns, type Output, print } from '../report.ts';
import { PASSPHRASE_VARIABLE } from '../mount/settings.ts';
import { COMMAND_PATIENCE_MS } from '../volume.ts';

interface Options {
  readonly binary?: boolean;
  readonly stat?: boolean;
  readonly offset?: string;
  readonly restart?: boolean;
  readonly encryptRsaKey?: string;
  readonly encryptAlgo: string;
  readonly output: Output;
}

/** The bytes of the dump, decrypted where a key is given. */
function sourceOf(
  path: string | undefined,
  { encryptRsaKey, encryptAlgo }: Options,
  signal?: AbortSignal,
): AsyncIterable<Uint8Array> {
  if (encryptRsaKey === undefined) return readFile(path, signal);
  if (path === undefined) throw new UserError('InvalidOption', 'An encrypted dump is read from a file: name it.');
  const key = readText(encryptRsaKey, '--encrypt-rsa-key');
  const passphrase = process.env[PASSPHRASE_VARIABLE];
  const sealed = (): Buffer => {
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new UserError('FileUnreadable', `${path} cannot be read: ${messageOf(cause)}`, { cause });
    }
  };
  return openSealed(path, sealed, { key, passphrase, algorithm: encryptAlgo });
}

export async function loadCommand(
  first: string,
  second: string | undefined,
  raw: Readonly<Record<string, unknown>>,
): Promise<void> {
  const options = raw as unknown as Options;
  if (options.stat) return stat(second ?? first, options);
  if (options.offset !== undefined)
    throw new UserError('InvalidOption', '--offset shows a part of a binary dump: give --stat as well.');
  const path = second === undefined || second === '' || second === '-' ? undefined : second;
  const signal = endingSignal();
  const warnings: string[] = [];
  let count = 0;
  const source = sourceOf(path, options, signal);
  const engine = await openEngine(first, { patience: COMMAND_PATIENCE_MS });
  const what = options.binary ? 'records' : 'files and directories';
  const progress = showProgress(() => `${count} ${what}`);
  const load: LoadOptions = {
    restart: options.restart ?? false,
    signal,
    onProgress: (more) => (count += more),
    onWarning: (message) => warnings.push(message),
  };
  try {
    const { name, removed } = await (options.binary ? loadBinary(engine, source, load) : loadJson(engine, source, load));
    progress.end();
    if (removed.length > 0)
      warnings.push(
        `${removed.join(', ')} of the volume ${removed.length === 1 ? 'was' : 'were'} removed when it was dumped: ${
          removed.includes('EncryptKey') ? 'without its key no object can be read' : 'set it with `juicepod config`'
        }`,
      );
    for (const warning of warnings) process.stderr.write(`juicepod: ${warning}\n`);
    print(
      options.output,
      { volume: name, [options.binary ? 'records' : 'entries']: count, removed, warnings },
      `Volume ${name} loaded into ${redactUrl(first)}: ${count} ${what}. Do not use it together with the database that it was dumped from.`,
    );
  } catch (error) {
    if (signal.aborted && !(error instanceof UserError))
      throw new UserError('Interrupted', 'The load was interrupted; what it had written was removed.', {
        hint: 'Run it again to begin anew.',
      });
    throw error;
  } finally {
    progress.end();
    await engine.close();
  }
}

/** What is in a binary dump. */
async function stat(path: string, options: Options): Promise<void> {
  const at = options.offset;
  if (at !== undefined && !/^(-1|\d{1,15})$/.test(at))
    throw new UserError('InvalidOption', `--offset: wanted where a segment begins, or -1 for a list of that; found ${at}`);
  const source = (): AsyncIterable<Uint8Array> => sourceOf(path, options);
  if (at !== undefined && at !== '-1') {
    process.stdout.write(`${await segmentText(source(), Number(at))}\n`);
    return;
  }
  const { version, segments } = await summaryOf(path, source, options.encryptRsaKey === undefined);
  const rows = segments.map(({ name, count, offsets }) => [
    name,
    String(count),
    ...(at === undefined ? [] : [offsets.join(' ')]),
  ]);
  print(
    options.output,
    { version, segments },
    `Backup Version: ${version}\n${columns([['Name', 'Num', ...(at === undefined ? [] : ['Offset'])], ...rows])}`,
  );
}
