import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { test } from 'node:test';
import { SignatureV4 } from '@smithy/signature-v4';
import * as fc from 'fast-check';
import { encodeKey, encodeQuery, Signer } from './sigv4.ts';

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

const word = fc.string({ unit: fc.constantFrom(...'abzAZ019-_.~'.split('')), minLength: 1, maxLength: 12 });
const odd = fc.string({ unit: fc.constantFrom(...'ab/=+ &é*!(\'"%'.split('')), minLength: 1, maxLength: 12 });

test('signatures are those of the AWS SDK for any key, query, headers, token and time', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'PUT', 'DELETE', 'HEAD'),
      fc.oneof(word, odd),
      fc.dictionary(word, fc.oneof(word, odd), { maxKeys: 4 }),
      fc.dictionary(
        word.map((name) => `x-amz-meta-${name.toLowerCase()}`),
        word,
        { maxKeys: 3 },
      ),
      fc.option(word, { nil: undefined }),
      fc.integer({ min: 0, max: 4_000_000_000_000 }),
      word,
      async (method, key, query, headers, sessionToken, now, secretAccessKey) => {
        const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey, ...(sessionToken ? { sessionToken } : {}) };
        const theirs = new SignatureV4({
          credentials,
          region: 'eu-central-1',
          service: 's3',
          sha256: Sha256,
          uriEscapePath: false,
          applyChecksum: false,
        });
        const path = `/bucket/${encodeKey(key)}`;
        const expected = await theirs.sign(
          {
            method,
            protocol: 'http:',
            hostname: 'localhost',
            port: 9000,
            path,
            query,
            headers: { ...headers, host: 'localhost:9000', 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
          },
          { signingDate: new Date(now) },
        );
        const signed = new Signer('eu-central-1').sign(
          { method, host: 'localhost:9000', path, query: encodeQuery(query), headers },
          credentials,
          now,
        );
        assert.equal(signed['authorization'], expected.headers['authorization']);
        assert.equal(signed['x-amz-date'], expected.headers['x-amz-date']);
        assert.equal(signed['x-amz-security-token'], expected.headers['x-amz-security-token']);
      },
    ),
    { numRuns: 200 },
  );
});

test('the day key is renewed with the day and with the secret', () => {
  const request = { method: 'GET', host: 'h', path: '/b/k', query: '', headers: {} };
  const kept = new Signer('us-east-1');
  for (const [secretAccessKey, now] of [
    ['one', 0],
    ['one', 1],
    ['one', 86_400_000],
    ['two', 86_400_000],
  ] as const) {
    const credentials = { accessKeyId: 'id', secretAccessKey };
    assert.deepEqual(kept.sign(request, credentials, now), new Signer('us-east-1').sign(request, credentials, now));
  }
});
