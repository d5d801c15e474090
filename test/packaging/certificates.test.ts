/**
 * The webhook's certificates with a real API server that calls it all the time: none of its calls fails while certificates change,
 * whoever makes them; and what replicas share is written by compare-and-set.
 */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { runWebhook, type WebhookOptions } from '../../src/admission/index.ts';
import { bundlePublisher, secretStore, serverTime } from '../../src/admission/cluster.ts';
import { OwnAuthority } from '../../src/admission/certs.ts';
import { createAuthority, readBundle, signLeaf, type Pair } from '../../src/admission/x509.ts';
import { connect } from '../../src/kube/client.ts';
import { Pods } from '../../src/kube/resources.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { ToolMissing } from '../tools.ts';
import { install, type Installed, type InstallOptions, system } from './installed.ts';
import { until } from '../until.ts';

const signal = new AbortController().signal;

async function installOrSkip(
  context: TestContext,
  overlay: string,
  options: InstallOptions = {},
): Promise<Installed | undefined> {
  try {
    return await install(overlay, options);
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    context.skip(error.message);
    return undefined;
  }
}

/** Runs the webhook as its service account; answers how to end it. */
async function serve(installed: Installed, options: Partial<WebhookOptions>): Promise<() => Promise<void>> {
  const stop = new AbortController();
  const client = await installed.clientOf('juicepod-webhook');
  const running = runWebhook(
    { client, namespace: system, log: nullLogger, port: installed.port, host: '127.0.0.1', drainMs: 10, ...options },
    stop.signal,
  );
  running.catch(() => {});
  return async () => {
    stop.abort(new Error('the test is over'));
    await running;
  };
}

/** Asks without end, by the API server and on new connections of its own; `end` answers how many calls there were. */
function load(installed: Installed, trusted: () => string): { readonly failures: string[]; end(): Promise<number> } {
  const failures: string[] = [];
  let count = 0;
  const ending = new AbortController();
  const client = connect({ kubeconfig: installed.api.kubeconfig, requestsPerSecond: 1000, burst: 1000 });
  const pods = client.resource(Pods);
  const annotations = { 'juicepod.io/volumes': 'nowhere=/data' };
  const asApiServer = async (): Promise<void> => {
    const pod = {
      metadata: { name: 'app', namespace: 'default', annotations },
      spec: { containers: [{ name: 'main', image: 'busybox' }] },
    };
    const message = await pods.create(pod, { dryRun: true }).then(
      () => 'a pod with a volume that does not exist was admitted',
      (error: unknown) => String(error),
    );
    // The refusal is the webhook's own: it was reached, and trusted.
    if (!/there is no volume/.test(message)) failures.push(message);
  };
  const newConnection = async (): Promise<void> => {
    const agent = new Agent({ keepAlive: false });
    const options = { host: '127.0.0.1', port: installed.port, path: '/livez', ca: trusted(), agent, timeout: 5000 };
    await new Promise<void>((resolve) => {
      const call = request(options, (response) => response.resume().once('end', resolve));
      call.once('error', (error) => {
        failures.push(`new connection: ${error.message}`);
        resolve();
      });
      call.end();
    });
  };
  const worker = async (ask: () => Promise<void>): Promise<void> => {
    while (!ending.signal.aborted) {
      await ask();
      count++;
    }
  };
  const workers = [worker(asApiServer), worker(asApiServer), worker(newConnection)];
  return {
    failures,
    async end() {
      ending.abort();
      await Promise.all(workers);
      await client.close();
      return count;
    },
  };
}

/** A folder of a Secret as the kubelet keeps it: links into a folder that is replaced as a whole. */
function secretFolder(folder: string): (pair: Pair) => void {
  mkdirSync(folder);
  let version = 0;
  return (pair) => {
    const data = `..${++version}`;
    mkdirSync(join(folder, data));
    writeFileSync(join(folder, data, 'tls.crt'), pair.certificate.pem);
    writeFileSync(join(folder, data, 'tls.key'), pair.key);
    symlinkSync(data, join(folder, '..data_tmp'));
    renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    if (version > 1) return;
    for (const name of ['tls.crt', 'tls.key']) symlinkSync(join('..data', name), join(folder, name));
  };
}

