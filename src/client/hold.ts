/**
 * The holder: keeps duplicates of the FUSE descriptors while the client is restarted or replaced, so that a mount and the
 * programs on it live on. It knows nothing of volumes and imports next to nothing: it is in every pod.
 *
 * - Each target may get a *guard* first, an empty read-only tmpfs: while no FUSE is mounted nobody can write to what looks
 *   like the volume. A guard or a FUSE mount that is there already is left alone.
 * - Bounded: at most `MOST_MOUNTS` mounts and `MOST_WATCHERS` open connections; a client that talks slowly is cut off.
 * - `close` unmounts everything lazily, FUSE and guards, and then closes the descriptors, which ends the sessions.
 */
import { chmodSync, closeSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isErrno, MountFlag, mountAt, readable, unmountAt } from '../fuse/libc.ts';
import { SERVED_FILE } from '../api/heartbeat.ts';
import { FUSE_TYPE } from '../fuse/mount.ts';
import { mountsAt } from '../fuse/mountinfo.ts';
import { accept, connectTo, listenAt, setTimeouts } from '../fuse/socket.ts';
import { type Watch, watch } from '../fuse/watch.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { type HolderAnswer, type HolderRequest, MOST_STATE, receiveFrame, sendFrame } from './handover-protocol.ts';

const MOST_MOUNTS = 64;
const MOST_WATCHERS = 16;
/** A client that does not finish its sentence within this time is cut off, ms. */
const TALK_MS = 1000;
const GUARD = 'juicepod-guard';

interface Held {
  readonly session: number;
  readonly journal: number;
  readonly init: string;
  state: string;
}

export interface HolderOptions {
  /** Path of the unix socket; its directory is made. Only the same user may connect. */
  readonly socket: string;
  /** Mount points to make and guard. Absolute. */
  readonly targets?: readonly string[];
  /** Cover each target with a guard; needs the right to mount. @default true */
  readonly guard?: boolean;
  readonly log: Logger;
  /** A client handed over a mount, the first time or again. */
  readonly onPut?: (target: string) => void;
}

function alreadyRunning(path: string): boolean {
  try {
    closeSync(connectTo(path));
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ECONNREFUSED', 'ENOTSOCK')) return false;
    throw error;
  }
}

/** Makes a mount point and puts a guard on it. True where nothing was mounted there. */
async function prepare(target: string, guard: boolean): Promise<boolean> {
  const mounts = mountsAt(target);
  if (mounts.length === 0) mkdirSync(target, { recursive: true });
  // A FUSE mount that is there is left alone, dead or alive. A live one means that only the holder was restarted; a dead one is
  // covered by the next client: taken away, it would stay for ever in the namespaces of running containers.
  if (!guard || mounts.some(({ source, type }) => source === GUARD || type === FUSE_TYPE)) return mounts.length === 0;
  const flags = MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC;
  await mountAt(GUARD, target, 'tmpfs', flags, 'size=4k,nr_inodes=2,mode=0555').catch((cause: unknown) => {
    throw new UserError('GUARD_DENIED', `cannot guard ${target}: ${messageOf(cause)}`, {
      cause,
      hint: 'the holder needs the right to mount: in Kubernetes, privileged',
    });
  });
  return mounts.length === 0;
}

export class Holder implements AsyncDisposable {
  readonly #options: HolderOptions;
  readonly #listener: number;
  readonly #watch: Watch;
  readonly #held = new Map<string, Held>();
  readonly #targets: Set<string>;
  #watchers: number[] = [];
  #closed = false;

  private constructor(options: HolderOptions, listener: number) {
    this.#options = options;
    this.#listener = listener;
    this.#targets = new Set(options.targets);
    this.#watch = watch(listener, () => this.#serve());
  }

  /** Guards the targets, then listens: once the socket is there, clients may mount. */
  static async start(options: HolderOptions): Promise<Holder> {
    const { socket } = options;
    if (alreadyRunning(socket))
      throw new UserError('HOLDER_RUNNING', `another holder listens at ${socket}`, { hint: 'stop it, or name another socket' });
    mkdirSync(dirname(socket), { recursive: true });
    for (const target of options.targets ?? [])
      if (await prepare(target, options.guard ?? true)) rmSync(join(dirname(socket), SERVED_FILE), { force: true });
    rmSync(socket, { force: true });
    const mask = process.umask(0o077);
    try {
      const listener = listenAt(socket);
      chmodSync(socket, 0o600);
      return new Holder(options, listener);
    } finally {
      process.umask(mask);
    }
  }

