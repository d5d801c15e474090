/**
 * Runs an injected pod on this machine in the order of a kubelet: init containers one after the other (a native sidecar counts
 * as started when its startup probe, or the hook at its start, succeeds), then the containers; when those have ended, the sidecars
 * are stopped in reverse order. Only what a play needs of a pod is known here; what it cannot honour is refused with the field's
 * path.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { UserError } from '../../lib/errors.ts';
import { type Bind, execIn, startContainer } from './container.ts';

/** The parts of a Pod that are read; everything else is left alone. */
export interface PlayPod {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly initContainers?: readonly PlayContainer[];
    readonly containers: readonly PlayContainer[];
    readonly volumes?: readonly PlayVolume[];
    readonly terminationGracePeriodSeconds?: number;
  };
}

export interface PlayContainer {
  readonly name: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly restartPolicy?: string;
  readonly startupProbe?: {
    readonly exec?: { readonly command: readonly string[] };
    readonly failureThreshold?: number;
    readonly timeoutSeconds?: number;
  };
  readonly lifecycle?: { readonly postStart?: { readonly exec?: { readonly command: readonly string[] } } };
  readonly volumeMounts?: readonly {
    readonly name: string;
    readonly mountPath: string;
    readonly subPath?: string;
    readonly readOnly?: boolean;
  }[];
}

export interface PlayVolume {
  readonly name: string;
  readonly emptyDir?: object;
  readonly secret?: { readonly secretName: string };
  readonly downwardAPI?: {
    readonly items?: readonly { readonly path: string; readonly fieldRef?: { readonly fieldPath: string } }[];
  };
}

export interface PlayOptions {
  /** Scratch folder; everything the pod needs of the machine lies in it, and it is removed by the caller. */
  readonly scratch: string;
  /** Command that stands for the entry point of Juicepod's image. */
  readonly entrypoint: readonly string[];
  /** Data of the Secrets, by name. */
  readonly secrets: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** True where an ordinary user runs; sidecars then live outside of the containers' namespaces. */
  readonly ordinaryUser: boolean;
  /** A line of a container's output, or (container undefined) of the play itself. */
  readonly say: (container: string | undefined, line: string) => void;
  readonly signal: AbortSignal;
}

/** A sidecar that does not end in time is killed after so many seconds beyond the pod's grace period. */
const EXTRA_SECONDS = 5;
/** Within this time a sidecar must serve. */
export const START_SECONDS = 120;
/** One call of a startup probe, or of a hook. */
const ATTEMPT_MS = 1000;
const PROBE_MS = 20;

interface Running {
  readonly container: PlayContainer;
  readonly child: ChildProcess;
  readonly ended: Promise<number>;
}

/** Makes the pod's volumes below `scratch/volumes`; answers each one's folder. */
function makeVolumes(pod: PlayPod, { scratch, secrets }: Pick<PlayOptions, 'scratch' | 'secrets'>): ReadonlyMap<string, string> {
  const folders = new Map<string, string>();
  for (const volume of pod.spec.volumes ?? []) {
    const folder = join(scratch, 'volumes', volume.name);
    mkdirSync(folder, { recursive: true });
    folders.set(volume.name, folder);
    if (volume.secret) {
      const data = secrets.get(volume.secret.secretName);
      if (!data)
        throw new UserError(
          'SecretMissing',
          `spec.volumes[${volume.name}]: there is no Secret ${volume.secret.secretName} among the files`,
        );
      for (const [key, value] of Object.entries(data)) writeFileSync(join(folder, key), value, { mode: 0o600 });
    } else if (volume.downwardAPI) {
      for (const { path, fieldRef } of volume.downwardAPI.items ?? [])
        writeFileSync(join(folder, path), fieldOf(pod, fieldRef?.fieldPath ?? ''));
    } else if (!volume.emptyDir) {
      throw new UserError(
        'VolumeUnsupported',
        `spec.volumes[${volume.name}]: play knows emptyDir, secret and downwardAPI volumes only`,
      );
    }
  }
  return folders;
}

function fieldOf(pod: PlayPod, path: string): string {
  const annotation = /^metadata\.annotations\['(.+)'\]$/.exec(path)?.[1];
  if (annotation !== undefined) return pod.metadata.annotations?.[annotation] ?? '';
  if (path === 'metadata.name') return pod.metadata.name;
  if (path === 'metadata.namespace') return pod.metadata.namespace ?? 'default';
  throw new UserError('FieldUnsupported', `downwardAPI field ${path}: play knows annotations, name and namespace only`);
}