test('with cert-manager’s Secret as files, the leaf changes under load and no admission fails; no right to write is needed', async (context) => {
  const authority = await createAuthority(Date.now());
  // The injector's part: caBundle is what the Certificate's authority is.
  const caBundle = Buffer.from(authority.certificate.pem).toString('base64');
  const installed = await installOrSkip(context, 'cert-manager', { caBundle });
  if (!installed) return;
  await using _ = installed;
  const mutating = installed.manifests.find(({ kind }) => kind === 'MutatingWebhookConfiguration');
  assert.equal(mutating?.metadata.annotations?.['cert-manager.io/inject-ca-from'], `${system}/juicepod-webhook-tls`);
  const folder = join(installed.folder, 'tls');
  const write = secretFolder(folder);
  write(await signLeaf(authority, ['127.0.0.1'], Date.now()));
  const files = { cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
  const end = await serve(installed, { files, lookEveryMs: 20 });
  try {
    await until('the webhook answers', async () => {
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a', annotations: { 'juicepod.io/volumes': 'x=/data' } } };
      const spec = { containers: [{ name: 'main', image: 'busybox' }] };
      const { output } = await installed.attempt(['create', '--dry-run=server', '-f', '-'], JSON.stringify({ ...pod, spec }));
      return /there is no volume/.test(output);
    });
    const asking = load(installed, () => authority.certificate.pem);
    for (let count = 0; count < 30; count++) {
      write(await signLeaf(authority, ['127.0.0.1'], Date.now()));
      await pause(100);
    }
    const calls = await asking.end();
    assert.deepEqual(asking.failures, []);
    assert.ok(calls > 100, `${calls} calls`);
    for (const verb of ['get', 'create', 'update']) {
      const can = ['auth', 'can-i', verb, 'secrets', '-n', system, `--as=system:serviceaccount:${system}:juicepod-webhook`];
      assert.match((await installed.attempt(can)).output, /^$|no/);
    }
  } finally {
    await end();
  }
});

test('plain files that are written one after the other, and an authority that follows another, fail no admission', async (context) => {
  const [first, second] = [await createAuthority(Date.now()), await createAuthority(Date.now())];
  // Who keeps the files trusts the next authority before it signs.
  const both = first.certificate.pem + second.certificate.pem;
  const installed = await installOrSkip(context, 'default', { caBundle: Buffer.from(both).toString('base64') });
  if (!installed) return;
  await using _ = installed;
  const files = { cert: join(installed.folder, 'tls.crt'), key: join(installed.folder, 'tls.key') };
  const write = async (authority: Pair): Promise<void> => {
    const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
    writeFileSync(files.cert, leaf.certificate.pem);
    // For a while they do not fit.
    await pause(50);
    writeFileSync(files.key, leaf.key);
  };
  await write(first);
  const end = await serve(installed, { files, lookEveryMs: 20 });
  try {
    await until(
      'the webhook listens',
      () =>
        new Promise<boolean>((resolve) => {
          const call = request(
            { host: '127.0.0.1', port: installed.port, path: '/readyz', ca: both, agent: false },
            (response) => {
              response.resume();
              resolve(response.statusCode === 200);
            },
          );
          call.once('error', () => resolve(false));
          call.end();
        }),
    );
    const asking = load(installed, () => both);
    for (let count = 0; count < 10; count++) {
      await write(count < 5 ? first : second);
      await pause(100);
    }
    const calls = await asking.end();
    assert.deepEqual(asking.failures, []);
    assert.ok(calls > 100, `${calls} calls`);
  } finally {
    await end();
  }
});

test('with a certificate that has expired no pod is admitted without its volume, others are created, and a new one heals it at once', async (context) => {
  const authority = await createAuthority(Date.now());
  const caBundle = Buffer.from(authority.certificate.pem).toString('base64');
  const installed = await installOrSkip(context, 'default', { caBundle });
  if (!installed) return;
  await using _ = installed;
  const files = { cert: join(installed.folder, 'tls.crt'), key: join(installed.folder, 'tls.key') };
  const write = async (now: number): Promise<void> => {
    const leaf = await signLeaf(authority, ['127.0.0.1'], now);
    writeFileSync(files.cert, leaf.certificate.pem);
    writeFileSync(files.key, leaf.key);
  };
  await write(Date.now() - 1000 * 24 * 3_600_000);
  const end = await serve(installed, { files, lookEveryMs: 20 });
  try {
    const readiness = (): Promise<string> =>
      new Promise((resolve) => {
        // A probe of the kubelet does not look at certificates.
        const options = { host: '127.0.0.1', port: installed.port, path: '/readyz', rejectUnauthorized: false, agent: false };
        const call = request(options, (response) => void response.toArray().then((parts) => resolve(parts.join(''))));
        call.once('error', () => resolve(''));
        call.end();
      });
    const create = (annotations: Readonly<Record<string, string>>) => {
      const metadata = { name: 'a', namespace: 'default', annotations };
      const pod = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [{ name: 'main', image: 'busybox' }] } };
      return installed.attempt(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod));
    };
    const asking = { 'juicepod.io/volumes': 'x=/data' };
    await until('the webhook says that it is not ready, and why', async () => /certificate: it ended/.test(await readiness()));
    await until('the webhook is called', async () => /certificate has expired/.test((await create(asking)).output));
    assert.ok((await create({})).ok, 'a pod that asks for nothing does not depend on it');
    await write(Date.now());
    await until('the webhook decides again', async () => /there is no volume/.test((await create(asking)).output));
    await until('it is ready', async () => (await readiness()) === 'ok\n');
  } finally {
    await end();
  }
});