  /** Mount points whose descriptors are held. */
  get targets(): readonly string[] {
    return [...this.#held.keys()];
  }

  #serve(): void {
    const fd = accept(this.#listener);
    if (fd === undefined) return;
    // Watchers say nothing: one that can be read has gone.
    const gone = this.#watchers.filter((watcher) => readable(watcher));
    this.#watchers = this.#watchers.filter((watcher) => !gone.includes(watcher));
    for (const watcher of gone) closeSync(watcher);
    let keep = false;
    try {
      setTimeouts(fd, TALK_MS);
      keep = this.#talk(fd);
    } catch (error) {
      this.#options.log.warn('a client of the holder was cut off', { error: messageOf(error) });
    }
    if (keep) this.#watchers.push(fd);
    else closeSync(fd);
  }

  /** One request and its answer. True where the connection is to stay. */
  #talk(fd: number): boolean {
    const { message, descriptors } = receiveFrame<HolderRequest>(fd);
    const unused = new Set(descriptors);
    try {
      const { answer, send = [] } = this.#answer(message, descriptors, unused);
      sendFrame(fd, answer, send);
      return message.op === 'watch' && answer.ok;
    } finally {
      for (const descriptor of unused) closeSync(descriptor);
    }
  }

  #answer(
    message: HolderRequest,
    descriptors: readonly number[],
    unused: Set<number>,
  ): { readonly answer: HolderAnswer; readonly send?: readonly number[] } {
    const refuse = (error: string): { answer: HolderAnswer } => ({ answer: { ok: false, error } });
    const { op, target = '', init, state = '' } = message;
    if (op === 'watch') return this.#watchers.length < MOST_WATCHERS ? { answer: { ok: true } } : refuse('too many clients');
    if (!target.startsWith('/')) return refuse('no target named');
    if (state.length > (MOST_STATE * 4) / 3 + 4) return refuse(`state of more than ${MOST_STATE} bytes`);
    const held = this.#held.get(target);
    switch (op) {
      case 'take':
        if (!held) return { answer: { ok: true } };
        return { answer: { ok: true, init: held.init, state: held.state }, send: [held.session, held.journal] };
      case 'put': {
        const [session, journal] = descriptors;
        if (session === undefined || journal === undefined || init === undefined) return refuse('put needs two descriptors');
        if (!held && this.#held.size >= MOST_MOUNTS) return refuse(`more than ${MOST_MOUNTS} mounts`);
        unused.clear();
        this.#forget(target);
        this.#held.set(target, { session, journal, init, state });
        this.#targets.add(target);
        this.#options.log.info('holding a mount', { target });
        this.#options.onPut?.(target);
        return { answer: { ok: true } };
      }
      case 'state':
        if (!held) return refuse('nothing is held for this target');
        held.state = state;
        return { answer: { ok: true } };
      case 'drop':
        this.#forget(target);
        if (message.unmount)
          this.#unmount(target, false).catch((error: unknown) =>
            this.#options.log.error('unmounting failed', { target, error: messageOf(error) }),
          );
        return { answer: { ok: true } };
      default:
        return refuse('unknown operation');
    }
  }

  #forget(target: string): void {
    const held = this.#held.get(target);
    if (!held) return;
    this.#held.delete(target);
    closeSync(held.session);
    closeSync(held.journal);
  }

  /** Takes away what is ours at a target: FUSE, and with `guards` those too. */
  async #unmount(target: string, guards: boolean): Promise<void> {
    for (let left = mountsAt(target).length; left > 0; left--) {
      const top = mountsAt(target).at(-1);
      if (!top || (top.type !== FUSE_TYPE && !(guards && top.source === GUARD))) return;
      await unmountAt(target);
    }
  }

  /** Ends all mounts and the service. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch.close();
    for (const target of this.#targets)
      await this.#unmount(target, true).catch((error: unknown) =>
        this.#options.log.error('unmounting failed', { target, error: messageOf(error) }),
      );
    for (const target of this.#held.keys()) this.#forget(target);
    for (const watcher of this.#watchers) closeSync(watcher);
    closeSync(this.#listener);
    rmSync(this.#options.socket, { force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A logger of JSON lines on stderr, without the libraries of src/lib/log.ts. */
export function plainLogger(bound: Readonly<Record<string, unknown>> = {}): Logger {
  const at =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}): void =>
      void process.stderr.write(
        `${JSON.stringify({ level, message, ...bound, ...fields, timestamp: new Date().toISOString() })}\n`,
      );
  return {
    debug() {},
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => plainLogger({ ...bound, ...fields }),
  };
}

/** `juicepod hold`: holds until SIGTERM or SIGINT, then unmounts. Returns the exit code. */
export async function runHolder(
  options: Omit<HolderOptions, 'log'> & { readonly log?: Logger; readonly onReady?: () => void },
): Promise<number> {
  const stop = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.resolve());
  const holder = await Holder.start({ ...options, log: options.log ?? plainLogger() });
  options.onReady?.();
  await stop.promise;
  await holder.close();
  return 0;
}
