/** Owner references: who made an object, and with whom it goes. */
import { apiVersionOf } from './resources.ts';
import type { KubeObject, OwnerReference, Resource } from './types.ts';

/** The reference that makes `owner` the controller of a child in the same namespace; the garbage collector deletes it with the owner. */
export function controllerRef(owner: KubeObject, resource: Resource): OwnerReference {
  const { name, uid } = owner.metadata;
  if (!uid)
    throw new TypeError(`${resource.kind} ${name} has no uid: only an object that the API server has stored can own another`);
  return { apiVersion: apiVersionOf(resource), kind: resource.kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** The controller of an object, if it has one. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find((reference) => reference.controller === true);
}
