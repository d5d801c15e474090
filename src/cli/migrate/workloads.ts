/** Pods and workloads that use claims: the annotation that stands for them, and the patch that takes the claims out. Pure. */
import { podTemplates } from '../../admission/templates.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { annotations } from '../../api/group.ts';
import { idOf, metadataOf, nameOf, namespaceOf } from './sources.ts';

/** What stands for a claim. */
export interface ClaimTarget {
  /** As the annotation names it, from the claim's namespace. */
  readonly volume: string;
  /** Directory of the volume that the claim shows. */
  readonly directory: string;
  readonly readOnly: boolean;
  /** A JuiceCachePolicy in the claim's namespace, where it has one of its own. */
  readonly cachePolicy: string | undefined;
}

export interface WorkloadPatch {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** The value of juicepod.io/volumes. */
  readonly annotation: string;
  /** For `kubectl patch --type=strategic`; undefined where the object cannot be patched. */
  readonly patch: Json | undefined;
}

interface Entry {
  readonly name: string;
  readonly mountPath: string;
  readonly subPath: string;
  readonly readOnly: boolean;
  readonly cachePolicy: string | undefined;
  readonly containers: string[];
}

const joined = (...parts: readonly string[]): string =>
  parts
    .flatMap((part) => part.split('/'))
    .filter((part) => part !== '' && part !== '.')
    .join('/');

/** Compact where that says everything, else JSON (which is YAML). */
function annotationOf(
  entries: readonly Omit<Entry, 'containers'>[],
  containers: readonly (readonly string[] | undefined)[],
): string {
  const isPlain = entries.every(
    (entry, index) => entry.subPath === '' && entry.cachePolicy === undefined && containers[index] === undefined,
  );
  if (isPlain) return entries.map(({ name, mountPath, readOnly }) => `${name}=${mountPath}${readOnly ? ':ro' : ''}`).join(',');
  return JSON.stringify(
    entries.map(({ name, mountPath, subPath, readOnly, cachePolicy }, index) => ({
      name,
      mountPath,
      ...(subPath === '' ? {} : { subPath }),
      ...(readOnly ? { readOnly } : {}),
      ...(containers[index] === undefined ? {} : { containers: containers[index] }),
      ...(cachePolicy === undefined ? {} : { cachePolicy }),
    })),
  );
}

/** What a workload needs; undefined where it uses no claim that is known. */
export function migrateWorkload(
  workload: Json,
  claims: ReadonlyMap<string, ClaimTarget>,
): { readonly patch: WorkloadPatch; readonly todos: readonly string[] } | undefined {
  const kind = textOf(workload['kind']) ?? '';
  const path = podTemplates[kind] ?? [];
  const template = path.reduce<Json>((at, key) => mapOf(at[key]), workload);
  const spec = mapOf(template['spec']);
  const namespace = namespaceOf(workload);
  const who = `${kind} ${idOf(workload)}`;
  const todos: string[] = [];
  const used = new Map<string, { readonly target: ClaimTarget; readonly readOnly: boolean }>();
  for (const entry of listOf(spec['volumes'])) {
    const volume = mapOf(entry);
    const claim = mapOf(volume['persistentVolumeClaim']);
    const target = claims.get(`${namespace}/${textOf(claim['claimName']) ?? ''}`);
    if (target) used.set(textOf(volume['name']) ?? '', { target, readOnly: claim['readOnly'] === true });
  }
  for (const entry of listOf(mapOf(workload['spec'])['volumeClaimTemplates'])) {
    const claim = nameOf(mapOf(entry));
    if ([...claims.keys()].some((id) => id.startsWith(`${namespace}/${claim}-${nameOf(workload)}-`)))
      todos.push(
        `${who} makes a claim for each pod (volumeClaimTemplates ${claim}): each pod has a directory of its own, which one annotation cannot name; make a StatefulSet without it that mounts the directories' parent, or one Deployment for each`,
      );
  }
  if (used.size === 0)
    return todos.length > 0
      ? { patch: { kind, namespace, name: nameOf(workload), annotation: '', patch: undefined }, todos }
      : undefined;

  const lists = ['initContainers', 'containers'] as const;
  const all = lists.flatMap((list) => listOf(spec[list]).map((one) => nameOf({ metadata: mapOf(one) })));
  const entries: Entry[] = [];
  const cut: Record<(typeof lists)[number], Json[]> = { initContainers: [], containers: [] };
  for (const list of lists)
    for (const one of listOf(spec[list])) {
      const container = mapOf(one);
      const name = textOf(container['name']) ?? '';
      const removed: Json[] = [];
      for (const each of listOf(container['volumeMounts'])) {
        const mount = mapOf(each);
        const use = used.get(textOf(mount['name']) ?? '');
        if (!use) continue;
        const mountPath = textOf(mount['mountPath']) ?? '';
        removed.push({ mountPath, $patch: 'delete' });
        if (mount['subPathExpr'] !== undefined)
          todos.push(
            `${who}, container ${name}: subPathExpr ${JSON.stringify(mount['subPathExpr'])} has no counterpart; the whole claim is mounted on ${mountPath}: use the path below it`,
          );
        const { target } = use;
        const wanted = {
          name: target.volume,
          mountPath: `/${joined(mountPath)}`,
          subPath: joined(target.directory, textOf(mount['subPath']) ?? ''),
          readOnly: target.readOnly || use.readOnly || mount['readOnly'] === true,
          cachePolicy: target.cachePolicy,
        };
        const same = entries.find(
          (entry) => JSON.stringify({ ...entry, containers: undefined }) === JSON.stringify({ ...wanted, containers: undefined }),
        );
        if (same) same.containers.push(name);
        else entries.push({ ...wanted, containers: [name] });
      }
      if (removed.length > 0) cut[list].push({ name, volumeMounts: removed });
    }
  const containers = entries.map((entry) => (entry.containers.length === all.length ? undefined : entry.containers));
  const annotation = annotationOf(entries, containers);
  const policies = new Set(entries.map((entry) => entry.cachePolicy));
  if (policies.size > 1)
    todos.push(`${who}: its claims have different mount options, but a pod has one client: leave cachePolicy in one entry`);
  if (entries.length === 0) todos.push(`${who} names a claim and mounts it in no container; take the volume out`);

  const changes = {
    metadata: { annotations: { [annotations.volumes]: annotation } },
    spec: {
      volumes: [...used.keys()].map((name) => ({ name, $patch: 'delete' })),
      ...Object.fromEntries(lists.filter((list) => cut[list].length > 0).map((list) => [list, cut[list]])),
    },
  };
  const isFixed = kind === 'Pod' || kind === 'Job';
  if (isFixed)
    todos.push(
      `${who} cannot be changed while it is there: create it anew with the annotation ${annotations.volumes}: ${annotation} and without the claim`,
    );
  const patch = isFixed ? undefined : path.toReversed().reduce<Json>((inner, key) => ({ [key]: inner }), changes);
  return { patch: { kind, namespace, name: textOf(metadataOf(workload)['name']) ?? '', annotation, patch }, todos };
}
