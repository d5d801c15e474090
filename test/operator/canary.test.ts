/**
 * No secret in a log, event, status, environment or process list. Operator, webhook, holder and client run as processes of their own, at log
 * level debug, through success and every kind of refusal, with secrets that stand nowhere else; then everything that they said, everything
 * that the API server has beside Secrets, and what every process of this machine had as arguments and environment is searched for them.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { createAuthority, signLeaf } from '../../src/admission/x509.ts';
import type { MountConfig } from '../../src/api/mount.ts';
import { bin, until } from '../cli/command.ts';
import { startPodProcesses } from '../client/pod.ts';
import { cannotMount } from '../mounted.ts';
import { install, type Installed } from '../packaging/installed.ts';
import { freePort, startRedis, startS3 } from '../servers.ts';
import { ToolMissing } from '../tools.ts';

/** A text that stands nowhere else. */
const canary = (what: string): string => `canary-${what}-${randomBytes(9).toString('hex')}`;

/** Every form in which a secret may be told. */
const formsOf = (secret: string): readonly string[] => [
  secret,
  Buffer.from(secret).toString('base64'),
  // Within a longer text that was encoded as a whole, whatever stood before it.
  ...[1, 2].map((shift) =>
    Buffer.from(`${' '.repeat(shift)}${secret}`)
      .toString('base64')
      .slice(4, -4),
  ),
  Buffer.from(secret).toString('hex'),
];

/** What all processes of this machine have as arguments and environment, looked at again and again until it ends. */
function watchProcesses(suspicious: () => readonly string[]): { readonly found: Set<string>; stop(): void } {
  const found = new Set<string>();
  const look = (): void => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
      for (const what of ['cmdline', 'environ'])
        try {
          const text = readFileSync(`/proc/${pid}/${what}`, 'utf8');
          if (suspicious().some((form) => text.includes(form)))
            found.add(`${what} of ${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()}`);
        } catch {
          // It has ended meanwhile, or is not ours to look at.
        }
  };
  const timer = setInterval(look, 100);
  return {
    found,
    stop: () => {
      look();
      clearInterval(timer);
    },
  };
}

interface Program {
  readonly child: ChildProcess;
  /** All that it has said. */
  said(): string;
}

function start(args: readonly string[]): Program {
  const child = spawn(bin, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (text += data.toString()));
  return { child, said: () => text };
}

async function end({ child }: Program): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGTERM');
  await ended;
}

/** Everything that the API server has, beside Secrets. */
async function allObjects({ api }: Installed): Promise<string> {
  const kinds = (await api.kubectl(['api-resources', '--verbs=list', '--output=name'])).split('\n').filter(Boolean);
  const wanted = kinds.filter((kind) => kind !== 'secrets');
  return api.kubectl(['get', wanted.join(','), '--all-namespaces', '--output=yaml', '--show-managed-fields']);
}

const namespace = 'team-a';
const secret = (name: string, stringData: Readonly<Record<string, string>>): object => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name, namespace },
  stringData,
});

