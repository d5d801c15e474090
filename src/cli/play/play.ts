/**
 * `juicepod play FOLDER`: an annotated pod on this machine, without a cluster. The volumes are made (or found), the pod is injected
 * by the code of the webhook, and sidecars and application run as processes in mount namespaces of their own.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { execFileSync, spawn } from 'node:child_process';
import { injectFile } from '../../admission/index.ts';
import { formatMountConfig } from '../../api/mount.ts';
import { parseJuiceVolume } from '../../api/kinds.ts';
import { mountSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { metaUrl, targetOf } from '../../operator/volume/target.ts';
import { makeVolume } from '../volume/format.ts';
import { type Output, print } from '../report.ts';
import { type PlayPod, runPod, START_SECONDS } from './pod.ts';

const INSIDE = 'JUICEPOD_PLAY_INSIDE';
/** On one machine nothing is far away. */
const NAMESPACE = 'default';

interface Json {
  readonly [member: string]: unknown;
}

/** Reads the YAML files of the folder, in the order of their names. */
function readFolder(folder: string): string {
  let names: string[];
  try {
    names = readdirSync(folder)
      .filter((name) => /\.ya?ml$/.test(name))
      .toSorted();
  } catch (error) {
    throw new UserError('FolderUnreadable', `${folder}: ${messageOf(error)}`, { hint: 'Try: juicepod play examples/quickstart' });
  }
  if (names.length === 0)
    throw new UserError('FolderEmpty', `${folder} holds no .yaml file`, {
      hint: 'It should hold a JuiceVolume and an annotated Pod, as examples/quickstart does.',
    });
  return names.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n---\n');
}

/** What this machine lacks for a play, as a sentence, or how the pod is to be isolated. */
function isolation(): { readonly userNamespace: boolean } {
  const can = (...args: readonly string[]): boolean => {
    try {
      execFileSync('unshare', [...args, 'true'], { stdio: 'ignore', timeout: 10_000 });
      return true;
    } catch {
      return false;
    }
  };
  if (!existsSync('/dev/fuse'))
    throw new UserError('FuseMissing', 'there is no /dev/fuse on this machine', {
      hint: 'Load the kernel module (modprobe fuse), or pass the device into this container.',
    });
  if (process.getuid?.() === 0) {
    if (can('--mount')) return { userNamespace: false };
    throw new UserError('NamespacesMissing', 'this process may not make a mount namespace (unshare --mount failed)', {
      hint: 'In a container, run it privileged.',
    });
  }
  if (!can('--user', '--map-root-user', '--mount'))
    throw new UserError(
      'NamespacesMissing',
      'an ordinary user needs user namespaces for this, and this machine does not allow them',
      {
        hint: 'Run it as root, or allow them: sysctl kernel.unprivileged_userns_clone=1 (or user.max_user_namespaces).',
      },
    );
  try {
    execFileSync('sh', ['-c', 'exec 3<>/dev/fuse'], { stdio: 'ignore' });
  } catch {
    throw new UserError('FuseDenied', 'this user may not open /dev/fuse', {
      hint: 'Run it as root, or allow it: chmod 666 /dev/fuse (the default of most distributions).',
    });
  }
  return { userNamespace: true };
}

/** Starts this command again inside a mount namespace of its own, and ends as it ends. */
async function insideNamespace(userNamespace: boolean): Promise<never> {
  const args = [
    ...(userNamespace ? ['--user', '--map-root-user'] : []),
    '--mount',
    '--propagation',
    'private',
    process.execPath,
    ...process.execArgv,
    ...process.argv.slice(1),
  ];
  const child = spawn('unshare', args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  // The terminal sends an interrupt to both; the one inside ends the pod in order.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => signal === 'SIGTERM' && child.kill(signal));
  const code = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('exit', (status) => done(status ?? 130));
  });
  process.exit(code);
}

/** Makes the volume that a resource declares, as the operator would; answers what its mount Secret holds. */
async function provide(
  volume: JuiceVolume,
): Promise<{ readonly made: boolean; readonly where: string; readonly config: string }> {
  const { sqlite } = volume.spec.metadata;
  const { file } = volume.spec.storage;
  if (!sqlite || !file)
    throw new UserError(
      'VolumeNotLocal',
      `JuiceVolume ${volume.metadata.name}: play reads no Secrets, so it takes volumes with metadata.sqlite and storage.file only`,
      {
        hint: 'A volume on Redis and S3 can be mounted with juicepod mount.',
      },
    );
  mkdirSync(dirname(sqlite.path), { recursive: true });
  mkdirSync(file.path, { recursive: true });
  const url = metaUrl(volume.spec, {});
  const { input } = targetOf(volume, {});
  const { format, made } = await makeVolume(url, input, true);
  return {
    made,
    where: `${sqlite.path} and ${file.path}`,
    config: formatMountConfig({ name: format.name, uuid: format.uuid, metaUrl: url }),
  };
}

const ADDED = /^\+(?!\+\+)/;

