import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isNamed, namedAddress, namedKeys } from './s3-names.ts';

test('addresses as JuiceFS writes them lead to where the store speaks S3', () => {
  for (const [storage, bucket, origin, path, region] of [
    ['wasabi', 'https://bkt.s3.eu-west-2.wasabisys.com', 'https://bkt.s3.eu-west-2.wasabisys.com', '/', 'eu-west-2'],
    ['scw', 'bkt.s3.fr-par.scw.cloud', 'https://bkt.s3.fr-par.scw.cloud', '/', 'fr-par'],
    ['space', 'https://bkt.nyc3.digitaloceanspaces.com', 'https://bkt.nyc3.digitaloceanspaces.com', '/', 'nyc3'],
    ['eos', 'https://bkt.eos-beijing-2.cmecloud.cn', 'https://eos-beijing-2.cmecloud.cn', '/bkt/', 'us-east-1'],
    ['oos', 'https://bkt.oos-sdqd.ctyunapi.cn', 'https://oos-sdqd.ctyunapi.cn', '/bkt/', 'sdqd'],
    ['oss', 'https://bkt.oss-cn-hangzhou.aliyuncs.com', 'https://bkt.s3.oss-cn-hangzhou.aliyuncs.com', '/', 'cn-hangzhou'],
    [
      'oss',
      'http://bkt.oss-cn-beijing-internal.aliyuncs.com',
      'http://bkt.s3.oss-cn-beijing-internal.aliyuncs.com',
      '/',
      'cn-beijing',
    ],
    ['oss', 'https://bkt.s3.oss-us-west-1.aliyuncs.com', 'https://bkt.s3.oss-us-west-1.aliyuncs.com', '/', 'us-west-1'],
    ['cos', 'https://bkt-125.cos.ap-beijing.myqcloud.com', 'https://bkt-125.cos.ap-beijing.myqcloud.com', '/', 'ap-beijing'],
    ['obs', 'https://bkt.obs.cn-north-4.myhuaweicloud.com', 'https://bkt.obs.cn-north-4.myhuaweicloud.com', '/', 'cn-north-4'],
    ['tos', 'https://bkt.tos-cn-beijing.volces.com', 'https://bkt.tos-s3-cn-beijing.volces.com', '/', 'cn-beijing'],
    ['bos', 'https://bkt.bj.bcebos.com', 'https://bkt.s3.bj.bcebos.com', '/', 'bj'],
    ['gs', 'gs://bucket', 'https://storage.googleapis.com', '/bucket/', 'auto'],
    ['gs', 'gs://bucket.us-central1', 'https://storage.googleapis.com', '/bucket/', 'auto'],
  ] as const) {
    const address = namedAddress(storage, bucket, {});
    assert.deepEqual([address.origin, address.pathPrefix, address.region], [origin, path, region], bucket);
    assert.equal(address.host, new URL(origin).host);
  }
});

test('an address without an endpoint, or that is none, is refused with the form that is wanted and without what could be a secret', () => {
  assert.throws(() => namedAddress('oss', 'https://bucket', {}), /endpoint is missing.*write https:\/\/BUCKET\.oss-REGION/);
  assert.throws(() => namedAddress('cos', 'ftp://b.x.y', {}), /scheme ftp:/);
  assert.throws(
    () => namedAddress('obs', 'https://id:hunter2@bkt.obs.x.myhuaweicloud.com', {}),
    (error: Error) => /credentials do not belong/.test(error.message) && !/hunter2/.test(error.message),
  );
});

test("a store elsewhere takes the environment's region; disable-checksum is heeded", () => {
  const address = namedAddress('oss', 'http://bkt.store.localhost:9000?disable-checksum=true', { AWS_REGION: 'here-1' });
  assert.deepEqual([address.origin, address.region, address.checksum], ['http://bkt.store.localhost:9000', 'here-1', false]);
});

test('keys come from the variables of the storage, all or none', () => {
  const environment = { ALICLOUD_ACCESS_KEY_ID: 'id', ALICLOUD_ACCESS_KEY_SECRET: 's', SECURITY_TOKEN: 't', COS_SECRETKEY: 'x' };
  assert.deepEqual(namedKeys('oss', environment), { accessKey: 'id', secretKey: 's', sessionToken: 't' });
  assert.deepEqual(namedKeys('cos', environment), {});
  assert.deepEqual(namedKeys('wasabi', environment), {});
  assert.equal(isNamed('oss'), true);
  assert.equal(isNamed('toString'), false);
});
