/**
 * Kubernetes for the tests, built from source: one program for all components (`kube/main.go`), because no machine has it
 * installed and there may be no Docker to fetch it by. Built once per content of `kube/` into the cache of the tools, with
 * progress on standard error; seven to fifteen minutes on two processors, 4 GB of disk while it runs, 145 MB afterwards.
 *
 * The result is the same byte for byte wherever it is built (`-trimpath`, pinned modules), so the hash of the three files is
 * a sound name for it.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cacheRoot, onPath, ToolMissing } from '../tools.ts';
import { withLock } from './lock.ts';

const source = join(import.meta.dirname, 'kube');
const components = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kube-proxy',
  'kubelet',
  'kubectl',
] as const;

/** The release that `kube/go.mod` names, say `v1.36.3`. */
export function kubernetesVersion(): string {
  const version = /k8s\.io\/kubernetes (v\d+\.\d+\.\d+)/.exec(readFileSync(join(source, 'go.mod'), 'utf8'))?.[1];
  if (!version) throw new Error('test/cluster/kube/go.mod does not require k8s.io/kubernetes');
  return version;
}

function hash(): string {
  const digest = createHash('sha256').update(process.arch);
  for (const name of ['main.go', 'go.mod', 'go.sum']) digest.update(readFileSync(join(source, name)));
  return digest.digest('hex').slice(0, 16);
}

const report = (line: string): void => void process.stderr.write(`# ${line}\n`);

/** Runs Go in `kube/`; `line` gets each line of standard error. Resolves with standard output. */
async function go(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  line: (text: string) => void = () => undefined,
): Promise<string> {
  const child = spawn('nice', ['-n', '5', program, ...args], { cwd: source, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let tail: string[] = [];
  let partial = '';
  child.stdout.on('data', (data: Buffer) => (output += data.toString()));
  child.stderr.on('data', (data: Buffer) => {
    const lines = (partial + data.toString()).split('\n');
    partial = lines.pop() ?? '';
    for (const text of lines) line(text);
    tail = [...tail, ...lines].slice(-20);
  });
  const status = await new Promise<number | string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
  if (status !== 0)
    throw new Error(`go ${args[0]} of test/cluster/kube ended with ${status}:\n${[...tail, partial].join('\n').trim()}`);
  return output;
}

async function requireGo(): Promise<string> {
  const program = onPath('go');
  const wanted = 'Go 1.26 or newer, to build Kubernetes for the cluster tests';
  if (!program) throw new ToolMissing(`${wanted}: no go was found on PATH or in /usr/local/go (https://go.dev/dl)`);
  const version = await go(program, ['env', 'GOVERSION'], { ...process.env, GOTOOLCHAIN: 'local', GOCACHE: 'off' }).catch(
    (error: unknown) => String(error),
  );
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(version) ?? [];
  if (Number(major) !== 1 || Number(minor) < 26)
    throw new ToolMissing(`${wanted}: ${program} is ${version.trim().split('\n').at(-1)} (https://go.dev/dl)`);
  return program;
}

async function compile(target: string): Promise<void> {
  const program = await requireGo();
  const version = kubernetesVersion();
  const [major = '', minor = ''] = version.slice(1).split('.');
  const scratch = join(cacheRoot, 'kube', 'go');
  const env = {
    ...process.env,
    CGO_ENABLED: '0',
    GOCACHE: join(scratch, 'build'),
    GOMODCACHE: join(scratch, 'mod'),
    GOFLAGS: '-modcacherw -buildvcs=false -trimpath',
    GOTOOLCHAIN: 'local',
  };
  const temporary = `${target}.new`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(join(temporary, 'bin'), { recursive: true });

  const began = Date.now();
  const elapsed = (): string => `${Math.round((Date.now() - began) / 1000)} s`;
  report(`Kubernetes ${version}: building it once from source; 7 to 15 minutes on 2 processors (${availableParallelism()} here)`);
  await go(program, ['mod', 'download'], env);
  const all = await go(program, ['list', '-deps', '-f', '{{.ImportPath}}', '.'], env);
  const total = all.trim().split('\n').length;
  report(`Kubernetes ${version}: modules downloaded, ${total} packages to compile, ${elapsed()}`);
  let compiled = 0;
  const timer = setInterval(() => {
    const percent = Math.min(99, Math.floor((compiled * 100) / total));
    report(`Kubernetes ${version}: ${compiled} of ${total} packages (${percent} %), ${elapsed()}`);
  }, 15_000);
  try {
    const variables = `-X gitVersion=${version} -X gitMajor=${major} -X gitMinor=${minor} -X gitTreeState=clean`;
    const flags = `-s -w ${variables.replaceAll('-X ', '-X k8s.io/component-base/version.')}`;
    await go(program, ['build', '-v', '-o', join(temporary, 'bin', 'kube'), '-ldflags', flags, '.'], env, () => compiled++);
  } finally {
    clearInterval(timer);
  }
  for (const name of components) symlinkSync('kube', join(temporary, 'bin', name));
  rmSync(target, { recursive: true, force: true });
  renameSync(temporary, target);
  // 4 GB that only another release would need again, and that would be mostly other files.
  rmSync(scratch, { recursive: true, force: true });
  report(`Kubernetes ${version}: built in ${elapsed()}`);
}

/** The folder of Kubernetes' programs if they are built already. */
export function builtKubernetes(): string | undefined {
  const folder = join(cacheRoot, 'kube', hash());
  return existsSync(join(folder, 'bin', 'kube')) ? join(folder, 'bin') : undefined;
}

/**
 * The folder that holds kube-apiserver, kubectl, etcd and the others; builds them where they are not there yet. Safe to call
 * from several processes: one builds, the others wait.
 *
 * @throws ToolMissing where Go is missing or too old.
 */
export async function ensureKubernetes(): Promise<string> {
  const ready = builtKubernetes();
  if (ready) return ready;
  const target = join(cacheRoot, 'kube', hash());
  await withLock(
    join(cacheRoot, 'kube', 'lock'),
    () => report('Kubernetes: waiting for another process that builds it'),
    async () => {
      if (builtKubernetes()) return;
      await compile(target);
      // Other contents of kube/ are earlier releases.
      for (const name of readdirSync(join(cacheRoot, 'kube')))
        if (name !== 'lock' && join(cacheRoot, 'kube', name) !== target)
          rmSync(join(cacheRoot, 'kube', name), { recursive: true, force: true });
    },
  );
  return join(target, 'bin');
}

if (import.meta.main) process.stdout.write(`${await ensureKubernetes()}\n`);
