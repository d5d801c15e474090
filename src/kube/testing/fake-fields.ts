/**
 * Who owns which field: server-side apply as the fake API server does it.
 *
 * A field is a path of segments as in FieldsV1: `f:name` for a field, `k:{"type":"Ready"}` for an item of a keyed list,
 * `v:"x"` for a member of a set. Lists are keyed or sets where the real schemas say so for the kinds used here; all other
 * lists, and scalars, are one value. Source of the rules: KEP-555 and the structured-merge-diff documentation.
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonMap = Record<string, unknown>;

/** Key of the items of a list, by the list's field name. */
const listKeys: Readonly<Record<string, string>> = {
  conditions: 'type',
  ownerReferences: 'uid',
  containers: 'name',
  initContainers: 'name',
  volumes: 'name',
  env: 'name',
  webhooks: 'name',
};
const setLists = new Set(['finalizers', 'addresses']);
const SEPARATOR = '\u0001';

/** Never owned: the server's own. */
const serverFields = new Set(['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp', 'managedFields']);

export const isMap = (value: unknown): value is JsonMap => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Deep equality of JSON; absent and undefined are the same. */
export function same(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (Array.isArray(left) && Array.isArray(right))
    return left.length === right.length && left.every((each, index) => same(each, right[index]));
  if (!isMap(left) || !isMap(right)) return false;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].every((key) => same(left[key], right[key]));
}

const keyedBy = (list: string, items: readonly unknown[]): string | undefined => {
  const key = listKeys[list];
  return key !== undefined && items.every((item) => isMap(item) && key in item) ? key : undefined;
};

function collect(value: unknown, path: string, field: string, into: Set<string>): void {
  if (isMap(value)) {
    const names = Object.keys(value);
    if (names.length === 0) into.add(path);
    for (const name of names) collect(value[name], `${path}${SEPARATOR}f:${name}`, name, into);
    return;
  }
  if (Array.isArray(value)) {
    const key = keyedBy(field, value);
    if (key !== undefined) {
      for (const item of value as JsonMap[])
        collect(item, `${path}${SEPARATOR}k:${JSON.stringify({ [key]: item[key] })}`, '', into);
      return;
    }
    if (setLists.has(field)) {
      for (const item of value) into.add(`${path}${SEPARATOR}v:${JSON.stringify(item)}`);
      return;
    }
  }
  into.add(path);
}

/** All fields of an object that somebody can own. */
export function fieldsOf(object: JsonMap): Set<string> {
  const fields = new Set<string>();
  for (const [name, value] of Object.entries(object)) {
    if (name === 'apiVersion' || name === 'kind') continue;
    if (name === 'metadata' && isMap(value)) {
      for (const [meta, inner] of Object.entries(value))
        if (!serverFields.has(meta)) collect(inner, `f:metadata${SEPARATOR}f:${meta}`, meta, fields);
    } else collect(value, `f:${name}`, name, fields);
  }
  return fields;
}

const segmentsOf = (path: string): string[] => path.split(SEPARATOR);

const find = (list: readonly unknown[], key: JsonMap): number =>
  list.findIndex((item) => isMap(item) && Object.entries(key).every(([name, value]) => item[name] === value));

/** True for the field that names its item of a keyed list, as `type` of a condition. */
export function isItemKey(path: string): boolean {
  const [item, field] = segmentsOf(path).slice(-2);
  if (!item?.startsWith('k:') || !field?.startsWith('f:')) return false;
  return Object.hasOwn(JSON.parse(item.slice(2)) as JsonMap, field.slice(2));
}

/** The value of a field, undefined where it is not there. */
export function valueAt(object: unknown, path: string): unknown {
  let value = object;
  for (const segment of segmentsOf(path)) {
    const rest = segment.slice(2);
    if (segment.startsWith('f:')) value = isMap(value) ? value[rest] : undefined;
    else if (!Array.isArray(value)) return undefined;
    else if (segment.startsWith('k:')) value = value[find(value, JSON.parse(rest) as JsonMap)];
    else value = value.find((item) => JSON.stringify(item) === rest);
  }
  return value;
}

/** The field as a person writes it: .spec.conditions[type="Ready"].status */
export function fieldName(path: string): string {
  return segmentsOf(path)
    .map((segment) => {
      const rest = segment.slice(2);
      if (segment.startsWith('f:')) return `.${rest}`;
      if (segment.startsWith('v:')) return `[=${rest}]`;
      return `[${Object.entries(JSON.parse(rest) as JsonMap)
        .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
        .join(',')}]`;
    })
    .join('');
}

/** FieldsV1 of a set of fields. */
export function fieldsV1(fields: ReadonlySet<string>): JsonMap {
  const root: JsonMap = {};
  for (const path of fields) {
    let node = root;
    for (const segment of segmentsOf(path)) node = (node[segment] ??= {}) as JsonMap;
  }
  return root;
}

/** Puts the intent's fields over the live object, item by item in keyed lists and sets. Both are left as they are. */
export function merge(live: unknown, intent: unknown, field = ''): unknown {
  if (isMap(live) && isMap(intent)) {
    const merged: JsonMap = { ...live };
    for (const [name, value] of Object.entries(intent)) merged[name] = merge(live[name], value, name);
    return merged;
  }
  if (Array.isArray(live) && Array.isArray(intent)) {
    const key = keyedBy(field, [...(live as unknown[]), ...(intent as unknown[])]);
    if (key !== undefined) {
      const merged = [...(live as JsonMap[])];
      for (const item of intent as JsonMap[]) {
        const index = find(merged, { [key]: item[key] });
        if (index < 0) merged.push(item);
        else merged[index] = merge(merged[index], item) as JsonMap;
      }
      return merged;
    }
    if (setLists.has(field)) return [...new Set([...(live as unknown[]), ...(intent as unknown[])])];
  }
  return intent;
}

/** Takes a field out; containers that become empty on the way go too. Changes the object given. */
export function removeField(object: unknown, path: string): void {
  const walk = (value: unknown, segments: readonly string[]): boolean => {
    const [segment, ...rest] = segments;
    if (segment === undefined) return true;
    const name = segment.slice(2);
    if (segment.startsWith('f:')) {
      if (!isMap(value) || !(name in value)) return false;
      if (walk(value[name], rest)) delete value[name];
      return Object.keys(value).length === 0;
    }
    if (!Array.isArray(value)) return false;
    if (segment.startsWith('v:')) {
      const index = value.findIndex((item) => JSON.stringify(item) === name);
      if (index >= 0) value.splice(index, 1);
      return value.length === 0;
    }
    const index = find(value, JSON.parse(name) as JsonMap);
    if (index < 0) return false;
    if (walk(value[index], rest)) value.splice(index, 1);
    return value.length === 0;
  };
  walk(object, segmentsOf(path));
}
