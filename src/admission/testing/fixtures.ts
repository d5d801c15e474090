/** Volumes, policies and pods for tests and benchmarks of the admission. */
import { parseJuiceCachePolicy, parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceCachePolicy } from '../../api/cachepolicy.ts';
import { API_VERSION } from '../../api/group.ts';
import { parsePlan } from '../../api/plan.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { applyPatch } from 'rfc6902';
import type { LimitRange } from '../limits.ts';
import { patchPod, type Operation } from '../patch.ts';
import { planPod, type Decision } from '../plan.ts';
import { type Cluster, defaultSettings, type Settings } from '../settings.ts';
import type { SidecarInput } from '../sidecar.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A volume that is ready; `spec` is laid over a small valid one. */
export function volume(name: string, spec: Fields = {}, namespace = 'default', status?: Fields): JuiceVolume {
  const parsed = parseJuiceVolume({
    apiVersion: API_VERSION,
    kind: 'JuiceVolume',
    metadata: { name, namespace },
    spec: {
      volumeName: 'volume',
      metadata: { redis: { addresses: ['redis.storage:6379'] } },
      storage: { s3: { bucket: 'bytes', endpoint: 'http://s3.storage:9000' } },
      ...spec,
    },
  });
  const ready = { type: 'Ready', status: 'True', reason: 'Succeeded', message: '', lastTransitionTime: '2026-01-01T00:00:00Z' };
  return { ...parsed, status: status ?? { conditions: [ready] } };
}

/** A volume whose Ready condition is False. */
export function unready(name: string, reason: string, message: string): JuiceVolume {
  const ready = { type: 'Ready', status: 'False', reason, message, lastTransitionTime: '2026-01-01T00:00:00Z' };
  return volume(name, {}, 'default', { conditions: [ready] });
}

export function policy(name: string, spec: Fields = {}, namespace = 'default'): JuiceCachePolicy {
  return parseJuiceCachePolicy({ apiVersion: API_VERSION, kind: 'JuiceCachePolicy', metadata: { name, namespace }, spec });
}

/** Caches with exactly these objects. */
export function cluster(
  volumes: readonly JuiceVolume[] = [],
  policies: readonly JuiceCachePolicy[] = [],
  namespaces: Readonly<Record<string, Readonly<Record<string, string>>>> = { default: {} },
  ranges: readonly LimitRange[] = [],
): Cluster {
  const find = <T extends { readonly metadata: { readonly name: string; readonly namespace?: string | undefined } }>(
    all: readonly T[],
    namespace: string,
    name: string,
  ): T | undefined => all.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
  return {
    volume: (namespace, name) => find(volumes, namespace, name),
    policy: (namespace, name) => find(policies, namespace, name),
    namespaceLabels: (name) => namespaces[name],
    limitRanges: () => ranges,
    volumeNames: (namespace) =>
      volumes.filter(({ metadata }) => metadata.namespace === namespace).map(({ metadata }) => metadata.name),
  };
}

/** A pod with one container, or those given in `spec`. */
export function pod(volumes: string | undefined, spec: Fields = {}, metadata: Fields = {}): Fields {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'app',
      namespace: 'default',
      ...(volumes === undefined ? {} : { annotations: { 'juicepod.io/volumes': volumes } }),
      ...metadata,
    },
    spec: { containers: [{ name: 'main', image: 'busybox' }], ...spec },
  };
}

export interface Admitted {
  readonly decision: Decision;
  readonly operations: readonly Operation[];
  /** The pod with the operations applied; the pod itself where there are none. */
  readonly result: Fields;
}

/** Decides, and applies the patch as the API server would. Throws where an operation cannot be applied. */
export function admit(
  object: Fields,
  inside: Cluster,
  options: { readonly settings?: Partial<Settings>; readonly namespace?: string } = {},
): Admitted {
  const settings = { ...defaultSettings, ...options.settings };
  const decision = planPod({ pod: object, namespace: options.namespace ?? 'default', cluster: inside, settings });
  if (decision.action !== 'inject') return { decision, operations: [], result: object };
  const operations = patchPod(decision.pod, decision.injection);
  const result = structuredClone(object);
  const failed = applyPatch(result, structuredClone(operations) as Operation[]).find((error) => error !== null);
  if (failed) throw new Error(`the patch does not fit the pod: ${failed.message}`);
  return { decision, operations, result };
}

/** What the sidecars of a pod with these mounts are made of, by default in all else. */
export function containerInput(mounts: readonly object[]): SidecarInput {
  return {
    settings: defaultSettings,
    image: '',
    plan: parsePlan(JSON.stringify({ version: 1, mounts })),
    secrets: [],
    memoryCache: false,
    clientResources: {},
    holderResources: {},
  };
}
