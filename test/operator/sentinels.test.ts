/**
 * The operator as a process, beside Sentinels that speak TLS only and want its certificate: it makes a volume, the master is killed,
 * and the volume stays ready.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { parseMountConfig } from '../../src/api/mount.ts';
import type { JuiceVolume } from '../../src/api/volume.ts';
import { openEngine, readFormat } from '../../src/meta/open.ts';
import { startApiServer } from '../cluster/api-server.ts';
import { startSentinels } from '../redis/servers.ts';
import { freePort } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';
import { installResources } from './installed.ts';
import { operatorKubeconfig } from './service-account.ts';

const root = resolve(import.meta.dirname, '..', '..');
const namespace = 'data';

test('the master of a volume is killed, and the volume stays ready for the operator and for clients', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-sentinels-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const api = await startApiServer().catch((error: unknown) => {
    if (error instanceof ToolMissing) return t.skip(error.message);
    throw error;
  });
  if (!api) return;
  t.after(() => api.stop());
  await using group = await startSentinels(1, ['--appendonly', 'yes'], true);
  assert.ok(group.files);
  await installResources(api);
  await api.kubectl(['create', 'namespace', namespace]);
  const kubectl = (...args: readonly string[]): Promise<string> => api.kubectl(['--namespace', namespace, ...args]);
  const { ca, cert, key } = group.files;
  await kubectl(
    'create',
    'secret',
    'generic',
    'redis-tls',
    ...[`ca.crt=${ca}`, `tls.crt=${cert}`, `tls.key=${key}`].map((each) => `--from-file=${each}`),
  );

  const port = await freePort();
  const operator = spawn(
    process.execPath,
    [join(root, 'src/main.ts'), 'operator', '--kubeconfig', operatorKubeconfig(api), '--metrics-port', String(port)],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  operator.stderr.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-4000)));
  const ended = new Promise((done) => operator.once('exit', done));
  t.after(async () => {
    operator.kill('SIGTERM');
    await ended;
  });

  const addresses = /,([^/]*)\//.exec(group.url(3))?.[1]?.split(',') ?? [];
  const redis = {
    addresses,
    sentinel: { masterName: 'volumes' },
    database: 3,
    tls: { enabled: true, caSecretRef: { name: 'redis-tls' }, clientCertSecretRef: { name: 'redis-tls' } },
  };
  const volume = {
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'watched', namespace },
    spec: { metadata: { redis }, storage: { file: { path: join(folder, 'blocks') } } },
  };
  await api.kubectl(['apply', '-f', '-'], JSON.stringify(volume));
  const current = async (): Promise<JuiceVolume> =>
    JSON.parse(await kubectl('get', 'jv', 'watched', '-o', 'json')) as JuiceVolume;
  const ready = (found: JuiceVolume) => found.status?.conditions?.find(({ type }) => type === 'Ready');
  const uuid = await until(
    'the volume is ready',
    async () => {
      assert.equal(operator.exitCode, null, `the operator has ended: ${said}`);
      const found = await current();
      return ready(found)?.status === 'True' && found.status?.uuid;
    },
    200,
  );
  const since = ready(await current())?.lastTransitionTime;

  const master = await group.master(3);
  process.kill(master.pid, 'SIGKILL');
  // It is looked at at once, while there is no master, and again when there is one.
  const look = async (mark: string): Promise<void> => {
    await kubectl('annotate', '--overwrite', 'jv', 'watched', `juicepod.io/reconcile-at=${mark}`);
    await until(`the operator has looked (${mark})`, async () => (await current()).status?.lastHandledReconcileAt === mark, 200);
  };
  await look('during');
  assert.notEqual((await group.master(3)).port, master.port);
  await look('after');
  const found = await current();
  assert.deepEqual([ready(found)?.status, found.status?.uuid], ['True', uuid], ready(found)?.message);
  assert.equal(ready(found)?.lastTransitionTime, since, 'it was not ready for a time');

  // What clients are given leads to the new master.
  const secret = JSON.parse(await kubectl('get', 'secret', 'juicepod-mount-watched', '-o', 'json')) as {
    readonly data: Readonly<Record<string, string>>;
  };
  for (const [file, value] of Object.entries(secret.data)) writeFileSync(join(folder, file), Buffer.from(value, 'base64'));
  const { metaUrl } = parseMountConfig(readFileSync(join(folder, 'volume.json'), 'utf8'), folder);
  const engine = await openEngine(metaUrl, { environment: {}, readOnly: true });
  assert.equal((await readFormat(engine))?.uuid, uuid);
  await engine.close();
});
