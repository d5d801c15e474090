/**
 * Runs a command beside a fresh Kubernetes cluster on this machine and exits with its status; see README.md.
 *
 *   node test/cluster/with-cluster.ts [--no-image | --entry FILE | --api-server-only] -- COMMAND [ARGUMENT...]
 *
 * The command finds KUBECONFIG, kubectl and ctr. Exits with 77 where the machine cannot have a cluster, and says why.
 * `--api-server-only`: etcd and kube-apiserver, without nodes, controllers, namespaces of their own, or the need to be root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian, ensureDebianFile, onPath, ToolMissing, versitygw } from '../tools.ts';
import { startApiServer } from './api-server.ts';
import { ensureKubernetes } from './build.ts';
import { ensureBusyboxImage, ensureJuicepodImage } from './image.ts';

/** The exit status that says "skipped", as in other test runners. */
export const skipped = 77;

/** The exit status of a child, to which the signals that would end us go on. */
function ended(child: ChildProcess): Promise<number> {
  // Ctrl-C reaches the child by itself, but one that was started in the background cannot trap it, so TERM is sent as well.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 1));
  });
}

/**
 * Makes everything ready that a cluster needs: packages, Kubernetes, the sandbox image. Minutes the first time.
 *
 * @throws ToolMissing where this machine cannot have a cluster.
 */
export async function prepareCluster(): Promise<{ readonly programs: string; readonly archive: string }> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    throw new ToolMissing('a cluster: only root on Linux can start one (kubelet and containerd mount and make control groups)');
  ensureDebian('containerd', 'runc', 'busybox', 'openssl', 'ip', 'iptables');
  ensureDebianFile('/usr/lib/cni/bridge', 'containernetworking-plugins');
  for (const program of ['unshare', 'setpriv', 'flock', 'findmnt'])
    if (!onPath(program)) throw new ToolMissing(`${program}: apt-get install util-linux`);
  return { programs: await ensureKubernetes(), archive: await ensureBusyboxImage() };
}

/**
 * Runs `command` beside a fresh cluster. Resolves with its exit status.
 *
 * @param images archives to import, beside the sandbox image.
 * @throws ToolMissing where this machine cannot have a cluster.
 */
export async function withCluster(command: readonly string[], images: readonly string[]): Promise<number> {
  const { programs, archive } = await prepareCluster();
  const script = join(import.meta.dirname, 'cluster.sh');
  const child = spawn('bash', [script, programs, [archive, ...images].join('\n'), ...command], { stdio: 'inherit' });
  return await ended(child);
}

async function besideApiServer([program = '', ...args]: readonly string[]): Promise<number> {
  const programs = await ensureKubernetes();
  await using server = await startApiServer();
  const env = { ...process.env, KUBECONFIG: server.kubeconfig, PATH: `${programs}${delimiter}${process.env['PATH'] ?? ''}` };
  return await ended(spawn(program, args, { stdio: 'inherit', env }));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { 'no-image': { type: 'boolean' }, entry: { type: 'string' }, 'api-server-only': { type: 'boolean' } },
    allowPositionals: true,
    args: process.argv.slice(2),
  });
  if (positionals.length === 0) {
    process.stderr.write(
      'usage: node test/cluster/with-cluster.ts [--no-image | --entry FILE | --api-server-only] -- COMMAND [ARGUMENT...]\n',
    );
    return 2;
  }
  try {
    if (values['api-server-only']) return await besideApiServer(positionals);
    await prepareCluster();
    // Inside there is no network: what a scenario runs beside the cluster is had before.
    ensureDebian('redis-server');
    await versitygw();
    return await withCluster(positionals, values['no-image'] ? [] : [await ensureJuicepodImage(values.entry)]);
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    process.stderr.write(`# skipped: ${error.message}\n`);
    return skipped;
  }
}

if (import.meta.main) process.exitCode = await main();
