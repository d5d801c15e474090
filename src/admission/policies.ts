/**
 * Why a pod is left alone or refused: lists of one-line policies, each a pure function from what was read to a violation
 * or nothing; the first violation of a list is the answer. A message names what was found and what to do, in one sentence.
 *
 * Host-network pods are accepted: the sidecar binds no port, talks over a unix socket in an emptyDir, and its mounts are
 * in the pod's own directories; nothing of it depends on the network namespace.
 */
import { labels } from '../api/group.ts';
import type { JuiceVolume } from '../api/volume.ts';
import { parseQuantity } from '../api/units.ts';
import { isWithin, quote, referenceOf, type VolumeRequest } from '../api/annotation.ts';
import type { Mode } from './mode.ts';
import { CLIENT, HOLDER, isOurContainer, isOurVolume, PLATFORM_KEY, RUN_VOLUME, SYNC } from './names.ts';
import { listOf, mapOf, textOf } from '../lib/json.ts';
import { type Container, type Pod } from './pod.ts';
import { quantityOf } from './resources.ts';
import { matchesSelector } from './selector.ts';
import type { Cluster, Settings } from './settings.ts';
import { type Policy, type Violation, when } from './violation.ts';

// ------------------------------------------------------------------------------------------------- pods to leave alone

export interface PodInput {
  readonly pod: Pod;
  readonly namespace: string;
  readonly cluster: Cluster;
  readonly settings: Settings;
}

const namespaceLabel = ({ cluster, namespace }: PodInput, label: string): string | undefined =>
  cluster.namespaceLabels(namespace)?.[label];

export const leaveAlone: readonly Policy<PodInput>[] = [
  // The kubelet's copy of a static pod: the API server only shows it, changing it has no effect.
  ({ pod }) =>
    when('kubernetes.io/config.mirror' in pod.annotations, 'MirrorPod', () => 'the pod mirrors a static pod of a node'),
  ({ pod }) => when(pod.labels[labels.inject] === 'false', 'PodOptedOut', () => `the pod is labelled ${labels.inject}=false`),
  (input) =>
    when(
      namespaceLabel(input, labels.injection) === 'disabled',
      'NamespaceOptedOut',
      () => `namespace ${quote(input.namespace)} is labelled ${labels.injection}=disabled`,
    ),
];

// ------------------------------------------------------------------------------------------------------ pods to refuse

const isWindows = ({ spec }: Pod): boolean =>
  mapOf(spec['os'])['name'] === 'windows' ||
  ['kubernetes.io/os', 'beta.kubernetes.io/os'].some((label) => mapOf(spec['nodeSelector'])[label] === 'windows');

const COMMANDS: Readonly<Record<string, string>> = { [HOLDER]: 'hold', [CLIENT]: 'mount', [SYNC]: 'sync-sidecar' };

/** Ours is told from somebody else's by what it runs and by our socket's volume; a name alone proves nothing. */
function isOurs(container: Container): boolean {
  const args = container.raw['args'];
  return (
    container.list === 'initContainers' &&
    Array.isArray(args) &&
    args[0] === COMMANDS[container.name] &&
    container.mounts.some((mount) => mount.volume === RUN_VOLUME)
  );
}

const foreignContainer = (pod: Pod): Container | undefined =>
  [...pod.initContainers, ...pod.containers].find((container) => isOurContainer(container.name) && !isOurs(container));

const isMap = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);

export const refusePod: readonly Policy<PodInput>[] = [
  // The API server would refuse it too, but only after a patch that does not fit it has failed with a worse message.
  ({ pod }) =>
    when(
      !isMap(pod.raw['spec']) ||
        [...listOf(pod.spec['containers']), ...listOf(pod.spec['initContainers'])].some((container) => !isMap(container)),
      'PodInvalid',
      () => 'the pod has no spec, or a container that is not a map; correct the manifest',
    ),
  ({ pod }) =>
    when(
      isWindows(pod),
      'WindowsPod',
      () => 'the pod runs on Windows, for which there is no client; remove the annotation, or run it on Linux nodes',
    ),
  ({ pod }) =>
    when(
      foreignContainer(pod) !== undefined,
      'ContainerNameTaken',
      () =>
        `the pod has a container of its own named ${quote(foreignContainer(pod)?.name ?? '')}; that name is Juicepod's, rename it`,
    ),
  ({ pod }) => {
    const order = [HOLDER, CLIENT, SYNC].map((name) => pod.initContainers.findIndex((container) => container.name === name));
    const there = order.filter((index) => index >= 0);
    return when(
      there.some((index, at) => index < (there[at - 1] ?? -1)),
      'OrderChanged',
      () =>
        `another webhook changed the order of ${there.map((index) => quote(pod.initContainers[index]?.name ?? '')).join(', ')}, so no volume could be served; exclude one of the two webhooks`,
    );
  },
];

