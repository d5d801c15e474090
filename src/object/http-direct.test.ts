/** Answers cut at every place, in every framing, over sockets and TLS; and what becomes of the caller's buffer. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import * as fc from 'fast-check';
import { systemClock } from '../lib/clock.ts';
import { DirectClient } from './http-direct.ts';
import type { ExchangeRequest } from './http-exchange.ts';
import { ObjectError } from './store.ts';

interface Peer extends AsyncDisposable {
  readonly client: DirectClient;
  readonly origin: string;
  readonly requests: string[];
  connections(): number;
  /** Sockets of the server that are open. */
  readonly open: Set<Socket>;
}

/** A server that calls `answer` for each request it has read. */
async function peer(
  answer: (socket: Socket, number: number) => void,
  options: { connections?: number; keepAliveMs?: number; tls?: { key: Buffer; cert: Buffer } } = {},
): Promise<Peer> {
  const requests: string[] = [];
  const open = new Set<Socket>();
  let accepted = 0;
  const serve = (socket: Socket): void => {
    accepted++;
    open.add(socket);
    socket.on('close', () => open.delete(socket)).on('error', () => undefined);
    let text = '';
    socket.on('data', (bytes: Buffer) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end < 0) return;
      requests.push(text.slice(0, end));
      text = text.slice(end + 4);
      answer(socket, requests.length);
    });
  };
  const server: Server = options.tls ? createTlsServer(options.tls, serve) : createServer({ noDelay: true }, serve);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address);
  const origin = `${options.tls ? 'https' : 'http'}://localhost:${address.port}`;
  const client = new DirectClient({
    origin,
    connections: options.connections ?? 4,
    connectTimeoutMs: 5000,
    keepAliveMs: options.keepAliveMs ?? 15_000,
    clock: systemClock,
  });
  return {
    client,
    origin,
    requests,
    open,
    connections: () => accepted,
    async [Symbol.asyncDispose]() {
      client.close();
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function request(to: Peer, more: Partial<ExchangeRequest> = {}): ExchangeRequest {
  return {
    origin: to.origin,
    method: 'GET',
    path: '/b/key',
    headers: { 'x-a': 'b' },
    maxBody: 1 << 20,
    timeoutMs: 5000,
    ...more,
  };
}

/** Writes `bytes` in pieces, each in a segment of its own. */
function dribble(socket: Socket, bytes: Buffer, cuts: readonly number[], end: boolean): void {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  let at = 0;
  const step = (): void => {
    const to = ends.shift() ?? bytes.length;
    socket.write(bytes.subarray(at, to), () => {
      at = to;
      if (at < bytes.length) setImmediate(step);
      else if (end) socket.end();
    });
  };
  step();
}

const framings = ['length', 'chunked', 'close'] as const;

function encode(framing: (typeof framings)[number], body: Buffer, sizes: readonly number[], status = 200): Buffer {
  const head = `HTTP/1.1 ${status} Fine\r\nX-Amz-Meta-Crc32c: 7\r\n`;
  if (framing === 'length') return Buffer.concat([Buffer.from(`${head}Content-Length: ${body.length}\r\n\r\n`), body]);
  if (framing === 'close') return Buffer.concat([Buffer.from(`${head}Connection: close\r\n\r\n`), body]);
  const parts: Buffer[] = [Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n`)];
  for (let at = 0, index = 0; at < body.length; index++) {
    const part = body.subarray(at, at + 1 + (sizes[index % sizes.length] ?? 999));
    parts.push(Buffer.from(`${part.length.toString(16)}${index % 2 ? ';x=y' : ''}\r\n`), part, Buffer.from('\r\n'));
    at += part.length;
  }
  parts.push(Buffer.from('0\r\nTrailer: x\r\n\r\n'));
  return Buffer.concat(parts);
}

test('a body arrives whole however it is framed and cut, and the connection serves the next request', async () => {
  let now: { bytes: Buffer; cuts: readonly number[]; end: boolean } = {
    bytes: Buffer.alloc(0),
    cuts: [],
    end: false,
  };
  await using to = await peer((socket) => {
    dribble(socket, now.bytes, now.cuts, now.end);
  });
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 0, maxLength: 20_000, size: 'max' }),
      fc.constantFrom(...framings),
      fc.array(fc.nat(21_000), { maxLength: 6 }),
      fc.array(fc.nat(4000), { minLength: 1, maxLength: 4 }),
      fc.constantFrom('into', 'larger', 'none', 'error', 'range'),
      fc.boolean(),
      async (data, framing, cuts, sizes, kind, hint) => {
        const body = Buffer.from(data);
        const bytes = encode(framing, body, sizes, kind === 'error' ? 503 : 200);
        now = {
          bytes: hint ? Buffer.concat([Buffer.from('HTTP/1.1 103 Early\r\n\r\n'), bytes]) : bytes,
          cuts,
          end: framing === 'close',
        };
        const offset = Math.floor(body.length / 3);
        const into =
          kind === 'into' ? Buffer.alloc(body.length) : kind === 'larger' ? Buffer.alloc(body.length + 99, 1) : undefined;
        const answer = await to.client.exchange(
          request(to, { into, ...(kind === 'range' ? { range: { offset, length: 1000 } } : {}) }),
        );
        assert.equal(answer.status, kind === 'error' ? 503 : 200);
        assert.equal(answer.headers['x-amz-meta-crc32c'], '7');
        assert.ok(answer.body.equals(kind === 'range' ? body.subarray(offset, offset + 1000) : body));
        if (into) assert.equal(answer.body.buffer, into.buffer);
        if (kind === 'larger') assert.ok(into!.subarray(body.length).every((byte) => byte === 1));
      },
    ),
    { numRuns: 100, endOnFailure: true },
  );
});

test('requests one after the other share a connection, and carry their headers', async () => {
  await using to = await peer((socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'));
  for (let n = 0; n < 5; n++) assert.equal((await to.client.exchange(request(to))).body.toString(), 'ok');
  assert.equal(to.connections(), 1);
  assert.equal(to.requests[4], `GET /b/key HTTP/1.1\r\nhost: ${to.origin.slice(7)}\r\nconnection: keep-alive\r\nx-a: b`);
});

test('more requests than connections wait for one', async () => {
  await using to = await peer(
    (socket, n) => void setTimeout(() => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${String(n).length}\r\n\r\n${n}`), 2),
    {
      connections: 3,
    },
  );
  const answers = await Promise.all(Array.from({ length: 20 }, () => to.client.exchange(request(to))));
  assert.equal(new Set(answers.map(({ body }) => body.toString())).size, 20);
  assert.equal(to.connections(), 3);
});

