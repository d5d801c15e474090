/**
 * What `juicepod analyze` looks at, read once from the cluster as the user who runs it. Reading never fails: what is not there, or may
 * not be read by this user, says so. Nothing is changed; the one request that looks like a change is a dry run.
 */
import { parseVolumes, type VolumeRequest } from '../../api/annotation.ts';
import { isOurContainer } from '../../admission/names.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import type { JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { annotations, GROUP } from '../../api/group.ts';
import { JuiceCachePolicies, JuiceVolumes } from '../../api/kinds.ts';
import { mountSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { ApiError, isNotFound } from '../../kube/errors.ts';
import {
  CoreEvents,
  Deployments,
  EndpointSlices,
  Leases,
  MutatingWebhookConfigurations,
  Namespaces,
  Pods,
  Secrets,
} from '../../kube/resources.ts';
import type { KubeClient, KubeObject, ObjectRef, Resource } from '../../kube/types.ts';

/** Something that was looked for. */
export type Found<T> =
  | { readonly state: 'found'; readonly value: T }
  | { readonly state: 'absent' }
  | { readonly state: 'unknown'; readonly why: string };

/** What became of the dry run of a small pod with the same annotation. */
export type Trial =
  | { readonly state: 'injected' }
  | { readonly state: 'untouched' }
  | { readonly state: 'refused'; readonly reason: string; readonly message: string }
  | { readonly state: 'unknown'; readonly why: string };

/** A pod that is there, or one that somebody wants: from a file, or the template of a workload. */
export interface Target {
  /** `Pod`, or the kind of the workload. */
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly pod: Json;
  /** True where the pod itself is in the cluster, so that it has a state. */
  readonly exists: boolean;
  /** Annotations of a workload itself, which are not those of its pods. */
  readonly ownAnnotations?: Json;
}

export interface Snapshot {
  readonly target: Target;
  /** Where operator and webhook are installed. */
  readonly system: string;
  /** Now, milliseconds. */
  readonly now: number;
  readonly requests: readonly VolumeRequest[];
  /** Why the annotation could not be read. */
  readonly annotationError: string | undefined;
  readonly namespace: Found<Json>;
  readonly configuration: Found<Json>;
  /** Addresses of the webhook's Service that are ready. */
  readonly endpoints: Found<number>;
  readonly webhook: Found<Json>;
  readonly operator: Found<Json>;
  readonly lease: Found<Json>;
  /** By `namespace/name`. */
  readonly volumes: ReadonlyMap<string, Found<JuiceVolume>>;
  /** Names of the volumes of each namespace that was asked for. */
  readonly volumeNames: ReadonlyMap<string, readonly string[]>;
  readonly policies: ReadonlyMap<string, Found<JuiceCachePolicy>>;
  /** Mount Secrets in the pod's namespace, by the volume's `namespace/name`. */
  readonly secrets: ReadonlyMap<string, { readonly name: string; readonly found: Found<Json> }>;
  /** The pod's events, oldest first. */
  readonly events: Found<readonly Json[]>;
  readonly trial: Trial;
}

/** Turns what a read throws into what is known. Aborts go on. */
export async function found<T>(read: () => Promise<T | undefined>): Promise<Found<T>> {
  try {
    const value = await read();
    return value === undefined ? { state: 'absent' } : { state: 'found', value };
  } catch (error) {
    if (isNotFound(error)) return { state: 'absent' };
    if (!(error instanceof ApiError)) throw error;
    return { state: 'unknown', why: error.message };
  }
}

const asJson = (object: KubeObject | undefined): Json | undefined => object as unknown as Json | undefined;

/** A pod without an application: what counts for admission, and nothing that could hold it up. */
function trialPod({ pod, name, namespace }: Target): Json {
  const metadata = mapOf(pod['metadata']);
  const spec = mapOf(pod['spec']);
  const small = (list: unknown): Json[] =>
    listOf(list)
      .map((container) => textOf(mapOf(container)['name']) ?? '')
      .filter((container) => container !== '' && !isOurContainer(container))
      .map((container) => ({ name: container, image: 'busybox' }));
  const kept = Object.fromEntries(
    Object.entries(mapOf(metadata['annotations'])).filter(([key]) => key.startsWith(`${GROUP}/`) && key !== annotations.plan),
  );
  const places = ['nodeSelector', 'tolerations', 'runtimeClassName', 'schedulerName', 'hostUsers', 'os', 'serviceAccountName'];
  const initContainers = small(spec['initContainers']);
  return {
    metadata: {
      name: `${name.slice(0, 40).replace(/[^a-z0-9]+$/, '')}-juicepod-analyze`,
      namespace,
      labels: mapOf(metadata['labels']),
      annotations: kept,
    },
    spec: {
      ...Object.fromEntries(places.filter((key) => spec[key] !== undefined).map((key) => [key, spec[key]])),
      ...(initContainers.length > 0 ? { initContainers } : {}),
      containers: small(spec['containers']),
    },
  };
}

async function tryPod(client: KubeClient, target: Target, signal: AbortSignal): Promise<Trial> {
  const pod = trialPod(target) as { readonly metadata: { readonly name: string }; readonly [field: string]: unknown };
  try {
    const created = await client.resource(Pods).create(pod, { dryRun: true, signal });
    const spec = mapOf((created as unknown as Json)['spec']);
    const isOurs = listOf(spec['initContainers']).some((one) => (textOf(mapOf(one)['name']) ?? '').startsWith('juicepod-'));
    return { state: isOurs ? 'injected' : 'untouched' };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // That this user may not create pods, or that the server is away, says nothing about the webhook.
    if (error.code === 0 || /cannot create resource "pods"/.test(error.message)) return { state: 'unknown', why: error.message };
    return { state: 'refused', reason: error.reason, message: error.message };
  }
}

/** Reads everything about a pod that is wanted. */
export async function takeSnapshot(client: KubeClient, target: Target, system: string, signal: AbortSignal): Promise<Snapshot> {
  const get = (resource: Resource, ref: ObjectRef): Promise<Found<Json>> =>
    found(async () => asJson(await client.resource(resource).find(ref, signal)));
  const annotation = mapOf(mapOf(target.pod['metadata'])['annotations'])[annotations.volumes];
  let requests: readonly VolumeRequest[] = [];
  let annotationError: string | undefined;
  try {
    if (typeof annotation === 'string') requests = parseVolumes(annotation);
  } catch (error) {
    annotationError = error instanceof Error ? error.message : String(error);
  }

  const volumes = new Map<string, Found<JuiceVolume>>();
  const volumeNames = new Map<string, readonly string[]>();
  const policies = new Map<string, Found<JuiceCachePolicy>>();
  const secrets = new Map<string, { name: string; found: Found<Json> }>();
  const readPolicy = async (namespace: string, name: string): Promise<void> => {
    const key = `${namespace}/${name}`;
    if (policies.has(key)) return;
    const read = (): Promise<KubeObject | undefined> => client.resource(JuiceCachePolicies).find({ namespace, name }, signal);
    policies.set(key, await found(async () => (await read()) as unknown as JuiceCachePolicy | undefined));
  };
  for (const request of requests) {
    const home = request.namespace ?? target.namespace;
    const key = `${home}/${request.name}`;
    if (volumes.has(key)) continue;
    const read = (): Promise<KubeObject | undefined> =>
      client.resource(JuiceVolumes).find({ namespace: home, name: request.name }, signal);
    const volume: Found<JuiceVolume> = await found(async () => (await read()) as unknown as JuiceVolume | undefined);
    volumes.set(key, volume);
    if (!volumeNames.has(home)) {
      const names = await found(async () => await client.resource(JuiceVolumes).list({ namespace: home, limit: 100, signal }));
      volumeNames.set(home, names.state === 'found' ? names.value.items.map(({ metadata }) => metadata.name) : []);
    }
    if (request.cachePolicy !== undefined) await readPolicy(target.namespace, request.cachePolicy);
    if (volume.state === 'found' && volume.value.spec.cachePolicyRef)
      await readPolicy(home, volume.value.spec.cachePolicyRef.name);
    const name = mountSecretName(home, request.name, target.namespace);
    const bare = client.resource(Secrets).metadataOnly();
    secrets.set(key, {
      name,
      found: await found(async () => asJson(await bare.find({ namespace: target.namespace, name }, signal))),
    });
  }

  const slices = await found(async () =>
    client
      .resource(EndpointSlices)
      .list({ namespace: system, labelSelector: 'kubernetes.io/service-name=juicepod-webhook', signal }),
  );
  const uid = textOf(mapOf(target.pod['metadata'])['uid']);
  const events: Found<readonly Json[]> =
    target.exists && uid !== undefined
      ? await found(async () => {
          const listed = await client
            .resource(CoreEvents)
            .list({ namespace: target.namespace, fieldSelector: `involvedObject.uid=${uid}`, signal });
          return listed.items as unknown as readonly Json[];
        })
      : { state: 'absent' };
  return {
    target,
    system,
    now: Date.now(),
    requests,
    annotationError,
    namespace: await get(Namespaces, { name: target.namespace }),
    configuration: await get(MutatingWebhookConfigurations, { name: 'juicepod-webhook' }),
    endpoints:
      slices.state === 'found'
        ? { state: 'found', value: slices.value.items.reduce((sum, slice) => sum + readyAddresses(slice as unknown as Json), 0) }
        : slices,
    webhook: await get(Deployments, { namespace: system, name: 'juicepod-webhook' }),
    operator: await get(Deployments, { namespace: system, name: 'juicepod-operator' }),
    lease: await get(Leases, { namespace: system, name: 'juicepod-operator' }),
    volumes,
    volumeNames,
    policies,
    secrets,
    events,
    trial: typeof annotation === 'string' ? await tryPod(client, target, signal) : { state: 'unknown', why: 'not annotated' },
  };
}

const readyAddresses = (slice: Json): number =>
  listOf(slice['endpoints'])
    .map((endpoint) => mapOf(endpoint))
    .filter((endpoint) => mapOf(endpoint['conditions'])['ready'] !== false)
    .reduce((sum, endpoint) => sum + listOf(endpoint['addresses']).length, 0);