/** Runs the pod to its end. Answers the highest exit code of its containers. Everything it started has ended then. */
export async function runPod(pod: PlayPod, options: PlayOptions): Promise<number> {
  const volumes = makeVolumes(pod, options);
  const sidecars: Running[] = [];
  const begin = (container: PlayContainer): Running => start(container, volumes, options);
  try {
    for (const container of pod.spec.initContainers ?? []) {
      const running = begin(container);
      if (container.restartPolicy === 'Always') {
        sidecars.push(running);
        await started(running, options);
        continue;
      }
      const code = await finished([running], options);
      if (code !== 0) return code;
    }
    return await finished(pod.spec.containers.map(begin), options);
  } finally {
    const grace = (pod.spec.terminationGracePeriodSeconds ?? 30) + EXTRA_SECONDS;
    for (const sidecar of sidecars.toReversed()) await stop(sidecar, grace);
  }
}

function start(container: PlayContainer, volumes: ReadonlyMap<string, string>, options: PlayOptions): Running {
  const ours = container.name.startsWith('juicepod-');
  const command = [...(container.command ?? (ours ? options.entrypoint : [])), ...(container.args ?? [])];
  if (!ours && !container.command)
    throw new UserError('CommandMissing', `spec.containers[${container.name}].command is missing`, {
      hint: 'play runs programs of this machine instead of the image, so each container must say its command.',
    });
  const binds: Bind[] = (container.volumeMounts ?? []).map(({ name, mountPath, subPath, readOnly }) => {
    const folder = volumes.get(name);
    if (folder === undefined)
      throw new UserError(
        'VolumeMissing',
        `${container.name}: volumeMounts names the volume ${name}, which the pod does not have`,
      );
    return { source: subPath ? join(folder, subPath) : folder, target: mountPath, readOnly: readOnly === true };
  });
  const env = Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value ?? '']));
  const root = join(options.scratch, 'roots', container.name);
  mkdirSync(root, { recursive: true });
  const child = startContainer({ name: container.name, command, env, binds, root, userNamespace: options.ordinaryUser });
  for (const stream of [child.stdout, child.stderr])
    if (stream) createInterface({ input: stream }).on('line', (line) => options.say(container.name, line));
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('close', (code) => resolve(code ?? 137));
  });
  return { container, child, ended };
}

/** Waits until the startup probe of a sidecar, or the hook at its start, succeeds. */
async function started(running: Running, { signal }: PlayOptions): Promise<void> {
  const { container, child, ended } = running;
  const probe = (container.startupProbe ?? container.lifecycle?.postStart)?.exec?.command;
  if (!probe) return;
  const { failureThreshold = START_SECONDS, timeoutSeconds = 1 } = container.startupProbe ?? {};
  const deadline = performance.now() + failureThreshold * timeoutSeconds * 1000;
  let gone = false;
  void ended.then(() => (gone = true));
  // The probe waits by itself; but begun before the container's mounts were made it would wait in the wrong place.
  while (!(await execIn(child, probe, ATTEMPT_MS))) {
    signal.throwIfAborted();
    if (gone) throw new UserError('SidecarEnded', `${container.name} ended before it was ready; its last lines are above`);
    if (performance.now() > deadline)
      throw new UserError('SidecarNotReady', `${container.name} was not ready in time; its last lines are above`);
    await new Promise((resolve) => setTimeout(resolve, PROBE_MS));
  }
}

/** Waits for containers to end; an abort ends them. */
async function finished(all: readonly Running[], { signal }: PlayOptions): Promise<number> {
  const end = (): void => {
    for (const { child } of all) signalGroup(child, 'SIGTERM');
  };
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  const codes = await Promise.all(all.map(({ ended }) => ended));
  signal.removeEventListener('abort', end);
  return Math.max(...codes);
}

async function stop({ child, ended }: Running, seconds: number): Promise<void> {
  child.kill('SIGTERM');
  const timer = setTimeout(() => signalGroup(child, 'SIGKILL'), seconds * 1000);
  await ended;
  clearTimeout(timer);
}

/** A container's whole process group, as ending its namespace would. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // It has ended already.
  }
}
