import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inRegion, parseBucketUrl } from './s3-url.ts';
import { ObjectError } from './store.ts';

const forms: readonly (readonly [string, 's3' | 'minio', Record<string, string>, string])[] = [
  ['http://127.0.0.1:9000/vol', 's3', {}, 'http://127.0.0.1:9000 /vol/ us-east-1'],
  ['127.0.0.1:9000/vol', 's3', {}, 'http://127.0.0.1:9000 /vol/ us-east-1'],
  ['http://minio:9000/vol/', 'minio', { MINIO_REGION: 'de' }, 'http://minio:9000 /vol/ de'],
  ['minio:9000/minio/vol', 'minio', {}, 'http://minio:9000 /vol/ us-east-1'],
  ['https://vol.s3.eu-central-1.amazonaws.com', 's3', {}, 'https://vol.s3.eu-central-1.amazonaws.com / eu-central-1'],
  ['vol.s3.eu-central-1.amazonaws.com', 's3', {}, 'https://vol.s3.eu-central-1.amazonaws.com / eu-central-1'],
  ['https://s3.eu-west-1.amazonaws.com/vol', 's3', {}, 'https://vol.s3.eu-west-1.amazonaws.com / eu-west-1'],
  ['https://vol.s3-us-west-2.amazonaws.com', 's3', {}, 'https://vol.s3-us-west-2.amazonaws.com / us-west-2'],
  ['https://vol.s3.cn-north-1.amazonaws.com.cn', 's3', {}, 'https://vol.s3.cn-north-1.amazonaws.com.cn / cn-north-1'],
  ['https://vol.s3.amazonaws.com', 's3', {}, 'https://vol.s3.amazonaws.com / us-east-1'],
  ['https://my.vol.s3.us-east-2.amazonaws.com', 's3', {}, 'https://s3.us-east-2.amazonaws.com /my.vol/ us-east-2'],
  ['volume', 's3', { AWS_REGION: 'eu-north-1' }, 'https://volume.s3.eu-north-1.amazonaws.com / eu-north-1'],
  ['https://vol.storage.example.org', 's3', {}, 'https://storage.example.org /vol/ us-east-1'],
  ['https://vol.storage.example.org', 's3', { JFS_S3_VHOST_STYLE: '1' }, 'https://vol.storage.example.org / us-east-1'],
  ['https://vol.s3.gra.io.cloud.ovh.net', 's3', {}, 'https://s3.gra.io.cloud.ovh.net /vol/ gra'],
];

test('a bucket is found where each spelling says', () => {
  for (const [text, storage, environment, expected] of forms) {
    const { origin, pathPrefix, region } = parseBucketUrl(text, storage, environment);
    assert.equal(`${origin} ${pathPrefix} ${region}`, expected, text);
  }
});

test('what is no bucket is refused with the accepted forms, and without secrets', () => {
  for (const text of [
    'ftp://host/bucket',
    'http://',
    'http://h/%20',
    'http://s3.eu-west-1.amazonaws.com',
    'http://id:hunter2@host/bucket',
  ])
    assert.throws(
      () => parseBucketUrl(text, 's3', {}),
      (error) =>
        error instanceof ObjectError &&
        error.code === 'Invalid' &&
        /write http/.test(error.message) &&
        !/hunter2/.test(error.message),
      text,
    );
});

test('disable-checksum in the URL turns checksums off', () => {
  assert.equal(parseBucketUrl('http://h:1/bucket?disable-checksum=true', 's3', {}).checksum, false);
  assert.equal(parseBucketUrl('http://h:1/bucket', 's3', {}).checksum, true);
});

test('a bucket that is in another region is asked there: at that address on AWS, at the same one elsewhere', () => {
  for (const [bucket, origin] of [
    ['https://bkt.s3.amazonaws.com', 'https://bkt.s3.eu-west-3.amazonaws.com'],
    ['https://bkt.s3.us-east-1.amazonaws.com', 'https://bkt.s3.eu-west-3.amazonaws.com'],
    ['https://bkt.s3-us-west-2.amazonaws.com', 'https://bkt.s3.eu-west-3.amazonaws.com'],
    ['https://s3.us-west-2.amazonaws.com/bkt.with.dots', 'https://s3.eu-west-3.amazonaws.com'],
    ['https://bkt.s3.dualstack.us-west-2.amazonaws.com', 'https://bkt.s3.dualstack.eu-west-3.amazonaws.com'],
    ['http://127.0.0.1:9000/bkt', 'http://127.0.0.1:9000'],
  ] as const) {
    const moved = inRegion(parseBucketUrl(bucket, 's3', {}), 'eu-west-3');
    assert.deepEqual([moved.origin, moved.host, moved.region], [origin, new URL(origin).host, 'eu-west-3'], bucket);
  }
});
