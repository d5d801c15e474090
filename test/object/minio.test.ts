/** The promises of every store against a second S3 server, MinIO: it reads the protocol in its own way, and has session tokens. */
import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import { SignatureV4 } from '@smithy/signature-v4';
import { withRetry } from '../../src/object/retry.ts';
import { parseBucketUrl } from '../../src/object/s3-url.ts';
import { namedAddress } from '../../src/object/s3-names.ts';
import { S3ObjectStore } from '../../src/object/s3.ts';
import { elementText } from '../../src/object/s3-xml.ts';
import { ObjectError } from '../../src/object/store.ts';
import { type KeyedServer, startMinio } from '../object-servers.ts';
import { minio, cannotHave } from '../tools.ts';
import { conformance, keys } from './conformance.ts';

const DOMAIN = 's3.localhost';
const missing = await cannotHave(minio);
let server: KeyedServer;
before(async () => {
  if (missing) return;
  server = await startMinio(DOMAIN);
});
after(() => server?.stop());

interface More {
  readonly pageSize?: number;
  readonly region?: string;
  readonly storageClass?: string;
  readonly keys?: { readonly accessKey: string; readonly secretKey: string; readonly sessionToken: string };
}

function open(bucket: string, { region, keys: given, ...more }: More = {}): S3ObjectStore {
  return new S3ObjectStore({
    address: parseBucketUrl(`${server.endpoint}/${bucket}`, 'minio', region ? { MINIO_REGION: region } : {}),
    ...(given ?? { accessKey: server.accessKey, secretKey: server.secretKey }),
    ...more,
  });
}

conformance('MinIO', { make: () => open('conformance', { pageSize: 7 }), parts: true, skip: missing });
conformance('MinIO, the bucket in the host name, as OSS wants it', {
  make: () =>
    new S3ObjectStore({
      address: namedAddress('oss', `http://in-host.${DOMAIN}:${server.port}`, {}),
      accessKey: server.accessKey,
      secretKey: server.secretKey,
      pageSize: 7,
    }),
  parts: true,
  skip: missing,
});

test('keys with characters that need encoding are the same object in every call', { skip: missing }, async () => {
  const store = open('conformance');
  for (const key of ['odd/a b', 'odd/a+b', 'odd/a&b=c', "odd/(a)'!*", 'odd/100%', 'odd/<ü>&amp;', 'odd/x%2Fy']) {
    await store.put(key, Buffer.from(key));
    assert.equal((await store.get(key)).toString(), key);
    assert.equal((await store.head(key))?.key, key);
    assert.ok((await keys(store, 'odd/')).includes(key), key);
  }
  await store.close();
});

class Sha256 {
  readonly #hash;
  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret as Buffer);
  }
  update(data: Uint8Array | string): void {
    this.#hash.update(data);
  }
  digest(): Promise<Uint8Array> {
    return Promise.resolve(new Uint8Array(this.#hash.digest()));
  }
  reset(): void {}
}

/** Keys for a quarter of an hour, of the same rights. */
async function assumeRole(): Promise<NonNullable<More['keys']>> {
  const { accessKey, secretKey, port } = server;
  const body = 'Action=AssumeRole&DurationSeconds=900&Version=2011-06-15';
  const signer = new SignatureV4({
    credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
    region: 'us-east-1',
    service: 'sts',
    sha256: Sha256,
  });
  const { headers } = await signer.sign({
    method: 'POST',
    protocol: 'http:',
    hostname: '127.0.0.1',
    port,
    path: '/',
    query: {},
    headers: { host: `127.0.0.1:${port}`, 'content-type': 'application/x-www-form-urlencoded' },
    body,
  });
  const answer = await fetch(`${server.endpoint}/`, { method: 'POST', headers, body });
  const text = await answer.text();
  const [id, secret, token] = ['AccessKeyId', 'SecretAccessKey', 'SessionToken'].map((name) => elementText(text, name));
  assert.ok(id && secret && token, text);
  return { accessKey: id, secretKey: secret, sessionToken: token };
}

test('a session token goes with every request; a wrong one is refused, and said so without it', { skip: missing }, async () => {
  const given = await assumeRole();
  const store = open('conformance', { keys: given });
  await store.put('session/a', Buffer.from('by a session'));
  assert.equal((await store.get('session/a')).toString(), 'by a session');
  assert.deepEqual(await keys(store, 'session/'), ['session/a']);
  await store.close();
  const wrong = open('conformance', { keys: { ...given, sessionToken: `${given.sessionToken.slice(0, -8)}AAAAAAAA` } });
  await assert.rejects(wrong.get('session/a'), (error) => {
    assert.ok(error instanceof ObjectError);
    assert.equal(error.code, 'AccessDenied');
    assert.ok(!error.message.includes(given.sessionToken.slice(0, 40)));
    return true;
  });
  await wrong.close();
});

test(
  'a region that is not its own is told by the server, and the next attempt is signed for the right one',
  { skip: missing },
  async () => {
    const store = withRetry(open('conformance', { region: 'eu-elsewhere-1' }), { baseMs: 1, maxMs: 5 });
    await store.put('region/a', Buffer.from('found'));
    assert.equal((await store.get('region/a')).toString(), 'found');
    await store.close();
  },
);

test(
  'objects get the storage class that was asked for, in one piece and in parts; one that there is not is refused',
  { skip: missing },
  async () => {
    const store = open('conformance', { storageClass: 'REDUCED_REDUNDANCY' });
    await store.put('class/a', Buffer.from('a'));
    const upload = await store.upload('class/b');
    await upload.part(0, Buffer.from('b'));
    await upload.complete();
    await store.close();
    const plain = open('conformance');
    assert.equal((await plain.get('class/b')).toString(), 'b');
    await plain.close();
    const wrong = open('conformance', { storageClass: 'NO_SUCH_CLASS' });
    await assert.rejects(wrong.put('class/c', Buffer.from('c')), { code: 'Invalid', retryable: false });
    await wrong.close();
  },
);
