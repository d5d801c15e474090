/**
 * Objects of JuiceFS's CSI driver, as they are read: StorageClasses, PersistentVolumes, claims, Secrets, and whatever makes pods.
 * Source of names and meanings: juicefs-csi-driver, docs/en/guide/pv.md and pkg/driver (Secret keys, volumeAttributes).
 */
import { podTemplates } from '../../admission/templates.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';

const DRIVER = 'csi.juicefs.com';

/** What `migrate` looks at; other kinds are left out. */
export interface Sources {
  readonly classes: readonly Json[];
  readonly volumes: readonly Json[];
  readonly claims: readonly Json[];
  readonly secrets: readonly Json[];
  readonly workloads: readonly Json[];
}

export const metadataOf = (object: Json): Json => mapOf(object['metadata']);
export const nameOf = (object: Json): string => textOf(metadataOf(object)['name']) ?? '';
/** A namespace; what names none is in `default`, as kubectl takes it. */
export const namespaceOf = (object: Json): string => textOf(metadataOf(object)['namespace']) ?? 'default';
export const idOf = (object: Json): string => `${namespaceOf(object)}/${nameOf(object)}`;

/** Sorts objects by what they are; Lists are opened. Pods and ReplicaSets that a controller made are left to that. */
export function sortSources(objects: readonly Json[]): Sources {
  const all = objects.flatMap((object) =>
    textOf(object['kind'])?.endsWith('List') ? listOf(object['items']).map((item) => mapOf(item)) : [object],
  );
  const of = (kind: string): readonly Json[] => all.filter((object) => object['kind'] === kind);
  const isOwned = (object: Json): boolean =>
    listOf(metadataOf(object)['ownerReferences']).some((owner) => mapOf(owner)['controller'] === true);
  return {
    classes: of('StorageClass').filter((object) => object['provisioner'] === DRIVER),
    volumes: of('PersistentVolume').filter((object) => mapOf(mapOf(object['spec'])['csi'])['driver'] === DRIVER),
    claims: of('PersistentVolumeClaim'),
    secrets: of('Secret'),
    workloads: all.filter((object) => (textOf(object['kind']) ?? '') in podTemplates && !isOwned(object)),
  };
}

/** The texts of a Secret, `data` decoded. */
export function textsOf(secret: Json): Readonly<Record<string, string>> {
  const data = Object.entries(mapOf(secret['data'])).map(([key, value]) => [
    key,
    Buffer.from(textOf(value) ?? '', 'base64').toString(),
  ]);
  const plain = Object.entries(mapOf(secret['stringData'])).map(([key, value]) => [key, textOf(value) ?? '']);
  return Object.fromEntries([...data, ...plain]) as Readonly<Record<string, string>>;
}

/** Where a PersistentVolume's Secret is; undefined where it names none. */
export function secretOfVolume(volume: Json): string | undefined {
  const reference = mapOf(mapOf(mapOf(volume['spec'])['csi'])['nodePublishSecretRef']);
  const name = textOf(reference['name']);
  return name === undefined ? undefined : `${textOf(reference['namespace']) ?? 'default'}/${name}`;
}

/** The same for what a StorageClass will make; undefined where it names it by a template, or not at all. */
export function secretOfClass(storageClass: Json): string | undefined {
  const parameters = mapOf(storageClass['parameters']);
  for (const step of ['node-publish', 'provisioner']) {
    const name = textOf(parameters[`csi.storage.k8s.io/${step}-secret-name`]);
    const namespace = textOf(parameters[`csi.storage.k8s.io/${step}-secret-namespace`]);
    if (name && namespace && !`${name}${namespace}`.includes('${')) return `${namespace}/${name}`;
  }
  return undefined;
}

/** Mount options of a PersistentVolume or a StorageClass: the list, and the text that the driver takes beside it. */
export function mountOptionsOf(object: Json): readonly string[] {
  const spec = mapOf(object['spec']);
  const list = [...listOf(spec['mountOptions']), ...listOf(object['mountOptions'])];
  const attributes =
    textOf(mapOf(mapOf(spec['csi'])['volumeAttributes'])['mountOptions']) ?? textOf(mapOf(object['parameters'])['mountOptions']);
  return [...list.map((option) => textOf(option) ?? ''), ...(attributes ?? '').split(',')]
    .flatMap((option) => option.split(','))
    .map((option) => option.trim().replace(/^--?/, ''))
    .filter((option) => option !== '');
}
