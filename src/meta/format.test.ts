import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import { checkVersion, parseFormat, redacted, serialiseFormat } from './format.ts';
import { decryptSecrets, encryptSecrets } from './format-secrets.ts';
import { changedFormat, fixedDifferences, newFormat, roundBlockSize } from './format-input.ts';

const random = {
  float: () => 0.5,
  bytes: (length: number) => Buffer.alloc(length, 7),
  uuid: () => 'faa27c8f-edab-4791-a4e0-1620b732b343',
};

/** As juicefs 1.4.1 wrote it for a volume with ACLs and quotas. */
const written =
  '{\n"Name": "redis-full",\n"UUID": "4eb237df-97c3-47e4-86b3-548e456caad9",\n"Storage": "file",\n"Tiers": {\n"0": {\n"ID": 0,\n"StorageClass": "",\n"Tag": ""\n}\n},\n"Bucket": "/golden/store/redis-full/",\n"BlockSize": 64,\n"Compression": "none",\n"EncryptAlgo": "aes256gcm-rsa",\n"TrashDays": 1,\n"MetaVersion": 1,\n"MinClientVersion": "1.2.0-A",\n"DirStats": true,\n"UserGroupQuota": true,\n"EnableACL": true\n}';

const failsWith = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof UserError && error.code === code && pattern.test(error.message);

test('the text of a format that JuiceFS wrote is written again byte for byte', () => {
  assert.equal(serialiseFormat(parseFormat(written)), written);
});

test('a new format has the text that juicefs format writes', () => {
  const format = newFormat({ name: 'none-plain-flat', bucket: '/golden/store/x', blockSize: 64 }, random);
  assert.equal(
    serialiseFormat(format),
    '{\n"Name": "none-plain-flat",\n"UUID": "faa27c8f-edab-4791-a4e0-1620b732b343",\n"Storage": "file",\n"Tiers": {\n"0": {\n"ID": 0,\n"StorageClass": "",\n"Tag": ""\n}\n},\n"Bucket": "/golden/store/x/",\n"BlockSize": 64,\n"Compression": "none",\n"EncryptAlgo": "aes256gcm-rsa",\n"TrashDays": 1,\n"MetaVersion": 1,\n"MinClientVersion": "1.1.0-A",\n"DirStats": true,\n"EnableACL": false\n}',
  );
});

test('members that are not known, and missing tiers, are kept', () => {
  const text =
    '{ "Name":"old-volume","UUID":"u","Storage":"s3","Bucket":"http://h/b?x=1&y=<2>","BlockSize":4096,"TrashDays":0,"Future":{"a":[1,"é",{}]},"__proto__":3}';
  const again = serialiseFormat(parseFormat(text));
  assert.match(again, /"Tiers": null/);
  assert.match(again, /"Future": \{\n"a": \[\n1,\n"é",\n\{\}\n\]\n\}/);
  assert.match(again, /"__proto__": 3/);
  assert.match(again, /"http:\/\/h\/b\?x=1\\u0026y=\\u003c2\\u003e"/, 'HTML characters are escaped as Go does');
  assert.equal(serialiseFormat(parseFormat(again)), again);
});

test('what is no format is refused with what was found, and without quoting it', () => {
  const refuse = (text: string, pattern: RegExp): void => {
    assert.throws(() => parseFormat(text), failsWith('FormatDamaged', pattern));
  };
  refuse('"SecretKey": "hunter2', /is not JSON/);
  assert.throws(
    () => parseFormat('hunter2'),
    (error) => error instanceof UserError && !error.message.includes('hunter2') && error.cause === undefined,
  );
  refuse('[]', /it is a list/);
  refuse('{"UUID":"u","BlockSize":64}', /Name is missing/);
  refuse('{"Name":"abc","UUID":"u","BlockSize":"64"}', /BlockSize should be a whole number.*a string/);
  refuse('{"Name":"abc","UUID":"u","BlockSize":64,"Capacity":18446744073709551615}', /Capacity should be a whole number/);
  refuse('{"Name":"abc","UUID":"u","BlockSize":64,"DirStats":1}', /DirStats should be a boolean, it is a number/);
  refuse('{"Name":"abc","UUID":"u","BlockSize":64,"Tiers":{"x":{}}}', /Tiers/);
});

test('a secret that JuiceFS encrypted is read (golden vector), and one of ours is read again', () => {
  const base = newFormat({ name: 'abc', bucket: '/b' }, random);
  const golden = { ...base, encryptKey: 'AQSttslKOSE/hQT/gmaMniCsdPF8JdPRfoYK6zFkdUOnifYwBA==', keyEncrypted: true };
  const plain = decryptSecrets(golden);
  assert.equal(plain.encryptKey, 'foobarbaz');
  assert.equal(plain.keyEncrypted, false);
  const sealed = encryptSecrets({ ...base, secretKey: 'käse', sessionToken: 't' }, random);
  assert.ok(sealed.keyEncrypted && !sealed.secretKey.includes('käse'));
  assert.deepEqual(decryptSecrets(sealed), { ...base, secretKey: 'käse', sessionToken: 't' });
  assert.equal(encryptSecrets(base, random).keyEncrypted, false, 'nothing to encrypt');
});

