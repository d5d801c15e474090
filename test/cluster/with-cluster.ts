/**
 * Runs a command beside a fresh Kubernetes cluster on this machine and exits with its status; see README.md.
 *
 *   node test/cluster/with-cluster.ts [--no-image] [--] COMMAND [ARGUMENT...]
 *
 * The command finds KUBECONFIG, kubectl and ctr. Exits with 77 where the machine cannot have a cluster, and says why.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian, ensureDebianFile, onPath, ToolMissing, versitygw } from '../tools.ts';
import { ensureKubernetes } from './build.ts';
import { ensureBusyboxImage, ensureJuicepodImage } from './image.ts';

/** The exit status that says "skipped", as in other test runners. */
export const skipped = 77;

/**
 * Makes everything ready that a cluster needs, then runs `command` beside one. Resolves with its exit status.
 *
 * @param images further archives to import, beside busybox.
 * @throws ToolMissing where this machine cannot have a cluster.
 */
export async function withCluster(command: readonly string[], images: readonly string[]): Promise<number> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    throw new ToolMissing('a cluster: only root on Linux can start one (kubelet and containerd mount and make control groups)');
  ensureDebian('containerd', 'runc', 'busybox', 'openssl', 'ip', 'iptables');
  ensureDebianFile('/usr/lib/cni/bridge', 'containernetworking-plugins');
  for (const program of ['unshare', 'setpriv', 'flock', 'findmnt'])
    if (!onPath(program)) throw new ToolMissing(`${program}: apt-get install util-linux`);
  const archives = [await ensureBusyboxImage(), ...images].join('\n');
  const child = spawn('bash', [join(import.meta.dirname, 'cluster.sh'), await ensureKubernetes(), archives, ...command], {
    stdio: 'inherit',
  });
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal === 'SIGINT' ? 'SIGTERM' : signal);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, forward);
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 1));
  });
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { 'no-image': { type: 'boolean' }, entry: { type: 'string' } },
    allowPositionals: true,
    args: process.argv.slice(2),
  });
  if (positionals.length === 0) {
    process.stderr.write('usage: node test/cluster/with-cluster.ts [--no-image] [--entry FILE] -- COMMAND [ARGUMENT...]\n');
    return 2;
  }
  try {
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
