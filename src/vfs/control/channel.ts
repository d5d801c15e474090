/**
 * `.control` of one mount: each open is a channel, on which a request is written and its answer read from the offset behind it. A
 * read before there is something gets nothing: the caller asks again. Closing the channel ends what runs for it.
 *
 * Bounds: requests that are not finished hold MAX_REQUESTS bytes at most, in all channels together; of an answer that nobody reads
 * no more is kept than a megabyte of progress and the end; MAX_BACKGROUND pieces of work that nobody waits for, one at a time.
 * Source: JuiceFS format, control protocol.
 */
import { readFileSync } from 'node:fs';
import { errno, FsError, toErrno } from '../../lib/errors.ts';
import type { Ino } from '../../lib/int64.ts';
import type { Context } from '../../meta/types.ts';
import type { VirtualHandle } from '../handles.ts';
import type { ControlHost, Handler } from './call.ts';
import { cloneTree } from './clone.ts';
import { compactTree } from './compact.ts';
import { fillCache } from './fill.ts';
import { info } from './info.ts';
import { legacyInfo } from './legacy-info.ts';
import { Command, errnoItem, HEADER, Payload, progressItem } from './protocol.ts';
import { removeTree } from './rmr.ts';
import { treeSummary } from './summary.ts';

/** The official client sends 10 240 paths at once. */
const MAX_REQUESTS = 64 * 1024 * 1024;
const MAX_UNREAD = 1024 * 1024;
/** What was read is dropped from so many bytes on. */
const KEEP_READ = 64 * 1024;
const MAX_BACKGROUND = 256;
const PROGRESS_MS = 300;
/** How long the end of the mount waits for what is taken back (a clone that was begun); what is left, a job removes. */
const CLOSE_GRACE_MS = 5000;

const handlers: ReadonlyMap<number, Handler> = new Map([
  [Command.Rmr, removeTree],
  [Command.LegacyInfo, legacyInfo],
  [Command.FillCache, fillCache],
  [Command.Info, info],
  [Command.Clone, cloneTree],
  [Command.Summary, treeSummary],
  [Command.Compact, compactTree],
]);

/** `checkPermission` stands for a caller who is taken for somebody else, and has that one's group alone (squash.ts). */
type Caller = Pick<Context, 'uid' | 'gid' | 'pid' | 'checkPermission'>;

/** The groups of a process, where it can be seen from here. */
function groupsOf({ uid, gid, pid, checkPermission }: Caller): readonly number[] {
  if (uid === 0 || checkPermission) return [gid];
  try {
    const line = /^Groups:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
    return [gid, ...(line ?? '').split(' ').filter(Boolean).map(Number)];
  } catch {
    return [gid];
  }
}

export class Control {
  readonly host: ControlHost;
  readonly #channels = new Set<Channel>();
  readonly #ending = new AbortController();
  readonly #waiting: ((signal: AbortSignal) => Promise<void>)[] = [];
  #working: Promise<void> | undefined;
  /** Bytes of requests that are not finished. */
  held = 0;

