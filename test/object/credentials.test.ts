/** Where credentials come from, and what is loaded for them. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
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

/** Serves fixed answers by path; what was asked for is kept. */
async function startFake(
  answer: (path: string, request: IncomingMessage, body: string) => string | undefined,
): Promise<AsyncDisposable & { readonly url: string; readonly asked: string[] }> {
  const asked: string[] = [];
  const fake = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      asked.push(`${request.method} ${request.url}`);
      const text = answer(request.url ?? '', request, body);
      response.writeHead(text === undefined ? 404 : 200);
      response.end(text ?? '');
    });
  });
  await new Promise<void>((done) => fake.listen(0, '127.0.0.1', done));
  const address = fake.address();
  assert.ok(typeof address === 'object' && address);
  return {
    url: `http://127.0.0.1:${address.port}`,
    asked,
    async [Symbol.asyncDispose]() {
      fake.closeAllConnections();
      await new Promise((done) => fake.close(done));
    },
  };
}

/**
 * In a process of its own, for the chain reads the environment once: puts an object and reads it, from a store that tells whose key and
 * which token the requests were signed with. (That a real server takes such signatures, the tests against MinIO show.)
 */
async function putByChain(environment: Record<string, string>): Promise<{ key: string; token: string | null; body: string }> {
  const script = `
    import { createServer } from 'node:http';
    import { S3ObjectStore } from ${JSON.stringify(join(import.meta.dirname, '../../src/object/s3.ts'))};
    import { parseBucketUrl } from ${JSON.stringify(join(import.meta.dirname, '../../src/object/s3-url.ts'))};
    const seen = new Set();
    let kept = Buffer.alloc(0);
    const fake = createServer((incoming, answer) => {
      const key = /Credential=([^/]+)[/]/.exec(incoming.headers.authorization ?? '')?.[1];
      const token = incoming.headers['x-amz-security-token'] ?? null;
      seen.add(JSON.stringify({ key, token }));
      const parts = [];
      incoming.on('data', (part) => parts.push(part));
      incoming.on('end', () => {
        if (incoming.method === 'PUT') kept = Buffer.concat(parts);
        answer.writeHead(200);
        answer.end(incoming.method === 'PUT' ? '' : kept);
      });
    });
    await new Promise((done) => fake.listen(0, '127.0.0.1', done));
    const store = new S3ObjectStore({ address: parseBucketUrl('http://127.0.0.1:' + fake.address().port + '/chain', 's3', {}) });
    await store.put('by-chain', Buffer.from('by the chain'));
    const body = (await store.get('by-chain')).toString();
    const [only, ...others] = [...seen];
    console.log(JSON.stringify({ ...JSON.parse(only), body, ...(others.length ? { others } : {}) }));
    await store.close();
    fake.closeAllConnections();
    fake.close();`;
  const env = { PATH: process.env['PATH'] ?? '', HOME: server.folder, AWS_EC2_METADATA_DISABLED: 'true', ...environment };
  const options = { env, timeout: 60_000 };
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], options);
  return JSON.parse(stdout) as { key: string; token: string | null; body: string };
}

const TOKEN = 'a-session-token';
const inAnHour = (): string => new Date(Date.now() + 3_600_000).toISOString();
const KEY = 'key-of-the-chain';
const answered = { key: KEY, token: TOKEN, body: 'by the chain' };

test('a profile of the shared files is used', async () => {
  const credentials = join(server.folder, 'shared-credentials');
  writeFileSync(
    credentials,
    `[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n[other]\naws_access_key_id = ${KEY}\naws_secret_access_key = its-secret\naws_session_token = ${TOKEN}\n`,
  );
  const environment = { AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_PROFILE: 'other' };
  assert.deepEqual(await putByChain(environment), answered);
});

test('the endpoint of a container is asked (ECS, EKS Pod Identity), with the token of its file', async () => {
  const token = join(server.folder, 'pod-token');
  writeFileSync(token, 'who-i-am');
  await using fake = await startFake((_path, { headers }) =>
    headers.authorization === 'who-i-am'
      ? JSON.stringify({
          AccessKeyId: KEY,
          SecretAccessKey: 'its-secret',
          Token: TOKEN,
          Expiration: inAnHour(),
        })
      : undefined,
  );
  const environment = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `${fake.url}/v1/credentials`,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: token,
  };
  assert.deepEqual(await putByChain(environment), answered);
  assert.deepEqual(fake.asked, ['GET /v1/credentials']);
});

test('the metadata service of a machine is asked, with a token of its own (IMDSv2)', async () => {
  await using fake = await startFake((path, { method, headers }) => {
    if (method === 'PUT' && path === '/latest/api/token') return 'imds-token';
    if (headers['x-aws-ec2-metadata-token'] !== 'imds-token') return undefined;
    if (path === '/latest/meta-data/iam/security-credentials/') return 'a-role';
    return JSON.stringify({
      Code: 'Success',
      AccessKeyId: KEY,
      SecretAccessKey: 'its-secret',
      Token: TOKEN,
      Expiration: inAnHour(),
    });
  });
  const environment = { AWS_EC2_METADATA_SERVICE_ENDPOINT: fake.url, AWS_EC2_METADATA_DISABLED: 'false' };
  assert.deepEqual(await putByChain(environment), answered);
  assert.ok(fake.asked.includes('GET /latest/meta-data/iam/security-credentials/a-role'));
});

test('a web identity is exchanged for a role (IRSA)', async () => {
  const token = join(server.folder, 'web-token');
  writeFileSync(token, 'signed-by-the-cluster');
  let asked = '';
  await using fake = await startFake((_path, _request, body) => {
    asked = body;
    return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>${KEY}</AccessKeyId><SecretAccessKey>its-secret</SecretAccessKey><SessionToken>${TOKEN}</SessionToken><Expiration>${inAnHour()}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
  });
  const environment = {
    AWS_WEB_IDENTITY_TOKEN_FILE: token,
    AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/volume',
    AWS_REGION: 'us-east-1',
    AWS_ENDPOINT_URL_STS: fake.url,
  };
  assert.deepEqual(await putByChain(environment), answered);
  assert.match(asked, /WebIdentityToken=signed-by-the-cluster/);
  assert.match(asked, /role%2Fvolume/);
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