test('a removed or foreign secret is refused by name and not shown', () => {
  const base = { ...newFormat({ name: 'abc', bucket: '/b' }, random), keyEncrypted: true };
  assert.throws(() => decryptSecrets({ ...base, secretKey: 'removed' }), failsWith('SecretRemoved', /SecretKey/));
  assert.throws(
    () => decryptSecrets({ ...base, encryptKey: 'removed' }),
    (error) => failsWith('SecretRemoved', /EncryptKey/)(error) && /keep-secret-key/.test((error as UserError).hint ?? ''),
  );
  const other = encryptSecrets({ ...base, keyEncrypted: false, uuid: 'other', secretKey: 'x' }, random);
  assert.throws(() => decryptSecrets({ ...other, uuid: base.uuid }), failsWith('SecretUnreadable', /SecretKey/));
  assert.throws(() => decryptSecrets({ ...base, secretKey: 'AAAA' }), failsWith('SecretUnreadable', /SecretKey/));
  assert.throws(
    () => decryptSecrets({ ...base, encryptAlgo: 'sm4gcm', secretKey: 'x' }),
    failsWith('UnsupportedEncryption', /sm4/),
  );
});

test('a printed format holds no secret', () => {
  const format = newFormat(
    { name: 'abc', storage: 'webdav', bucket: 'http://u:bucketpass@h/', secretKey: 'skey', sessionToken: 'stok' },
    random,
  );
  const text = serialiseFormat(redacted({ ...decryptSecrets(format), encryptKey: 'ekey' }));
  for (const secret of ['bucketpass', 'skey', 'ekey', 'stok']) assert.ok(!text.includes(secret), secret);
  assert.match(text, /"SecretKey": "removed"/);
});

test('versions are compared as JuiceFS compares them', () => {
  const base = newFormat({ name: 'abc', bucket: '/b' }, random);
  const accepts = (minClientVersion: string, maxClientVersion = ''): void =>
    checkVersion({ ...base, minClientVersion, maxClientVersion });
  accepts('1.4.0-A');
  accepts('1.4.1-beta1');
  accepts('1.4.1', '1.4.1');
  accepts('1', '2');
  accepts('', '1.10.0-A');
  assert.throws(
    () => accepts('1.4.2-A'),
    failsWith('ClientVersionRefused', /from version 1\.4\.2-A; this one behaves as 1\.4\.1/),
  );
  assert.throws(() => accepts('1.1.0', '1.4.1-rc1'), failsWith('ClientVersionRefused', /up to version 1\.4\.1-rc1/));
  assert.throws(() => accepts('newest'), failsWith('ClientVersionUnknown', /newest/));
  assert.throws(
    () => checkVersion({ ...base, metaVersion: 2 }),
    failsWith('MetaVersionTooNew', /layout version 2; this client reads version 1/),
  );
});

test('block sizes are rounded as juicefs format rounds them', () => {
  const found = [1, 32, 64, 100, 4096, 4097, 8191, 16_384, 20_480].map(roundBlockSize);
  assert.deepEqual(found, [64, 64, 64, 64, 4096, 4096, 4096, 16_384, 16_384]);
  assert.throws(() => roundBlockSize(0), failsWith('InvalidFormat', /block size/));
});

test('what a person gives wrongly is named with what was wanted', () => {
  const refuse = (input: object, pattern: RegExp): void => {
    assert.throws(() => newFormat({ name: 'abc', bucket: '/b', ...input }, random), failsWith('InvalidFormat', pattern));
  };
  for (const name of ['ab', 'Abc', '-abc', 'abc-', 'a'.repeat(64), 'a_b_c', 'a/b']) refuse({ name }, /volume name/);
  refuse({ compression: 'gzip' }, /compression should be one of none, lz4, zstd, it is "gzip"/);
  refuse({ trashDays: -1 }, /days in the trash/);
  refuse({ shards: 257 }, /shards should be a whole number in 0 … 256/);
  refuse({ shards: 2 }, /%d/);
  refuse({ bucket: '' }, /bucket/);
  refuse({ capacity: 1.5 }, /capacity/);
  newFormat({ name: 'a'.repeat(63), bucket: '/x/%d', shards: 4 }, random);
});

test('a second format changes what may change, keeps the UUID, and refuses the rest by name', () => {
  const old = decryptSecrets(newFormat({ name: 'abc', bucket: '/b', secretKey: 'one' }, random));
  const next = changedFormat(
    old,
    { name: 'abc', blockSize: 5000, secretKey: 'two', trashDays: 3, capacity: 1024, enableAcl: true },
    random,
  );
  assert.equal(decryptSecrets(next).secretKey, 'two');
  assert.deepEqual(
    [next.uuid, next.trashDays, next.capacity, next.minClientVersion, next.bucket],
    [old.uuid, 3, 1024, '1.2.0-A', '/b/'],
  );
  assert.throws(
    () => changedFormat(old, { name: 'abd', compression: 'lz4', blockSize: 64 }, random),
    failsWith('FormatMismatch', /Name from "abc" to "abd", BlockSize from 4096 to 64, Compression from "none" to "lz4"/),
  );
  assert.deepEqual(fixedDifferences({ ...old, compression: '' }, { compression: 'none', name: 'abc' }), []);
});