  constructor(host: Omit<ControlHost, 'inBackground'>) {
    this.host = { ...host, inBackground: (work) => this.#inBackground(work) };
  }

  open(ino: Ino): VirtualHandle {
    const channel = new Channel(this);
    this.#channels.add(channel);
    return {
      kind: 'virtual',
      ino,
      read: (offset, size) => channel.read(offset, size),
      write: (data, offset, caller) => channel.write(data, offset, caller),
      // Until what ran for it has ended.
      close: () => void channel.close().then(() => this.#channels.delete(channel)),
    };
  }

  /** Ends everything that runs, and resolves when it has ended, or after a few seconds. */
  async close(): Promise<void> {
    this.#ending.abort();
    this.#waiting.length = 0;
    const running = [...this.#channels].map((channel) => channel.close());
    const waited = new AbortController();
    await Promise.race([
      Promise.all([...running, this.#working]),
      this.host.clock.sleep(CLOSE_GRACE_MS, waited.signal).catch(() => {}),
    ]);
    waited.abort();
  }

  #inBackground(work: (signal: AbortSignal) => Promise<void>): void {
    if (this.#ending.signal.aborted || this.#waiting.length >= MAX_BACKGROUND) throw new FsError('EAGAIN');
    this.#waiting.push(work);
    this.#working ??= this.#work().finally(() => (this.#working = undefined));
  }

  async #work(): Promise<void> {
    for (let work = this.#waiting.shift(); work; work = this.#waiting.shift()) {
      try {
        await work(this.#ending.signal);
      } catch (error) {
        if (!this.#ending.signal.aborted) this.host.logger.warn('work in the background was not finished', { error });
      }
    }
  }
}

class Channel {
  readonly #control: Control;
  readonly #ending = new AbortController();
  #parts: Buffer[] = [];
  #received = 0;
  /** What there is of the answer, and where in the file it begins. */
  #answer = Buffer.alloc(0);
  #start = 0;
  /** Requests of one channel are carried out one after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(control: Control) {
    this.#control = control;
  }

  read(offset: number, size: number): Buffer {
    const from = offset - this.#start;
    if (from < 0) throw new FsError('EIO', 'what was asked for is no part of the answer');
    const data = this.#answer.subarray(from, from + size);
    if (from >= KEEP_READ) {
      this.#answer = this.#answer.subarray(from);
      this.#start = offset;
    }
    return data;
  }

  write(data: Buffer, offset: number, caller: Caller): void {
    const control = this.#control;
    if (control.held + data.length > MAX_REQUESTS) throw new FsError('EAGAIN', 'too much is asked for at once');
    control.held += data.length;
    this.#received += data.length;
    this.#parts.push(Buffer.from(data));
    if (this.#received < HEADER) return;
    const [first = data] = this.#parts.length > 1 && (this.#parts[0]?.length ?? 0) < HEADER ? this.#joined() : this.#parts;
    const length = HEADER + first.readUInt32BE(4);
    if (this.#received < length) return;
    const [whole = data] = this.#joined();
    this.#parts = [];
    this.#received = 0;
    this.#start = offset + data.length;
    this.#answer = Buffer.alloc(0);
    const signal = this.#ending.signal;
    this.#turn = this.#turn
      .then(() => (whole.length === length ? this.#run(whole, caller, signal) : errnoItem(errno.EIO)))
      .catch((error: unknown) => {
        if (!signal.aborted) this.#control.host.logger.debug('a command through .control failed', { error });
        return errnoItem(toErrno(error) || errno.EIO);
      })
      .then((item) => {
        control.held -= whole.length;
        this.#say(item);
      });
  }

  /** Ends what runs; resolves when it has ended. */
  close(): Promise<void> {
    if (!this.#ending.signal.aborted) {
      this.#ending.abort();
      this.#control.held -= this.#received;
    }
    return this.#turn;
  }

  #joined(): readonly Buffer[] {
    if (this.#parts.length > 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts;
  }

  #say(item: Buffer): void {
    if (!this.#ending.signal.aborted) this.#answer = Buffer.concat([this.#answer, item]);
  }

  async #run(whole: Buffer, caller: Caller, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    const { host } = this.#control;
    const handler = handlers.get(whole.readUInt32BE(0));
    if (!handler) return errnoItem(errno.EINVAL);
    const { uid, gid, pid } = caller;
    const ctx = { uid, gid, pid, gids: groupsOf(caller), checkPermission: true, signal };
    const progress = { first: 0, second: 0 };
    const tell = (): void => {
      if (this.#answer.length < MAX_UNREAD) this.#say(progressItem(progress.first, progress.second));
    };
    let cancel = (): void => {};
    const tick = (): void => {
      tell();
      cancel = host.clock.timer(PROGRESS_MS, tick);
    };
    cancel = host.clock.timer(PROGRESS_MS, tick);
    try {
      return await handler({ host, ctx, payload: new Payload(whole.subarray(HEADER)), progress });
    } finally {
      cancel();
      if (progress.first > 0 || progress.second > 0) tell();
    }
  }
}
