/**
 * The client's side of a hand-over: gets a session from the holder, or mounts and hands a duplicate over, and does that
 * again whenever the holder was restarted. What the new process needs beside the descriptor travels along: the INIT reply,
 * an opaque state (which metadata session, say), and the journal of open handles.
 *
 * Order of a take-over: `openSession` (resume is set), the file system is built from `journal.entries()` and `state`, then
 * `RawTransport` with `resume` asks the kernel for what the predecessor had left unanswered.
 */
import { closeSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { failed, memoryFile, whenReadable } from '../fuse/libc.ts';
import { clearDead, FUSE_TYPE, mount, type MountOptions, raiseReadAhead } from '../fuse/mount.ts';
import { mountsAt } from '../fuse/mountinfo.ts';
import { openJournal } from '../fuse/journal.ts';
import { connectTo, setTimeouts } from '../fuse/socket.ts';
import type { HandleJournal } from '../fuse/types.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import {
  encodeFrame,
  type Frame,
  type HolderAnswer,
  type HolderRequest,
  MOST_STATE,
  receiveFrame,
  sendFrame,
} from './handover-protocol.ts';

const ANSWER_MS = 10_000;
const RECONNECT_MS = 200;

interface Kept {
  readonly session: number;
  readonly journal: number;
  readonly init: Buffer;
  state: Buffer;
}

/** A connection to the holder, as often as needed: each request is a connection of its own. */
export class HolderLink implements Disposable {
  readonly #path: string;
  readonly #log: Logger;
  readonly #kept = new Map<string, Kept>();
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(socketPath: string, log: Logger) {
    this.#path = socketPath;
    this.#log = log;
  }

  async #ask(request: HolderRequest, descriptors: readonly number[] = []): Promise<Frame<HolderAnswer>> {
    let fd: number;
    try {
      fd = connectTo(this.#path);
    } catch (cause) {
      throw new UserError('HOLDER_MISSING', `no holder listens at ${this.#path}: ${messageOf(cause)}`, {
        cause,
        retryable: true,
        hint: 'start the holder first (juicepod hold), or mount without one',
      });
    }
    try {
      setTimeouts(fd, 1000);
      sendFrame(fd, request, descriptors);
      // The thread that waits here also serves the mount.
      if (!(await whenReadable(fd, ANSWER_MS)))
        throw new UserError('HOLDER_SILENT', `the holder at ${this.#path} did not answer within ${ANSWER_MS} ms`, {
          retryable: true,
        });
      const frame = receiveFrame<HolderAnswer>(fd);
      if (frame.message.ok) return frame;
      for (const descriptor of frame.descriptors) closeSync(descriptor);
      throw new UserError('HOLDER_REFUSED', `the holder refused: ${frame.message.error ?? 'without a reason'}`);
    } finally {
      closeSync(fd);
    }
  }

  /** What the holder has for a target. The descriptors are the caller's. */
  async take(target: string): Promise<Kept | undefined> {
    const { message, descriptors } = await this.#ask({ op: 'take', target });
    const [session, journal] = descriptors;
    if (message.init === undefined || session === undefined || journal === undefined) return undefined;
    const state = Buffer.from(message.state ?? '', 'base64');
    return { session, journal, init: Buffer.from(message.init, 'base64'), state };
  }

  /** Hands duplicates over, now and whenever the holder comes back; `kept.state` may change meanwhile. */
  async put(target: string, kept: Kept): Promise<void> {
    this.#kept.set(target, kept);
    await this.#put(target, kept);
    this.#listen();
  }

