/**
 * From an injection to JSON Patch operations (RFC 6902) on the raw pod. Pure.
 *
 * Invariants: only `add` and `replace`, and `move` of a sidecar behind a mesh's proxy; only of what is Juicepod's own, so no field of the pod, known or not, can get
 * lost; what is already there is not written again, so patching a patched pod is no patch at all; what another webhook took
 * away from our containers (a lost restartPolicy) is put back in place. The API server fills in defaults between webhooks,
 * hence "already there" means that what we want is contained in what is found, and amounts are compared as amounts. An
 * image that another webhook rewrote to a mirror is left alone.
 *
 * Order: whatever is addressed by position comes first; our init containers are inserted last of all.
 */
import { type Json, listOf, mapOf } from '../lib/json.ts';
import { type Pod } from './pod.ts';
import type { Injection } from './plan.ts';
import { sameQuantity } from './resources.ts';

export type Operation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  /** Of our own init containers only, from one place in the list to another. */
  | { readonly op: 'move'; readonly from: string; readonly path: string };

const escape = (key: string): string => key.replaceAll('~', '~0').replaceAll('/', '~1');

const isMap = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Lists of maps that have a key: what others added to them stays. */
const KEYED: Readonly<Record<string, string>> = { volumeMounts: 'mountPath', items: 'path' };
/** Fields whose texts are amounts. */
const AMOUNTS = new Set(['requests', 'limits', 'sizeLimit']);

const keyedBy = (field: string, items: readonly unknown[], value: unknown): unknown =>
  items.find((item) => mapOf(item)[KEYED[field] ?? ''] === value);

/** True where everything that is wanted is found. */
function contains(found: unknown, wanted: unknown, field: string, amounts: boolean): boolean {
  if (Array.isArray(wanted)) {
    if (!Array.isArray(found)) return false;
    const key = KEYED[field];
    if (key === undefined)
      return found.length === wanted.length && wanted.every((item, index) => contains(found[index], item, field, amounts));
    return wanted.every((item) => contains(keyedBy(field, found, mapOf(item)[key]), item, field, amounts));
  }
  if (isMap(wanted))
    return (
      isMap(found) &&
      Object.entries(wanted).every(([key, value]) => contains(found[key], value, key, amounts || AMOUNTS.has(key)))
    );
  return found === wanted || (amounts && sameQuantity(found, wanted));
}

/** The wanted list, and what others added to the found one. */
function merged(found: unknown, wanted: readonly unknown[], field: string): readonly unknown[] {
  const key = KEYED[field];
  if (key === undefined) return wanted;
  const foreign = listOf(found).filter((item) => keyedBy(field, wanted, mapOf(item)[key]) === undefined);
  return [...wanted, ...foreign];
}

function repair(operations: Operation[], path: string, found: Json, wanted: Json, amounts = false): void {
  for (const [key, value] of Object.entries(wanted)) {
    const inner = amounts || AMOUNTS.has(key);
    if (contains(found[key], value, key, inner)) continue;
    const at = `${path}/${escape(key)}`;
    if (isMap(value) && isMap(found[key])) repair(operations, at, found[key], value, inner);
    else
      operations.push({
        op: Object.hasOwn(found, key) ? 'replace' : 'add',
        path: at,
        value: Array.isArray(value) ? merged(found[key], value, key) : value,
      });
  }
}

/** Appends to a list that may be absent, null or empty. */
function append(operations: Operation[], path: string, found: unknown, values: readonly unknown[]): void {
  if (values.length === 0) return;
  if (Array.isArray(found)) for (const value of values) operations.push({ op: 'add', path: `${path}/-`, value });
  else operations.push({ op: 'add', path, value: values });
}

function setEntries(operations: Operation[], path: string, found: unknown, wanted: Readonly<Record<string, string>>): void {
  const before = mapOf(found);
  const changed = Object.entries(wanted).filter(([key, value]) => before[key] !== value);
  if (changed.length === 0) return;
  if (isMap(found))
    for (const [key, value] of changed)
      operations.push({ op: Object.hasOwn(before, key) ? 'replace' : 'add', path: `${path}/${escape(key)}`, value });
  else operations.push({ op: 'add', path, value: Object.fromEntries(changed) });
}

