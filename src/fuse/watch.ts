/**
 * Tells when a descriptor that libuv has no type for (/dev/fuse, a socket with descriptors in its messages) can be read,
 * on the thread of the event loop and without a thread of its own.
 *
 * The descriptor is given to libuv itself, as a `uv_poll_t` made through the functions that every Node binary exports for
 * its add-ons. So requests of the kernel, the network and timers are all waited for in one `epoll_wait`: no hand-over
 * between threads, no timer late, no CPU while idle, and it does not matter which other descriptors there are. The
 * callback from libuv only schedules an immediate, which libuv runs in the same turn of the loop; there JavaScript runs
 * in Node's own frame, with ticks and microtasks as always. (Measured: 2.8 µs for a turn, with the pipe's write and read.)
 *
 * Where that cannot be had (a worker thread, whose loop is not the default one; a Node without the symbols), `poll` runs
 * in libuv's thread pool instead: some 40 µs more a turn and one thread of the pool.
 */
import { isMainThread } from 'node:worker_threads';
import { koffi, program, readable, whenReadable } from './libc.ts';

export interface Watch {
  readonly kind: 'loop' | 'threads';
  /** True where the event loop has something else to do: a descriptor is ready. */
  busy(): boolean;
  /** No more calls until `resume`. */
  pause(): void;
  resume(): void;
  /** No more calls, ever. The descriptor may be closed once this returned. */
  close(): void;
}

const UV_READABLE = 1;
/** sizeof(uv_poll_t) is 160 with libuv 1; the rest is room for a libuv to come. */
const HANDLE_BYTES = 1024;

interface LoopCalls {
  readonly loop: unknown;
  readonly backend: number;
  init(loop: unknown, handle: unknown, fd: number): number;
  start(handle: unknown, events: number, callback: unknown): number;
  stop(handle: unknown): number;
  close(handle: unknown, callback: unknown): void;
  readonly type: ReturnType<typeof koffi.proto>;
}

let calls: LoopCalls | undefined | 'none';

function loopCalls(): LoopCalls | undefined {
  if (calls !== undefined) return calls === 'none' ? undefined : calls;
  calls = 'none';
  if (!isMainThread) return undefined;
  try {
    const loop = program.func('void *uv_default_loop()')() as unknown;
    const backend = program.func('int uv_backend_fd(void *loop)')(loop) as number;
    const type = koffi.proto('void juicepod_uv_poll_cb(void *handle, int status, int events)');
    if (backend < 0) return undefined;
    calls = {
      loop,
      backend,
      type,
      init: program.func('int uv_poll_init(void *loop, void *handle, int fd)') as LoopCalls['init'],
      start: program.func('int uv_poll_start(void *handle, int events, juicepod_uv_poll_cb *callback)') as LoopCalls['start'],
      stop: program.func('int uv_poll_stop(void *handle)') as LoopCalls['stop'],
      close: program.func('void uv_close(void *handle, void *callback)') as LoopCalls['close'],
    };
    return calls;
  } catch {
    return undefined;
  }
}

function watchInLoop(uv: LoopCalls, fd: number, ready: () => void): Watch | undefined {
  // Never freed: libuv may look at it until its next turn after close, and there is one per mount.
  const handle = koffi.alloc('uint8_t', HANDLE_BYTES) as unknown;
  if (uv.init(uv.loop, handle, fd) !== 0) return undefined;
  let closed = false;
  let active = true;
  let scheduled = false;
  const run = (): void => {
    scheduled = false;
    if (active) ready();
  };
  const callback = koffi.register(() => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(run);
  }, koffi.pointer(uv.type));
  const start = (): void => {
    active = true;
    if (uv.start(handle, UV_READABLE, callback) !== 0) setImmediate(run);
  };
  start();
  return {
    kind: 'loop',
    busy: () => readable(uv.backend),
    pause() {
      active = false;
      uv.stop(handle);
    },
    resume() {
      if (!closed) start();
    },
    close() {
      if (closed) return;
      closed = true;
      active = false;
      uv.stop(handle);
      uv.close(handle, null);
      setImmediate(() => koffi.unregister(callback));
    },
  };
}

/** How long a wait in another thread takes at most, ms; so long may `close` leave it behind. */
const WAIT_MS = 1000;

function watchInThreads(fd: number, ready: () => void): Watch {
  const state = { active: true, closed: false, waiting: false };
  const calling = (): boolean => state.active && !state.closed;
  const wait = async (): Promise<void> => {
    if (state.waiting) return;
    state.waiting = true;
    while (calling()) if ((await whenReadable(fd, WAIT_MS)) && calling()) ready();
    state.waiting = false;
  };
  void wait();
  return {
    kind: 'threads',
    busy: () => false,
    pause: () => void (state.active = false),
    resume() {
      state.active = true;
      void wait();
    },
    close: () => void (state.closed = true),
  };
}

/** Calls `ready` whenever there is something to read or the other side is gone, again and again until it was read. */
export function watch(fd: number, ready: () => void, kind?: Watch['kind']): Watch {
  const uv = kind === 'threads' ? undefined : loopCalls();
  return (uv && watchInLoop(uv, fd, ready)) ?? watchInThreads(fd, ready);
}
