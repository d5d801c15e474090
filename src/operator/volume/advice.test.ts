import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseJuiceVolume } from '../../api/kinds.ts';
import { advised } from './advice.ts';

function advice(storage: Record<string, unknown>): string {
  const { spec } = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { metadata: { redis: { addresses: ['r:6379'] } }, storage },
  });
  return advised({ state: 'failed', reason: 'StorageDenied', message: 'The store refuses us.' }, spec).message;
}

test('who is refused by an object store is told the fields, the Secret and its keys by the words of that store', () => {
  const secretRef = { name: 'keys' };
  const pair = 'check accessKeyId and secretAccessKey in the Secret keys';
  const bucket = 'that they may list, read, write and delete in the bucket';
  for (const [storage, wanted] of [
    [{ s3: { bucket: 'one', credentials: { secretRef } } }, `${pair} (spec.storage.s3.credentials.secretRef), and ${bucket}`],
    [
      { s3: { bucket: 'one' } },
      'there is no spec.storage.s3.credentials: the role of the operator, and that of each pod, must be allowed to list, read, write and delete in the bucket',
    ],
    [
      {
        provider: {
          name: 'oss',
          bucket: 'one',
          endpoint: 'https://oss-cn-hangzhou.aliyuncs.com',
          credentials: { secretRef: { name: 'keys', accessKeyIdKey: 'id', secretAccessKeyKey: 'key', sessionTokenKey: 'sts' } },
        },
      },
      `check id and key in the Secret keys (spec.storage.provider.credentials.secretRef), that the session token in sts has not expired, and ${bucket}`,
    ],
    [
      { gs: { bucket: 'one', credentials: { secretRef } } },
      `${pair} (spec.storage.gs.credentials.secretRef): an HMAC key of a service account, not its JSON key, and ${bucket}`,
    ],
    [
      { azure: { account: 'acc', container: 'one', credentials: { secretRef } } },
      'check accountKey in the Secret keys (spec.storage.azure.credentials.secretRef): one of the two keys of the account acc, in base64; the account must allow access by key',
    ],
    [
      { azure: { account: 'acc', container: 'one', credentials: { secretRef: { name: 'keys', sasTokenKey: 'sas' } } } },
      'check sas in the Secret keys (spec.storage.azure.credentials.secretRef): the signature must not have expired, and allow to read, add, create, write, delete and list in the container one',
    ],
    [
      { webdav: { endpoint: 'https://dav.example', path: '/data', credentials: { secretRef } } },
      'check username and password in the Secret keys (spec.storage.webdav.credentials.secretRef), and that the user may list, read, write and delete below /data',
    ],
    [
      { webdav: { endpoint: 'https://dav.example', path: '/data' } },
      'there is no spec.storage.webdav.credentials: name a Secret with user and password there, or let everybody list, read, write and delete below /data',
    ],
    [
      { file: { path: '/blocks' } },
      'the operator, and each pod, must be allowed to list, read, write and delete in the directory /blocks',
    ],
  ] as const)
    assert.equal(advice(storage), `The store refuses us; ${wanted}`);
});

test('where something else failed, the message is what it was', () => {
  const { spec } = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data', uid: 'u', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { metadata: { redis: { addresses: ['r:6379'] } }, storage: { s3: { bucket: 'one' } } },
  });
  const failure = { state: 'failed', reason: 'StorageUnreachable', message: 'no answer' } as const;
  assert.equal(advised(failure, spec), failure);
});
