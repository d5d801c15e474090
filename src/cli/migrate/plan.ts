/**
 * From objects of JuiceFS's CSI driver to what stands for them here. One JuiceVolume for each file system, however many Secrets, classes
 * and claims name it; the data is not touched: both drivers may have the volume mounted at once, so pods move one by one. Pure.
 */
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { API_VERSION } from '../../api/group.ts';
import { boundedName } from '../../api/names.ts';
import { type FileSystem, fileSystemOf, secretManifest, volumeManifest } from './filesystem.ts';
import { capacityOf, directoryLimit, otherAttributes, resourcesOf } from './limits.ts';
import { type Mapped, mapMountOptions } from './options.ts';
import {
  idOf,
  metadataOf,
  mountOptionsOf,
  nameOf,
  namespaceOf,
  secretOfClass,
  secretOfVolume,
  type Sources,
  textsOf,
} from './sources.ts';
import { type ClaimTarget, migrateWorkload, type WorkloadPatch } from './workloads.ts';

export interface Migration {
  /** To be applied, in this order. */
  readonly objects: readonly Json[];
  readonly workloads: readonly WorkloadPatch[];
  /** What a person has to do, in order. */
  readonly todos: readonly string[];
  /** What cannot be brought over, and why. */
  readonly obstacles: readonly string[];
  /** Mount options without counterpart, by where they stand. */
  readonly unsupported: readonly { readonly where: string; readonly option: string; readonly why: string }[];
}

/** As many limits of directories as a JuiceVolume may declare. */
const MAX_LIMITS = 256;

interface Use {
  readonly claim: Json;
  readonly volume: Json;
  readonly mapped: Mapped;
  readonly directory: string;
}

const csiOf = (volume: Json): Json => mapOf(mapOf(volume['spec'])['csi']);
const attributesOf = (volume: Json): Json => mapOf(csiOf(volume)['volumeAttributes']);

/** The PersistentVolume of a claim: the one it names, or one that names it. */
function volumeOf(claim: Json, volumes: readonly Json[]): Json | undefined {
  const named = textOf(mapOf(claim['spec'])['volumeName']);
  if (named !== undefined) return volumes.find((volume) => nameOf(volume) === named);
  return volumes.find((volume) => {
    const reference = mapOf(mapOf(volume['spec'])['claimRef']);
    return reference['name'] === nameOf(claim) && (reference['namespace'] ?? 'default') === namespaceOf(claim);
  });
}

/** What the PersistentVolumes of one file system say of it: limits of their directories, and resources of its clients. */
function declared(
  uses: readonly Use[],
  todos: string[],
): { readonly limits: readonly Json[]; readonly resources: Json | undefined } {
  const limits = new Map<string, Json>();
  let resources: Json | undefined;
  for (const { claim, volume, directory } of uses) {
    const bytes = capacityOf(volume);
    const limit = directoryLimit(directory, bytes);
    if (limit && (limits.has(directory) || limits.size < MAX_LIMITS)) limits.set(directory, limit);
    else if (bytes !== undefined && directory !== '')
      todos.push(
        `the limit of claim ${idOf(claim)} (directory ${directory}) cannot be declared; its quota stays in the volume as the driver set it`,
      );
    const wanted = resourcesOf(attributesOf(volume));
    resources ??= wanted;
    if (wanted && JSON.stringify(wanted) !== JSON.stringify(resources))
      todos.push(
        `PersistentVolume ${nameOf(volume)} gives its mount pod other resources than another one of the volume: see spec.client.resources`,
      );
  }
  // By path, whatever the order in which the claims were read: what is in Git shall not change without need.
  return { limits: [...limits].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, limit]) => limit), resources };
}

