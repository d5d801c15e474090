/**
 * `juicepod profile`: which operations a mount is asked for, and what they cost, out of its access log; live of a mount, of either
 * client, or all at once of a log that was kept.
 */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { messageOf, UserError } from '../../lib/errors.ts';
import { mountRoot, openAccessLog } from './mounted.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { type Filter, Lines, type LogEntry, parseLine, passes, Profile, type Share } from './profile-log.ts';
import type { Output } from '../report.ts';

const READ_BYTES = 65_536;
const CLEAR_SCREEN = '\x1b[2J\x1b[1;1H';

interface ProfileCommand {
  readonly uid?: string;
  readonly gid?: string;
  readonly pid?: string;
  readonly interval?: string;
  readonly output: Output;
}

/** Numbers separated by commas. */
function numbersOf(text: string | undefined, option: string): readonly number[] {
  return (text ?? '')
    .split(',')
    .filter((each) => each !== '')
    .map((each) => wholeNumberOf(each, option, 0, 2 ** 32 - 1));
}

/** What was done in `seconds`, which ended at `end`. */
function show(shares: readonly Share[], seconds: number, end: Date, output: Output): void {
  if (output === 'json') {
    const operations = shares.map(({ operation, count, total }) => ({ operation, count, total_us: total }));
    process.stdout.write(`${JSON.stringify({ time: end.toISOString(), seconds, operations })}\n`);
    return;
  }
  const row = (...cells: readonly [string, string, string, string, string]): string =>
    `${cells[0].padEnd(16)} ${cells[1].padStart(10)} ${cells[2].padStart(15)} ${cells[3].padStart(18)} ${cells[4].padStart(14)}\n`;
  const rows = shares.map(({ operation, count, total }) => {
    // Of one thread's time: several that wait at once come to more than 100.
    const percent = seconds > 0 ? (total / (seconds * 1e6)) * 100 : 0;
    return row(operation, String(count), (total / count).toFixed(0), String(total), percent.toFixed(1));
  });
  const head = `> ${end.toISOString().slice(0, 19)}  ${seconds.toFixed(seconds < 10 ? 1 : 0)} s\n`;
  process.stdout.write(
    `${process.stdout.isTTY ? CLEAR_SCREEN : ''}${head}${row('Operation', 'Count', 'Average(us)', 'Total(us)', 'Percent(%)')}${rows.join('')}\n`,
  );
}

export async function profileCommand(path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as ProfileCommand;
  const filter = {
    uid: numbersOf(options.uid, '--uid'),
    gid: numbersOf(options.gid, '--gid'),
    pid: numbersOf(options.pid, '--pid'),
  };
  const interval = options.interval === undefined ? undefined : wholeNumberOf(options.interval, '--interval', 0, 86_400);
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UserError(
      'PathMissing',
      `${path}: ${code === 'ENOENT' ? 'there is no such file or directory' : messageOf(error)}`,
      {
        hint: 'Give a mount point, or a file that an access log was copied to.',
      },
    );
  }
  if (!isFolder) return replay(path, filter, interval ?? 0, options.output);
  if (interval === 0) throw new UserError('InvalidNumber', '--interval 0 is for a file: what a mount does has no end');
  return live(path, filter, interval ?? 2, options.output);
}

async function live(path: string, filter: Filter, interval: number, output: Output): Promise<void> {
  const mount = await mountRoot(path);
  const ending = endingSignal();
  const log = await openAccessLog(mount);
  const profile = new Profile();
  const lines = new Lines();
  const buffer = Buffer.alloc(READ_BYTES);
  let begin = performance.now();
  try {
    show([], 0, new Date(), output);
    // A mount where nothing happens answers once a second.
    while (!ending.aborted) {
      const { bytesRead } = await log.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0)
        throw new UserError('MountEnded', `${path} tells nothing any more: it was unmounted, or its client ended`);
      for (const line of lines.push(buffer.toString('latin1', 0, bytesRead))) {
        const entry = parseLine(line);
        if (entry && passes(entry, filter)) profile.add(entry);
      }
      const now = performance.now();
      if (now - begin < interval * 1000) continue;
      show(profile.take(), (now - begin) / 1000, new Date(), output);
      begin = now;
    }
  } finally {
    await log.close();
  }
}

/** One table for the whole log; with an interval, one for each of its pieces. */
async function replay(path: string, filter: Filter, interval: number, output: Output): Promise<void> {
  const profile = new Profile();
  const lines = new Lines();
  let first: number | undefined;
  let last = 0;
  let edge = Infinity;
  const look = (entry: LogEntry | undefined): void => {
    if (!entry || !passes(entry, filter)) return;
    if (first === undefined) {
      first = entry.time;
      if (interval > 0) edge = first + interval * 1000;
    }
    for (; entry.time > edge; edge += interval * 1000) show(profile.take(), interval, new Date(edge), output);
    profile.add(entry);
    last = Math.max(last, entry.time);
  };
  try {
    for await (const chunk of createReadStream(path, 'latin1'))
      for (const line of lines.push(chunk as string)) look(parseLine(line));
  } catch (error) {
    throw new UserError('Unreadable', `${path} cannot be read: ${messageOf(error)}`);
  }
  for (const line of lines.end()) look(parseLine(line));
  if (first === undefined)
    throw new UserError(
      'NoOperations',
      `${path} holds no operation${Object.values(filter).some(({ length }) => length > 0) ? ' of those wanted' : ''}`,
      {
        hint: 'A log is made by: cat MOUNTPOINT/.accesslog > FILE',
      },
    );
  const begin = interval > 0 ? edge - interval * 1000 : first;
  show(profile.take(), (last - begin) / 1000, new Date(last), output);
}
