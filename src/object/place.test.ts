import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sameBucket } from './place.ts';

test('the spellings of one bucket are told from those of another', () => {
  const isSame = (storage: string, one: string, other: string): boolean =>
    sameBucket({ storage, bucket: one, accessKey: 'a' }, { storage, bucket: other, accessKey: 'a' });
  const same: readonly (readonly [storage: string, one: string, other: string])[] = [
    ['file', '/blocks/', '/blocks/'],
    ['s3', 'https://box.s3.eu-west-1.amazonaws.com', 'https://s3.eu-west-1.amazonaws.com/box'],
    ['s3', 'http://host:9000/box', 'http://host:9000/box/'],
    ['minio', 'http://host:9000/box', 'http://host:9000/minio/box'],
    ['oss', 'https://box.oss-cn-hangzhou.aliyuncs.com', 'box.oss-cn-hangzhou.aliyuncs.com'],
    ['gs', 'gs://box', 'gs://box.us-central1'],
    ['wasb', 'https://box.core.windows.net', 'https://box'],
    ['wasb', 'https://box.blob.core.windows.net', 'box.core.windows.net'],
    ['webdav', 'http://host/dav', 'host/dav/'],
  ];
  for (const [storage, one, other] of same) assert.equal(isSame(storage, one, other), true, `${one} ${other}`);
  const different: readonly (readonly [storage: string, one: string, other: string])[] = [
    ['file', '/blocks/', '/others/'],
    ['s3', 'http://host:9000/box', 'http://host:9000/other'],
    ['s3', 'http://host:9000/box', 'http://other:9000/box'],
    ['oss', 'https://box.oss-cn-hangzhou.aliyuncs.com', 'https://box.oss-cn-beijing.aliyuncs.com'],
    ['gs', 'gs://box', 'gs://other'],
    ['wasb', 'https://box.core.windows.net', 'https://box.core.chinacloudapi.cn'],
    ['webdav', 'http://host/dav', 'http://host/other'],
    ['webdav', 'http://host/dav', 'https://host/dav'],
    ['s3', 'no address://', 'no address://'],
  ];
  for (const [storage, one, other] of different) assert.equal(isSame(storage, one, other), false, `${one} ${other}`);
});

test('a container of another account is another', () => {
  const bucket = 'https://box.core.windows.net';
  assert.ok(!sameBucket({ storage: 'wasb', bucket, accessKey: 'one' }, { storage: 'wasb', bucket, accessKey: 'two' }));
});
