/**
 * The change log as those read it who follow a volume, and its trimming: of entries that are older than the volume wants to keep, and
 * of all but the last so many. Also of logs that the official client has written.
 *
 * Entries have numbers. On a server that gives them before a change is committed (SQL) a higher number may be seen first: where one is
 * missing, reading waits for it, GAP_MS at most or until what follows is OLD_MS old; then it was of a change that came to nothing.
 *
 * Bounded: BATCH entries at a time.
 * Source: the JuiceFS format, §4.6 (ScanChangelog, doCleanupChangelog of 1.4.1).
 */
import type { Clock } from '../lib/clock.ts';
import { timeOfEntry } from './changelog-text.ts';
import type { LogPart, MetaEngine } from './engine.ts';

const BATCH = 1000;
/** Between two looks where nothing is new. */
const PAUSE_MS = 100;
const GAP_MS = 2000;
const OLD_MS = 10_000;

type Logs = Pick<MetaEngine, 'readLog' | 'trimLog' | 'logGaps'>;

export interface FollowOptions {
  /** The last number that is known: what follows is read. Undefined: only what is written from now on. */
  readonly after?: number;
  /** Ends where nothing more is there. @default false */
  readonly once?: boolean;
  /** Entries between these numbers (both left out before) were removed before they were read. */
  readonly onMissed?: (from: number, to: number) => void;
  readonly clock: Clock;
  /** Ends it, without an error. */
  readonly signal: AbortSignal;
}

/** Entries as they are written, in the order of their numbers, in batches. */
export async function* followLog(engine: Logs, options: FollowOptions): AsyncGenerator<LogPart['entries']> {
  const { clock, signal, once = false, onMissed } = options;
  let last = options.after ?? (await engine.readLog(Number.MAX_SAFE_INTEGER, 1)).newest;
  let gapSince: number | undefined;
  for (;;) {
    if (signal.aborted) return;
    const { oldest, newest, entries } = await engine.readLog(last + 1, BATCH);
    // A database that was made anew counts from the beginning.
    if (newest < last) last = newest;
    if (oldest > last + 1) {
      if (oldest <= newest || newest > last) onMissed?.(last + 1, oldest - 1);
      last = oldest - 1;
    }
    const waited = gapSince !== undefined && clock.monotonic() - gapSince >= GAP_MS;
    const settled = BigInt(clock.now() - OLD_MS) * 1_000_000n;
    const ready: { readonly number: number; readonly text: string }[] = [];
    for (const entry of entries) {
      if (entry.number <= last) continue;
      const whole = entry.number === last + 1 || !engine.logGaps || once;
      if (!whole && !waited && (timeOfEntry(entry.text) ?? 0n) > settled) break;
      ready.push(entry);
      last = entry.number;
    }
    const held = entries.at(-1) !== undefined && (entries.at(-1)?.number ?? 0) > last;
    gapSince = held && ready.length === 0 ? (gapSince ?? clock.monotonic()) : undefined;
    if (ready.length > 0) yield ready;
    if (once && entries.length < BATCH) return;
    if (ready.length === 0) await clock.sleep(PAUSE_MS, signal).catch(() => {});
  }
}

/** What of a log is to be kept; 0: there is no such limit. */
export interface LogLimits {
  /** Seconds. */
  readonly maxAge: number;
  readonly maxLines: number;
}

/** Removes what is beyond the limits; answers how many entries. Of what does not say when it was written the next that does decides. */
export async function trimLog(
  engine: Logs,
  { maxAge, maxLines }: LogLimits,
  clock: Pick<Clock, 'nowNs'>,
  signal?: AbortSignal,
): Promise<number> {
  const keep = {
    ...(maxAge > 0 ? { before: await firstSince(engine, clock.nowNs() - BigInt(maxAge) * 1_000_000_000n, signal) } : {}),
    ...(maxLines > 0 ? { lines: maxLines } : {}),
  };
  return maxAge > 0 || maxLines > 0 ? engine.trimLog(keep) : 0;
}

/** The number of the first entry that was written at a time or later; where none was, the next that will be given. */
async function firstSince(engine: Logs, time: bigint, signal: AbortSignal | undefined): Promise<number> {
  let expired = 0;
  for (let from = 0; ;) {
    signal?.throwIfAborted();
    const { oldest, entries } = await engine.readLog(from, BATCH);
    for (const { number, text } of entries) {
      const written = timeOfEntry(text);
      if (written === undefined) continue;
      if (written >= time) return expired === 0 ? oldest : expired + 1;
      expired = number;
    }
    const last = entries.at(-1);
    if (!last) return expired + 1;
    from = last.number + 1;
  }
}