export async function playCommand(folder: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const output = raw['output'] as Output;
  const { userNamespace } = process.env[INSIDE] ? { userNamespace: process.getuid?.() !== 0 } : isolation();
  const text = readFolder(resolve(folder));
  const result = injectFile(text, {
    fileName: folder,
    namespace: NAMESPACE,
    settings: { startSeconds: START_SECONDS, metricsPort: 0 },
  });
  const refused = result.reasons.find(({ action }) => action === 'refuse');
  if (refused) throw new UserError(refused.reason, `${refused.kind} ${refused.name}: ${refused.message}`);
  const documents = result.documents as readonly (Json & { readonly kind?: string })[];
  const pods = documents.filter(({ kind }) => kind === 'Pod') as unknown as readonly PlayPod[];
  const pod = pods[0];
  if (!pod || pods.length > 1) throw new UserError('PodMissing', `${folder} holds ${pods.length} Pods; play runs exactly one`);
  if (!result.reasons.some(({ action }) => action === 'inject'))
    throw new UserError(
      'NotAnnotated',
      `the Pod ${pod.metadata.name} has no annotation juicepod.io/volumes, so nothing would be added`,
      { hint: 'For example: juicepod.io/volumes: quickstart=/data' },
    );
  if (!process.env[INSIDE]) return insideNamespace(userNamespace);

  const say = (line: string): void => void (output === 'text' && process.stdout.write(`${line}\n`));
  const secrets = new Map<string, Record<string, string>>();
  say(`1. The volume${documents.filter(({ kind }) => kind === 'JuiceVolume').length > 1 ? 's' : ''}`);
  for (const document of documents.filter(({ kind }) => kind === 'JuiceVolume')) {
    const volume = parseJuiceVolume(document);
    const namespace = volume.metadata.namespace ?? NAMESPACE;
    const { made, where, config } = await provide(volume);
    secrets.set(mountSecretName(namespace, volume.metadata.name, pod.metadata.namespace ?? NAMESPACE), { 'volume.json': config });
    say(`   ${volume.metadata.name}: ${made ? 'made' : 'found, with what earlier runs left'} in ${where}`);
  }
  say(`\n2. What the webhook adds to the pod "${pod.metadata.name}" (juicepod inject -o diff shows it whole)`);
  for (const line of summary(pod)) say(`   ${line}`);
  say(`   ${result.diff.split('\n').filter((line) => ADDED.test(line)).length} lines in all; the application is left as it is`);

  say('\n3. The pod runs');
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => ending.abort(new UserError('Interrupted', 'interrupted')));
  const lines: { container: string; line: string }[] = [];
  const code = await inScratch(async (scratch) => {
    const width = Math.max(...[...pod.spec.containers, ...(pod.spec.initContainers ?? [])].map(({ name }) => name.length));
    return runPod(pod, {
      scratch,
      entrypoint: [process.execPath, ...process.execArgv, process.argv[1] ?? ''],
      secrets,
      ordinaryUser: false,
      say: (container, line) => {
        lines.push({ container: container ?? '', line });
        say(`   ${(container ?? '').padEnd(width)} | ${shorten(line)}`);
      },
      signal: ending.signal,
    });
  });
  if (output === 'json') print(output, { pod: pod.metadata.name, exitCode: code, lines }, '');
  if (ending.signal.aborted) throw new UserError('Interrupted', 'interrupted; the pod was ended and nothing is left mounted');
  if (code !== 0) throw new UserError('PodFailed', `a container of the pod ended with ${code}; nothing is left mounted`);
  say(`\nThe pod has ended, and nothing is left mounted. The volume stays: run it again and it finds these files.

Next:
  juicepod inject -f ${folder}/volume.yaml -f ${folder}/pod.yaml -o diff    the whole of what was added
  juicepod mount --help                                  mount such a volume on this machine
  kubectl apply --server-side -k config/default          install on a cluster (README.md)`);
}

/** The play's own lines of the log are JSON; a person reads the message. */
function shorten(line: string): string {
  if (!line.startsWith('{"level"')) return line;
  try {
    const { message, target, volume } = JSON.parse(line) as { message: string; target?: string; volume?: string };
    return `${message}${volume ? ` ${volume}` : ''}${target ? ` at ${target}` : ''}`;
  } catch {
    return line;
  }
}

function summary(pod: PlayPod): string[] {
  const ours = (pod.spec.initContainers ?? []).filter(({ name }) => name.startsWith('juicepod-'));
  const volumes = (pod.spec.volumes ?? []).filter(({ name }) => name.startsWith('juicepod-'));
  const mounts = pod.spec.containers.flatMap(({ name, volumeMounts = [] }) =>
    volumeMounts
      .filter((mount) => mount.name.startsWith('juicepod-'))
      .map((mount) => `${name} gets ${mount.mountPath}${mount.readOnly ? ' (read-only)' : ''}`),
  );
  return [
    `sidecars ${ours.map(({ name }) => name).join(' and ')}`,
    `volumes ${volumes.map(({ name }) => name).join(', ')}`,
    ...mounts,
  ];
}

/** A scratch folder whose part for volumes is a shared mount, as a node's is; removed afterwards, whatever happened. */
async function inScratch<T>(body: (scratch: string) => Promise<T>): Promise<T> {
  const scratch = mkdtempSync(join(tmpdir(), 'juicepod-play-'));
  const volumes = join(scratch, 'volumes');
  try {
    mkdirSync(volumes);
    execFileSync('mount', ['--bind', volumes, volumes]);
    execFileSync('mount', ['--make-shared', volumes]);
    return await body(scratch);
  } finally {
    execFileSync('umount', ['--recursive', '--lazy', volumes], { stdio: 'ignore' });
    rmSync(scratch, { recursive: true, force: true });
  }
}