/** The sidecars of one mode cannot be taken out again where the next call finds that the pod needs the other. */
export function modeChanged(pod: Pod, modes: ReadonlySet<Mode>): Violation | undefined {
  const has = (name: string): boolean => pod.initContainers.some((container) => container.name === name);
  const other =
    !modes.has('fuse') && (has(HOLDER) || has(CLIENT)) ? 'fuse' : !modes.has('sync') && has(SYNC) ? 'sync' : undefined;
  return when(
    other !== undefined,
    'ModeChanged',
    () =>
      `the pod was injected for mode ${other}, and since then another webhook changed where it runs; say so beforehand: mode in the annotation, or the label ${PLATFORM_KEY} on the namespace`,
  );
}

// ---------------------------------------------------------------------------------------------------- volumes to refuse

export interface RequestInput extends PodInput {
  readonly request: VolumeRequest;
  /** The request's volume, where it exists. */
  readonly volume: JuiceVolume | undefined;
  /** Containers that are to see the volume, in the order of the pod. */
  readonly targets: readonly Container[];
}

const shown = ({ request }: RequestInput): string => quote(referenceOf(request));
const homeOf = ({ request, namespace }: RequestInput): string => request.namespace ?? namespace;

/** Whether pods of a namespace may use a volume. */
function isAllowed(volume: JuiceVolume, namespace: string, labelsOf: Cluster['namespaceLabels']): boolean {
  const home = volume.metadata.namespace ?? 'default';
  const { from, selector } = volume.spec.access.allowedNamespaces;
  if (home === namespace || from === 'All') return true;
  const found = labelsOf(namespace);
  return from === 'Selector' && selector !== undefined && found !== undefined && matchesSelector(selector, found);
}

function readyRefusal(input: RequestInput): string {
  const ready = input.volume?.status?.conditions?.find((condition) => condition.type === 'Ready');
  const look = `kubectl describe jv ${input.request.name} -n ${homeOf(input)}`;
  if (!ready) return `volume ${shown(input)} is not ready: the operator has not looked at it yet (is it running?); see ${look}`;
  return `volume ${shown(input)} is not ready: ${ready.reason}: ${ready.message.slice(0, 500)} (see ${look})`;
}

function unknownVolume(input: RequestInput): string {
  const home = homeOf(input);
  // Whether a volume of another namespace exists is told only to those who may use it.
  if (home !== input.namespace)
    return `there is no volume ${shown(input)} that pods of namespace ${quote(input.namespace)} may use; create the JuiceVolume, or add the namespace to its spec.access.allowedNamespaces`;
  const names = input.cluster.volumeNames(home);
  const others = names.length === 0 ? 'none' : names.slice(0, 5).join(', ') + (names.length > 5 ? ', …' : '');
  return `there is no volume ${shown(input)} in namespace ${quote(home)} (there: ${others}); create the JuiceVolume first, or write namespace/name`;
}

const isReady = (volume: JuiceVolume): boolean =>
  volume.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') === true;

function missingContainer({ pod, request }: RequestInput): string | undefined {
  const names = new Set([...pod.initContainers, ...pod.containers].map((container) => container.name));
  return request.containers?.find((name) => isOurContainer(name) || !names.has(name));
}

/** A container that has something else on the request's path, and what. */
function occupied({ targets, request }: RequestInput): { container: Container; what: string } | undefined {
  for (const container of targets) {
    const mount = container.mounts.find((one) => one.path === request.mountPath && !isOurVolume(one.volume));
    if (mount) return { container, what: `volume ${quote(mount.volume)}` };
    const devices = container.raw['volumeDevices'];
    const device = (Array.isArray(devices) ? devices : []).find((one) => mapOf(one)['devicePath'] === request.mountPath);
    if (device) return { container, what: `device ${quote(textOf(mapOf(device)['name']) ?? '')}` };
  }
  return undefined;
}

