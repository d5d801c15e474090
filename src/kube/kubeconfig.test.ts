import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import { type AccessOptions, findAccess } from './kubeconfig.ts';
import { FakeClock } from './testing/fake-clock.ts';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'juicepod-kubeconfig-'))));
afterEach(() => rmSync(folder, { recursive: true }));

function config(
  user: Readonly<Record<string, unknown>>,
  cluster: Readonly<Record<string, unknown>> = {},
  name = 'config',
): string {
  const path = join(folder, name);
  writeFileSync(
    path,
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: 'https://api.example:6443/', ...cluster } }],
      users: [{ name: 'u', user }],
      contexts: [{ name: 'one', context: { cluster: 'c', user: 'u', namespace: 'team' } }],
      'current-context': 'one',
    }),
  );
  return path;
}

const find = (options: AccessOptions) => findAccess({ env: { HOME: folder }, serviceAccount: join(folder, 'sa'), ...options });

test('a kubeconfig gives server, namespace, certificates inline and by relative path, and the token', async () => {
  writeFileSync(join(folder, 'ca.pem'), 'CA');
  const access = find({
    kubeconfig: config(
      {
        'client-certificate-data': Buffer.from('CERT').toString('base64'),
        'client-key-data': Buffer.from('KEY').toString('base64'),
        token: 't',
      },
      { 'certificate-authority': 'ca.pem', 'tls-server-name': 'inner' },
    ),
  });
  assert.equal(access.server, 'https://api.example:6443');
  assert.equal(access.namespace, 'team');
  const { tls, headers } = await access.credentials();
  assert.deepEqual([tls.ca, tls.cert, tls.key].map(String), ['CA', 'CERT', 'KEY']);
  assert.equal(tls.servername, 'inner');
  assert.equal(headers['authorization'], 'Bearer t');
  assert.equal((await access.credentials()).tls, tls, 'unchanged material is the same object');
});

test('files are read again when they change, and a file that vanishes leaves its last content', async () => {
  const clock = new FakeClock();
  const token = join(folder, 'token');
  const ca = join(folder, 'ca.pem');
  writeFileSync(token, 'first\n');
  writeFileSync(ca, 'CA');
  const access = find({ kubeconfig: config({ tokenFile: token }, { 'certificate-authority': ca }), clock });
  const before = await access.credentials();
  assert.equal(before.headers['authorization'], 'Bearer first');
  writeFileSync(token, 'second-token\n');
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer first', 'not looked at for 10 s');
  clock.tick(10_000);
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer second-token');
  rmSync(token);
  writeFileSync(ca, 'CA of another year');
  clock.tick(10_000);
  const after = await access.credentials();
  assert.equal(after.headers['authorization'], 'Bearer second-token');
  assert.notEqual(after.tls, before.tls);
  assert.equal(String(after.tls.ca), 'CA of another year');
  writeFileSync(token, 'third');
  access.invalidate();
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer third', 'after a 401 at once');
});

test('several files are joined, and the first to name a thing wins', async () => {
  const first = config({ token: 'first' }, {}, 'a');
  const second = config({ token: 'second' }, { server: 'https://other' }, 'b');
  const access = find({ env: { HOME: folder, KUBECONFIG: [first, second].join(delimiter) } });
  assert.equal(access.server, 'https://api.example:6443');
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer first');
});

test('a pod finds its service account', async () => {
  const sa = join(folder, 'sa');
  mkdirSync(sa);
  writeFileSync(join(sa, 'token'), 'pod-token');
  writeFileSync(join(sa, 'ca.crt'), 'CA');
  writeFileSync(join(sa, 'namespace'), 'juicepod-system\n');
  const access = find({ env: { HOME: folder, KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' } });
  assert.equal(access.server, 'https://[fd00::1]:6443');
  assert.equal(access.namespace, 'juicepod-system');
  assert.equal((await access.credentials()).headers['authorization'], 'Bearer pod-token');
});

test('what is missing or wrong is said in a sentence, without secrets', () => {
  const refused = (options: AccessOptions, wanted: RegExp): void =>
    assert.throws(
      () => find(options),
      (error) => error instanceof UserError && wanted.test(error.message) && !error.message.includes('hidden'),
    );
  refused({}, /KUBECONFIG is not set, .* there is no .*\.kube\/config/);
  refused({ kubeconfig: join(folder, 'nothing') }, /cannot read the kubeconfig .*nothing/);
  const good = config({ token: 'hidden' });
  refused({ kubeconfig: good, context: 'two' }, /has no context "two"; it has one/);
  refused({ kubeconfig: config({ token: 'hidden' }, { server: 'api.example' }) }, /no server URL/);
  writeFileSync(good, 'just text');
  refused({ kubeconfig: good }, /not a kubeconfig/);
  writeFileSync(good, '{}');
  refused({ kubeconfig: good }, /names no current-context/);
});

test('a credential plugin is run, and one that fails says so', async () => {
  const plugin = join(folder, 'plugin');
  const credential = {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    status: { token: 'from-plugin' },
  };
  writeFileSync(plugin, `#!/bin/sh\necho '${JSON.stringify(credential)}'\n`);
  chmodSync(plugin, 0o755);
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: plugin, interactiveMode: 'Never' };
  const access = find({ kubeconfig: config({ exec }) });
  const { headers, tls } = await access.credentials();
  assert.equal(headers['authorization'], 'Bearer from-plugin');
  assert.equal((await access.credentials()).tls, tls);
  const broken = find({ kubeconfig: config({ exec: { ...exec, command: join(folder, 'nothing') } }) });
  await assert.rejects(broken.credentials(), /credential plugin of context one failed/);
});
