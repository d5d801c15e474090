/** The transport against a kernel that is a socket: what no real kernel sends can be sent, and every reply is seen. */
import assert from 'node:assert/strict';
import { closeSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { errno as errnos, FsError } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { Opcode } from './constants.ts';
import { readable, setNonBlocking } from './libc.ts';
import { RawTransport } from './raw.ts';
import { receive, socketPair } from './socket.ts';
import type { FileSystem, FuseRequest, Reply, ServeEnd } from './types.ts';

interface Answer {
  readonly error: number;
  readonly unique: bigint;
  readonly body: Buffer;
}

function request(opcode: number, unique: bigint, body: Buffer, nodeid = 1n): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt32LE(40 + body.length, 0);
  header.writeUInt32LE(opcode, 4);
  header.writeBigUInt64LE(unique, 8);
  header.writeBigUInt64LE(nodeid, 16);
  header.writeUInt32LE(1000, 24);
  return Buffer.concat([header, body]);
}

/** A session with a file system that has only the methods given; the others answer EIO. */
class Session implements AsyncDisposable {
  readonly #kernel: number;
  readonly #device: number;
  readonly #stop = new AbortController();
  readonly errors: string[] = [];
  readonly warnings: string[] = [];
  readonly transport: RawTransport;
  readonly served: Promise<ServeEnd>;

