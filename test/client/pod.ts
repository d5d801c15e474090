/**
 * The holder and the client of a pod as processes of this machine, over a folder that looks as the kubelet makes it: a mount
 * Secret whose files are links through `..data`, replaced all at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatMountConfig, type MountConfig } from '../../src/api/mount.ts';
import { RUN_ROOT, SERVING } from '../../src/admission/names.ts';
import { clientContainer } from '../../src/admission/sidecar.ts';
import { containerInput } from '../../src/admission/testing/fixtures.ts';
import { formatPlan, parsePlan, type PlanMount } from '../../src/api/plan.ts';
import type { PlanOptions } from '../../src/api/plan-change.ts';
import { bin } from '../cli/command.ts';
import { clearMounts } from '../mounted.ts';
import { removeFolder } from '../remove-folder.ts';

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
  config(): {
    readonly Pid: number;
    /** Nanoseconds. */
    readonly AttrTimeout: number;
    readonly Chunk: { readonly UploadLimit: number; readonly Writeback: boolean };
    readonly Credentials: { readonly Generation: string; readonly Switches: number; readonly Problem: string };
  };
  /** The plan has these options from now on. */
  changePlan(options: Partial<PlanOptions>): void;
  /** The client that runs, or ran last. */
  readonly client: { readonly pid: number; readonly ended: Promise<number | null> };
  /** Starts another client after one that has ended, as the kubelet does. */
  startClient(): void;
  /** Runs the hook or one of the probes that the webhook gives the client's container, on these folders; answers its exit code and output. */
  probe(
    which: 'postStart' | 'readinessProbe' | 'livenessProbe',
    edit?: (command: string) => string,
  ): Promise<{ code: number; output: string }>;
}

type Probes = Readonly<Record<string, { readonly exec: { readonly command: readonly string[] } }>>;

export type PodMount = Partial<Omit<PlanMount, 'id' | 'volume' | 'config' | 'target'>>;

/** Starts both and waits until every mount answers; with `answers: false`, returns at once. */
export async function startPodProcesses(
  config: MountConfig,
  options: {
    readonly mounts?: readonly PodMount[];
    readonly answers?: boolean;
    readonly work?: string;
    readonly plan?: Partial<PlanOptions>;
    readonly env?: NodeJS.ProcessEnv;
    /** Further arguments of the client. */
    readonly client?: readonly string[];
  } = {},
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
  const changePlan = (plan: Partial<PlanOptions>): void => {
    const text = JSON.stringify({ version: 1, mounts, cache, journal: join(work, 'cache'), ...plan });
    projectSecret(join(work, 'pod'), { 'plan.json': formatPlan(parsePlan(text)) });
  };
  changePlan(options.plan ?? {});
  const targets = mounts.map(({ target }) => target);
  const socket = join(work, 'run/hold.sock');
  const log = join(work, 'log');
  const children: ChildProcess[] = [];
  const launch = (...args: readonly string[]): ChildProcess => {
    const env = { ...process.env, ...options.env };
    const child = spawn('sh', ['-c', 'exec "$@" >> "$0" 2>&1', log, bin, ...args], { stdio: 'ignore', env });
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
    if (options.work === undefined) removeFolder(work);
  };
  const until = async (what: string, probe: () => boolean): Promise<void> => {
    for (let attempt = 0; !probe(); attempt++) {
      if (attempt > 1500 || [children[0], children.at(-1)].some((child) => child?.exitCode !== null)) {
        const said = existsSync(log) ? readFileSync(log, 'utf8').slice(-3000) : '';
        await stop();
        throw new Error(`${what}: it did not come to that:\n${said}`);
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  launch('hold', '--socket', socket, ...targets.flatMap((target) => ['--mount', target]));
  await until('the holder listens', () => existsSync(socket));
  // A container that is started again has files of its own.
  const serving = join(work, 'serving');
  const startClient = (): PodProcesses['client'] => {
    rmSync(serving, { force: true });
    const child = launch(
      'mount',
      '--plan',
      join(work, 'pod/plan.json'),
      '--socket',
      socket,
      '--serving',
      serving,
      ...(options.client ?? []),
    );
    return { pid: child.pid ?? 0, ended: ended(child) };
  };
  let client = startClient();
  /** As the webhook writes it, with the folders of this pod. */
  const probe: PodProcesses['probe'] = (which, edit = (command) => command) => {
    const container = clientContainer(containerInput(mounts)) as unknown as Probes & { readonly lifecycle: Probes };
    const command = (which === 'postStart' ? container.lifecycle : container)[which]?.exec.command ?? [];
    const [shell = '', ...args] = command.map((part) =>
      part.replaceAll(RUN_ROOT, join(work, 'run')).replaceAll(SERVING, serving),
    );
    return new Promise((done) => {
      const child = spawn(shell, args.map(edit), { stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      child.stdout.on('data', (data: Buffer) => (output += data.toString()));
      child.once('close', (code) => done({ code: code ?? -1, output }));
    });
  };
  if (options.answers !== false)
    await until('every mount answers', () => targets.every((target) => existsSync(join(target, '.stats'))));
  return {
    work,
    targets,
    changePlan,
    get client() {
      return client;
    },
    startClient: () => void (client = startClient()),
    probe,
    log: () => readFileSync(log, 'utf8'),
    project: (next) => projectSecret(secret, { 'volume.json': formatMountConfig(next) }),
    config: () => JSON.parse(readFileSync(join(targets[0] ?? '', '.config'), 'utf8')) as ReturnType<PodProcesses['config']>,
    [Symbol.asyncDispose]: stop,
  };
}
