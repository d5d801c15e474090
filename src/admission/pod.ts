/**
 * A raw pod, read without changing it. The object stays what the API server sent: fields that nobody here knows survive
 * because nothing is decoded into types and written back. Whatever the object holds, reading does not throw: what has the
 * wrong shape is taken as absent (the API server refuses such pods itself).
 */
import { type Json, listOf, mapOf, textOf } from '../lib/json.ts';

export type ContainerList = 'initContainers' | 'containers';

/** A volume mount of a container. */
export interface Mount {
  /** Position in the container's volumeMounts. */
  readonly index: number;
  readonly volume: string;
  /** As Kubernetes understands it: without a slash at the end, without `//` and `/./`. */
  readonly path: string;
  readonly raw: Json;
}

/** A container or init container. */
export interface Container {
  readonly list: ContainerList;
  /** Position in that list. */
  readonly index: number;
  readonly name: string;
  readonly raw: Json;
  readonly mounts: readonly Mount[];
}

/** What is looked at in a pod. */
export interface Pod {
  readonly raw: Json;
  readonly metadata: Json;
  readonly annotations: Json;
  readonly labels: Json;
  readonly spec: Json;
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly { readonly index: number; readonly name: string; readonly raw: Json }[];
}

function plainPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  return `/${parts.join('/')}`;
}

function mountsOf(container: Json): readonly Mount[] {
  return listOf(container['volumeMounts']).map((entry, index) => {
    const raw = mapOf(entry);
    return { index, volume: textOf(raw['name']) ?? '', path: plainPath(textOf(raw['mountPath']) ?? ''), raw };
  });
}

function containersOf(spec: Json, list: ContainerList): readonly Container[] {
  return listOf(spec[list]).map((entry, index) => {
    const raw = mapOf(entry);
    return { list, index, name: textOf(raw['name']) ?? '', raw, mounts: mountsOf(raw) };
  });
}

/** Looks at a pod, or at the pod template of a workload. */
export function viewPod(object: unknown): Pod {
  const raw = mapOf(object);
  const metadata = mapOf(raw['metadata']);
  const spec = mapOf(raw['spec']);
  return {
    raw,
    metadata,
    annotations: mapOf(metadata['annotations']),
    labels: mapOf(metadata['labels']),
    spec,
    initContainers: containersOf(spec, 'initContainers'),
    containers: containersOf(spec, 'containers'),
    volumes: listOf(spec['volumes']).map((entry, index) => {
      const raw = mapOf(entry);
      return { index, name: textOf(raw['name']) ?? '', raw };
    }),
  };
}
