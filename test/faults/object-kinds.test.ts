/** Azure's and WebDAV's servers behind a line that fails, over real connections: as test/object/faults.test.ts does for S3. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { AzureObjectStore } from '../../src/object/azure.ts';
import { parseContainer } from '../../src/object/azure-account.ts';
import { withRetry } from '../../src/object/retry.ts';
import { ObjectError, type ObjectErrorCode, type ObjectStore } from '../../src/object/store.ts';
import { WebdavObjectStore } from '../../src/object/webdav.ts';
import { startAzurite, startWebdav } from '../object-servers.ts';

interface Whole {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}
type Trouble = (answer: ServerResponse, whole: Whole) => void;

/** A line to a server: takes one trouble from the front for each request; undefined lets it through. */
class Line implements AsyncDisposable {
  troubles: (Trouble | undefined)[] = [];
  requests = 0;
  readonly #server: Server;

  constructor(port: number) {
    this.#server = createServer((incoming, answer) => {
      this.requests++;
      const trouble = this.troubles.shift();
      const parts: Buffer[] = [];
      incoming.on('data', (part: Buffer) => parts.push(part));
      incoming.on('end', () => {
        const { method, url: path, headers } = incoming;
        const forward = request({ host: '127.0.0.1', port, method, path, headers }, (response) => {
          const body: Buffer[] = [];
          response.on('data', (part: Buffer) => body.push(part));
          response.on('end', () => {
            const whole = { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(body) };
            if (trouble) return trouble(answer, whole);
            answer.writeHead(whole.status, whole.headers);
            answer.end(whole.body);
          });
        });
        forward.end(Buffer.concat(parts));
      });
    });
  }

  async open(): Promise<number> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    const address = this.#server.address();
    assert.ok(typeof address === 'object' && address);
    return address.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }
}

const status =
  (code: number, headers: Record<string, string> = {}): Trouble =>
  (answer) => {
    answer.writeHead(code, headers);
    answer.end('oops');
  };
const reset: Trouble = (answer) => answer.destroy();
const cut: Trouble = (answer, whole) => {
  answer.writeHead(whole.status, whole.headers);
  answer.write(whole.body.subarray(0, Math.floor(whole.body.length / 2)), () => answer.destroy());
};
const silent: Trouble = () => undefined;
/** What is not what the protocol says. */
const nonsense: Trouble = (answer) => {
  answer.writeHead(200, { 'content-type': 'text/html' });
  answer.end('<html>please log in</html>');
};

const cases: readonly (readonly [string, Trouble, ObjectErrorCode, boolean])[] = [
  ['403', status(403), 'AccessDenied', false],
  ['404 although it was listed', status(404), 'NotFound', false],
  ['409', status(409), 'Unavailable', true],
  ['423', status(423), 'Unavailable', true],
  ['429', status(429), 'Throttled', true],
  ['500', status(500), 'Unavailable', true],
  ['503 with Retry-After', status(503, { 'retry-after': '0' }), 'Unavailable', true],
  ['507', status(507), 'NoSpace', false],
  ['a redirect', status(307, { location: 'http://example.invalid/' }), 'Invalid', false],
  ['a reset before the answer', reset, 'Unavailable', true],
  ['a reset within the body', cut, 'Unavailable', true],
  ['no answer at all', silent, 'Timeout', true],
];

const SECRET = 'testsecretkey';
const body = Buffer.alloc(100_000, 'abcdefg');

interface Kind {
  start(): Promise<AsyncDisposable & { readonly port: number }>;
  /** The store by way of a port. */
  open(port: number, timeoutMs: number): ObjectStore;
}

let connection = '';
const kinds: Readonly<Record<string, Kind>> = {
  'Azure blobs': {
    async start() {
      const server = await startAzurite();
      ({ connection } = server);
      return server;
    },
    // What is signed is the path alone, not where it is asked for.
    open: (port, timeoutMs) =>
      new AzureObjectStore({
        address: parseContainer(
          'faults',
          {},
          { AZURE_STORAGE_CONNECTION_STRING: connection.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`) },
        ),
        timeoutMs,
        pageSize: 4,
      }),
  },
  WebDAV: {
    start: startWebdav,
    open: (port, timeoutMs) =>
      new WebdavObjectStore({ url: `http://127.0.0.1:${port}/faults`, user: 'testaccess', password: SECRET, timeoutMs }),
  },
};

for (const [name, kind] of Object.entries(kinds))
  describe(`${name} behind a line that fails`, () => {
    let server: AsyncDisposable & { readonly port: number };
    let line: Line;
    let port = 0;
    let store: ObjectStore;
    before(async () => {
      server = await kind.start();
      line = new Line(server.port);
      port = await line.open();
      store = kind.open(port, 5000);
      await store.create();
      await store.put('object', body);
    });
    after(async () => {
      await store?.close();
      await line?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
    });

    for (const [what, trouble, code, retryable] of cases)
      test(`a read that meets ${what} fails with ${code}${retryable ? ', and succeeds when tried again' : ' and is not repeated'}`, async () => {
        const hasty = what === 'no answer at all' ? kind.open(port, 300) : store;
        const into = Buffer.alloc(body.length, 1);
        line.troubles = [trouble];
        await assert.rejects(hasty.get('object', { into }), (error) => {
          assert.ok(error instanceof ObjectError, String(error));
          assert.deepEqual([error.code, error.retryable], [code, retryable], error.message);
          assert.ok(!error.message.includes(SECRET) && !/AccountKey|SharedKey|Basic/.test(error.message));
          return true;
        });
        const patient = withRetry(hasty, { baseMs: 1, maxMs: 5, retries: 3 });
        line.troubles = [trouble, trouble];
        line.requests = 0;
        if (retryable) assert.ok(body.equals(await patient.get('object', { into })));
        else await assert.rejects(patient.get('object', { into }), { code });
        assert.equal(line.requests, retryable ? 3 : 1);
        line.troubles = [];
        if (hasty !== store) await hasty.close();
      });

    test('writes and deletes get over what passes, at whichever of their requests it comes', async () => {
      const patient = withRetry(store, { baseMs: 1, maxMs: 5 });
      for (const trouble of [reset, status(500), status(503, { 'retry-after': '0' }), status(429)])
        for (let ahead = 0; ahead < 3; ahead++) {
          const quiet = Array.from({ length: ahead }, () => undefined);
          line.troubles = [...quiet, trouble, trouble];
          await patient.put('again', body);
          line.troubles = [];
          assert.ok(body.equals(await store.get('again')));
          line.troubles = [...quiet, trouble];
          await patient.delete('again');
          line.troubles = [];
          assert.equal(await store.head('again'), undefined);
        }
    });

    test('a listing that breaks goes on where it was, without gaps or repeats', async () => {
      const keys = Array.from({ length: 11 }, (_, index) => `pages/${String(index).padStart(3, '0')}`);
      for (const key of keys) await store.put(key, Buffer.from('x'));
      const found: string[] = [];
      line.troubles = [undefined, reset, cut, undefined, status(500), undefined, status(503)];
      for await (const { key } of withRetry(store, { baseMs: 1, maxMs: 5 }).list('pages/')) found.push(key);
      line.troubles = [];
      assert.deepEqual(found, keys);
    });

    test('an answer that is not of the protocol is no empty listing', async () => {
      line.troubles = [nonsense];
      await assert.rejects(
        async () => {
          for await (const { key } of store.list('pages/')) assert.fail(`${key} was listed`);
        },
        { code: 'Unavailable' },
      );
      line.troubles = [];
    });
  });
