/** `juicepod sync`: copies what is in one place to another; places are folders, volumes and object stores. */
import { setFlagsFromString } from 'node:v8';
import { messageOf, UserError } from '../lib/errors.ts';
import { systemClock } from '../lib/clock.ts';
import { nullLogger } from '../lib/log.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { formatBytes, parseDuration, parseMbps, parseSize } from '../lib/units.ts';
import { bytesOfMbps } from '../object/limit.ts';
import { ObjectError } from '../object/store.ts';
import { keysIn } from '../objsync/files-from.ts';
import { Checkpoint, type Saved } from '../objsync/checkpoint.ts';
import type { RunOptions, Tally } from '../objsync/options.ts';
import { openSide } from '../objsync/open.ts';
import { type Place, placeOf, redacted } from '../objsync/place.ts';
import { type Rule, rulesOf } from '../objsync/rules.ts';
import { Run } from '../objsync/run.ts';
import { keyOf, shown, type Side } from '../objsync/side.ts';
import { wholeNumberOf } from './options.ts';
import { showProgress } from './progress.ts';
import { type Output, print } from './report.ts';
import { PASSPHRASE_VARIABLE } from './mount/settings.ts';

export interface SyncOptions {
  readonly start?: string;
  readonly end?: string;
  readonly rules?: readonly Rule[];
  readonly matchFullPath?: boolean;
  readonly maxSize?: string;
  readonly minSize?: string;
  readonly maxAge?: string;
  readonly minAge?: string;
  readonly startTime?: string;
  readonly endTime?: string;
  readonly filesFrom?: string;
  readonly limit: string;
  readonly update?: boolean;
  readonly forceUpdate?: boolean;
  readonly existing?: boolean;
  /** The official client's other name for it. */
  readonly ignoreNonExisting?: boolean;
  readonly ignoreExisting?: boolean;
  readonly dirs?: boolean;
  readonly perms?: boolean;
  readonly links?: boolean;
  readonly inplace?: boolean;
  readonly deleteSrc?: boolean;
  readonly deleteSrcAfter?: boolean;
  readonly deleteDst?: boolean;
  readonly checkAll?: boolean;
  readonly checkNew?: boolean;
  readonly checkChange?: boolean;
  readonly maxFailure: string;
  readonly dry?: boolean;
  readonly threads: string;
  readonly listThreads: string;
  readonly listDepth: string;
  readonly https: boolean;
  readonly storageClass?: string;
  readonly bwlimit?: string;
  readonly enableCheckpoint?: boolean;
  readonly checkpointInterval: string;
  readonly checkpointForceReset?: boolean;
  readonly output: Output;
}

/** Failures that are told one by one; the rest is counted. */
const MAX_TOLD = 100;

/** A number, where -1 is none. */
function boundOf(text: string, option: string): number {
  const value = wholeNumberOf(text, option, -1, Number.MAX_SAFE_INTEGER);
  return value < 0 ? Infinity : value;
}

function timeOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const time = /^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/.test(text.trim())
    ? Date.parse(text.trim().length === 10 ? `${text.trim()}T00:00:00` : text.trim())
    : Number.NaN;
  if (Number.isNaN(time))
    throw new UserError('InvalidTime', `${option}: wanted a time such as "2006-01-02 15:04:05", found ${JSON.stringify(text)}`);
  return time;
}

/** What the options say, checked. Throws UserError naming the option. */
function runOptions(options: SyncOptions, signal: AbortSignal, told: Pick<RunOptions, 'onFailure' | 'onMissing'>): RunOptions {
  const now = systemClock.now();
  const [minSize, maxSize] = [
    options.minSize === undefined ? 0 : parseSize(options.minSize, '--min-size', 'B'),
    options.maxSize === undefined ? Infinity : parseSize(options.maxSize, '--max-size', 'B'),
  ];
  if (minSize > maxSize) throw new UserError('InvalidFilter', '--min-size is larger than --max-size: nothing would be copied');
  const [minAge, maxAge] = [
    options.minAge === undefined ? 0 : parseDuration(options.minAge, '--min-age'),
    options.maxAge === undefined ? 0 : parseDuration(options.maxAge, '--max-age'),
  ];
  if (maxAge > 0 && minAge > maxAge)
    throw new UserError('InvalidFilter', '--min-age is larger than --max-age: nothing would be copied');
  const after = timeOf(options.startTime, '--start-time') ?? -Infinity;
  const before = timeOf(options.endTime, '--end-time') ?? Infinity;
  const mbps = options.bwlimit === undefined ? 0 : parseMbps(options.bwlimit, '--bwlimit');
  const rate = bytesOfMbps(mbps);
  const is = (value: boolean | undefined): boolean => value === true;
  return {
    filters: {
      rules: rulesOf(options.rules ?? [], is(options.matchFullPath)),
      minSize,
      maxSize,
      modifiedAfter: Math.max(after, maxAge > 0 ? now - maxAge : -Infinity),
      modifiedBefore: Math.min(before, minAge > 0 ? now - minAge : Infinity),
    },
    start: keyOf(options.start ?? ''),
    end: keyOf(options.end ?? ''),
    limit: boundOf(options.limit, '--limit'),
    update: is(options.update),
    forceUpdate: is(options.forceUpdate),
    existing: is(options.existing) || is(options.ignoreNonExisting),
    ignoreExisting: is(options.ignoreExisting),
    dirs: is(options.dirs),
    links: is(options.links),
    perms: is(options.perms),
    deleteSrc: is(options.deleteSrc),
    deleteSrcAfter: is(options.deleteSrcAfter),
    deleteDst: is(options.deleteDst),
    checkAll: is(options.checkAll),
    checkNew: is(options.checkNew),
    checkChange: is(options.checkChange),
    maxFailures: Math.max(1, boundOf(options.maxFailure, '--max-failure')),
    dry: is(options.dry),
    threads: wholeNumberOf(options.threads, '--threads', 1, 1000),
    listThreads: wholeNumberOf(options.listThreads, '--list-threads', 1, 1000),
    listDepth: wholeNumberOf(options.listDepth, '--list-depth', 0, 100),
    ...(rate > 0 ? { bandwidth: new TokenBucket({ rate, burst: rate / 10, clock: systemClock }) } : {}),
    ...(options.filesFrom === undefined ? {} : { keys: keysIn(options.filesFrom) }),
    signal,
    ...told,
  };
}