test('a request that fails gives its place to one that waits', async () => {
  await using to = await peer(
    (socket, n) => (n === 1 ? socket.destroy() : socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')),
    {
      connections: 1,
    },
  );
  const [first, second] = await Promise.allSettled([to.client.exchange(request(to)), to.client.exchange(request(to))]);
  assert.equal(first.status, 'rejected');
  assert.equal(second.status, 'fulfilled');
});

test('a connection that the server closed, or is about to close, is not used again', async () => {
  await using to = await peer((socket, n) => {
    socket.write(
      `HTTP/1.1 200 OK\r\ncontent-length: 0\r\n${n === 1 ? 'Keep-Alive: timeout=2\r\n' : n === 2 ? 'Connection: close\r\n' : ''}\r\n`,
    );
    if (n === 3) socket.end();
  });
  for (let n = 0; n < 3; n++) await to.client.exchange(request(to));
  while (to.open.size > 0) await systemClock.sleep(1);
  await to.client.exchange(request(to));
  assert.equal(to.connections(), 4);
});

test('an idle connection is closed when its time is over', async () => {
  await using to = await peer((socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'), { keepAliveMs: 10 });
  await to.client.exchange(request(to));
  while (to.open.size > 0) await systemClock.sleep(1);
});

for (const [what, answer, code] of [
  ['bytes that are not HTTP', 'SSH-2.0-x\r\n\r\n', 'Unavailable'],
  ['a head without end', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(4000)}`, 'Unavailable'],
  ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab', 'Unavailable'],
  ['a length that is no number', 'HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n', 'Unavailable'],
  ['a strange coding', 'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n', 'Unavailable'],
  ['a chunk without a size', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n', 'Unavailable'],
  ['a chunk longer than it says', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n', 'Unavailable'],
  ['more than the answer', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc', 'Unavailable'],
  ['more than the buffer holds', `HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n${'a'.repeat(99)}`, 'Invalid'],
] as const)
  test(`${what}: the request fails with ${code} and the connection is closed`, async () => {
    await using to = await peer((socket) => socket.write(answer));
    await assert.rejects(to.client.exchange(request(to, { into: Buffer.alloc(10) })), { code });
    while (to.open.size > 0) await systemClock.sleep(1);
  });

test('after an abort or a timeout in the middle of the body the buffer stays as it is', async () => {
  for (const kind of ['abort', 'timeout']) {
    const sent = Promise.withResolvers<Socket>();
    await using to = await peer((socket) =>
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nabc', () => sent.resolve(socket)),
    );
    const into = Buffer.alloc(100_000);
    const controller = new AbortController();
    const reading = to.client.exchange(
      request(to, { into, signal: controller.signal, timeoutMs: kind === 'timeout' ? 100 : 5000 }),
    );
    const socket = await sent.promise;
    if (kind === 'abort') {
      while (into[0] === 0) await systemClock.sleep(1);
      controller.abort(new Error('no longer wanted'));
    }
    await assert.rejects(reading, kind === 'abort' ? /no longer wanted/ : { code: 'Timeout' });
    const before = Buffer.from(into);
    socket.write(Buffer.alloc(1000, 'x'));
    while (to.open.size > 0) await systemClock.sleep(1);
    assert.ok(into.equals(before));
  }
});

test('a request that is aborted while it waits is never sent', async () => {
  const first = Promise.withResolvers<Socket>();
  await using to = await peer(
    (socket, n) => (n === 1 ? first.resolve(socket) : socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')),
    {
      connections: 1,
    },
  );
  const one = to.client.exchange(request(to));
  const controller = new AbortController();
  const two = to.client.exchange(request(to, { path: '/two', signal: controller.signal }));
  const three = to.client.exchange(request(to, { path: '/three' }));
  controller.abort(new Error('no longer wanted'));
  await assert.rejects(two, /no longer wanted/);
  (await first.promise).write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
  await Promise.all([one, three]);
  assert.deepEqual(
    to.requests.map((text) => text.split(' ')[1]),
    ['/b/key', '/three'],
  );
});

/** A server that takes in all that comes, and answers each request as soon as `answer` says so. */
async function sink(
  answer: (socket: Socket, head: string, body: Buffer) => boolean,
  use: (client: DirectClient, origin: string, sockets: Socket[]) => Promise<void>,
): Promise<void> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let come = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      come = Buffer.concat([come, bytes]);
      const end = come.indexOf('\r\n\r\n');
      if (end >= 0 && answer(socket, come.toString('latin1', 0, end), come.subarray(end + 4))) come = Buffer.alloc(0);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address);
  const origin = `http://localhost:${address.port}`;
  const client = new DirectClient({ origin, connections: 4, connectTimeoutMs: 5000, keepAliveMs: 9000, clock: systemClock });
  try {
    await use(client, origin, sockets);
  } finally {
    client.close();
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}

const put = (origin: string, body: Buffer, more: Partial<ExchangeRequest> = {}): ExchangeRequest => ({
  origin,
  method: 'PUT',
  path: '/b/key',
  headers: { 'x-a': 'b' },
  body,
  maxBody: 1000,
  timeoutMs: 20_000,
  ...more,
});

const lengthIn = (head: string): number => Number(/^content-length: (\d+)$/m.exec(head)?.[1]);

test('what is put arrives whole, whatever its length, one after the other over one connection', async () => {
  const seen: Buffer[] = [];
  await sink(
    (socket, head, body) => {
      if (body.length < lengthIn(head)) return false;
      assert.match(head, /^PUT \/b\/key HTTP\/1.1\r\n/);
      seen.push(Buffer.from(body));
      return socket.write(`HTTP/1.1 ${seen.length % 2 ? '200 OK\r\ncontent-length: 0' : '204 Nothing'}\r\n\r\n`);
    },
    async (client, origin, sockets) => {
      for (const length of [0, 1, 16_384, 70_000, 5_000_000, 3]) {
        const body = Buffer.alloc(length, `body of ${length}`);
        await client.exchange(put(origin, body));
        assert.ok(seen.at(-1)?.equals(body), `${length} bytes`);
      }
      assert.equal(sockets.length, 1);
    },
  );
});

test('a body that nobody waits for any more is not sent further', async () => {
  for (const kind of ['abort', 'timeout', 'answer'] as const) {
    const body = Buffer.alloc(64 << 20, 'a');
    const begun = Promise.withResolvers<Socket>();
    let wrong = 0;
    await sink(
      (socket) => {
        begun.resolve(socket);
        return false;
      },
      async (client, origin) => {
        const controller = new AbortController();
        const timeoutMs = kind === 'timeout' ? 200 : 20_000;
        const sending = client.exchange(put(origin, body, { signal: controller.signal, timeoutMs }));
        const outcome = sending.then(
          ({ status }) => status,
          (error: Error) => error.message,
        );
        const socket = await begun.promise;
        socket.pause();
        if (kind === 'abort') controller.abort(new Error('no longer wanted'));
        if (kind === 'answer') socket.write('HTTP/1.1 503 Slow\r\ncontent-length: 0\r\n\r\n');
        const said = await outcome;
        if (kind === 'answer') assert.equal(said, 503);
        else assert.match(String(said), kind === 'abort' ? /no longer wanted/ : /did not finish/);
        // The buffer is somebody else's now.
        body.fill('b');
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.removeAllListeners('data').on('data', (bytes: Buffer) => (wrong += bytes.includes('b') ? 1 : 0));
        socket.resume();
        await closed;
        assert.equal(wrong, 0, kind);
      },
    );
  }
});

test('a value with a line break is refused before anything is sent', async () => {
  await using to = await peer(() => undefined);
  for (const bad of [{ headers: { a: 'b\r\nc: d' } }, { path: '/a\nb' }, { headers: { a: 'ü€' } }])
    await assert.rejects(to.client.exchange(request(to, bad)), /cannot be sent/);
  assert.equal(to.connections(), 0);
});

test('closing ends what is under way and what waits', async () => {
  const asked = Promise.withResolvers<void>();
  await using to = await peer(() => asked.resolve(), { connections: 1 });
  const both = [to.client.exchange(request(to)), to.client.exchange(request(to))];
  await asked.promise;
  to.client.close();
  for (const result of await Promise.allSettled(both))
    assert.ok(result.status === 'rejected' && result.reason instanceof ObjectError && result.reason.code === 'Unavailable');
  while (to.open.size > 0) await systemClock.sleep(1);
});

test('over TLS a body arrives whole, and a certificate that nobody vouches for is refused', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-tls-'));
  try {
    const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(folder, name)) as [string, string];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        cert,
        ...subject,
      ],
      { stdio: 'ignore' },
    );
    const body = Buffer.alloc(3_000_000, 'abcdefg');
    const tls = { key: readFileSync(key), cert: readFileSync(cert) };
    await using to = await peer((socket) => socket.write(encode('length', body, [])), { tls });
    await assert.rejects(to.client.exchange(request(to)), { code: 'Unavailable' });
    // The authorities of a process are read when it starts.
    const script = `
      import { DirectClient } from ${JSON.stringify(new URL('http-direct.ts', import.meta.url).href)};
      import { systemClock } from ${JSON.stringify(new URL('../lib/clock.ts', import.meta.url).href)};
      const origin = ${JSON.stringify(to.origin)};
      const client = new DirectClient({ origin, connections: 1, connectTimeoutMs: 5000, keepAliveMs: 9000, clock: systemClock });
      for (let n = 0; n < 3; n++) {
        const into = Buffer.alloc(3000000);
        const { body } = await client.exchange({ origin, method: 'GET', path: '/', headers: {}, into, maxBody: 0, timeoutMs: 9000 });
        if (!body.equals(Buffer.alloc(3000000, 'abcdefg'))) throw new Error('not what was sent');
      }
      client.close();
      process.stdout.write('whole');`;
    const said = await new Promise<string>((resolve, reject) =>
      execFile(
        process.execPath,
        ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script],
        { env: { ...process.env, NODE_EXTRA_CA_CERTS: cert } },
        (error, stdout, stderr) => (error ? reject(new Error(stderr)) : resolve(stdout)),
      ),
    );
    assert.equal(said, 'whole');
    assert.equal(to.requests.length, 3);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
