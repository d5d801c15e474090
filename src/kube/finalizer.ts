/**
 * Finalizers, added and removed by JSON Patch with a `test`: the list is never overwritten, so that other controllers'
 * finalizers survive a race.
 */
import { isConflict, isInvalid, isNotFound } from './errors.ts';
import { refOf } from './resources.ts';
import type { JsonPatchOperation, KubeObject, ResourceClient } from './types.ts';

/** Tries against a changing object before the conflict is the caller's. */
const ATTEMPTS = 5;

export function hasFinalizer(object: KubeObject, name: string): boolean {
  return object.metadata.finalizers?.includes(name) === true;
}

/** The patch that adds a finalizer, or undefined where it is there. Pure. */
function addFinalizerPatch(object: KubeObject, name: string): readonly JsonPatchOperation[] | undefined {
  if (hasFinalizer(object, name)) return undefined;
  const test: JsonPatchOperation = { op: 'test', path: '/metadata/resourceVersion', value: object.metadata.resourceVersion };
  return object.metadata.finalizers?.length
    ? [test, { op: 'add', path: '/metadata/finalizers/-', value: name }]
    : [test, { op: 'add', path: '/metadata/finalizers', value: [name] }];
}

/** The patch that removes a finalizer, or undefined where it is gone. Pure. */
function removeFinalizerPatch(object: KubeObject, name: string): readonly JsonPatchOperation[] | undefined {
  const index = object.metadata.finalizers?.indexOf(name) ?? -1;
  if (index < 0) return undefined;
  const path = `/metadata/finalizers/${index}`;
  return [
    { op: 'test', path, value: name },
    { op: 'remove', path },
  ];
}

async function patched<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  plan: (object: T) => readonly JsonPatchOperation[] | undefined,
  signal: AbortSignal | undefined,
): Promise<T | undefined> {
  const { uid } = object.metadata;
  let current: T | undefined = object;
  for (let attempt = 1; ; attempt++) {
    const operations = plan(current);
    if (!operations) return current;
    try {
      // The uid keeps the patch off a new object of the same name.
      return await client.patch(refOf(current), [{ op: 'test', path: '/metadata/uid', value: uid }, ...operations], { signal });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      if (attempt >= ATTEMPTS || !(isConflict(error) || isInvalid(error))) throw error;
    }
    current = await client.find(refOf(current), signal);
    if (!current || current.metadata.uid !== uid) return undefined;
  }
}

/**
 * Adds a finalizer before the first effect outside the cluster. Answers the object as it is then, undefined where it is
 * gone (do nothing then). Throws the ApiError of the last try; a deleted object takes no new finalizer (422).
 */
export function addFinalizer<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  name: string,
  signal?: AbortSignal,
): Promise<T | undefined> {
  return patched(client, object, (each) => addFinalizerPatch(each, name), signal);
}

/** Removes a finalizer when the clean-up is complete. Answers the object as it is then, undefined where it is gone. */
export function removeFinalizer<T extends KubeObject>(
  client: ResourceClient<T>,
  object: T,
  name: string,
  signal?: AbortSignal,
): Promise<T | undefined> {
  return patched(client, object, (each) => removeFinalizerPatch(each, name), signal);
}