function summary(tally: Tally): string {
  const counted = (name: string, count: number, bytes?: number): string =>
    `${name}: ${count}${bytes === undefined ? '' : ` (${formatBytes(bytes)})`}`;
  return [
    counted('Found', tally.found),
    counted('excluded', tally.excluded, tally.excludedBytes),
    counted('skipped', tally.skipped, tally.skippedBytes),
    counted('copied', tally.copied, tally.copiedBytes),
    counted('extra', tally.extra, tally.extraBytes),
    ...(tally.checked > 0 ? [counted('checked', tally.checked, tally.checkedBytes)] : []),
    ...(tally.deleted > 0 ? [counted('deleted', tally.deleted)] : []),
    counted('failed', tally.failed),
    ...(tally.missing > 0 ? [counted('missing', tally.missing)] : []),
  ].join(', ');
}

/** Where the copy is noted; undefined where it is not to be. Throws UserError. */
function checkpointOf(sides: readonly [Side, Side], options: SyncOptions, say: (line: string) => void): Checkpoint | undefined {
  const intervalMs = parseDuration(options.checkpointInterval, '--checkpoint-interval');
  if (intervalMs < 100)
    throw new UserError(
      'InvalidOption',
      `--checkpoint-interval ${options.checkpointInterval}: wanted a time such as 10s, 100ms at least`,
    );
  if (options.enableCheckpoint !== true || options.dry) return undefined;
  const {
    threads: _threads,
    listThreads: _list,
    bwlimit: _limit,
    limit: _count,
    maxFailure: _most,
    output: _output,
    ...rest
  } = options;
  const { checkpointInterval: _interval, checkpointForceReset: _reset, listDepth: _depth, https: _https, ...deciding } = rest;
  const [source, destination] = sides;
  const identity = [
    source.description,
    destination.description,
    Object.entries(deciding).toSorted(([a], [b]) => (a < b ? -1 : 1)),
  ];
  return new Checkpoint({
    destination,
    identity,
    intervalMs,
    clock: systemClock,
    onProblem: (problem) => say(`juicepod: ${problem}`),
  });
}

