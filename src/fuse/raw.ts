/**
 * The FUSE session over /dev/fuse itself: one thread reads requests, calls the file system and writes replies.
 *
 * - Requests are read until the queue is empty or `BATCH` is reached, then the event loop gets its turn.
 * - After work the thread spins for some ten µs before it sleeps, since the next request or the database's answer often
 *   comes so soon; only as long as that mostly succeeds, and never while idle.
 * - A WRITE's bytes stay in the buffer they were read into until it is answered. There are at most `maxHeldBuffers` of
 *   those; when all are in use, nothing more is read, and the kernel makes its callers wait.
 * - The session outlives this object: the descriptor belongs to the caller, and a process that takes it over passes the
 *   INIT reply that was agreed on (`resume`) and gets again what its predecessor left unanswered.
 */
import { writeSync, writevSync } from 'node:fs';
import { errno as errnos, messageOf } from '../lib/errors.ts';
import { type Ino, readInoLE, readU64LE } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { IN_HEADER, InitBit, Opcode, OUT_HEADER, REQUEST_OVERHEAD } from './constants.ts';
import { call, keepsBuffer } from './dispatch.ts';
import { hasFlag, type InitOptions, type Negotiated, negotiate, readInit } from './init.ts';
import { createBacking } from './backing.ts';
import { isErrno, lastErrno, read } from './libc.ts';
import { OUT_BYTES, Request, type Session, silentRequest } from './request.ts';
import { createNotifier, resendMessage } from './notifier.ts';
import type { Backing, FileSystem, FuseTransport, ServeEnd } from './types.ts';
import { type Watch, watch } from './watch.ts';

/** Requests served before the event loop gets its turn. */
const BATCH = 64;
/** Longest spin, ms, and how the decision to spin is made: a moving average of success, and a rare try without it. */
const SPIN_MS = 0.05;
const SPIN_WORTH = 0.3;
const SPIN_TRY_EVERY = 64;
const SPIN_WEIGHT = 0.05;
/** Buffers kept for later though nobody uses them, and how many of those for longer than a moment, ms. */
const IDLE_BUFFERS = 16;
const LONG_IDLE_BUFFERS = 4;
const IDLE_MS = 1000;
/** Before INIT nobody knows the size of the largest write; the kernel wants at least 8 KiB. */
const FIRST_BUFFER = (1 << 20) + REQUEST_OVERHEAD;

export interface RawOptions {
  /** An open /dev/fuse, non-blocking, that a mount uses. It stays open. */
  readonly fd: number;
  readonly init?: InitOptions;
  /** The INIT reply of the session, where it was agreed on by another process: its unanswered requests are asked for again. */
  readonly resume?: Buffer;
  /** Called with the INIT reply once it is agreed on, before any other request is served. */
  readonly onInit?: (reply: Buffer) => void;
  readonly log?: Logger;
  /** Buffers with a write in them, at most; each holds up to `maxWrite` bytes. @default 64 */
  readonly maxHeldBuffers?: number;
  /** How readiness is waited for (src/fuse/watch.ts). @default the best there is */
  readonly watch?: Watch['kind'];
  /** Longest wait for requests in hand after the stop signal, ms. @default 10000 */
  readonly drainMs?: number;
}

export class RawTransport implements FuseTransport, Session {
  readonly name = 'raw';
  readonly notifier: ReturnType<typeof createNotifier>;
  readonly out = Buffer.from(new ArrayBuffer(OUT_BYTES));
  readonly outWords = new Uint32Array(this.out.buffer);
  readonly #options: RawOptions;
  readonly #fd: number;
  readonly #log: Logger;
  readonly #pending = new Map<number, Request>();
  readonly #idle: Buffer[] = [];
  #buffer: Buffer | undefined;
  #held = 0;
  #negotiated: Negotiated | undefined;
  #backing: Backing | undefined;
  #fileSystem: FileSystem | undefined;
  #watch: Watch | undefined;
  #finish: ((end: ServeEnd) => void) | undefined;
  #stopping = false;
  #starved = false;
  #spinSuccess = 1;
  #spinSkipped = 0;
  #spinScheduled = false;
  #trimming: NodeJS.Timeout | undefined;

