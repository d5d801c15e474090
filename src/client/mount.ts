/**
 * The client process: serves one or several mounts until they are unmounted, the volume is lost, or it is told to end. It comes
 * in two forms. *Kept* (in a pod): the holder keeps the sessions, so told to end it stores what was written and leaves the
 * mounts to the next client. *Owned* (on one machine): told to end it unmounts, too.
 */
import { mountsAt } from '../fuse/mountinfo.ts';
import { type MountOptions, raiseReadAhead, realTarget, unmount } from '../fuse/mount.ts';
import { RawTransport } from '../fuse/raw.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { type FuseSession, type HolderLink, openSession } from './handover.ts';
import { EXIT_GONE } from './hold-supervise.ts';
import { type OpenVolume, openVolume, type VolumeOptions } from './volume.ts';

/** The kernel reads so far ahead in a stream, KiB: one large request at a time is under way beside the one being used. */
const READ_AHEAD_KIB = 1024;
/** Starting over the volume of a session that lives: tries, and the pause before each further one, milliseconds. */
const OPEN_TRIES = 20;
const OPEN_PAUSE_MS = 500;

export interface ServeOptions {
  readonly volume: Omit<VolumeOptions, 'handles' | 'resume' | 'mountPoint'>;
  readonly mount: MountOptions;
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
  readonly stop: () => void;
}

/**
 * Serves all mounts until each has ended. `onReady` is called when every one answers. Throws UserError where one cannot be
 * opened; those that were mounted by this call are unmounted then.
 */
export async function serveAll(
  mounts: readonly ServeOptions[],
  options: { readonly link?: HolderLink; readonly kept: boolean; readonly log: Logger; readonly onReady?: () => void },
  signal: AbortSignal,
): Promise<ServeResult> {
  const serving: Serving[] = [];
  const stopAll = (): void => {
    for (const { stop } of serving) stop();
  };
  try {
    for (const mount of mounts) serving.push(await serveOne(mount, options));
  } catch (error) {
    stopAll();
    await Promise.all(serving.map(({ ended }) => ended));
    throw error;
  }
  options.onReady?.();
  if (signal.aborted) stopAll();
  signal.addEventListener('abort', stopAll, { once: true });
  const results = await Promise.all(serving.map(({ ended }) => ended));
  signal.removeEventListener('abort', stopAll);
  return results.includes('lost') ? EXIT_GONE : results.includes('failed') ? 1 : 0;
}

async function serveOne(
  { volume: wanted, mount }: ServeOptions,
  options: { readonly link?: HolderLink; readonly kept: boolean; readonly log: Logger },
): Promise<Serving> {
  const { link, kept, log } = options;
  const target = await realTarget(mount.target);
  if (!link && mountsAt(target).some(({ source }) => source === mount.source))
    throw new UserError('AlreadyMounted', `${target} is a mount of ${mount.source} already`, {
      hint: `Unmount it first: juicepod umount ${target}`,
    });
  const session = await openSession({ mount: { ...mount, target }, ...(link ? { link } : {}), log });
  const earlier = session.resume ? parseState(session.resume.state) : undefined;
  let volume: OpenVolume;
  try {
    volume = await openPatiently(
      {
        ...wanted,
        mountPoint: target,
        handles: session.journal,
        ...(earlier?.sid === undefined ? {} : { resume: earlier.sid }),
        logger: log,
      },
      earlier !== undefined,
      log,
    );
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
  return run(session, volume, target, kept, log);
}

/** The application waits on a session that is taken over: a database that is away for a moment is no reason to fail it. */
async function openPatiently(options: VolumeOptions, patient: boolean, log: Logger): Promise<OpenVolume> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openVolume(options);
    } catch (error) {
      if (!patient || attempt >= OPEN_TRIES || (error instanceof UserError && !error.retryable)) throw error;
      log.warn('the volume could not be opened, trying again', { error: messageOf(error), attempt });
      await new Promise((done) => setTimeout(done, OPEN_PAUSE_MS));
    }
  }
}

function run(session: FuseSession, volume: OpenVolume, target: string, kept: boolean, log: Logger): Serving {
  const transport = new RawTransport({
    fd: session.fd,
    log,
    init: { posixAcl: volume.acl },
    onInit: session.onInit,
    ...(session.resume ? { resume: session.resume.init } : {}),
  });
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
  const ended = serve();
  raiseReadAhead(target, READ_AHEAD_KIB);
  log.info('serving', { target, volume: volume.name, session: volume.sid });
  return {
    target,
    ended,
    stop() {
      told ??= volume.failures();
      if (kept)
        return void volume
          .flush()
          .then(async () => (staged = !(await volume.drain())))
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
