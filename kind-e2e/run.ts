/**
 * The cluster scenarios (test/cluster/scenarios) on the best cluster there is:
 *
 *   node kind-e2e/run.ts                 KUBECONFIG's cluster if that is set; else kind, where Docker runs; else a bare cluster
 *   node kind-e2e/run.ts --on bare       kubeconfig | kind | bare
 *
 * On KUBECONFIG's cluster the images must be there or pullable and this machine must be reachable from pods: see the variables
 * in test/cluster/scenarios/environment.ts. kind gets the images that are built here; its cluster is deleted at the end.
 * Exits with 77, and says why, where there is no cluster to be had.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBusyboxImage, ensureJuicepodImage } from '../test/cluster/image.ts';
import { environmentVariables } from '../test/cluster/scenarios/environment.ts';
import { skipped, withCluster } from '../test/cluster/with-cluster.ts';
import { ensureDebian, goTool, onPath, ToolMissing, versitygw } from '../test/tools.ts';

const scenarios = resolve(import.meta.dirname, '../test/cluster/scenarios/all.scenario.ts');
const command = [process.execPath, '--disable-warning=ExperimentalWarning', '--test', '--test-reporter=spec', scenarios];

function runs(program: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

async function run(environment: Readonly<Record<string, string>>): Promise<number> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...environment } });
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => resolve(status ?? 1));
  });
}

async function onKubeconfig(): Promise<number> {
  if (!onPath('kubectl')) throw new ToolMissing('kubectl: it is not on PATH (https://kubernetes.io/docs/tasks/tools)');
  return await run({});
}

/** The address of this machine on kind's network, as its nodes and their pods reach it. */
function gatewayOfKind(): string {
  const format = '{{range .IPAM.Config}}{{.Gateway}}{{"\\n"}}{{end}}';
  const addresses = execFileSync('docker', ['network', 'inspect', 'kind', '--format', format], { encoding: 'utf8' });
  const address = addresses.split('\n').find((line) => /^\d+\.\d+\.\d+\.\d+$/.test(line.trim()));
  if (!address) throw new Error(`Docker's network "kind" has no IPv4 gateway: ${addresses.trim()}`);
  return address.trim();
}

async function onKind(): Promise<number> {
  if (!runs('docker', 'info')) throw new ToolMissing('Docker: kind needs it, and `docker info` fails here');
  const kind = onPath('kind') ?? (await goTool('kind', 'sigs.k8s.io/kind', 'v0.30.0'));
  const archives = [await ensureBusyboxImage(), await ensureJuicepodImage()];
  const name = `juicepod-${process.pid}`;
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-kind-'));
  const kubeconfig = join(folder, 'kubeconfig');
  const end = (): void => {
    execFileSync(kind, ['delete', 'cluster', '--name', name, '--kubeconfig', kubeconfig], { stdio: 'inherit' });
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    execFileSync(kind, ['create', 'cluster', '--name', name, '--kubeconfig', kubeconfig, '--wait', '120s'], { stdio: 'inherit' });
    for (const archive of archives) execFileSync(kind, ['load', 'image-archive', archive, '--name', name], { stdio: 'inherit' });
    return await run({ ...environmentVariables({ host: gatewayOfKind() }), KUBECONFIG: kubeconfig });
  } finally {
    end();
  }
}

const onBare = async (): Promise<number> => await withCluster(command, [await ensureJuicepodImage()]);

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { on: { type: 'string' } } });
  const best = process.env['KUBECONFIG'] ? 'kubeconfig' : runs('docker', 'info') ? 'kind' : 'bare';
  const where = values.on ?? best;
  const ways: Readonly<Record<string, () => Promise<number>>> = { kubeconfig: onKubeconfig, kind: onKind, bare: onBare };
  const way = ways[where];
  if (!way) {
    process.stderr.write(`--on ${where}: there are kubeconfig, kind and bare\n`);
    return 2;
  }
  try {
    process.stderr.write(`# scenarios on: ${where}\n`);
    // In a bare cluster there is no network: what the scenarios run beside it is had before.
    ensureDebian('redis-server');
    await versitygw();
    return await way();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    process.stderr.write(`# skipped: ${error.message}\n`);
    return skipped;
  }
}

process.exitCode = await main();