function applicationMounts(operations: Operation[], root: string, pod: Pod, { mounts }: Injection): void {
  for (const container of [...pod.initContainers, ...pod.containers]) {
    const wanted = mounts.filter(({ list, index }) => list === container.list && index === container.index);
    const path = `${root}/spec/${container.list}/${container.index}/volumeMounts`;
    const missing: Json[] = [];
    for (const { mount } of wanted) {
      const found = container.mounts.find((one) => one.path === mount['mountPath']);
      if (found) repair(operations, `${path}/${found.index}`, found.raw, mount);
      else missing.push(mount);
    }
    append(operations, path, container.raw['volumeMounts'], missing);
  }
}

function sidecars(
  operations: Operation[],
  root: string,
  pod: Pod,
  { sidecars: all, place, reorder }: Injection,
): readonly Operation[] {
  const path = `${root}/spec/initContainers`;
  const indexes = all.map((wanted) => {
    const found = pod.initContainers.find(({ name }) => name === wanted['name']);
    if (!found) return undefined;
    const { image, ...rest } = wanted;
    repair(operations, `${path}/${found.index}`, found.raw, typeof found.raw['image'] === 'string' ? rest : { image, ...rest });
    return found.index;
  });
  if (!Array.isArray(pod.spec['initContainers'])) return [{ op: 'add', path, value: all }];
  if (reorder && indexes.every((index) => index !== undefined))
    return Array.from({ length: reorder.count }, () => ({
      op: 'move' as const,
      from: `${path}/${reorder.from}`,
      path: `${path}/${reorder.behind}`,
    }));
  // A missing one goes behind its predecessor, else before its successor. From the last to the first, so that positions hold.
  const inserted: Operation[] = [];
  for (const [at, value] of [...all.entries()].toReversed()) {
    if (indexes[at] !== undefined) continue;
    const before = indexes.slice(0, at).findLast((index) => index !== undefined);
    const behind = indexes.slice(at + 1).find((index) => index !== undefined);
    const position = before === undefined ? (behind ?? place) : before + 1;
    inserted.push({ op: 'add', path: `${path}/${position}`, value });
  }
  return inserted;
}

/**
 * The operations that give a pod what the injection says; empty where it has it all. `root` is the path of the pod in the
 * object that is patched: '' for a pod, '/spec/template' for a Deployment.
 */
export function patchPod(pod: Pod, injection: Injection, root = ''): readonly Operation[] {
  const operations: Operation[] = [];
  if (!isMap(pod.raw['metadata'])) operations.push({ op: 'add', path: `${root}/metadata`, value: {} });
  setEntries(operations, `${root}/metadata/annotations`, pod.metadata['annotations'], injection.annotations);
  setEntries(operations, `${root}/metadata/labels`, pod.metadata['labels'], injection.labels);
  const grace = injection.terminationGracePeriodSeconds;
  if (grace !== undefined)
    operations.push({
      op: Object.hasOwn(pod.spec, 'terminationGracePeriodSeconds') ? 'replace' : 'add',
      path: `${root}/spec/terminationGracePeriodSeconds`,
      value: grace,
    });
  const pulls = pod.spec['imagePullSecrets'];
  const unnamed = injection.pullSecrets.filter((name) => listOf(pulls).every((one) => mapOf(one)['name'] !== name));
  append(
    operations,
    `${root}/spec/imagePullSecrets`,
    pulls,
    unnamed.map((name) => ({ name })),
  );
  const missing: Json[] = [];
  for (const wanted of injection.volumes) {
    const found = pod.volumes.find((volume) => volume.name === wanted['name']);
    if (found) repair(operations, `${root}/spec/volumes/${found.index}`, found.raw, wanted);
    else missing.push(wanted);
  }
  append(operations, `${root}/spec/volumes`, pod.spec['volumes'], missing);
  applicationMounts(operations, root, pod, injection);
  const inserted = sidecars(operations, root, pod, injection);
  return [...operations, ...inserted];
}