export const refuseRequest: readonly Policy<RequestInput>[] = [
  (input) =>
    when(
      input.volume === undefined || !isAllowed(input.volume, input.namespace, (name) => input.cluster.namespaceLabels(name)),
      // The reason too tells those of another namespace nothing: kubectl, metrics and the audit log show it.
      homeOf(input) === input.namespace ? 'VolumeNotFound' : 'NamespaceNotAllowed',
      () => unknownVolume(input),
    ),
  (input) =>
    when(
      input.volume?.metadata.deletionTimestamp !== undefined,
      'VolumeDeleted',
      () => `volume ${shown(input)} is being deleted; wait until it is gone and create it again, or use another`,
    ),
  (input) => when(input.volume !== undefined && !isReady(input.volume), 'VolumeNotReady', () => readyRefusal(input)),
  (input) =>
    when(
      !input.settings.localVolumes &&
        (input.volume?.spec.metadata.sqlite !== undefined || input.volume?.spec.storage.file !== undefined),
      'VolumeIsLocal',
      () =>
        `volume ${shown(input)} lives in files of one machine (spec.metadata.sqlite or spec.storage.file), which pods cannot reach; use a database server and S3`,
    ),
  (input) =>
    when(
      input.volume?.spec.access.readOnly === true && !input.request.readOnly,
      'VolumeReadOnly',
      () =>
        `volume ${shown(input)} may only be read (spec.access.readOnly); write ${referenceOf(input.request)}=${input.request.mountPath}:ro, or readOnly: true`,
    ),
  (input) => {
    const { request, cluster, namespace } = input;
    return when(
      request.cachePolicy !== undefined && cluster.policy(namespace, request.cachePolicy) === undefined,
      'CachePolicyNotFound',
      () =>
        `there is no JuiceCachePolicy ${quote(request.cachePolicy ?? '')} in namespace ${quote(namespace)}; create it, or leave cachePolicy out`,
    );
  },
  (input) => {
    const { volume, namespace, settings } = input;
    const image = volume?.spec.client.image;
    return when(
      image !== undefined &&
        volume?.metadata.namespace !== namespace &&
        !settings.allowedImages.some((prefix) => image.startsWith(prefix)),
      'ImageNotAllowed',
      () =>
        `volume ${shown(input)} asks for the client image ${quote(image ?? '', 120)}, which the administrator does not allow in other namespaces (--allow-image)`,
    );
  },
  (input) => {
    const missing = missingContainer(input);
    return when(
      missing !== undefined,
      'ContainerNotFound',
      () =>
        `volume ${shown(input)} is for container ${quote(missing ?? '')}, which the pod does not have; it has ${[
          ...input.pod.initContainers,
          ...input.pod.containers,
        ]
          .map((container) => container.name)
          .filter((name) => !isOurContainer(name))
          .join(', ')}`,
    );
  },
  ({ request, targets }) => {
    const early = request.containers?.find((name) => targets.every((container) => container.name !== name));
    return when(
      early !== undefined,
      'OrderChanged',
      () =>
        `init container ${quote(early ?? '')} stands before Juicepod's sidecars (another webhook put it there, or a mesh's proxy must come between), so it would see no volume; leave it out of containers, or change the order of the webhooks`,
    );
  },
  (input) => {
    const found = occupied(input);
    return when(
      found !== undefined,
      'PathTaken',
      () =>
        `volume ${shown(input)} is to be mounted on ${quote(input.request.mountPath)}, where container ${quote(found?.container.name ?? '')} already mounts ${found?.what}; choose another path, or name other containers`,
    );
  },
];

/** Mounts of a container that lie above or below a request's path: they work, mostly, so they only earn a warning. */
export function nested({ targets, request }: Pick<RequestInput, 'targets' | 'request'>): string | undefined {
  for (const container of targets)
    for (const mount of container.mounts) {
      if (isOurVolume(mount.volume) || !isWithin(mount.path, request.mountPath)) continue;
      return `container ${quote(container.name)} mounts ${quote(mount.path)} inside volume ${quote(referenceOf(request))} on ${quote(request.mountPath)}: an entry for it is made in the volume${request.readOnly ? ', which fails as it is read-only, unless it is there' : ''}`;
    }
  return undefined;
}

// ----------------------------------------------------------------------------------------------------- the whole client

export interface ClientInput {
  readonly limits: Readonly<Record<string, unknown>>;
  readonly bufferSize: string | number;
  /** Size of the cache where it lies in memory. */
  readonly memoryCache: string | number | undefined;
}

export const refuseClient: readonly Policy<ClientInput>[] = [
  ({ limits, bufferSize, memoryCache }) => {
    const limit = quantityOf(limits['memory']);
    const need = parseQuantity(bufferSize) + (memoryCache === undefined ? 0 : parseQuantity(memoryCache));
    return when(
      limit !== undefined && need >= limit,
      'MemoryLimit',
      () =>
        `the client may use ${String(limits['memory'])} of memory (spec.client.resources of the volume), but the cache policy gives ${String(bufferSize)} to the buffer${memoryCache === undefined ? '' : ` and ${String(memoryCache)} to a cache in memory`}; raise the limit or lower the sizes`,
    );
  },
];
