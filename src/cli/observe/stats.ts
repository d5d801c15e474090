/**
 * `juicepod stats`: what a mount does, second by second, out of its `.stats`; works on mounts of the official client, too. On a
 * terminal the line of the interval that runs is drawn anew each second; elsewhere there is one line for each interval.
 */
import { UserError } from '../../lib/errors.ts';
import { mountRoot, readStats } from './mounted.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import type { Output } from '../report.ts';
import { coloured, type Figures, header, line, plain, SCHEMA_LETTERS, sectionsOf, values } from './stats-table.ts';

/** Lines between two headers. */
const PAGE = 30;

interface StatsCommand {
  readonly schema: string;
  readonly interval: string;
  readonly verbosity: string;
  readonly count: string;
  readonly color: boolean;
  readonly output: Output;
}

interface Reading {
  readonly figures: Figures;
  /** Monotonic milliseconds. */
  readonly at: number;
}

/** `MM-DD hh:mm:ss` of this place. */
function clockTime(): string {
  const now = new Date();
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `${day} ${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
}

/** False where the signal aborted meanwhile. */
export function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((done) => {
    if (signal.aborted) return done(false);
    const aborted = (): void => {
      clearTimeout(timer);
      done(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', aborted);
      done(true);
    }, ms);
    signal.addEventListener('abort', aborted, { once: true });
  });
}

export async function statsCommand(path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as StatsCommand;
  const interval = wholeNumberOf(options.interval, '--interval', 1, 86_400);
  const most = wholeNumberOf(options.count, '--count', 0, 1_000_000_000) || Infinity;
  const verbose = wholeNumberOf(options.verbosity, '--verbosity', 0, 10) > 0;
  const unknown = options.schema.split('').find((letter) => !SCHEMA_LETTERS.includes(letter));
  if (unknown !== undefined || options.schema === '')
    throw new UserError(
      'InvalidSchema',
      `--schema: wanted letters of ${SCHEMA_LETTERS.join('')}, found ${JSON.stringify(unknown ?? '')}`,
      { hint: 't time, u usage, f fuse, m meta, c blockcache, o object, g heap' },
    );
  const sections = sectionsOf(options.schema, verbose);
  const mount = await mountRoot(path);
  const isTerminal = process.stdout.isTTY;
  const paint = isTerminal && options.color && !process.env['NO_COLOR'] ? coloured : plain;
  const ending = endingSignal();
  const read = async (): Promise<Reading> => ({ figures: await readStats(mount), at: performance.now() });
  const show = (before: Reading, now: Reading): void => {
    const seconds = (now.at - before.at) / 1000;
    if (options.output === 'json') {
      const figures = values(sections, before.figures, now.figures, seconds);
      process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), seconds, ...figures })}\n`);
      return;
    }
    const text = line(sections, before.figures, now.figures, seconds, clockTime(), paint);
    process.stdout.write(isTerminal ? `\r${text}\n` : `${text}\n`);
  };
  let start = await read();
  for (let shown = 0; shown < most; shown++) {
    if (options.output !== 'json' && shown % PAGE === 0) process.stdout.write(`${header(sections, paint)}\n`);
    let now = start;
    for (let second = 1; second <= interval; second++) {
      if (!(await pause(Math.max(0, start.at + second * 1000 - performance.now()), ending))) {
        if (isTerminal) process.stdout.write('\n');
        return;
      }
      const before = now;
      if (second < interval && (!isTerminal || options.output === 'json')) continue;
      now = await read();
      if (second < interval)
        process.stdout.write(`\r${line(sections, before.figures, now.figures, (now.at - before.at) / 1000, clockTime(), paint)}`);
    }
    show(start, now);
    start = now;
  }
}
