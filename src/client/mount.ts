/**
 * The client process: serves one or several mounts until they are unmounted, the volume is lost, or it is told to end. It comes
 * in two forms. *Kept* (in a pod): the holder keeps the sessions, so told to end it stores what was written and leaves the
 * mounts to the next client. *Owned* (on one machine): told to end it unmounts, too.
 *
 * A kept session whose volume cannot be opened is waited with for as long as it takes: programs wait on it, nothing is lost, and the
 * Secret may bring other credentials at any time. Its client says why it waits.
 */
import { mountsAt } from '../fuse/mountinfo.ts';
import { giveBackMemory, mapLargeBuffers } from '../fuse/resident.ts';
import { type MountOptions, raiseReadAhead, realTarget, unmount } from '../fuse/mount.ts';
import { RawTransport } from '../fuse/raw.ts';
import { systemClock } from '../lib/clock.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { compileEarly } from './early-code.ts';
import { type FuseSession, type HolderLink, openSession } from './handover.ts';
import { whenIdle } from './idle.ts';
import { EXIT_GONE } from './hold-supervise.ts';
import type { MetricsServer } from './metrics-server.ts';
import { proveAccess } from './proof.ts';
import { findVolume, type FoundVolume, type OpenVolume, openVolume } from './volume.ts';
import type { VolumeOptions } from './volume-options.ts';

/** The kernel reads so far ahead in a stream, KiB: one large request at a time is under way beside the one being used. */
const READ_AHEAD_KIB = 1024;
/** Starting over the volume of a session that lives: tries on one machine, and the pauses before further ones, milliseconds. */
const OPEN_TRIES = 20;
const OPEN_PAUSE_MS = 500;
const LONGEST_OPEN_PAUSE_MS = 5000;
/** Pause before what is staged is tried to be uploaded again, where it must be, milliseconds. */
const DRAIN_PAUSE_MS = 1000;
/** What is waited for is said again so often, milliseconds. */
const SAY_AGAIN_MS = 60_000;

export interface HandOver {
  /** Only when nothing is staged any more, however long that takes: the next client would not upload it. */
  readonly drain: boolean;
}

/** Why a mount stops being served: for good, as far as is known, or for the next client. */
type Stop = 'end' | 'leave' | 'drained';

type WantedVolume = Omit<VolumeOptions, 'handles' | 'resume' | 'mountPoint' | 'metricsAddress'>;

export interface ServeOptions {
  readonly volume: WantedVolume;
  /** What the volume is to be opened with by now: its Secret may have changed. Throws where that cannot be read. */
  readonly reread?: () => WantedVolume;
  readonly mount: MountOptions;
}

export interface ServeAllOptions {
  readonly link?: HolderLink;
  /** The holder keeps the sessions when this client ends. */
  readonly kept: boolean;
  readonly log: Logger;
  /** Where the figures of the mounts are served. */
  readonly metrics?: MetricsServer;
  /** Every mount answers. */
  readonly onReady?: () => void;
  /** Why a kept session waits for its volume; undefined when it does no more. */
  readonly onProblem?: (target: string, problem: string | undefined) => void;
  /** Aborts when the mounts are to be left to a client that follows at once; its reason is a `HandOver`. */
  readonly handOver?: AbortSignal;
}

interface State {
  readonly uuid: string;
  /** The metadata session to go on with; absent where it was closed because nothing was open. */
  readonly sid?: number;
}

function parseState(bytes: Buffer | undefined): State | undefined {
  if (!bytes || bytes.length === 0) return undefined;
  return JSON.parse(bytes.toString()) as State;
}

/** How serving ended, as an exit code: 0; 1 where data that was written could not be stored at the end; 11 where a volume is gone. */
export type ServeResult = 0 | 1 | typeof EXIT_GONE;

type Ending = 'unmounted' | 'stopped' | 'lost' | 'failed';

/** One mount being served. */
interface Serving {
  readonly target: string;
  readonly ended: Promise<Ending>;
  readonly stop: (how: Stop) => void;
  /** For a time without work: lets go of what the next requests can get again. */
  readonly trim: () => void;
}

/**
 * Serves all mounts until each has ended. `onReady` is called when every one answers. Throws UserError where one cannot be
 * opened; those that were mounted by this call are unmounted then.
 */
export async function serveAll(
  mounts: readonly ServeOptions[],
  options: ServeAllOptions,
  signal: AbortSignal,
): Promise<ServeResult> {
  const serving: Serving[] = [];
  mapLargeBuffers();
  const stopWatching = whenIdle({
    clock: systemClock,
    giveBack() {
      for (const { trim } of serving) trim();
      giveBackMemory();
    },
  });
  try {
    return await serveEach(mounts, serving, options, signal);
  } finally {
    stopWatching();
  }
}

