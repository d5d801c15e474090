/** Pods and Jobs of the scenarios: applications that know nothing of juicepod but one annotation. */
import { apply, get, kubectl, tryKubectl, until, type Ran } from './kubectl.ts';

interface ContainerStatus {
  readonly name: string;
  readonly image: string;
  readonly imageID: string;
  readonly containerID?: string;
  readonly restartCount: number;
  readonly ready: boolean;
  readonly state: { readonly running?: object; readonly terminated?: { readonly exitCode: number } };
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly restartPolicy?: string;
}

export interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly nodeName?: string;
    readonly initContainers?: readonly Container[];
    readonly containers: readonly Container[];
  };
  readonly status: {
    readonly phase: string;
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

export interface Application {
  readonly name: string;
  readonly namespace: string;
  readonly image: string;
  readonly command: readonly string[];
  /** The value of `juicepod.io/volumes`; without one the pod is none of ours. */
  readonly volumes?: string;
  /** Merged into the pod's spec. */
  readonly spec?: object;
}

/** Does nothing until it is told to end, and then ends at once; `sleep` alone ignores TERM as a container's first process. */
export const idle: readonly string[] = ['sh', '-c', 'trap "exit 0" TERM; sleep 86400 & wait'];

export const annotation = 'juicepod.io/volumes';
export const clientContainer = 'juicepod-client';
export const holderContainer = 'juicepod-holder';

function template(application: Application): { metadata: object; spec: object } {
  const { volumes, image, command, spec } = application;
  return {
    metadata: { labels: { app: application.name }, ...(volumes !== undefined && { annotations: { [annotation]: volumes } }) },
    spec: {
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 30,
      containers: [{ name: 'app', image, command }],
      ...spec,
    },
  };
}

export function podOf(application: Application): object {
  const { metadata, spec } = template(application);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: application.name, namespace: application.namespace, ...metadata },
    spec,
  };
}

export function jobOf(application: Application): object {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: application.name, namespace: application.namespace },
    spec: { backoffLimit: 0, template: template(application) },
  };
}

/** Creates the pod and waits until all its containers are ready. */
export async function startPod(application: Application): Promise<Pod> {
  const { name, namespace } = application;
  await apply(podOf(application));
  await kubectl(['wait', '--for=condition=Ready', `pod/${name}`, `--namespace=${namespace}`, '--timeout=90s']);
  return await get<Pod>(namespace, 'pod', name);
}

/** What the API server answers to creating the pod; nothing is kept. */
export const tryCreate = (pod: object): Promise<Ran> =>
  tryKubectl(['create', '--dry-run=server', '--output=json', '-f', '-'], { input: JSON.stringify(pod) });

/** Runs a command in the application's container; resolves with its standard output. */
export async function inside(pod: Pod, command: readonly string[], input?: NodeJS.ReadableStream): Promise<string> {
  const { name, namespace } = pod.metadata;
  const args = ['exec', ...(input ? ['--stdin'] : []), `--namespace=${namespace}`, name, '--container=app', '--', ...command];
  return await kubectl(args, { ...(input && { input }), seconds: 300 });
}

export const shell = (pod: Pod, script: string): Promise<string> => inside(pod, ['sh', '-euc', script]);

/** Deletes the pod and waits until it is gone. */
export async function deletePod(pod: Pod, seconds = 60): Promise<void> {
  const { name, namespace } = pod.metadata;
  await kubectl(['delete', 'pod', name, `--namespace=${namespace}`, `--timeout=${seconds}s`], { seconds: seconds + 10 });
}

export async function statusOf(pod: Pod, container: string): Promise<ContainerStatus> {
  const { status } = await get<Pod>(pod.metadata.namespace, 'pod', pod.metadata.name);
  const found = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])].find(
    ({ name }) => name === container,
  );
  if (!found) throw new Error(`pod ${pod.metadata.name} has no container ${container}`);
  return found;
}

/** Waits until the pod's containers have all ended, and says with what exit code the application did. */
export async function exitCode(pod: Pod, seconds: number): Promise<number> {
  const { name, namespace } = pod.metadata;
  await until(`pod ${name} has ended`, seconds, async () => {
    const { status } = await get<Pod>(namespace, 'pod', name);
    return status.phase === 'Succeeded' || status.phase === 'Failed';
  });
  return (await statusOf(pod, 'app')).state.terminated?.exitCode ?? -1;
}