  async #put(target: string, kept: Kept): Promise<void> {
    const init = kept.init.toString('base64');
    await this.#ask({ op: 'put', target, init, state: kept.state.toString('base64') }, [kept.session, kept.journal]);
  }

  /** Replaces the opaque state of a target, at most 1 MiB. */
  async setState(target: string, state: Buffer): Promise<void> {
    if (state.length > MOST_STATE) throw new RangeError(`state of ${state.length} bytes, at most ${MOST_STATE}`);
    const kept = this.#kept.get(target);
    if (!kept) throw new Error(`nothing was handed over for ${target}`);
    kept.state = state;
    await this.#ask({ op: 'state', target, state: state.toString('base64') });
  }

  /** The session is over (or is to end, with `unmount`): the holder closes its duplicates. */
  async drop(target: string, options: { readonly unmount?: boolean } = {}): Promise<void> {
    this.#kept.delete(target);
    await this.#ask({ op: 'drop', target, unmount: options.unmount ?? false });
  }

  /** Keeps a connection open to notice that the holder went away. */
  #listen(): void {
    if (this.#closed || this.#socket) return;
    const socket = connect(this.#path);
    this.#socket = socket;
    socket.on('connect', () => socket.write(encodeFrame({ op: 'watch' })));
    socket.on('data', () => {});
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#socket = undefined;
      if (!this.#closed) this.#timer = setTimeout(() => void this.#again(), RECONNECT_MS);
    });
  }

  async #again(): Promise<void> {
    try {
      for (const [target, kept] of this.#kept) {
        await this.#put(target, kept);
        this.#log.info('handed the mount to a new holder', { target });
      }
      this.#listen();
    } catch (error) {
      this.#log.debug('no holder yet', { error: messageOf(error) });
      if (!this.#closed) this.#timer = setTimeout(() => void this.#again(), RECONNECT_MS);
    }
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A FUSE session to be served by `RawTransport`, new or taken over. */
export interface FuseSession {
  readonly target: string;
  /** For `RawOptions.fd`. */
  readonly fd: number;
  /** Notes open handles for a successor; `entries()` are those of the predecessor. */
  readonly journal: HandleJournal;
  /** Set where the session was taken over: for `RawOptions.resume`, and the predecessor's state. */
  readonly resume: { readonly init: Buffer; readonly state: Buffer } | undefined;
  /** For `RawOptions.onInit`: hands the new session over. Without a holder it does nothing. */
  readonly onInit: (init: Buffer) => void;
  /** Replaces the opaque state, at most 1 MiB. */
  setState(state: Buffer): Promise<void>;
  /** After `serve` resolved with 'unmounted': nothing is to be taken over any more. */
  ended(): Promise<void>;
  /** Closes this process's descriptors. */
  close(): void;
}

export interface OpenSessionOptions {
  /** `target` is absolute and real (`realTarget`). */
  readonly mount: MountOptions;
  readonly link?: HolderLink;
  /** Called before a new session is made; throws where there is to be none. Answers what the mount is named after. */
  readonly beforeMount?: () => Promise<Pick<MountOptions, 'source'>>;
  /** How far the kernel reads ahead in a file, KiB; 0 leaves what the machine has. @default 1024 */
  readonly readAheadKiB?: number;
  /** State of a new session. @default empty */
  readonly state?: Buffer;
  readonly log: Logger;
}

/** Takes the target's session over from the holder; else clears a dead mount away (or covers it: `onTop`) and mounts. */
export async function openSession(options: OpenSessionOptions, signal?: AbortSignal): Promise<FuseSession> {
  const { link, log } = options;
  const { target } = options.mount;
  let held = await link?.take(target);
  if (held && (failed(held.session) || mountsAt(target).at(-1)?.type !== FUSE_TYPE)) {
    log.warn('the held session has ended, mounting afresh', { target });
    closeSync(held.session);
    closeSync(held.journal);
    held = undefined;
    await link?.drop(target);
  }
  let resume: FuseSession['resume'];
  let fd: number;
  let journalFd: number;
  if (held) {
    ({ session: fd, journal: journalFd } = held);
    resume = { init: held.init, state: held.state };
    // Put again, so that a holder that is restarted later gets it from this process.
    await link?.put(target, held);
    log.info('took a mount over', { target });
  } else {
    const named = await options.beforeMount?.();
    if (!options.mount.onTop && (await clearDead(target)) > 0) log.warn('cleared away a dead mount', { target });
    fd = await mount({ ...options.mount, ...named }, signal);
    journalFd = memoryFile('juicepod-handles');
  }
  let state = options.state ?? Buffer.alloc(0);
  let handedOver = held !== undefined;
  return {
    target,
    fd,
    journal: openJournal(journalFd),
    resume,
    onInit(init) {
      const { readAheadKiB = 1024 } = options;
      if (readAheadKiB > 0 && !raiseReadAhead(target, readAheadKiB)) log.debug('the kernel reads ahead as it did', { target });
      if (!link) return;
      const sent = state;
      link
        .put(target, { session: fd, journal: journalFd, init, state })
        .then(() => {
          handedOver = true;
          return state === sent ? undefined : link.setState(target, state);
        })
        .catch((error: unknown) =>
          log.error('the mount could not be handed to the holder: it will not survive this process', {
            target,
            error: messageOf(error),
          }),
        );
    },
    async setState(next) {
      state = next;
      if (link && handedOver) await link.setState(target, next);
    },
    async ended() {
      await link?.drop(target).catch((error: unknown) => log.debug('no holder', { error: messageOf(error) }));
    },
    close() {
      closeSync(fd);
      closeSync(journalFd);
    },
  };
}
