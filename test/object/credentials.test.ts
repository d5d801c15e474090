/** Where credentials come from, and what is loaded for them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { credentialSource } from '../../src/object/credentials.ts';
import { parseBucketUrl } from '../../src/object/s3-url.ts';
import { S3ObjectStore } from '../../src/object/s3.ts';
import { ObjectError } from '../../src/object/store.ts';
import { type S3Server, startS3 } from '../servers.ts';

const names = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE', 'AWS_EC2_METADATA_DISABLED', 'HOME'] as const;
const kept = Object.fromEntries(names.map((name) => [name, process.env[name]]));
let server: S3Server;
before(async () => {
  server = await startS3();
  server.createBucket('chain');
  process.env['AWS_EC2_METADATA_DISABLED'] = 'true';
  process.env['HOME'] = server.folder;
});
after(async () => {
  for (const name of names)
    if (kept[name] === undefined) delete process.env[name];
    else process.env[name] = kept[name];
  await server.stop();
});

test('without keys, those of the AWS chain are used', async () => {
  process.env['AWS_ACCESS_KEY_ID'] = server.accessKey;
  process.env['AWS_SECRET_ACCESS_KEY'] = server.secretKey;
  const store = new S3ObjectStore({ address: parseBucketUrl(`${server.endpoint}/chain`, 's3', {}) });
  await store.put('key', Buffer.from('by the chain'));
  assert.equal((await store.get('key')).toString(), 'by the chain');
  await store.close();
});

test('where there are none at all, the error says what to give', async () => {
  delete process.env['AWS_ACCESS_KEY_ID'];
  delete process.env['AWS_SECRET_ACCESS_KEY'];
  const store = new S3ObjectStore({ address: parseBucketUrl(`${server.endpoint}/chain`, 's3', {}) });
  await assert.rejects(
    store.get('key'),
    (error) =>
      error instanceof ObjectError &&
      error.code === 'AccessDenied' &&
      /give an access key and a secret key, or a role/.test(error.message),
  );
  await store.close();
});

test('anonymous requests carry no signature', () => {
  assert.equal(credentialSource({ accessKey: 'anonymous' }, 'us-east-1').get(), undefined);
});

test('an access key without a secret key is refused when the store is opened', () => {
  assert.throws(() => credentialSource({ accessKey: 'id' }, 'us-east-1'), { code: 'Invalid' });
});

test('a header that cannot be sent is an error, not a hang', async () => {
  const store = new S3ObjectStore({
    address: parseBucketUrl(`${server.endpoint}/chain`, 's3', {}),
    accessKey: 'with\nnewline',
    secretKey: 'hunter2',
  });
  await assert.rejects(store.get('key'), (error) => error instanceof ObjectError && !/hunter2/.test(error.message));
  await store.close();
});

test('with keys given, the AWS SDK is never loaded', () => {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ resolve(name, context, next) { loaded.push(name); return next(name, context); } });
    const { S3ObjectStore } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/object/s3.ts'))});
    const { parseBucketUrl } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/object/s3-url.ts'))});
    const store = new S3ObjectStore({ address: parseBucketUrl(process.argv[1], 's3', {}), accessKey: process.argv[2], secretKey: process.argv[3] });
    await store.put('static', Buffer.from('x'));
    await store.close();
    console.log(JSON.stringify(loaded.filter((name) => /aws-sdk|smithy/.test(name))), loaded.length > 3);`;
  const output = execFileSync(
    process.execPath,
    ['--input-type=module', '-e', script, `${server.endpoint}/chain`, server.accessKey, server.secretKey],
    { encoding: 'utf8' },
  );
  assert.equal(output.trim(), '[] true');
});