test('no secret is in a log, an event, a status, a metric, an environment or a process list', async (t) => {
  await using cleanup = new AsyncDisposableStack();
  const authority = await createAuthority(Date.now());
  let installed: Installed;
  try {
    const caBundle = Buffer.from(authority.certificate.pem).toString('base64');
    installed = cleanup.use(await install('default', { namespaces: [namespace], caBundle }));
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    return t.skip(error.message);
  }
  const { api } = installed;
  const right = { redis: canary('redis'), s3: canary('s3'), passphrase: canary('passphrase') };
  const wrong = { redis: canary('wrong-redis'), s3: canary('wrong-s3'), passphrase: canary('wrong-passphrase') };
  const redis = cleanup.use(await startRedis(['--appendonly', 'yes']));
  const s3 = cleanup.use(await startS3());
  await s3.createKey('canaryid', right.s3);
  const administrator = new Redis({ port: redis.port });
  cleanup.defer(() => administrator.disconnect());
  await administrator.config('SET', 'requirepass', right.redis);

  const secrets: string[] = [...Object.values(right), ...Object.values(wrong)];
  const forms = (): readonly string[] => secrets.flatMap(formsOf);
  const processes = watchProcesses(forms);
  cleanup.defer(() => processes.stop());

  const apply = (...objects: readonly object[]): Promise<string> =>
    api.kubectl(
      ['apply', '--server-side', '--force-conflicts', '-f', '-'],
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
    );
  const credentials = (of: typeof right): Promise<string> =>
    apply(
      secret('redis', { password: of.redis }),
      secret('s3', { accessKeyId: 'canaryid', secretAccessKey: of.s3 }),
      secret('words', { passphrase: of.passphrase }),
    );
  const volume = (name: string, database: number, encryption: object): object => ({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name, namespace },
    spec: {
      metadata: { redis: { addresses: [`127.0.0.1:${redis.port}`], database, authSecretRef: { name: 'redis' } } },
      storage: { s3: { bucket: 'canaries', endpoint: s3.endpoint, credentials: { secretRef: { name: 's3' } } } },
      encryption: { algorithm: 'AES256GCM', ...encryption },
      client: { logLevel: 'debug' },
    },
  });
  const condition = (name: string, type: string): Promise<string> =>
    api.kubectl(['get', 'jv', name, '-n', namespace, '-o', `jsonpath={.status.conditions[?(@.type=="${type}")].reason}`]);
  const becomes = (name: string, wanted: RegExp): Promise<boolean> =>
    until(`${name} is ${wanted.source}`, async () => wanted.test(await condition(name, 'Ready')));

  const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
  writeFileSync(join(installed.folder, 'tls.crt'), leaf.certificate.pem);
  writeFileSync(join(installed.folder, 'tls.key'), leaf.key);
  const metrics = await freePort();
  const operator = start(
    ['operator', '--kubeconfig', await installed.kubeconfigOf('juicepod-operator'), '--metrics-port', String(metrics)].concat([
      '--log-level',
      'debug',
    ]),
  );
  cleanup.defer(() => end(operator));
  const webhook = start(
    ['webhook', '--kubeconfig', await installed.kubeconfigOf('juicepod-webhook'), '--port', String(installed.port)].concat([
      '--cert-dir',
      installed.folder,
      '--log-level',
      'debug',
    ]),
  );
  cleanup.defer(() => end(webhook));

  // Every refusal first, then success, then every refusal of what has worked.
  await credentials(wrong);
  const pem = readFileSync(join(import.meta.dirname, '..', 'golden', 'keys', 'rsa-pkcs8-aes256.pem'), 'utf8');
  secrets.push(pem.split('\n')[5] ?? '');
  await apply(
    secret('key', { 'key.pem': pem }),
    volume('given', 1, { passphraseSecretRef: { name: 'words' } }),
    volume('made', 2, {}),
    volume('locked', 3, { keySecretRef: { name: 'key' }, passphraseSecretRef: { name: 'words' } }),
  );
  await becomes('given', /MetadataDenied/);
  await apply(secret('redis', { password: right.redis }));
  await becomes('given', /Storage(Denied|Unreachable)/);
  await credentials(right);
  await becomes('given', /Succeeded/);
  await becomes('made', /Succeeded/);
  await becomes('locked', /KeyInvalid|PassphraseWrong/);
  for (const [name, key] of [
    ['juicepod-passphrase-made', 'passphrase'],
    ['juicepod-key-made', 'key.pem'],
  ] as const) {
    const text = await api.kubectl(['get', 'secret', name, '-n', namespace, '-o', `jsonpath={.data.${key.replace('.', '\\.')}}`]);
    // Of the key, a line from its middle.
    const value = Buffer.from(text, 'base64').toString();
    secrets.push(key === 'passphrase' ? value : (value.split('\n')[5] ?? ''));
  }
  assert.ok(
    secrets.every((each) => each.length > 20),
    'there is a secret that is none',
  );

  const pod = (volumes: string): object => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'app', namespace, annotations: { 'juicepod.io/volumes': volumes } },
    spec: { containers: [{ name: 'app', image: 'busybox' }] },
  });
  await until('a pod is injected', async () => {
    const made = await installed.attempt(['create', '-f', '-'], JSON.stringify(pod('given=/a,made=/b')));
    return made.ok;
  });
  const refused = await installed.attempt(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod('nothing=/a')));
  assert.ok(!refused.ok);

  const said: [string, () => string][] = [
    ['the operator', () => operator.said()],
    ['the webhook', () => webhook.said()],
    ['a refusal', () => refused.output],
  ];
  if (cannotMount === false) {
    const mounted = await api.kubectl(
      ['get', 'secret', 'juicepod-mount-given', '-n', namespace, '-o'].concat(String.raw`jsonpath={.data.volume\.json}`),
    );
    const config = JSON.parse(Buffer.from(mounted, 'base64').toString()) as MountConfig;
    assert.ok(JSON.stringify(config).includes(right.redis) && JSON.stringify(config).includes(right.passphrase));
    const client = cleanup.use(await startPodProcesses(config));
    const target = client.targets[0] ?? '';
    writeFileSync(join(target, 'file'), randomBytes(100_000));
    // Credentials that do not work are tried while it runs, and told.
    client.project({
      ...config,
      generation: '99',
      metaUrl: config.metaUrl.replace(right.redis, wrong.redis),
      storage: { ...config.storage, secretKey: wrong.s3 },
    });
    await until('the client tells of credentials that do not work', async () => client.config().Credentials.Problem !== '');
    const virtual = ['.config', '.stats'].map((name) => readFileSync(join(target, name), 'utf8')).join('\n');
    said.push(['the client', () => client.log()], ['virtual files', () => virtual]);
    client.project(config);
    await until('it takes up what works', async () => client.config().Credentials.Problem === '');
  } else t.diagnostic(`no client: ${cannotMount}`);

  // Another passphrase than before is a rotation.
  await apply(secret('words', { passphrase: wrong.passphrase }));
  await until('the passphrase is rotated', async () => (await condition('given', 'EncryptionReady')) === 'Rotating');
  await apply(secret('s3', { accessKeyId: 'canaryid', secretAccessKey: wrong.s3 }));
  await becomes('made', /Storage(Denied|Unreachable)/);
  await apply(secret('redis', { password: wrong.redis }));
  await becomes('made', /MetadataDenied/);

  const pages = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  said.push(['metrics', () => pages]);
  const events = await api.kubectl(['get', 'events.events.k8s.io', '-n', namespace, '-o', 'jsonpath={.items[*].reason}']);
  for (const told of ['MetadataDenied', 'StorageDenied', 'KeyInvalid', 'Formatted']) assert.match(events, new RegExp(told));
  const objects = await allObjects(installed);
  assert.match(objects, /kind: JuiceVolume/);
  assert.match(objects, /juicepod\.io\/plan/);
  said.push(['objects of the API server', () => objects]);
  processes.stop();
  for (const [who, text] of said) {
    assert.ok(text().length > 50, `${who} said nothing`);
    assert.deepEqual(
      forms().filter((form) => text().includes(form)),
      [],
      `${who} told a secret`,
    );
    assert.doesNotMatch(text(), /PRIVATE KEY/, `${who} told a key`);
  }
  assert.deepEqual([...processes.found], []);

  // What finds nothing must be able to find something.
  const kept = await api.kubectl(['get', 'secrets', '-n', namespace, '-o', 'yaml']);
  for (const each of [wrong.redis, wrong.s3, wrong.passphrase])
    assert.ok(
      formsOf(each).some((form) => kept.includes(form)),
      each,
    );
  assert.ok(
    formsOf(right.redis).some((form) => kept.includes(form)),
    'within the mount Secret',
  );
  const control = watchProcesses(forms);
  const shown = spawn('sh', ['-c', 'sleep 5', secrets[0] ?? ''], { stdio: 'ignore', env: { TOLD: secrets[1] ?? '' } });
  control.stop();
  shown.kill('SIGKILL');
  assert.ok(control.found.size > 0, 'a process with a secret in its arguments is noticed');
});
