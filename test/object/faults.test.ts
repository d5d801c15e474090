/**
 * A store behind a line that fails, over real connections: an HTTP proxy before the S3 server refuses, stalls, cuts and
 * changes answers. Each failure ends as the ObjectError that the layers above act on, and retries get over the passing ones.
 */
import assert from 'node:assert/strict';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { withRetry } from '../../src/object/retry.ts';
import { parseBucketUrl } from '../../src/object/s3-url.ts';
import { S3ObjectStore } from '../../src/object/s3.ts';
import { ObjectError, type ObjectErrorCode } from '../../src/object/store.ts';
import { type S3Server, startS3 } from '../servers.ts';

type Trouble = (answer: ServerResponse, upstream: { status: number; headers: IncomingMessage['headers']; body: Buffer }) => void;

let upstream: S3Server;
let proxy: Server;
let origin = '';
/** Taken from the front, one per request; undefined lets the request through. */
let troubles: (Trouble | undefined)[] = [];
let requests = 0;

before(async () => {
  upstream = await startS3();
  upstream.createBucket('faults');
  proxy = createServer((incoming, answer) => {
    requests++;
    const trouble = troubles.shift();
    const parts: Buffer[] = [];
    incoming.on('data', (part: Buffer) => parts.push(part));
    incoming.on('end', () => {
      // The Host header is signed: it goes on as it came.
      const forward = request(
        { host: '127.0.0.1', port: upstream.port, method: incoming.method, path: incoming.url, headers: incoming.headers },
        (response) => {
          const body: Buffer[] = [];
          response.on('data', (part: Buffer) => body.push(part));
          response.on('end', () => {
            const whole = { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(body) };
            if (trouble) return trouble(answer, whole);
            answer.writeHead(whole.status, whole.headers);
            answer.end(whole.body);
          });
        },
      );
      forward.end(Buffer.concat(parts));
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const address = proxy.address();
  assert.ok(typeof address === 'object' && address);
  origin = `http://127.0.0.1:${address.port}`;
});

after(async () => {
  proxy.closeAllConnections();
  proxy.close();
  await upstream.stop();
});

function open(timeoutMs = 5000): S3ObjectStore {
  return new S3ObjectStore({
    address: parseBucketUrl(`${origin}/faults`, 's3', {}),
    accessKey: upstream.accessKey,
    secretKey: upstream.secretKey,
    timeoutMs,
  });
}

const status =
  (code: number, s3Code = '', headers: Record<string, string> = {}): Trouble =>
  (answer) => {
    answer.writeHead(code, headers);
    answer.end(s3Code === '' ? 'oops' : `<Error><Code>${s3Code}</Code><Message>said so</Message></Error>`);
  };
const reset: Trouble = (answer) => answer.destroy();
const cut: Trouble = (answer, { status: code, headers, body }) => {
  answer.writeHead(code, headers);
  answer.write(body.subarray(0, Math.floor(body.length / 2)), () => answer.destroy());
};
const shorter: Trouble = (answer, { status: code, headers, body }) => {
  const half = Math.floor(body.length / 2);
  answer.writeHead(code, { ...headers, 'content-length': String(half) });
  answer.end(body.subarray(0, half));
};
const changed: Trouble = (answer, { status: code, headers, body }) => {
  body[1000]! ^= 1;
  answer.writeHead(code, headers);
  answer.end(body);
};
const longer: Trouble = (answer, { status: code, headers, body }) => {
  answer.writeHead(code, { ...headers, 'content-length': String(body.length * 2) });
  answer.end(Buffer.concat([body, body]));
};
const silent: Trouble = () => undefined;

const body = Buffer.alloc(100_000, 'abcdefg');

const cases: readonly (readonly [string, Trouble, ObjectErrorCode, boolean])[] = [
  ['403 AccessDenied', status(403, 'AccessDenied'), 'AccessDenied', false],
  ['404 NoSuchKey', status(404, 'NoSuchKey'), 'NotFound', false],
  ['404 NoSuchBucket', status(404, 'NoSuchBucket'), 'NoSuchBucket', false],
  ['409 OperationAborted', status(409, 'OperationAborted'), 'Unavailable', true],
  ['429', status(429), 'Throttled', true],
  ['500 InternalError', status(500, 'InternalError'), 'Unavailable', true],
  ['501', status(501, 'NotImplemented'), 'Invalid', false],
  ['503 SlowDown', status(503, 'SlowDown', { 'retry-after': '1' }), 'Throttled', true],
  ['507', status(507), 'NoSpace', false],
  ['a reset before the answer', reset, 'Unavailable', true],
  ['a reset within the body', cut, 'Unavailable', true],
  ['a body that is shorter than what was written', shorter, 'Corrupt', true],
  ['a body with another byte', changed, 'Corrupt', true],
  ['a body that is longer than the buffer', longer, 'Invalid', false],
  ['no answer at all', silent, 'Timeout', true],
];

for (const [what, trouble, code, retryable] of cases)
  test(`a read that meets ${what} fails with ${code}${retryable ? ', and succeeds when tried again' : ' and is not repeated'}`, async () => {
    const store = open(what === 'no answer at all' ? 300 : 5000);
    troubles = [];
    await store.put('object', body);
    const into = Buffer.alloc(body.length, 1);
    troubles = [trouble];
    await assert.rejects(store.get('object', { into }), (error) => {
      assert.ok(error instanceof ObjectError, String(error));
      assert.equal(error.code, code);
      assert.equal(error.retryable, retryable);
      assert.doesNotMatch(error.message, new RegExp(upstream.secretKey));
      return true;
    });
    const patient = withRetry(store, { baseMs: 1, maxMs: 5, retries: 3 });
    troubles = [trouble, trouble];
    requests = 0;
    if (retryable) {
      assert.ok(body.equals(await patient.get('object', { into })));
      assert.equal(requests, 3);
      troubles = [trouble, trouble, trouble, trouble];
      await assert.rejects(patient.get('object', { into }), { code });
    } else {
      await assert.rejects(patient.get('object', { into }), { code });
      assert.equal(requests, 1);
    }
    await store.close();
  });

test('a clock that is refused is set by the answer: the next attempt is signed with the time of the store', async () => {
  const hours = 5 * 3_600_000;
  const slow: Clock = { ...systemClock, now: () => systemClock.now() - hours };
  const store = new S3ObjectStore({
    address: parseBucketUrl(`${origin}/faults`, 's3', {}),
    accessKey: upstream.accessKey,
    secretKey: upstream.secretKey,
    clock: slow,
  });
  troubles = [];
  await assert.rejects(store.put('late', body), (error) => {
    assert.ok(error instanceof ObjectError);
    assert.equal(error.retryable, true, error.message);
    assert.match(error.message, /RequestTimeTooSkewed.*the clocks of this machine .* differ/);
    return true;
  });
  await store.put('late', body);
  assert.ok(body.equals(await store.get('late')));
  await store.close();
});

test('a bucket in another region is found there: the request is signed anew', async () => {
  const elsewhere = await startS3('127.0.0.1', ['--region', 'eu-west-3']);
  try {
    elsewhere.createBucket('far');
    const store = new S3ObjectStore({
      address: parseBucketUrl(`${elsewhere.endpoint}/far`, 's3', {}),
      accessKey: elsewhere.accessKey,
      secretKey: elsewhere.secretKey,
    });
    await assert.rejects(store.put('x', body), (error) => {
      assert.ok(error instanceof ObjectError);
      assert.equal(error.retryable, true, error.message);
      assert.match(error.message, /the bucket is in region eu-west-3/);
      return true;
    });
    await store.put('x', body);
    assert.ok(body.equals(await store.get('x')));
    await store.close();
  } finally {
    await elsewhere.stop();
  }
});

test('a redirect to another region is followed by the next attempt, once; one to the same region is an error', async () => {
  for (const code of [301, 307]) {
    const store = open();
    const patient = withRetry(store, { baseMs: 1, maxMs: 5 });
    const moved = status(code, 'PermanentRedirect', { 'x-amz-bucket-region': 'ap-south-2' });
    troubles = [moved];
    // Signed for another region now, which this server refuses, and says which is its own.
    await patient.put('moved', body);
    troubles = [status(code, 'PermanentRedirect', { 'x-amz-bucket-region': 'us-east-1' })];
    await assert.rejects(patient.get('moved'), { code: 'Invalid', retryable: false });
    assert.ok(body.equals(await patient.get('moved')));
    await store.close();
  }
});

test('the upload of an object in parts gets over every passing trouble, and is completed once', async () => {
  const store = open();
  const patient = withRetry(store, { baseMs: 1, maxMs: 5 });
  const big = Buffer.alloc(5 * 1024 * 1024, 'part');
  for (const trouble of [reset, cut, status(500), status(503, 'SlowDown'), status(409, 'OperationAborted')]) {
    // Each request of it fails once. The last one is the worst: the parts are put together, and nobody is told.
    troubles = [trouble, undefined, trouble, undefined, trouble, undefined, cut];
    const upload = await patient.upload!('in-parts');
    await upload.part(0, big);
    await upload.part(1, body);
    await upload.complete();
    troubles = [];
    assert.ok(Buffer.concat([big, body]).equals(await store.get('in-parts')));
    await store.delete('in-parts');
  }
  await store.close();
});

test('Retry-After is told, in seconds and as a date', async () => {
  const store = open();
  troubles = [status(503, 'SlowDown', { 'retry-after': '7' })];
  await assert.rejects(store.get('object'), { retryAfterMs: 7000, status: 503 });
  troubles = [status(503, '', { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() })];
  await assert.rejects(store.get('object'), (error) => {
    assert.ok(error instanceof ObjectError && error.retryAfterMs !== undefined);
    return error.retryAfterMs > 3_000_000 && error.retryAfterMs <= 3_600_000;
  });
  await store.close();
});

test('a slow answer within the time is an answer', async () => {
  const store = open();
  troubles = [];
  await store.put('object', body);
  troubles = [
    (answer, { status: code, headers, body: whole }) =>
      void setTimeout(() => {
        answer.writeHead(code, headers);
        answer.end(whole);
      }, 100),
  ];
  assert.ok(body.equals(await store.get('object')));
  await store.close();
});

test('a body that comes slowly is whole where it ends within the time, and a Timeout where it does not', async () => {
  const store = open();
  troubles = [];
  await store.put('object', body);
  const slowly =
    (pieces: number, pauseMs: number): Trouble =>
    (answer, { status: code, headers, body: whole }) => {
      answer.writeHead(code, headers);
      const size = Math.ceil(whole.length / pieces);
      for (let piece = 0; piece < pieces; piece++)
        setTimeout(() => {
          const part = whole.subarray(piece * size, (piece + 1) * size);
          if (piece === pieces - 1) answer.end(part);
          else answer.write(part);
        }, piece * pauseMs);
    };
  troubles = [slowly(5, 20)];
  assert.ok(body.equals(await store.get('object')));
  await store.close();
  const hasty = open(300);
  troubles = [slowly(50, 200)];
  await assert.rejects(hasty.get('object'), { code: 'Timeout', retryable: true });
  assert.ok(body.equals(await hasty.get('object')));
  await hasty.close();
});

test('a server that does not heed the range gives the right bytes still', async () => {
  const store = open();
  await store.put('object', body);
  troubles = [
    (answer) => {
      answer.writeHead(200, { 'content-length': String(body.length) });
      answer.end(body);
    },
  ];
  assert.ok((await store.get('object', { offset: 779, length: 99 })).equals(body.subarray(779, 878)));
  await store.close();
});

test('writes and deletes meet the same refusals', async () => {
  const store = open();
  const patient = withRetry(store, { baseMs: 1, maxMs: 5 });
  for (const trouble of [reset, status(500), status(503, 'SlowDown', { 'retry-after': '0' })]) {
    troubles = [trouble, trouble];
    await patient.put('again', body);
    troubles = [];
    assert.ok(body.equals(await store.get('again')));
    troubles = [trouble];
    await patient.delete('again');
    assert.equal(await store.head('again'), undefined);
  }
  troubles = [status(403, 'AccessDenied')];
  await assert.rejects(patient.put('again', body), { code: 'AccessDenied' });
  await store.close();
});

test('a listing that breaks goes on where it was, without gaps or repeats', async () => {
  const store = open();
  troubles = [];
  const keys = Array.from({ length: 25 }, (_, i) => `pages/${String(i).padStart(3, '0')}`);
  for (const key of keys) await store.put(key, Buffer.from('x'));
  const paged = new S3ObjectStore({
    address: parseBucketUrl(`${origin}/faults`, 's3', {}),
    accessKey: upstream.accessKey,
    secretKey: upstream.secretKey,
    pageSize: 4,
  });
  const found: string[] = [];
  troubles = [undefined, undefined, reset, undefined, cut, status(500), undefined, status(503)];
  for await (const { key } of withRetry(paged, { baseMs: 1, maxMs: 5 }).list('pages/')) found.push(key);
  assert.deepEqual(found, keys);
  await paged.close();
  await store.close();
});

test('an aborted read ends with the reason while the server is silent', async () => {
  const store = open();
  troubles = [silent];
  const controller = new AbortController();
  const reading = store.get('object', { signal: controller.signal });
  setTimeout(() => controller.abort(new Error('no longer wanted')), 20);
  await assert.rejects(reading, /no longer wanted/);
  await store.close();
});

test('a server that is not there is Unavailable, and says where it was looked for', async () => {
  const store = new S3ObjectStore({
    address: parseBucketUrl('http://127.0.0.1:1/bucket', 's3', {}),
    accessKey: 'a',
    secretKey: 'b',
  });
  await assert.rejects(
    store.get('object'),
    (error) => error instanceof ObjectError && error.code === 'Unavailable' && /127\.0\.0\.1:1/.test(error.message),
  );
  await store.close();
});
