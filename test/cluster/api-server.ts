/**
 * etcd and kube-apiserver alone, for suites that need the real API but no pods: an ordinary user can run it, on loopback ports
 * that nobody else uses, in about 3 s. There are no controllers: nothing is garbage collected, no namespace is ever
 * emptied, no ServiceAccount appears (so pods are admitted without one), no pod runs.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../servers.ts';
import { ensureDebian } from '../tools.ts';
import { ensureKubernetes } from './build.ts';

export interface ApiServer extends AsyncDisposable {
  /** Path of a kubeconfig of a member of system:masters. */
  readonly kubeconfig: string;
  readonly url: string;
  /** Where the logs and keys lie; gone after `stop`. */
  readonly folder: string;
  /** Runs kubectl as the administrator; resolves with its standard output. */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Kills kube-apiserver as a crash does, and starts it anew at its address; etcd, and what is in it, stays. */
  restart(): Promise<void>;
  /** Makes etcd forget what was before now, as the API server has it done every five minutes. */
  compact(): Promise<void>;
  stop(): Promise<void>;
}

export interface ApiServerOptions {
  /** Appended to kube-apiserver's arguments; the last of a flag's values wins. */
  readonly flags?: readonly string[];
}

function writeKeys(folder: string): void {
  const openssl = (args: readonly string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const certificate = (name: string, subject: string, ...extra: readonly string[]): void =>
    openssl(
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'].concat(
        ['-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', subject],
        extra,
      ),
    );
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
  certificate('ca', '/CN=kube-ca');
  certificate('apiserver', '/CN=kube-apiserver', ...signed, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  certificate('admin', '/O=system:masters/CN=admin', ...signed);
  openssl(['pkey', '-in', 'ca.key', '-pubout', '-out', 'ca.pub']);
}

/** Whether the server says that it is ready; false for any failure. */
function ready(port: number, folder: string): Promise<boolean> {
  const key = (name: string): Buffer => readFileSync(join(folder, name));
  return new Promise((resolve) => {
    const options = {
      host: '127.0.0.1',
      port,
      path: '/readyz',
      ca: key('ca.crt'),
      cert: key('admin.crt'),
      key: key('admin.key'),
    };
    const call = request({ ...options, timeout: 2000, agent: false }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode === 200));
    });
    call.once('timeout', () => call.destroy());
    call.once('error', () => resolve(false));
    call.end();
  });
}

/**
 * Starts an API server of its own; builds Kubernetes first where that was not done yet (minutes).
 *
 * @throws ToolMissing where Kubernetes cannot be built on this machine.
 */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const programs = await ensureKubernetes();
  ensureDebian('openssl');
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-apiserver-'));
  const children: { readonly child: ChildProcess; readonly ended: Promise<void>; readonly name: string }[] = [];
  const start = (name: string, args: readonly string[]): void => {
    const log = openSync(join(folder, `${name}.log`), 'a');
    // A test process that dies, however it dies, leaves nothing behind.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', join(programs, name), ...args], {
      cwd: folder,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    children.push({ child, ended, name });
  };
  const stop = async (): Promise<void> => {
    for (const { child } of children) child.kill('SIGKILL');
    await Promise.all(children.map((each) => each.ended));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    writeKeys(folder);
    const [client, peer, port] = [await freePort(), await freePort(), await freePort()];
    const etcd = `http://127.0.0.1:${client}`;
    const peerUrl = `http://127.0.0.1:${peer}`;
    start('etcd', [
      `--data-dir=${join(folder, 'etcd')}`,
      '--unsafe-no-fsync',
      `--listen-client-urls=${etcd}`,
      `--advertise-client-urls=${etcd}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=default=${peerUrl}`,
    ]);
    const apiServer = [
      `--etcd-servers=${etcd}`,
      '--bind-address=127.0.0.1',
      '--advertise-address=127.0.0.1',
      '--endpoint-reconciler-type=none',
      `--secure-port=${port}`,
      '--tls-cert-file=apiserver.crt',
      '--tls-private-key-file=apiserver.key',
      '--client-ca-file=ca.crt',
      '--service-account-issuer=https://kubernetes.default.svc',
      '--service-account-key-file=ca.pub',
      '--service-account-signing-key-file=ca.key',
      '--service-cluster-ip-range=10.96.0.0/16',
      '--authorization-mode=RBAC',
      '--allow-privileged',
      '--disable-admission-plugins=ServiceAccount',
      ...(options.flags ?? []),
    ];
    start('kube-apiserver', apiServer);
    const url = `https://127.0.0.1:${port}`;
    const kubeconfig = join(folder, 'kubeconfig');
    const at = (name: string): string => JSON.stringify(join(folder, name));
    writeFileSync(
      kubeconfig,
      `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "${url}", certificate-authority: ${at('ca.crt')}}}]
users: [{name: u, user: {client-certificate: ${at('admin.crt')}, client-key: ${at('admin.key')}}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`,
    );
    const untilReady = async (): Promise<void> => {
      for (let attempt = 0; !(await ready(port, folder)); attempt++) {
        const dead = children.find(({ child }) => child.exitCode !== null || child.signalCode !== null);
        if (dead || attempt === 600) {
          const name = dead?.name ?? 'kube-apiserver';
          const log = readFileSync(join(folder, `${name}.log`), 'utf8');
          throw new Error(`${name} ${dead ? 'ended' : 'was not ready after a minute'}:\n${log.slice(-2000)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await untilReady();
    const run = promisify(execFile);
    const kubectl = async (args: readonly string[], input?: string): Promise<string> => {
      const running = run(join(programs, 'kubectl'), [`--kubeconfig=${kubeconfig}`, ...args], { maxBuffer: 1 << 26 });
      running.child.stdin?.end(input);
      return (await running).stdout;
    };
    const restart = async (): Promise<void> => {
      const [running] = children.splice(1, 1);
      running?.child.kill('SIGKILL');
      await running?.ended;
      start('kube-apiserver', apiServer);
      await untilReady();
    };
    const ask = async (what: string, body: object): Promise<{ readonly header?: { readonly revision?: string } }> => {
      const answer = await fetch(`${etcd}/v3/kv/${what}`, { method: 'POST', body: JSON.stringify(body) });
      if (!answer.ok) throw new Error(`etcd answered ${answer.status} to ${what}: ${await answer.text()}`);
      return (await answer.json()) as { readonly header?: { readonly revision?: string } };
    };
    const compact = async (): Promise<void> => {
      // The key does not matter: any answer tells the revision.
      const { header } = await ask('range', { key: 'AA==' });
      await ask('compaction', { revision: header?.revision, physical: true });
    };
    return { kubeconfig, url, folder, kubectl, restart, compact, stop, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
