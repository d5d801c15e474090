/** `juicepod changelog`: follows the change log of a volume, whichever client writes it. */
import { once } from 'node:events';
import { systemClock } from '../../lib/clock.ts';
import { FsError, UserError } from '../../lib/errors.ts';
import { followLog } from '../../meta/changelog-read.ts';
import { parseEntry } from '../../meta/changelog-text.ts';
import { openEngine } from '../../meta/open.ts';
import { redactUrl } from '../../meta/url.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import type { Output } from '../report.ts';
import { COMMAND_PATIENCE_MS, formatOf } from '../volume.ts';

interface Options {
  readonly from: string;
  readonly all?: boolean;
  readonly once?: boolean;
  readonly output: Output;
}

/** An entry on a line of JSON; what has another form than it should is there as its text alone. */
function inJson(number: number, text: string): string {
  const entry = parseEntry(text);
  if (!entry) return JSON.stringify({ number, entry: text });
  const { sec, nsec, operation, args, result, session } = entry;
  const time = `${new Date(sec * 1000).toISOString().slice(0, 19)}.${String(nsec).padStart(9, '0')}Z`;
  const shown = { number, time, operation, args, ...(result === undefined ? {} : { result }), session, count: entry.number };
  return JSON.stringify({ ...shown, entry: text });
}

export async function changelogCommand(url: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as Options;
  const { output, all = false } = options;
  const from = wholeNumberOf(options.from, '--from', 0, Number.MAX_SAFE_INTEGER);
  const signal = endingSignal();
  const engine = await openEngine(url, { existing: true, readOnly: true, patience: COMMAND_PATIENCE_MS });
  // Whoever reads our output may have heard enough.
  const reader = new AbortController();
  process.stdout.on('error', () => reader.abort());
  try {
    const format = await formatOf(engine, url);
    if (!format.changeLog)
      throw new UserError('NoChangeLog', `the volume "${format.name}" keeps no change log`, {
        hint: `Switch it on with: juicepod config '${redactUrl(url)}' --changelog`,
      });
    const batches = followLog(engine, {
      ...(all ? { after: 0 } : from > 0 ? { after: from } : {}),
      once: options.once ?? false,
      onMissed: (first, last) => {
        if (!all) process.stderr.write(`juicepod: entries ${first} to ${last} were removed from the log before they were read\n`);
      },
      clock: systemClock,
      signal: AbortSignal.any([signal, reader.signal]),
    });
    for await (const entries of batches) {
      const lines = entries.map(({ number, text }) => (output === 'json' ? inJson(number, text) : `${number}: ${text}`));
      if (!process.stdout.write(`${lines.join('\n')}\n`)) await once(process.stdout, 'drain', { signal: reader.signal });
    }
  } catch (error) {
    if (reader.signal.aborted || signal.aborted) return;
    throw error instanceof FsError ? new UserError('MetaAway', `the change log cannot be read: ${error.message}`) : error;
  } finally {
    await engine.close();
  }
}
