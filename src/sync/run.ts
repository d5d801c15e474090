/**
 * The process of the sync sidecar: all mounts of mode `sync` of a pod's plan. It says that the application may start (a file for the
 * startup probe) when every mount is hydrated, and by its exit code and termination message what became of the rest.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { syncReports } from '../api/group.ts';
import type { SyncPlan } from '../api/plan.ts';
import { EXIT_GONE } from '../client/hold-supervise.ts';
import { readPlan } from '../client/plan.ts';
import { type OpenVolume, openVolume } from '../client/volume.ts';
import { systemClock } from '../lib/clock.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { MountSync } from './mount-sync.ts';

const MIB = 2 ** 20;
/** What the last write-back may take where the plan does not say, seconds. */
const FLUSH_SECONDS = 50;
/** Opening a volume again after a failure: the pause, doubled each time up to the last, ms. */
const FIRST_PAUSE = 1000;
const LAST_PAUSE = 15_000;
const OPEN_TRIES = 8;
/** What a round may take to end when it is told to, ms. */
const WEDGED_MS = 3000;
/** What closing may take; the session of a database that does not answer is left to expire, ms. */
const CLOSE_MS = 3000;
/** Kubernetes keeps so much of a termination message, bytes. */
const MAX_MESSAGE = 4000;

export interface SidecarOptions {
  readonly plan: string;
  /** Made when every mount is hydrated. */
  readonly ready: string;
  /** Where what went wrong is written for Kubernetes. */
  readonly termination?: string;
  readonly log: Logger;
  /** For whom hydrated files are opened up, where the plan does not say. @default 'none' */
  readonly share?: NonNullable<SyncPlan['share']>;
  /** @default the host's name, which is the pod's */
  readonly pod?: string;
  readonly signal: AbortSignal;
}

/** Runs until told to end. Answers the exit code: 0; 1 where something was not written back; 11 where a volume is gone. Throws UserError where it cannot begin. */
export async function runSidecar(options: SidecarOptions): Promise<0 | 1 | typeof EXIT_GONE> {
  const { log, ready, signal } = options;
  // Modes are the volume's.
  process.umask(0);
  const { plan, mounts } = readPlan(options.plan, 'sync');
  const planned = plan.mounts.filter(({ mode }) => mode === 'sync');
  const opened: { readonly volume: OpenVolume; readonly sync: MountSync; readonly flushSeconds: number }[] = [];
  let lost: string | undefined;
  const ending = new AbortController();
  const end = (): void => ending.abort();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  try {
    for (const [index, mount] of planned.entries()) {
      const wanted = mounts[index];
      if (!wanted) throw new Error('the plan was read twice and differs');
      // No cache, and nothing is staged in it: what is written back counts only when it is in the store.
      const {
        journalFolder: _journal,
        cache: _cache,
        writeback: _writeback,
        ...settings
      } = wanted.volume as typeof wanted.volume & {
        readonly writeback?: unknown;
      };
      const volume = await patiently(
        () =>
          openVolume({
            ...settings,
            // What is read once is not cached; what is sent waits for the store.
            bufferBytes: Math.max(64 * MIB, settings.bufferBytes / 2),
            mountPoint: mount.target,
            logger: log,
          }),
        log,
        ending.signal,
      );
      void volume.lost.then((reason) => {
        lost = reason;
        log.error('the volume is lost', { volume: mount.volume, reason });
        end();
      });
      const sync = new MountSync({
        plan: { ...mount, sync: { share: options.share ?? 'none', ...mount.sync } },
        volume,
        pod: options.pod ?? hostname(),
        log,
      });
      opened.push({ volume, sync, flushSeconds: mount.sync?.flushSeconds ?? FLUSH_SECONDS });
    }
    if (!opened.every(({ sync }) => sync.hydrated)) rmSync(ready, { force: true });
    for (const { sync } of opened) await sync.sweep();
    for (const { sync } of opened) await sync.hydrate(ending.signal);
    writeFileSync(ready, '');
    log.info('the application may start');
    await Promise.race([Promise.all(opened.map(({ sync }) => sync.run(ending.signal))), wedged(ending.signal)]);
    if (lost !== undefined) {
      tell(
        options,
        `${syncReports.notFlushed}: the volume is lost: ${lost}; what was not written back is still on the pod's disk`,
      );
      return EXIT_GONE;
    }
    const left = await Promise.all(
      opened.map(({ sync, flushSeconds }) => {
        const limit = AbortSignal.timeout(flushSeconds * 1000);
        return sync.flush(limit).then((paths) => ({ whole: paths.length === 0, lines: sync.status.reports(paths) }));
      }),
    );
    const lines = left.flatMap((one) => one.lines);
    for (const line of lines) log.error(line);
    if (lines.length > 0) tell(options, lines.join('\n'));
    return left.every(({ whole }) => whole) ? 0 : 1;
  } catch (error) {
    if (ending.signal.aborted && !(error instanceof UserError)) {
      log.info('told to end before all was hydrated', { error: messageOf(error) });
      return lost === undefined ? 0 : EXIT_GONE;
    }
    const message = error instanceof UserError && error.hint !== undefined ? `${error.message}. ${error.hint}` : messageOf(error);
    tell(options, message);
    throw error;
  } finally {
    signal.removeEventListener('abort', end);
    for (const { volume, sync } of opened.toReversed()) {
      await sync[Symbol.asyncDispose]();
      const closed = volume.close(false).catch((error: unknown) => log.warn('closing failed', { error: messageOf(error) }));
      await Promise.race([closed, new Promise((done) => setTimeout(done, CLOSE_MS).unref())]);
    }
  }
}

/** A database or store that is away for a moment is no reason to end. */
async function patiently<T>(run: () => Promise<T>, log: Logger, signal: AbortSignal): Promise<T> {
  for (let attempt = 1, pause = FIRST_PAUSE; ; attempt++, pause = Math.min(LAST_PAUSE, pause * 2)) {
    try {
      return await run();
    } catch (error) {
      if (signal.aborted || attempt === OPEN_TRIES || (error instanceof UserError && !error.retryable)) throw error;
      log.warn('the volume could not be opened, trying again', { error: messageOf(error), attempt });
      await systemClock.sleep(pause, signal);
    }
  }
}

/** Resolves some time after the end was asked for: a round that waits for a database that is away is not waited for. */
function wedged(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const begin = (): void => void setTimeout(resolve, WEDGED_MS).unref();
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
  });
}

function tell({ termination, log }: SidecarOptions, message: string): void {
  if (termination === undefined) return;
  try {
    writeFileSync(termination, message.slice(0, MAX_MESSAGE));
  } catch (error) {
    log.warn('the termination message cannot be written', { error: messageOf(error) });
  }
}
