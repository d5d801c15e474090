/**
 * How long the webhook takes for a pod of 12 KiB: the decision alone (bytes of a review in, bytes of the answer out), and over TLS
 * as the API server calls it, one at a time on one connection. Prints milliseconds: median, p99, largest.
 */
import { Agent, request } from 'node:https';
import { Registry } from 'prom-client';
import { review } from '../src/admission/review.ts';
import { startServer } from '../src/admission/server.ts';
import { defaultSettings } from '../src/admission/settings.ts';
import { cluster, pod, volume } from '../src/admission/testing/fixtures.ts';
import { createAuthority, signLeaf } from '../src/admission/x509.ts';
import { createHealth } from '../src/kube/health.ts';
import { nullLogger } from '../src/lib/log.ts';

const COUNT = 1000;
const WARM_UP = 200;
const SIZE = 12 * 1024;

const names = Array.from({ length: 200 }, (_, index) => `volume-${index}`);
const inside = cluster(names.map((name) => volume(name)));

/** A pod of the size that charts make: several containers, environment, mounts, and a long annotation. */
function bigPod(): string {
  const containers = ['main', 'sidecar', 'metrics'].map((name) => ({
    name,
    image: `registry.example/${name}:1`,
    env: Array.from({ length: 30 }, (_, index) => ({ name: `VARIABLE_${index}`, value: `the value of variable ${index}` })),
    volumeMounts: [{ name: 'config', mountPath: '/etc/config' }],
  }));
  const build = (filling: string): string =>
    JSON.stringify({
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      request: {
        uid: '705ab4f5-6393-11e8-b7cc-42010a800002',
        resource: { group: '', version: 'v1', resource: 'pods' },
        operation: 'CREATE',
        namespace: 'default',
        object: pod(
          undefined,
          { containers, volumes: [{ name: 'config', configMap: { name: 'config' } }] },
          {
            annotations: { 'juicepod.io/volumes': 'volume-7=/data:ro,volume-42=/ckpt', filling },
          },
        ),
      },
    });
  return build('x'.repeat(SIZE - build('').length));
}

function print(what: string, times: readonly number[]): void {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): string => (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0).toFixed(2);
  console.log(`${what.padEnd(34)} median ${at(0.5)} ms   p99 ${at(0.99)} ms   largest ${at(1)} ms`);
}

const body = bigPod();
console.log(`admission: ${COUNT} reviews of ${(Buffer.byteLength(body) / 1024).toFixed(1)} KiB, two volumes, three containers`);

const alone: number[] = [];
for (let count = -WARM_UP; count < COUNT; count++) {
  const started = performance.now();
  const reviewed = review(JSON.parse(body), inside, defaultSettings);
  if (!reviewed.ok || !JSON.stringify(reviewed.body).includes('"allowed":true')) throw new Error('the pod was not admitted');
  if (count >= 0) alone.push(performance.now() - started);
}
print('decision and patch', alone);

const authority = await createAuthority(Date.now());
const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
const keys = { cert: leaf.certificate.pem, key: leaf.key };
const options = {
  cluster: inside,
  settings: defaultSettings,
  keys,
  health: createHealth(),
  metrics: new Registry(),
  log: nullLogger,
};
const server = await startServer({ ...options, isReady: () => true }, 0, '127.0.0.1');
const agent = new Agent({ ca: authority.certificate.pem, keepAlive: true, maxSockets: 1 });

const call = (): Promise<void> =>
  new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const sent = request(
      { host: '127.0.0.1', port: server.port, agent, method: 'POST', path: '/mutate', headers },
      (response) => {
        response.resume();
        response.on('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`answered ${response.statusCode}`)),
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
const whole: number[] = [];
for (let count = -WARM_UP; count < COUNT; count++) {
  const started = performance.now();
  await call();
  if (count >= 0) whole.push(performance.now() - started);
}
print('over TLS, as the API server calls', whole);
agent.destroy();
await server.close();
