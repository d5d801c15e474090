/**
 * How long the webhook takes for a pod of 12 KiB: the decision alone (bytes of a review in, bytes of the answer out); over TLS
 * as the API server calls it, one at a time on one connection; and 200 reviews a second for ten seconds, sent when their time has
 * come whether or not earlier ones are answered. The webhook is a process of its own with its log on, and has one processor; the
 * load has the others, and is a process of its own too. Prints milliseconds: median, p99, largest.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:https';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { Registry } from 'prom-client';
import { review } from '../src/admission/review.ts';
import { startServer } from '../src/admission/server.ts';
import { defaultSettings } from '../src/admission/settings.ts';
import { cluster, pod, volume } from '../src/admission/testing/fixtures.ts';
import { createAuthority, signLeaf } from '../src/admission/x509.ts';
import { createHealth } from '../src/kube/health.ts';
import { createLogger } from '../src/lib/winston.ts';

const COUNT = 1000;
const WARM_UP = 200;
const RATE = 200;
const SECONDS = 10;
/** Reads what to send from standard input; prints the milliseconds of each answer from the time at which it was due. */
const LOAD = `
import { Agent, request } from 'node:https';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
const { body, ca, port, rate, seconds } = JSON.parse(await text(process.stdin));
const agent = new Agent({ ca, keepAlive: true, maxSockets: 32 });
const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
const times = [], warm = rate, all = warm + rate * seconds;
const send = (due, counts) => new Promise((resolve, reject) => {
  const sent = request({ host: '127.0.0.1', port, agent, method: 'POST', path: '/mutate', headers }, (response) => {
    response.resume();
    response.on('end', () => {
      if (response.statusCode !== 200) return reject(new Error('answered ' + response.statusCode));
      if (counts) times.push(performance.now() - due);
      resolve();
    });
  });
  sent.on('error', reject);
  sent.end(body);
});
const running = [], start = performance.now();
for (let count = 0; count < all; count++) {
  const due = start + (count * 1000) / rate;
  const wait = due - performance.now();
  if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
  // Timers of Node are late by up to a millisecond; what is sent late is not the webhook's.
  running.push(send(Math.max(due, performance.now()), count >= warm));
}
await Promise.all(running);
agent.destroy();
process.stdout.write(JSON.stringify(times));
`;
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

/** Binds a process to processors, where there are several and the program for it is there. */
function bind(pid: number, processors: string): void {
  if (availableParallelism() < 2) return;
  try {
    execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', processors, String(pid)], { stdio: 'pipe' });
  } catch {
    console.log('# taskset is not there: the webhook has all processors');
  }
}

/** The webhook, until standard input ends; prints where it is. */
async function serve(): Promise<void> {
  const authority = await createAuthority(Date.now());
  const leaf = await signLeaf(authority, ['127.0.0.1'], Date.now());
  const server = await startServer(
    {
      cluster: inside,
      settings: defaultSettings,
      keys: { cert: leaf.certificate.pem, key: leaf.key },
      health: createHealth(),
      metrics: new Registry(),
      log: createLogger({ json: true }),
      isReady: () => true,
    },
    0,
    '127.0.0.1',
  );
  console.log(JSON.stringify({ port: server.port, ca: authority.certificate.pem }));
  process.stdin.resume();
  await once(process.stdin, 'end');
  await server.close();
}

async function main(): Promise<void> {
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

  const node = ['--disable-warning=ExperimentalWarning'];
  // Its log goes nowhere, but is written.
  const webhook = spawn(process.execPath, [...node, import.meta.filename, 'serve'], { stdio: ['pipe', 'pipe', 'ignore'] });
  process.once('exit', () => webhook.kill('SIGKILL'));
  const [line] = (await once(createInterface(webhook.stdout), 'line')) as [string];
  const { port, ca } = JSON.parse(line) as { readonly port: number; readonly ca: string };
  bind(webhook.pid ?? 0, '0');
  bind(process.pid, `1-${availableParallelism() - 1}`);
  const agent = new Agent({ ca, keepAlive: true, maxSockets: 1 });

  const call = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const sent = request({ host: '127.0.0.1', port, agent, method: 'POST', path: '/mutate', headers }, (response) => {
        response.resume();
        response.on('end', () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`answered ${response.statusCode}`)),
        );
      });
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

  const load = spawn(process.execPath, [...node, '--input-type=module', '-e', LOAD], { stdio: ['pipe', 'pipe', 'inherit'] });
  load.stdin.end(JSON.stringify({ body, ca, port, rate: RATE, seconds: SECONDS }));
  let output = '';
  for await (const data of load.stdout) output += String(data);
  print(`over TLS at ${RATE} a second`, JSON.parse(output) as readonly number[]);
  webhook.stdin.end();
  await once(webhook, 'exit');
}

await (process.argv[2] === 'serve' ? serve() : main());