/** What an earlier run has noted, said to who waits. */
async function resumed(
  checkpoint: Checkpoint,
  reset: boolean,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Saved | undefined> {
  if (reset) {
    await checkpoint.remove(signal);
    return undefined;
  }
  const saved = await checkpoint.load(signal);
  if (saved)
    say(
      `juicepod: going on from the checkpoint of ${new Date(saved.at).toISOString()}, ${saved.handled} objects were handled before; --checkpoint-force-reset begins anew`,
    );
  return saved;
}

/** As short as a line of a terminal: what is nothing is left out. */
function shortly({ handled, found, copied, copiedBytes, skipped, checked, deleted, failed }: Tally): string {
  const counts = [
    copied > 0 ? `${copied} copied (${formatBytes(copiedBytes)})` : '',
    skipped > 0 ? `${skipped} skipped` : '',
    checked > 0 ? `${checked} checked` : '',
    deleted > 0 ? `${deleted} deleted` : '',
    failed > 0 ? `${failed} FAILED` : '',
  ];
  return [`${handled} of ${found} done`, ...counts.filter(Boolean)].join(', ');
}

/** The same place twice would copy files over themselves while they are listed. */
function requireDifferent(source: Place, destination: Place): void {
  if (JSON.stringify(source) === JSON.stringify(destination))
    throw new UserError('SamePlace', 'SRC and DST are the same place', { hint: 'Name another destination.' });
}

/** V8 lets garbage gather where nothing says that memory matters: 180 MiB while 400,000 names go by, with this 12 MiB (measured). */
function keepSmall(): void {
  setFlagsFromString('--optimize-for-size');
  setFlagsFromString('--semi-space-growth-factor=1');
}

export async function syncCommand(from: string, to: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  keepSmall();
  const options = raw as unknown as SyncOptions;
  // What stands in the arguments, anybody can read in the list of processes.
  process.title = `juicepod sync ${redacted(from)} ${redacted(to)}`;
  if (from.endsWith('/') !== to.endsWith('/'))
    throw new UserError(
      'InvalidPlace',
      `SRC and DST both end with a slash, or neither: found ${redacted(from)} and ${redacted(to)}`,
      {
        hint: 'With a slash the contents of a folder are copied; without, everything whose path begins so.',
      },
    );
  const ending = new AbortController();
  const interrupted = (): void => {
    // Who asks twice does not want to wait for what is under way.
    if (ending.signal.aborted) process.exit(130);
    ending.abort(
      new UserError('Interrupted', 'interrupted; what was copied is whole', { hint: 'Run the same again to copy the rest.' }),
    );
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupted);
  let told = 0;
  // Above the line of progress, where there is one.
  const say = (line: string): void => {
    if (options.output === 'text') process.stderr.write(`${process.stderr.isTTY ? '\r\u001b[K' : ''}${line}\n`);
  };
  const tell = (key: string, what: string): void => {
    if (told++ < MAX_TOLD) say(`juicepod: ${shown(key)}: ${what}`);
  };
  const run = runOptions(options, ending.signal, {
    onFailure: (key, error) => tell(key, messageOf(error)),
    onMissing: (key) => tell(key, 'named in --files-from, and not there in SRC'),
  });
  const parse = { noHttps: !options.https, environment: process.env };
  const places = [placeOf(from, 'SRC', parse), placeOf(to, 'DST', parse)] as const;
  requireDifferent(...places);
  const sides: Side[] = [];
  try {
    for (const [index, place] of places.entries()) {
      const readOnly = run.dry || (index === 0 && !run.deleteSrc && !run.deleteSrcAfter);
      sides.push(
        await openSide(place, {
          inPlace: options.inplace === true,
          readOnly,
          ...(index === 1 && options.storageClass ? { storageClass: options.storageClass } : {}),
          threads: run.threads,
          passphrases: [process.env[PASSPHRASE_VARIABLE] ?? ''].filter(Boolean),
          logger: nullLogger,
        }),
      );
    }
    const [source, destination] = sides as [Side, Side];
    for (const [asked, name] of [
      [run.links, '--links'],
      [run.perms, '--perms'],
    ] as const)
      if (asked && !(source.files && destination.files))
        say(`juicepod: ${name} does nothing: only folders and volumes have them, and both sides need them`);
    const checkpoint = checkpointOf([source, destination], options, say);
    const before = checkpoint && (await resumed(checkpoint, options.checkpointForceReset === true, say, ending.signal));
    const work = new Run(source, destination, {
      ...run,
      ...(checkpoint ? { ownKey: checkpoint.key } : {}),
      ...(before ? { resume: before.progress } : {}),
    });
    const { tally } = work;
    const state = (): Omit<Saved, 'at'> => ({ handled: (before?.handled ?? 0) + tally.handled, progress: work.progress.state() });
    const progress = showProgress(() => shortly(tally));
    let isWhole = false;
    checkpoint?.start(state);
    try {
      await work.run();
      isWhole = tally.failed === 0;
    } finally {
      progress.end();
      await checkpoint?.end(isWhole ? undefined : state());
    }
    print(
      options.output,
      {
        source: source.description,
        destination: destination.description,
        dry: run.dry,
        ...(before ? { handledBefore: before.handled } : {}),
        ...tally,
      },
      summary(tally),
    );
    if (tally.failed > 0)
      throw new UserError('SyncFailed', `${tally.failed} of ${tally.found} objects failed`, {
        hint: 'Run the same again: what is there already is left out.',
      });
  } catch (error) {
    throw placeError(error);
  } finally {
    for (const side of sides) await side.close();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, interrupted);
  }
}

/** A failure of a whole place, as a sentence for people. */
function placeError(error: unknown): unknown {
  if (error instanceof ObjectError) {
    const hints: Partial<Record<ObjectError['code'], string>> = {
      AccessDenied: 'Check the keys in the URL, and that they may list, read and write there.',
      NoSuchBucket: 'Make the bucket first, or check the URL.',
      Unavailable: 'Check the address in the URL, that the store is up, and whether it wants --no-https.',
      Timeout: 'Check the address in the URL, that the store is up, and whether it wants --no-https.',
    };
    const hint = hints[error.code];
    return new UserError(`Storage${error.code}`, error.message, { cause: error, ...(hint ? { hint } : {}) });
  }
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return error instanceof Error && /^E[A-Z]+$/.test(code) && !(error instanceof UserError)
    ? new UserError('PlaceUnreadable', `a place cannot be listed: ${messageOf(error)}`, { cause: error })
    : error;
}