  constructor(options: RawOptions) {
    this.#options = options;
    this.#fd = options.fd;
    this.#log = options.log ?? nullLogger;
    if (options.resume) this.#negotiated = readInit(options.resume);
    this.notifier = createNotifier(options.fd, (error) =>
      this.#log.warn('the kernel refused a notification', { error: messageOf(error) }),
    );
  }

  /** Requests that wait for their answers. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** What was agreed on with the kernel; undefined before INIT. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  /** Where the kernel has agreed to read local files in place of ours; undefined before INIT, and where it has not. */
  get backing(): Backing | undefined {
    if (!this.#negotiated || !hasFlag(this.#negotiated, InitBit.PASSTHROUGH)) return undefined;
    return (this.#backing ??= createBacking(this.#fd));
  }

  serve(fileSystem: FileSystem, signal?: AbortSignal): Promise<ServeEnd> {
    if (this.#fileSystem) throw new Error('a transport serves once');
    this.#fileSystem = fileSystem;
    const { promise, resolve } = Promise.withResolvers<ServeEnd>();
    let timeout: NodeJS.Timeout | undefined;
    const stop = (): void => {
      this.#stopping = true;
      this.#watch?.pause();
      if (this.#drained()) return this.#finish?.('stopped');
      timeout = setTimeout(() => {
        this.#log.warn('requests were left unanswered', { requests: this.#pending.size });
        this.#finish?.('stopped');
      }, this.#options.drainMs ?? 10_000);
    };
    this.#finish = (end) => {
      this.#finish = undefined;
      clearTimeout(timeout);
      clearTimeout(this.#trimming);
      signal?.removeEventListener('abort', stop);
      this.#watch?.close();
      this.notifier.close();
      if (end === 'unmounted') this.#ended();
      resolve(end);
    };
    if (this.#options.resume) this.#askAgain();
    this.#watch = watch(this.#fd, () => this.#serveReady(), this.#options.watch);
    if (signal?.aborted) stop();
    else signal?.addEventListener('abort', stop, { once: true });
    return promise;
  }

  /** Kernels before 6.9 refuse; then what the predecessor had taken stays unanswered until its callers are killed. */
  #askAgain(): void {
    try {
      writeSync(this.#fd, resendMessage());
    } catch (error) {
      this.#log.warn('the kernel cannot send unanswered requests again', { error: messageOf(error) });
    }
  }

  /** The session is over: nobody waits for answers any more. */
  #ended(): void {
    for (const request of this.#pending.values()) request.interrupt();
    this.#fileSystem?.destroy?.();
  }

  #serveReady(): void {
    for (let served = 0; served < BATCH;) {
      const state = this.#serveOne();
      if (state === 'gone') return this.#finish?.('unmounted');
      if (state === 'stop') return;
      if (state !== 'empty') {
        served++;
        continue;
      }
      // What was started must get its turn (its promises, its writes to the network) before this thread waits for anything.
      if (this.#pending.size > 0) {
        if (served > 0) this.#spinSoon();
        return;
      }
      if (served === 0 || !this.#mayPaySpinning() || !this.#spin()) return;
      served++;
    }
  }

  /** Spins after the event loop had its turn. */
  #spinSoon(): void {
    if (this.#spinScheduled || this.#watch?.kind !== 'loop' || !this.#mayPaySpinning()) return;
    this.#spinScheduled = true;
    setImmediate(() => {
      this.#spinScheduled = false;
      if (this.#finish && !this.#stopping && !this.#starved && this.#spin()) this.#serveReady();
    });
  }

  #mayPaySpinning(): boolean {
    if (this.#spinSuccess >= SPIN_WORTH) return true;
    if (++this.#spinSkipped < SPIN_TRY_EVERY) return false;
    this.#spinSkipped = 0;
    return true;
  }

  /** Waits a few µs for a request, awake. True where one was served; false also where the event loop has work. */
  #spin(): boolean {
    const watched = this.#watch;
    if (watched?.kind !== 'loop') return false;
    const until = performance.now() + SPIN_MS;
    let found = false;
    let other = false;
    do {
      // The loop's own descriptor watches /dev/fuse too, so one look tells of both.
      if (watched.busy()) {
        found = this.#serveOne() === 'served';
        other = !found;
        break;
      }
    } while (performance.now() < until);
    this.#spinSuccess += ((found || other ? 1 : 0) - this.#spinSuccess) * SPIN_WEIGHT;
    return found;
  }

  /** Reads one request and starts it. */
  #serveOne(): 'served' | 'empty' | 'gone' | 'stop' {
    if (this.#stopping || !this.#finish) return 'stop';
    const buffer = (this.#buffer ??= this.#takeBuffer());
    if (!buffer) {
      this.#starved = true;
      this.#watch?.pause();
      return 'stop';
    }
    const length = read(this.#fd, buffer, buffer.length);
    if (length < 0) {
      const error = lastErrno();
      if (error === errnos.EAGAIN) return 'empty';
      // ENOENT: the request was given up while it was read.
      if (error === errnos.EINTR || error === errnos.ENOENT) return 'served';
      if (error !== errnos.ENODEV && error !== errnos.ECONNABORTED)
        this.#log.error('reading from /dev/fuse failed', { errno: error });
      return 'gone';
    }
    if (length === 0) return 'gone';
    this.#take(buffer, length);
    return 'served';
  }

  #take(buffer: Buffer, length: number): void {
    const fs = this.#fileSystem;
    if (!fs || length < IN_HEADER) return;
    let request: Request;
    try {
      switch (buffer.readUInt32LE(4)) {
        case Opcode.FORGET:
          return fs.forget?.(readInoLE(buffer, 16), readU64LE(buffer, IN_HEADER));
        case Opcode.BATCH_FORGET:
          return this.#forgetMany(fs, buffer, length);
        case Opcode.INTERRUPT:
          return this.#pending.get(keyAt(buffer, IN_HEADER))?.interrupt();
        default:
          request = new Request(this, buffer);
      }
    } catch (error) {
      this.#log.error('a request could not be read', { opcode: buffer.readUInt32LE(4), error });
      return this.#refuse(buffer);
    }
    if (request.opcode === Opcode.INIT) return this.#init(request, buffer.subarray(IN_HEADER, length), fs);
    // DESTROY only wants to be answered; the file system hears of the end when the session does.
    if (request.opcode === Opcode.DESTROY) return request.ok();
    try {
      const answer = call(fs, request, buffer, length, this.#negotiated?.maxWrite ?? 1 << 20);
      if (request.answered) {
        if (answer) answer.catch((error: unknown) => request.fail(error));
        return;
      }
      this.#pending.set(request.unique, request);
      if (keepsBuffer(request.opcode)) {
        request.held = buffer;
        this.#held++;
        this.#buffer = undefined;
      }
      if (answer) answer.catch((error: unknown) => request.fail(error));
    } catch (error) {
      request.fail(error);
    }
  }

  /** Answers EIO where not even the header made sense (a node id that no file system of ours gave). */
  #refuse(header: Buffer): void {
    this.outWords[0] = OUT_HEADER;
    this.outWords[1] = -errnos.EIO;
    header.copy(this.out, 8, 8, 16);
    this.send(this.out, OUT_HEADER);
  }

  #forgetMany(fs: FileSystem, buffer: Buffer, length: number): void {
    const count = buffer.readUInt32LE(IN_HEADER);
    for (let at = IN_HEADER + 8, left = count; left > 0 && at + 16 <= length; at += 16, left--)
      fs.forget?.(readInoLE(buffer, at), readU64LE(buffer, at + 8));
  }

  #init(request: Request, body: Buffer, fs: FileSystem): void {
    const features = { posixLocks: fs.setlk !== undefined, bsdLocks: fs.flock !== undefined };
    const answer = negotiate(body, this.#options.init ?? {}, features);
    if (answer.kind === 'refused') {
      this.#log.error('no common protocol with the kernel', { reason: answer.reason });
      return request.error(errnos.EPROTO);
    }
    request.limit = answer.reply.length;
    request.data(answer.reply);
    if (answer.kind === 'again') return;
    this.#negotiated = answer.negotiated;
    this.#buffer = undefined;
    this.#options.onInit?.(answer.reply);
  }

  #takeBuffer(): Buffer | undefined {
    if (this.#held >= (this.#options.maxHeldBuffers ?? 64)) return undefined;
    const size = this.#negotiated ? Math.max(8192, this.#negotiated.maxWrite + REQUEST_OVERHEAD) : FIRST_BUFFER;
    // Untouched pages of a fresh buffer cost nothing.
    return this.#idle.pop() ?? Buffer.allocUnsafeSlow(size);
  }

  #trimSoon(): void {
    if (this.#trimming || !this.#finish) return;
    this.#trimming = setTimeout(() => {
      this.#trimming = undefined;
      // Held ones come back soon: more writes wait.
      if (this.#held > 0) return this.#trimSoon();
      this.#idle.length = Math.min(this.#idle.length, LONG_IDLE_BUFFERS);
    }, IDLE_MS).unref();
  }

  settled(request: Request): void {
    const { held } = request;
    if (held) {
      request.held = undefined;
      this.#held--;
      if (this.#idle.length < IDLE_BUFFERS) this.#idle.push(held);
      if (this.#idle.length > LONG_IDLE_BUFFERS) this.#trimSoon();
    }
    // The caller that was answered may well ask for the next thing at once.
    if (this.#pending.size > 0 && this.#pending.delete(request.unique)) this.#spinSoon();
    if (this.#starved && held) {
      this.#starved = false;
      if (!this.#stopping) this.#watch?.resume();
    }
    this.parking();
  }

  parking(): void {
    if (this.#stopping && this.#drained()) this.#finish?.('stopped');
  }

  /** Every request is answered, or is left to who follows. */
  #drained(): boolean {
    for (const request of this.#pending.values()) if (!request.parked) return false;
    return true;
  }

  send(reply: Buffer, length: number): boolean {
    try {
      writeSync(this.#fd, reply, 0, length);
      return true;
    } catch (error) {
      return this.#unwanted(error);
    }
  }

  sendParts(parts: readonly Buffer[]): boolean {
    try {
      writevSync(this.#fd, parts);
      return true;
    } catch (error) {
      return this.#unwanted(error);
    }
  }

  #unwanted(error: unknown): boolean {
    if (!isErrno(error, 'ENOENT', 'ENODEV', 'ECONNABORTED'))
      this.#log.error('the kernel refused a reply', { error: messageOf(error) });
    return false;
  }

  undoEntry(ino: Ino): void {
    this.#fileSystem?.forget?.(ino, 1);
  }

  undoOpen(of: Request, ino: Ino, handle: number): void {
    const fs = this.#fileSystem;
    const { request, reply } = silentRequest(of);
    try {
      const answer =
        of.opcode === Opcode.OPENDIR
          ? fs?.releasedir(request, reply, ino, handle)
          : fs?.release(request, reply, ino, handle, 0, 0n, false);
      if (answer) answer.catch((error: unknown) => this.defect('taking back an open file failed', of, error));
    } catch (error) {
      this.defect('taking back an open file failed', of, error);
    }
  }

  defect(message: string, request: Request, error?: unknown): void {
    const stack = error instanceof Error ? { stack: error.stack } : {};
    this.#log.error(message, { opcode: request.opcode, unique: request.unique, ...(error ? { error } : {}), ...stack });
  }
}

/** The number of a request as the map of the pending ones has it (`Request.unique`). */
function keyAt(buffer: Buffer, at: number): number {
  return (buffer.readUInt32LE(at + 4) & 0x7fff_ffff) * 0x1_0000_0000 + buffer.readUInt32LE(at);
}
