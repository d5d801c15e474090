/**
 * What a claim of the driver may hold, as a limit of its directory in the JuiceVolume: the driver sets a quota for the directory of each
 * dynamic volume (CreateVolume and NodePublishVolume of juicefs-csi-driver). And what it gives to a mount pod, as resources of the client. Pure.
 */
import { type Json, mapOf, textOf } from '../../lib/json.ts';
import { parseQuantity } from '../../api/units.ts';
import { quotaSpec } from '../../api/volume-quota.ts';

const UNITS = [
  ['Ti', 2 ** 40, 7999],
  ['Gi', 2 ** 30, 999_999],
  ['Mi', 2 ** 20, 999_999],
] as const;

/** Bytes as `spec.quota` spells them, rounded up to whole MiB (GiB, TiB for large ones); undefined where there is no such limit. */
export function limitOf(bytes: number): string | undefined {
  if (!(bytes > 0)) return undefined;
  const exact = UNITS.find(([, unit, most]) => bytes % unit === 0 && bytes / unit <= most);
  const [name, unit] = exact ?? UNITS.findLast(([, size, most]) => Math.ceil(bytes / size) <= most) ?? ['', 0];
  return unit === 0 ? undefined : `${Math.ceil(bytes / unit)}${name}`;
}

/** Bytes that a dynamic PersistentVolume may hold; undefined for a static one, whose capacity limits nothing. */
export function capacityOf(volume: Json): number | undefined {
  const spec = mapOf(volume['spec']);
  const attributes = mapOf(mapOf(spec['csi'])['volumeAttributes']);
  const text =
    textOf(attributes['capacity']) ?? (textOf(attributes['subPath']) ? textOf(mapOf(spec['capacity'])['storage']) : undefined);
  try {
    return text === undefined ? undefined : parseQuantity(text);
  } catch {
    return undefined;
  }
}

/** An entry of `spec.quota.directories`; undefined where the directory, or the amount, is none that it can name. */
export function directoryLimit(directory: string, bytes: number | undefined): Json | undefined {
  const capacity = bytes === undefined ? undefined : limitOf(bytes);
  if (directory === '' || capacity === undefined) return undefined;
  const entry = { path: `/${directory}`, capacity };
  return quotaSpec.safeParse({ directories: [entry] }).success ? entry : undefined;
}

const AMOUNTS = [
  ['requests', 'cpu', 'juicefs/mount-cpu-request'],
  ['requests', 'memory', 'juicefs/mount-memory-request'],
  ['limits', 'cpu', 'juicefs/mount-cpu-limit'],
  ['limits', 'memory', 'juicefs/mount-memory-limit'],
] as const;

/** `spec.client.resources`, of what the attributes of a PersistentVolume say of its mount pod; undefined where they say nothing. */
export function resourcesOf(attributes: Json): Json | undefined {
  const resources: Record<string, Record<string, string>> = {};
  for (const [list, what, attribute] of AMOUNTS) {
    const amount = textOf(attributes[attribute]);
    if (amount !== undefined) resources[list] = { ...resources[list], [what]: amount };
  }
  return Object.keys(resources).length > 0 ? resources : undefined;
}

const OTHERS: Readonly<Record<string, string>> = {
  'juicefs/mount-image': 'set spec.client.image of the JuiceVolume, to an image of Juicepod',
  'juicefs/mount-cache-pvc': 'the cache is an emptyDir of the pod (local.medium and local.size)',
  'juicefs/mount-cache-emptydir': 'the cache is an emptyDir of the pod (local.medium and local.size)',
  'juicefs/mount-cache-inline-volume': 'the cache is an emptyDir of the pod (local.medium and local.size)',
  'juicefs/mount-delete-delay': 'the client ends with its pod',
  'juicefs/clean-cache': 'the cache goes with its pod',
};

/** Other attributes for the driver, and why they have no counterpart. */
export function otherAttributes(attributes: Json): readonly { readonly option: string; readonly why: string }[] {
  const known = new Set<string>(AMOUNTS.map(([, , attribute]) => attribute));
  return Object.entries(attributes)
    .filter(([name]) => name.startsWith('juicefs/') && !known.has(name))
    .map(([name, value]) => ({
      option: `${name}=${textOf(value) ?? ''}`,
      why: (Object.hasOwn(OTHERS, name) ? OTHERS[name] : undefined) ?? 'there is nothing like it',
    }));
}