  constructor(methods: Partial<FileSystem>, maxHeldBuffers = 64) {
    [this.#kernel, this.#device] = socketPair('packets');
    setNonBlocking(this.#device);
    const log: Logger = {
      ...nullLogger,
      error: (message) => void this.errors.push(message),
      warn: (message) => void this.warnings.push(message),
    };
    this.transport = new RawTransport({ fd: this.#device, log, maxHeldBuffers, drainMs: 100 });
    const refuse = (_request: FuseRequest, reply: Reply): void => reply.error(errnos.EIO);
    const fileSystem = new Proxy(methods, {
      get: (known, name) => known[name as keyof FileSystem] ?? (optional.has(String(name)) ? undefined : refuse),
    }) as FileSystem;
    this.served = this.transport.serve(fileSystem, this.#stop.signal);
  }

  send(bytes: Buffer): void {
    writeSync(this.#kernel, bytes);
  }

  /** The replies that come until nothing comes for a few turns of the event loop. */
  async replies(): Promise<Answer[]> {
    const answers: Answer[] = [];
    for (let quiet = 0; quiet < 20; quiet++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      while (readable(this.#kernel)) {
        quiet = 0;
        const into = Buffer.alloc(2 << 20);
        const { bytes } = receive(this.#kernel, into);
        assert.equal(into.readUInt32LE(0), bytes);
        answers.push({ error: into.readInt32LE(4), unique: into.readBigUInt64LE(8), body: into.subarray(16, bytes) });
      }
    }
    return answers;
  }

  async ask(...requests: readonly Buffer[]): Promise<Answer[]> {
    for (const bytes of requests) this.send(bytes);
    return this.replies();
  }

  /** Tells the transport to stop; it may still wait for requests in hand. */
  stop(): void {
    this.#stop.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.served;
    closeSync(this.#kernel);
    closeSync(this.#device);
  }
}

const optional = new Set(
  'fsyncdir access getxattr setxattr listxattr removexattr fallocate lseek ioctl copyFileRange getlk setlk flock tmpfile forget destroy'.split(
    ' ',
  ),
);
const lookup = (unique: bigint, name = 'a'): Buffer => request(Opcode.LOOKUP, unique, Buffer.from(`${name}\0`));
const read = (unique: bigint, size: number): Buffer => {
  const body = Buffer.alloc(40);
  body.writeUInt32LE(size, 16);
  return request(Opcode.READ, unique, body);
};
const write = (unique: bigint, data: string): Buffer => {
  const body = Buffer.alloc(40);
  body.writeUInt32LE(data.length, 16);
  return request(Opcode.WRITE, unique, Buffer.concat([body, Buffer.from(data)]));
};

test('an error thrown at once or later becomes the errno; a defect becomes EIO and a line in the log', async () => {
  await using session = new Session({
    lookup: (_request, _reply, _parent, name) => {
      if (name.toString() === 'now') throw new FsError('ENOENT');
      if (name.toString() === 'later') return Promise.reject(new FsError('EACCES'));
      return Promise.reject(new TypeError('defect'));
    },
  });
  const answers = await session.ask(lookup(2n, 'now'), lookup(4n, 'later'), lookup(6n, 'defect'));
  assert.deepEqual(
    answers.map(({ error, unique }) => [unique, error]),
    [
      [2n, -errnos.ENOENT],
      [4n, -errnos.EACCES],
      [6n, -errnos.EIO],
    ],
  );
  assert.deepEqual(session.errors, ['a file-system call failed in an unforeseen way']);
});

test('a second answer is dropped and logged, and reaches no other request', async () => {
  const replies: Reply[] = [];
  await using session = new Session({ lookup: (_request, reply) => void replies.push(reply) });
  assert.deepEqual(await session.ask(lookup(2n)), []);
  replies[0]?.error(errnos.ENOENT);
  session.send(lookup(4n));
  await session.replies();
  replies[0]?.ok();
  assert.deepEqual(await session.replies(), []);
  assert.deepEqual(session.errors, ['a request was answered twice']);
  assert.equal(session.transport.inFlight, 1);
  replies[1]?.ok();
});

test('a request that is sent again is marked, and its reply carries its number unchanged', async () => {
  const seen: boolean[] = [];
  await using session = new Session({
    lookup: (request, reply) => {
      seen.push(request.resent);
      reply.error(errnos.ENOENT);
    },
  });
  const again = (1n << 63n) | 8n;
  assert.deepEqual(
    (await session.ask(lookup(6n), lookup(again))).map(({ unique }) => unique),
    [6n, again],
  );
  assert.deepEqual(seen, [false, true]);
});

test('an interruption aborts the signal of the request it names, whether that was looked at before or not', async () => {
  const waiting: FuseRequest[] = [];
  await using session = new Session({
    lookup: (request, reply) => {
      waiting.push(request);
      if (waiting.length > 1) return;
      request.signal.addEventListener('abort', () => reply.error(errnos.EINTR));
    },
  });
  const interrupt = (unique: bigint): Buffer => {
    const body = Buffer.alloc(8);
    body.writeBigUInt64LE(unique, 0);
    return request(Opcode.INTERRUPT, unique | 1n, body);
  };
  const [answer] = await session.ask(lookup(2n), lookup(4n), interrupt(2n), interrupt(4n), interrupt(99n));
  assert.deepEqual([answer?.unique, answer?.error], [2n, -errnos.EINTR]);
  assert.equal(waiting[1]?.signal.aborted, true);
});

test('the bytes of a write stay as they are until it is answered, and no more are held than allowed', async () => {
  const held: { readonly data: Buffer; readonly reply: Reply }[] = [];
  await using session = new Session({ write: (_r, reply, _ino, _handle, _offset, data) => void held.push({ data, reply }) }, 2);
  session.send(write(2n, 'first'));
  session.send(write(4n, 'second'));
  session.send(write(6n, 'third'));
  await session.replies();
  assert.deepEqual(
    held.map(({ data }) => data.toString()),
    ['first', 'second'],
  );
  held[0]?.reply.written(5);
  await session.replies();
  assert.deepEqual(
    held.slice(1).map(({ data }) => data.toString()),
    ['second', 'third'],
  );
  for (const { reply } of held.slice(1)) reply.written(1);
  assert.equal((await session.replies()).length, 2);
});

test('more data than asked for is refused instead of being sent', async () => {
  await using session = new Session({ read: (_request, reply) => reply.data(Buffer.alloc(100)) });
  const [small, enough] = await session.ask(read(2n, 99), read(4n, 100));
  assert.deepEqual([small?.error, small?.body.length, enough?.error, enough?.body.length], [-errnos.EIO, 0, 0, 100]);
});

test('data of any size and in any parts arrives whole', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat({ max: 60_000 }), { minLength: 1, maxLength: 3 }), async (sizes) => {
      const parts = sizes.map((size, index) => Buffer.alloc(size, index + 1));
      await using session = new Session({ read: (_request, reply) => reply.dataParts(parts) });
      const [answer] = await session.ask(read(2n, 1 << 20));
      assert.deepEqual(answer?.body, Buffer.concat(parts));
    }),
    { numRuns: 5 },
  );
});

test('no bytes crash it: each request but the ones without an answer gets exactly one', async () => {
  const silent: readonly number[] = [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat({ max: 60 }), fc.uint8Array({ maxLength: 200 }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })), {
        minLength: 20,
        maxLength: 40,
      }),
      async (requests) => {
        await using session = new Session({});
        const sent = requests.map(([opcode, body, node], index) => ({ opcode, unique: BigInt(index * 2 + 2), body, node }));
        const answers = await session.ask(
          ...sent.map((each) => request(each.opcode, each.unique, Buffer.from(each.body), each.node)),
        );
        const expected = sent.filter(({ opcode }) => !silent.includes(opcode)).map(({ unique }) => unique);
        assert.deepEqual(
          answers.map(({ unique }) => unique),
          expected,
        );
        assert.ok(answers.every(({ error }) => error <= 0 && error > -512));
      },
    ),
    { numRuns: 15 },
  );
});

test('a listing holds as many names as fit, each padded to eight bytes', async () => {
  const names = ['.', 'a', 'eightchr', 'a longer name', 'last'];
  await using session = new Session({
    readdir: (_request, reply, _ino, _handle, offset) => {
      for (let at = offset; at < names.length; at++)
        if (!reply.sink.add(Buffer.from(names[at] ?? ''), 7 as never, 0o100644, at + 1)) break;
      reply.directory();
    },
  });
  const found: string[] = [];
  for (let offset = 0, unique = 2n; ; unique += 2n) {
    const body = Buffer.alloc(40);
    body.writeBigUInt64LE(BigInt(offset), 8);
    body.writeUInt32LE(80, 16);
    const [answer] = await session.ask(request(Opcode.READDIR, unique, body));
    assert.ok(answer && answer.body.length <= 80 && answer.body.length % 8 === 0);
    if (answer.body.length === 0) break;
    for (let at = 0; at < answer.body.length;) {
      const length = answer.body.readUInt32LE(at + 16);
      assert.equal(answer.body.readUInt32LE(at + 20), 8);
      assert.equal(answer.body.readBigUInt64LE(at), 7n);
      found.push(answer.body.toString('utf8', at + 24, at + 24 + length));
      offset = Number(answer.body.readBigUInt64LE(at + 8));
      at += (24 + length + 7) & ~7;
    }
  }
  assert.deepEqual(found, names);
});

test('stopping waits for requests in hand', async () => {
  let late: Reply | undefined;
  const session = new Session({ lookup: (_request, reply) => void (late = reply) });
  await session.ask(lookup(2n));
  const disposed = session[Symbol.asyncDispose]();
  let over = false;
  void session.served.then(() => (over = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(over, false);
  late?.ok();
  assert.equal(await session.served, 'stopped');
  await disposed;
});

test('who waits for other programs does not hold up the end, and is not answered; others are waited for', async () => {
  const held: Reply[] = [];
  await using session = new Session({
    setlk(request) {
      request.park();
      return new Promise(() => {});
    },
    getattr: (_request, reply) => void held.push(reply),
  });
  session.send(request(Opcode.SETLKW, 2n, Buffer.alloc(48)));
  session.send(request(Opcode.GETATTR, 4n, Buffer.alloc(16)));
  assert.deepEqual(await session.replies(), []);
  let ended = false;
  void session.served.then(() => (ended = true));
  session.stop();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(ended, false, 'GETATTR is in hand');
  held[0]?.error(errnos.EACCES);
  assert.equal(await session.served, 'stopped');
  assert.deepEqual(
    (await session.replies()).map(({ unique }) => unique),
    [4n],
  );
  assert.deepEqual(session.warnings, [], 'nothing was left unanswered that should not be');
});