/** Serves all mounts; `serving` gets each that answers. */
async function serveEach(
  mounts: readonly ServeOptions[],
  serving: Serving[],
  options: ServeAllOptions,
  signal: AbortSignal,
): Promise<ServeResult> {
  const failed = new AbortController();
  const { handOver } = options;
  const opening = AbortSignal.any([signal, failed.signal, ...(handOver ? [handOver] : [])]);
  // Side by side: a volume that is waited for is no reason for the others to wait.
  const opened = await Promise.allSettled(
    mounts.map(async (mount) => {
      try {
        serving.push(await serveOne(mount, options, opening));
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }),
  );
  const stopAll = (): void => {
    for (const { stop } of serving) stop('end');
  };
  if (opened.some(({ status }) => status === 'rejected')) {
    stopAll();
    await Promise.all(serving.map(({ ended }) => ended));
    // The first one; the others may have ended because of it.
    throw failed.signal.reason;
  }
  options.onReady?.();
  const leaveAll = (): void => {
    const how = (handOver?.reason as HandOver | undefined)?.drain ? 'drained' : 'leave';
    for (const { stop } of serving) stop(how);
  };
  if (signal.aborted) stopAll();
  else if (handOver?.aborted) leaveAll();
  signal.addEventListener('abort', stopAll, { once: true });
  handOver?.addEventListener('abort', leaveAll, { once: true });
  const results = await Promise.all(serving.map(({ ended }) => ended));
  signal.removeEventListener('abort', stopAll);
  handOver?.removeEventListener('abort', leaveAll);
  return results.includes('lost') ? EXIT_GONE : results.includes('failed') ? 1 : 0;
}

async function serveOne(wanted: ServeOptions, options: ServeAllOptions, signal: AbortSignal): Promise<Serving> {
  const { link, kept, log } = options;
  const { mount } = wanted;
  const target = await realTarget(mount.target);
  if (!link && mountsAt(target).some(({ source }) => source === mount.source))
    throw new UserError('AlreadyMounted', `${target} is a mount of ${mount.source} already`, {
      hint: `Unmount it first: juicepod umount ${target}`,
    });
  // Nothing is mounted for a volume that is not there.
  let found: FoundVolume | undefined;
  const beforeMount = async (): Promise<Pick<MountOptions, 'source'>> => {
    found = await findVolume({ ...wanted.volume, mountPoint: target, logger: log });
    return { source: `JuiceFS:${found.format.name}` };
  };
  const session = await openSession({ mount: { ...mount, target }, beforeMount, ...(link ? { link } : {}), log }).catch(
    async (error: unknown) => {
      await found?.engine.close().catch(() => {});
      throw error;
    },
  );
  const earlier = session.resume ? parseState(session.resume.state) : undefined;
  let volume: OpenVolume;
  try {
    const own = {
      mountPoint: target,
      handles: session.journal,
      // Whatever was told of the volume: programs have files of this one open.
      ...(earlier && !wanted.volume.expect ? { expect: { uuid: earlier.uuid } } : {}),
      ...(earlier?.sid === undefined ? {} : { resume: earlier.sid }),
      logger: log,
      ...(options.metrics ? { metricsAddress: () => options.metrics?.address } : {}),
    };
    const open = async (): Promise<OpenVolume> => {
      const again = { ...(wanted.reread?.() ?? wanted.volume), ...own };
      if (kept && earlier) await proveAccess(again);
      return openVolume(again);
    };
    volume = earlier
      ? await openPatiently(open, { target, log, signal, ...(kept ? { tell: options.onProblem ?? (() => {}) } : {}) })
      : await openVolume({ ...wanted.volume, ...own }, found);
    if (earlier && earlier.uuid !== volume.uuid)
      throw new UserError('OtherVolume', `the mount at ${target} belongs to another volume (${earlier.uuid})`);
    if (volume.recovered) log.info('took over from an earlier client', { target, ...volume.recovered });
    await session.setState(Buffer.from(JSON.stringify({ uuid: volume.uuid, sid: volume.sid } satisfies State)));
  } catch (error) {
    // A session that lives is left to the next try; a new one nobody has seen yet.
    if (!session.resume) await unmount(target).catch(() => {});
    session.close();
    throw error;
  }
  const forget = options.metrics?.add({ volume: volume.name, mountPoint: target, families: volume.families });
  const serving = run(session, volume, target, kept, log, options.metrics);
  return { ...serving, ended: serving.ended.finally(forget) };
}

interface Patience {
  readonly target: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Given where there is no end to the patience. */
  readonly tell?: (target: string, problem: string | undefined) => void;
}

/** The application waits on a session that is taken over: what may come right is no reason to fail it. */
async function openPatiently(open: () => Promise<OpenVolume>, { target, log, signal, tell }: Patience): Promise<OpenVolume> {
  let said: { readonly problem: string; readonly at: number } | undefined;
  for (let attempt = 1; ; attempt++) {
    try {
      const volume = await open();
      if (said) tell?.(target, undefined);
      return volume;
    } catch (error) {
      if (!tell && (attempt >= OPEN_TRIES || (error instanceof UserError && !error.retryable))) throw error;
      const problem = messageOf(error);
      const now = performance.now();
      if (said?.problem !== problem || now - said.at > SAY_AGAIN_MS) {
        log.warn('the volume cannot be opened; its programs wait, trying again', { target, error: problem, attempt });
        tell?.(target, problem);
        said = { problem, at: now };
      }
      const pause = tell ? Math.min(OPEN_PAUSE_MS * 1.5 ** attempt, LONGEST_OPEN_PAUSE_MS) : OPEN_PAUSE_MS;
      await pauseUnless(signal, pause * (1 + systemRandom.float() / 4));
      if (signal.aborted)
        throw new UserError('EndedWaiting', `told to end while ${target} waited for its volume: ${problem}`, {
          cause: error,
          hint: 'Its session, and what was written and not stored, are left to the next client.',
        });
    }
  }
}

/** Resolves after so many milliseconds, or when the signal aborts. */
const pauseUnless = (signal: AbortSignal, ms: number): Promise<void> => systemClock.sleep(ms, signal).catch(() => {});

function run(
  session: FuseSession,
  volume: OpenVolume,
  target: string,
  kept: boolean,
  log: Logger,
  metrics: MetricsServer | undefined,
): Serving {
  const transport = new RawTransport({
    fd: session.fd,
    log,
    init: volume.init,
    onInit: session.onInit,
    ...(session.resume ? { resume: session.resume.init } : {}),
  });
  volume.onNameChanged((parent, name) => transport.notifier.invalidateEntry(parent, name));
  volume.onBacking(() => transport.backing);
  const stopping = new AbortController();
  let lost = false;
  void volume.lost.then((reason) => {
    lost = true;
    log.error('the volume is lost; unmounting', { target, reason });
    void unmount(target).catch((error: unknown) => log.error('unmounting failed', { target, error }));
    stopping.abort();
  });
  /** Failures to store something before the end was asked for: their programs were told. */
  let told: number | undefined;
  /** What was staged is still so. */
  let staged = false;
  const serve = async (): Promise<Ending> => {
    const how = await transport.serve(volume.fileSystem, stopping.signal);
    const keep = kept && how === 'stopped' && !lost;
    // Most often the pod ends: its programs are gone and nothing is open. Then no session is left behind for others to wait for.
    const idle = keep && volume.openHandles() === 0;
    await volume.close(keep && !idle);
    if (idle) await session.setState(Buffer.from(JSON.stringify({ uuid: volume.uuid } satisfies State)));
    if (!keep) await session.ended();
    session.close();
    log.info(keep ? 'left the mount to the next client' : 'the mount has ended', { target });
    if (lost) return 'lost';
    return told !== undefined && (staged || volume.failures() > told) ? 'failed' : how;
  };
  const drain = async (whole: boolean): Promise<void> => {
    for (;;) {
      staged = !(await volume.drain());
      if (!staged || !whole || stopping.signal.aborted) return;
      await pauseUnless(stopping.signal, DRAIN_PAUSE_MS);
    }
  };
  const ended = serve();
  raiseReadAhead(target, READ_AHEAD_KIB);
  compileEarly();
  log.info('serving', { target, volume: volume.name, session: volume.sid, metrics: metrics?.address });
  return {
    target,
    ended,
    trim: () => volume.trim(),
    stop(how) {
      told ??= volume.failures();
      if (kept)
        return void volume
          .flush()
          .then(async () => {
            if (how !== 'leave') await drain(how === 'drained');
          })
          .finally(() => stopping.abort());
      // Lazily: files that are open go on being served until they are closed, or the process ends.
      void volume
        .flush()
        .then(() => unmount(target))
        .catch((error: unknown) => log.error('unmounting failed', { target, error }))
        .finally(() => stopping.abort());
    },
  };
}