/** Makes the plan. With `values`, credentials are written into the Secrets that are printed. */
export function planMigration(sources: Sources, options: { readonly values: boolean }): Migration {
  const objects: Json[] = [];
  const workloads: WorkloadPatch[] = [];
  const todos: string[] = [];
  const obstacles: string[] = [];
  const unsupported: { where: string; option: string; why: string }[] = [];

  // Secrets of one file system, by its database and name; the first one speaks for it.
  const secrets = new Map(sources.secrets.map((secret) => [idOf(secret), secret]));
  const systems = new Map<string, { readonly system: FileSystem; readonly secret: string; readonly uses: Use[] }>();
  const systemOf = (secretId: string, who: string): { readonly uses: Use[] } | undefined => {
    const secret = secrets.get(secretId);
    if (!secret) {
      const message = `Secret ${secretId}, which ${who} names, is not among what was read: give it too (-f), or let it be read from the cluster`;
      if (!obstacles.includes(message)) obstacles.push(message);
      return undefined;
    }
    const texts = textsOf(secret);
    const key = JSON.stringify([texts['metaurl'] ?? secretId, texts['name']]);
    let known = systems.get(key);
    if (!known) systems.set(key, (known = { system: fileSystemOf(secret, secretId), secret: secretId, uses: [] }));
    return known;
  };

  for (const storageClass of sources.classes) {
    const secret = secretOfClass(storageClass);
    if (secret === undefined)
      todos.push(
        `StorageClass ${nameOf(storageClass)} names no Secret, or names it by a template: its volumes are found by their PersistentVolumes only`,
      );
    else systemOf(secret, `StorageClass ${nameOf(storageClass)}`);
    const template = textOf(mapOf(storageClass['parameters'])['pathPattern']);
    todos.push(
      `StorageClass ${nameOf(storageClass)} makes a directory for each new claim${template ? ` (pathPattern ${template})` : ''}; here a pod names the directory itself: subPath in its annotation`,
    );
  }

  const used = new Set<Json>();
  for (const claim of sources.claims) {
    const className = textOf(mapOf(claim['spec'])['storageClassName']);
    const volume = volumeOf(claim, sources.volumes);
    if (!volume) {
      const isOurs = sources.classes.some((each) => nameOf(each) === className);
      if (isOurs)
        todos.push(
          `claim ${idOf(claim)} has no PersistentVolume among what was read, so its directory is not known: read it from the cluster (kubectl get pv -o yaml)`,
        );
      continue;
    }
    used.add(volume);
    const secret = secretOfVolume(volume);
    if (secret === undefined) {
      obstacles.push(`PersistentVolume ${nameOf(volume)} names no nodePublishSecretRef, so its file system is not known`);
      continue;
    }
    const mapped = mapMountOptions(mountOptionsOf(volume));
    const subPath = (textOf(attributesOf(volume)['subPath']) ?? '').replace(/^\/+|\/+$/g, '');
    const directory = [mapped.subdir, subPath].filter((part) => part !== '').join('/');
    systemOf(secret, `PersistentVolume ${nameOf(volume)}`)?.uses.push({ claim, volume, mapped, directory });
  }
  for (const volume of sources.volumes) {
    if (used.has(volume)) continue;
    const secret = secretOfVolume(volume);
    if (secret !== undefined) systemOf(secret, `PersistentVolume ${nameOf(volume)}`);
    todos.push(`PersistentVolume ${nameOf(volume)} has no claim among what was read; nothing names its directory`);
  }

  const claims = new Map<string, ClaimTarget>();
  for (const { system, secret, uses } of systems.values()) {
    if (system.obstacle !== undefined) {
      obstacles.push(`file system ${system.name} (Secret ${secret}): ${system.obstacle}`);
      continue;
    }
    const namespaces = [...new Set(uses.map(({ claim }) => namespaceOf(claim)))].toSorted();
    // Where all who use it are, else where its Secret is.
    const home = namespaces.length === 1 ? (namespaces[0] ?? '') : secret.slice(0, secret.indexOf('/'));
    const guests = namespaces.filter((namespace) => namespace !== home);
    const { name } = system;
    const policies = [...new Set(uses.map(({ mapped }) => JSON.stringify(mapped.policy)))];
    const isShared = policies.length === 1 && policies[0] !== '{}';
    for (const [secretName, texts] of Object.entries(system.secrets)) {
      objects.push(secretManifest(home, secretName, texts, options.values));
      if (!options.values)
        todos.push(
          `fill in Secret ${home}/${secretName} (${Object.keys(texts).join(', ')}) from Secret ${secret}, or run this with --secrets`,
        );
    }
    const policyManifest = (namespace: string, policyName: string, spec: Json): Json => ({
      apiVersion: API_VERSION,
      kind: 'JuiceCachePolicy',
      metadata: { name: policyName, namespace },
      spec,
    });
    if (isShared) objects.push(policyManifest(home, name, JSON.parse(policies[0] ?? '{}') as Json));
    const { limits, resources } = declared(uses, todos);
    const { quota, ...spec } = system.spec;
    const selector = { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'In', values: guests }] };
    objects.push(
      volumeManifest(home, name, {
        ...spec,
        ...(quota !== undefined || limits.length > 0
          ? { quota: { ...mapOf(quota), ...(limits.length > 0 ? { directories: limits } : {}) } }
          : {}),
        ...(resources ? { client: { resources } } : {}),
        ...(guests.length > 0 ? { access: { allowedNamespaces: { from: 'Selector', selector } } } : {}),
        ...(isShared ? { cachePolicyRef: { name } } : {}),
      }),
    );
    todos.push(...system.todos.map((todo) => `volume ${name}: ${todo}`));
    for (const { claim, volume, mapped, directory } of uses) {
      const where = `PersistentVolume ${nameOf(volume)}`;
      unsupported.push(...[...mapped.unsupported, ...otherAttributes(attributesOf(volume))].map((each) => ({ where, ...each })));
      const hasOwn = !isShared && Object.keys(mapped.policy).length > 0;
      const own = boundedName(`${name}-${nameOf(claim)}`);
      if (hasOwn) objects.push(policyManifest(namespaceOf(claim), own, mapped.policy));
      const modes = [...listOf(mapOf(volume['spec'])['accessModes']), ...listOf(mapOf(claim['spec'])['accessModes'])];
      claims.set(idOf(claim), {
        volume: namespaceOf(claim) === home ? name : `${home}/${name}`,
        directory,
        readOnly: mapped.readOnly || (modes.length > 0 && modes.every((mode) => mode === 'ReadOnlyMany')),
        cachePolicy: hasOwn ? own : undefined,
      });
      if (mapOf(volume['spec'])['persistentVolumeReclaimPolicy'] === 'Delete')
        todos.push(
          `before claim ${idOf(claim)} is deleted, keep its data: kubectl patch pv ${nameOf(volume)} -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}' (else the driver removes the directory ${directory || '/'})`,
        );
    }
  }
  for (const workload of sources.workloads) {
    const migrated = migrateWorkload(workload, claims);
    if (!migrated) continue;
    if (migrated.patch.annotation !== '') workloads.push(migrated.patch);
    todos.push(...migrated.todos);
  }
  for (const [id, { volume, directory }] of claims) {
    const isUsed = sources.workloads.some(
      (workload) =>
        namespaceOf(workload) === id.split('/')[0] && JSON.stringify(workload).includes(`"claimName":"${id.split('/')[1]}"`),
    );
    if (!isUsed)
      todos.push(
        `claim ${id} is used by nothing that was read; a pod names it so: juicepod.io/volumes with name ${volume}${directory ? ` and subPath ${directory}` : ''}`,
      );
  }
  if (workloads.length > 0)
    todos.push(
      'apply the objects, wait until the volumes are Ready (kubectl get jv), then patch one workload after the other: both drivers may have a volume mounted at once',
      'when no pod uses the claims any more, and the data was seen, delete claims, PersistentVolumes and the driver yourself',
    );
  const labelled = objects.map((object) => ({
    ...object,
    metadata: { ...metadataOf(object), labels: { 'app.kubernetes.io/created-by': 'juicepod-migrate' } },
  }));
  return { objects: labelled, workloads, todos: [...new Set(todos)], obstacles, unsupported };
}
