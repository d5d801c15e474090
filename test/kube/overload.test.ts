/**
 * A real kube-apiserver that lets one writer in at a time, and a webhook that keeps that one waiting: everybody else is told 429.
 * (Administrators are not, so the client is one of a service account.)
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { createAuthority, signLeaf } from '../../src/admission/x509.ts';
import { connect } from '../../src/kube/client.ts';
import { ConfigMaps } from '../../src/kube/resources.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { freePort } from '../servers.ts';
import { ToolMissing } from '../tools.ts';
import { eventually } from './backends.ts';

const namespace = 'default';

/** A kubeconfig of a service account that may write ConfigMaps. */
async function asAccount(api: ApiServer): Promise<string> {
  await api.kubectl(['create', 'serviceaccount', 'writer', '-n', namespace]);
  await api.kubectl(['create', 'clusterrole', 'writer', '--verb=create', '--resource=configmaps']);
  await api.kubectl(['create', 'clusterrolebinding', 'writer', '--clusterrole=writer', `--serviceaccount=${namespace}:writer`]);
  const token = (await api.kubectl(['create', 'token', 'writer', '-n', namespace])).trim();
  const path = join(api.folder, 'writer.kubeconfig');
  const config = {
    clusters: [{ name: 'c', cluster: { server: api.url, 'certificate-authority': join(api.folder, 'ca.crt') } }],
    users: [{ name: 'u', user: { token } }],
    contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'c',
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
}

test('a write that is refused with 429 is sent again when the API server has said to, and done once', async (t) => {
  const flags = ['--enable-priority-and-fairness=false', '--max-mutating-requests-inflight=1'];
  const api = await startApiServer({ flags }).catch((error: unknown) => {
    if (error instanceof ToolMissing) return undefined;
    throw error;
  });
  if (!api) return t.skip('Kubernetes cannot be built here');
  const port = await freePort();
  const authority = await createAuthority(Date.now());
  const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
  let release: () => void = () => {};
  const asked = new AbortController();
  const webhook = createServer({ cert: leaf.certificate.pem, key: leaf.key }, (request, response) => {
    let text = '';
    request.on('data', (data: Buffer) => (text += data.toString()));
    request.on('end', () => {
      const { apiVersion, kind, request: found } = JSON.parse(text) as Record<string, unknown> & { request: { uid: string } };
      release = () => void response.end(JSON.stringify({ apiVersion, kind, response: { uid: found.uid, allowed: true } }));
      asked.abort();
    });
  });
  await new Promise<void>((done) => webhook.listen(port, '127.0.0.1', done));
  const metrics = new Registry();
  const refused = async (): Promise<number> => {
    const found = await metrics.getSingleMetric('rest_client_requests_total')?.get();
    return (found?.values ?? []).find(({ labels }) => labels['code'] === '429')?.value ?? 0;
  };
  const admin = connect({ kubeconfig: api.kubeconfig });
  const maps = admin.resource(ConfigMaps);
  t.after(async () => {
    release();
    webhook.closeAllConnections();
    webhook.close();
    await admin.close();
    await api.stop();
  });
  await eventually('the namespace is there', () =>
    maps.create({ metadata: { namespace, name: 'first' } }).then(
      () => true,
      () => false,
    ),
  );
  const writer = connect({ kubeconfig: await asAccount(api), metrics });
  t.after(() => writer.close());
  const configuration = {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'MutatingWebhookConfiguration',
    metadata: { name: 'slow' },
    webhooks: [
      {
        name: 'slow.juicepod.io',
        admissionReviewVersions: ['v1'],
        sideEffects: 'None',
        timeoutSeconds: 30,
        clientConfig: { url: `https://127.0.0.1:${port}/`, caBundle: Buffer.from(authority.certificate.pem).toString('base64') },
        rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] }],
        objectSelector: { matchLabels: { slow: 'yes' } },
      },
    ],
  };
  await api.kubectl(['create', '-f', '-'], JSON.stringify(configuration));
  let count = 0;
  // Until the API server has noticed the webhook, such objects are simply created.
  const slow = async (): Promise<void> => {
    while (!asked.signal.aborted)
      await maps.create({ metadata: { namespace, name: `slow-${count++}`, labels: { slow: 'yes' } } });
  };
  const held = slow();
  await eventually('the webhook is asked', () => asked.signal.aborted);
  const written = writer.resource(ConfigMaps).create({ metadata: { namespace, name: 'patient' }, data: { text: 'x' } });
  await eventually('it is refused', async () => (await refused()) > 0);
  assert.equal(await maps.find({ namespace, name: 'patient' }), undefined);
  release();
  assert.equal((await written).metadata.name, 'patient');
  await held;
});