test('replicas race for the authority on a real API server: one Secret, one bundle, and an older bundle is not put back', async (context) => {
  const installed = await installOrSkip(context, 'default');
  if (!installed) return;
  await using _ = installed;
  const client = await installed.clientOf('juicepod-webhook');
  const secret = secretStore(client, system, 'juicepod-webhook-ca');
  const publisher = bundlePublisher(client, 'juicepod-webhook');
  const replicas = Array.from(
    { length: 4 },
    () =>
      new OwnAuthority({
        secret,
        publisher,
        names: ['hook'],
        serverTime: serverTime(client),
        clock: systemClock,
        log: nullLogger,
      }),
  );
  const leaves = await Promise.all(replicas.map((replica) => replica.look(signal)));
  for (const replica of replicas) await replica.look(signal);
  const published = await publisher.read(signal);
  assert.equal(new Set(leaves.map((keys) => keys?.key)).size, 4);
  const stored = await secret.read(signal);
  assert.equal(published?.bundles[0], stored?.data['ca.crt']);
  assert.equal(readBundle(published?.bundles[0] ?? '').length, 1);

  // What was read is no longer what is there.
  const stale = published?.version ?? '';
  const fresh = await createAuthority(Date.now());
  assert.ok(await publisher.publish(fresh.certificate.pem, stale, signal));
  assert.equal(await publisher.publish(published?.bundles[0] ?? '', stale, signal), false);
  assert.equal((await publisher.read(signal))?.bundles[0], fresh.certificate.pem);
  await replicas[0]?.look(signal);
  assert.equal((await publisher.read(signal))?.bundles[0], stored?.data['ca.crt']);

  assert.ok(Math.abs((await serverTime(client)(signal)) - Date.now()) < 30_000);
  assert.equal(replicas[0]?.skewMs, 0);

  // A node whose clock is two years ahead does not change what is there.
  const ahead = { ...systemClock, now: () => Date.now() + 2 * 365 * 86_400_000 };
  const jumped = new OwnAuthority({
    secret,
    publisher,
    names: ['hook'],
    serverTime: serverTime(client),
    clock: ahead,
    log: nullLogger,
  });
  await jumped.look(signal);
  assert.equal((await secret.read(signal))?.version, stored?.version);
  assert.ok(Math.abs((jumped.current?.notAfter ?? 0) - Date.now() - 7 * 86_400_000) < 60_000);
});
