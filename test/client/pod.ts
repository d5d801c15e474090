/**
 * The holder and the client of a pod as processes of this machine, over a folder that looks as the kubelet makes it: a mount
 * Secret whose files are links through `..data`, replaced all at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatMountConfig, type MountConfig } from '../../src/api/mount.ts';
import { formatPlan, parsePlan, type PlanMount } from '../../src/api/plan.ts';
import { bin } from '../cli/command.ts';
import { clearMounts } from '../mounted.ts';

/** A Secret's files in `folder`, as the kubelet writes them at first and later. */
export function projectSecret(folder: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(folder, { recursive: true });
  const version = mkdtempSync(join(folder, '..v'));
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(version, name), text, { mode: 0o400 });
    if (!existsSync(join(folder, name))) symlinkSync(join('..data', name), join(folder, name));
  }
  const link = join(folder, '..data_tmp');
  symlinkSync(version, link);
  renameSync(link, join(folder, '..data'));
}

export interface PodProcesses extends AsyncDisposable {
  readonly work: string;
  /** The mount points, in the order of the mounts. */
  readonly targets: readonly string[];
  /** What client and holder said. */
  log(): string;
  /** The Secret of the volume is this from now on. */
  project(config: MountConfig): void;
  /** `.config` of the first mount. */
  config(): { readonly Credentials: { readonly Generation: string; readonly Switches: number; readonly Problem: string } };
  /** The client alone: starts it, and resolves when it has ended. */
  readonly client: { readonly ended: Promise<number | null> };
  /** Ends the client by a signal and starts another one. Answers its exit code when that one has ended. */
  replaceClient(signal: NodeJS.Signals): Promise<number | null>;
}

export type PodMount = Partial<Omit<PlanMount, 'id' | 'volume' | 'config' | 'target'>>;

/** Starts both and waits until every mount answers; with `answers: false`, returns at once. */
export async function startPodProcesses(
  config: MountConfig,
  options: { readonly mounts?: readonly PodMount[]; readonly answers?: boolean; readonly work?: string } = {},
): Promise<PodProcesses> {
  const work = options.work ?? mkdtempSync(join(tmpdir(), 'juicepod-pod-'));
  const secret = join(work, 'secret');
  projectSecret(secret, { 'volume.json': formatMountConfig(config) });
  const mounts = (options.mounts ?? [{}]).map((mount, index) => ({
    subPath: '',
    readOnly: false,
    ...mount,
    id: String(index),
    volume: 'default/testvol',
    config: join(secret, 'volume.json'),
    target: join(work, 'mnt', String(index)),
  }));
  const cache = { directory: join(work, 'cache'), sizeMiB: 256, freeSpaceRatio: 0.01 };
  const plan = parsePlan(JSON.stringify({ version: 1, mounts, cache, journal: join(work, 'cache') }));
  writeFileSync(join(work, 'plan.json'), formatPlan(plan));
  const targets = mounts.map(({ target }) => target);
  const socket = join(work, 'run/hold.sock');
  const log = join(work, 'log');
  const children: ChildProcess[] = [];
  const launch = (...args: readonly string[]): ChildProcess => {
    const child = spawn('sh', ['-c', 'exec "$@" >> "$0" 2>&1', log, bin, ...args], { stdio: 'ignore' });
    children.push(child);
    return child;
  };
  const ended = (child: ChildProcess): Promise<number | null> => new Promise((done) => child.once('exit', done));
  const stop = async (): Promise<void> => {
    // The client first, as the kubelet ends sidecars in reverse order.
    for (const child of children.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const over = ended(child);
      const force = setTimeout(() => void clearMounts(work).then(() => child.kill('SIGKILL')), 30_000);
      child.kill('SIGTERM');
      await over;
      clearTimeout(force);
    }
    await clearMounts(work);
    if (options.work === undefined) rmSync(work, { recursive: true, force: true });
  };
  const until = async (what: string, probe: () => boolean): Promise<void> => {
    for (let attempt = 0; !probe(); attempt++) {
      if (attempt > 1500 || children.some(({ exitCode }) => exitCode !== null)) {
        const said = existsSync(log) ? readFileSync(log, 'utf8').slice(-3000) : '';
        await stop();
        throw new Error(`${what}: it did not come to that:\n${said}`);
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  launch('hold', '--socket', socket, ...targets.flatMap((target) => ['--mount', target]));
  await until('the holder listens', () => existsSync(socket));
  const startClient = (): ChildProcess => launch('mount', '--plan', join(work, 'plan.json'), '--socket', socket);
  let client = startClient();
  const over = ended(client);
  if (options.answers !== false)
    await until('every mount answers', () => targets.every((target) => existsSync(join(target, '.stats'))));
  return {
    work,
    targets,
    client: { ended: over },
    async replaceClient(signal) {
      const gone = ended(client);
      client.kill(signal);
      const code = await gone;
      client = startClient();
      return code;
    },
    log: () => readFileSync(log, 'utf8'),
    project: (next) => projectSecret(secret, { 'volume.json': formatMountConfig(next) }),
    config: () => JSON.parse(readFileSync(join(targets[0] ?? '', '.config'), 'utf8')) as ReturnType<PodProcesses['config']>,
    [Symbol.asyncDispose]: stop,
  };
}
