/**
 * An API server in memory, for tests: what a controller can tell from the real one, and the faults it must bear.
 *
 * Whole: resource versions, lists with pages and snapshots, watches with bookmarks and history, compaction (410), optimistic
 * locks, generation, the status subresource, server-side apply with ownership and conflicts, JSON Patch, finalizers, garbage
 * collection by owner, dry run, metadata only, selectors. Not there: schemas and defaults, admission, authorisation,
 * namespaces as a precondition. The suite test/kube/client.test.ts runs over this and over a real server.
 */
import { applyPatch } from 'rfc6902';
import type { Clock } from '../../lib/clock.ts';
import { systemClock } from '../../lib/clock.ts';
import { timestamp } from '../conditions.ts';
import { ApiError, type StatusCause } from '../errors.ts';
import * as builtIn from '../resources.ts';
import type { JsonPatchOperation, KubeObject, ObjectRef, Resource } from '../types.ts';
import { type JsonMap, fieldName, fieldsOf, fieldsV1, isItemKey, merge, removeField, same, valueAt } from './fake-fields.ts';
import { Storage } from './fake-storage.ts';

/** Whose fields: one entry of managedFields. */
interface Owner {
  readonly manager: string;
  readonly operation: 'Apply' | 'Update';
  readonly subresource: string;
  readonly fields: ReadonlySet<string>;
}

export interface WriteRequest {
  readonly fieldManager: string;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly subresource?: 'status' | undefined;
}

export interface Preconditions {
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

const kindOf = (resource: Resource): string => `${resource.group}/${resource.plural}`;

const standard: readonly Resource[] = Object.values(builtIn).filter((each): each is Resource => typeof each === 'object');

export class FakeApiServer {
  readonly storage = new Storage();
  readonly clock: Clock;
  readonly #resources = new Map<string, Resource>();
  readonly #owners = new Map<string, readonly Owner[]>();
  #uids = 0;

  constructor(options: { readonly resources?: readonly Resource[]; readonly clock?: Clock } = {}) {
    this.clock = options.clock ?? systemClock;
    for (const resource of [...standard, ...(options.resources ?? [])]) this.#resources.set(kindOf(resource), resource);
  }

  /** The kind served under a group and plural. */
  find(group: string, version: string, plural: string): Resource | undefined {
    const resource = this.#resources.get(`${group}/${plural}`);
    return resource?.version === version ? resource : undefined;
  }

  /** What is stored of a kind now. */
  objects(resource: Resource): readonly KubeObject[] {
    return this.storage.list(kindOf(resource));
  }

  peek(resource: Resource, ref: ObjectRef): KubeObject | undefined {
    return this.storage.get(kindOf(resource), builtIn.keyFor(ref));
  }

  get(resource: Resource, ref: ObjectRef): KubeObject {
    const found = this.peek(resource, ref);
    if (!found) throw refusal(404, 'NotFound', `${resource.plural} "${ref.name}" not found`);
    return found;
  }

  create(resource: Resource, object: JsonMap, request: WriteRequest = { fieldManager: 'test' }): KubeObject {
    const metadata = object['metadata'] as KubeObject['metadata'];
    const key = builtIn.keyFor(refIn(resource, metadata));
    if (this.storage.get(kindOf(resource), key))
      throw refusal(409, 'AlreadyExists', `${resource.plural} "${metadata.name}" already exists`);
    if (metadata.resourceVersion) throw refusal(400, 'BadRequest', 'resourceVersion should not be set on objects to be created');
    const { status: _status, ...body } = object;
    return this.#store(resource, key, undefined, body, this.#updated(undefined, body, request), request);
  }

  replace(resource: Resource, object: JsonMap, request: WriteRequest = { fieldManager: 'test' }): KubeObject {
    const metadata = object['metadata'] as KubeObject['metadata'];
    const live = this.get(resource, refIn(resource, metadata));
    checkPreconditions(resource, live, { uid: metadata.uid, resourceVersion: metadata.resourceVersion });
    return this.#update(resource, live, object, request);
  }

  patch(
    resource: Resource,
    ref: ObjectRef,
    operations: readonly JsonPatchOperation[],
    request: WriteRequest = { fieldManager: 'test' },
  ): KubeObject {
    const live = this.get(resource, ref);
    const next = structuredClone(live) as unknown as JsonMap;
    const failure = applyPatch(next, structuredClone(operations) as never).find((error) => error !== null);
    if (failure)
      throw refusal(422, 'Invalid', `the server rejected our request due to an error in our request (${failure.name})`);
    checkPreconditions(resource, live, { resourceVersion: (next['metadata'] as JsonMap)['resourceVersion'] as string });
    return this.#update(resource, live, next, request);
  }

  apply(resource: Resource, ref: ObjectRef, intent: JsonMap, request: WriteRequest): KubeObject {
    const metadata = intent['metadata'] as KubeObject['metadata'] | undefined;
    if (metadata?.managedFields) throw refusal(400, 'BadRequest', 'metadata.managedFields must be nil');
    const key = builtIn.keyFor(ref);
    const live = this.storage.get(kindOf(resource), key);
    if (!live) {
      if (request.subresource) throw refusal(404, 'NotFound', `${resource.plural} "${ref.name}" not found`);
      if (metadata?.uid)
        throw refusal(
          409,
          'Conflict',
          `uid mismatch: the provided object specified uid ${metadata.uid}, and no existing object was found`,
        );
    } else {
      if (metadata?.uid && metadata.uid !== live.metadata.uid)
        throw refusal(422, 'Invalid', `metadata.uid: Invalid value: "${metadata.uid}": field is immutable`);
      checkPreconditions(resource, live, { resourceVersion: metadata?.resourceVersion });
    }
    const wanted = onlyPart(intent, request.subresource);
    const fields = fieldsOf(wanted);
    const owners = (live && this.#owners.get(live.metadata.uid ?? '')) ?? [];
    const mine = (owner: Owner): boolean =>
      owner.manager === request.fieldManager && owner.operation === 'Apply' && owner.subresource === (request.subresource ?? '');
    const causes: StatusCause[] = [];
    for (const owner of owners)
      if (!mine(owner))
        for (const field of owner.fields)
          if (fields.has(field) && !same(valueAt(live, field), valueAt(wanted, field)))
            causes.push({ reason: 'FieldManagerConflict', message: `conflict with "${owner.manager}"`, field: fieldName(field) });
    if (causes.length > 0 && !request.force)
      throw refusal(
        409,
        'Conflict',
        `Apply failed with ${causes.length} conflict(s): ${causes.map((each) => each.field).join(', ')}`,
        causes,
      );
    const next = structuredClone(merge(live ?? {}, wanted)) as JsonMap;
    const others = owners.filter((owner) => !mine(owner));
    // The key of a list item goes last: without it the item could not be found for its other fields.
    const owned = [...(owners.find(mine)?.fields ?? [])].toSorted((a, b) => Number(isItemKey(a)) - Number(isItemKey(b)));
    for (const field of owned)
      if (!fields.has(field) && !others.some((owner) => owner.fields.has(field))) removeField(next, field);
    const taken = new Set(causes.map((cause) => cause.field));
    const kept = others.map((owner) => ({
      ...owner,
      fields: new Set([...owner.fields].filter((field) => !(fields.has(field) && taken.has(fieldName(field))))),
    }));
    const all: Owner[] = [
      ...kept,
      { manager: request.fieldManager, operation: 'Apply', subresource: request.subresource ?? '', fields },
    ];
    if (!live)
      return this.#store(
        resource,
        key,
        undefined,
        { ...next, metadata: { ...metadata, ...(next['metadata'] as JsonMap) } },
        all,
        request,
      );
    return this.#store(resource, key, live, next, all, request);
  }

  delete(resource: Resource, ref: ObjectRef, preconditions: Preconditions = {}, dryRun = false): void {
    const live = this.get(resource, ref);
    checkPreconditions(resource, live, preconditions);
    if (dryRun) return;
    const key = builtIn.keyFor(ref);
    if (live.metadata.finalizers?.length) {
      if (live.metadata.deletionTimestamp) return;
      const metadata = {
        ...live.metadata,
        deletionTimestamp: timestamp(this.clock.now()),
        generation: (live.metadata.generation ?? 0) + 1,
      };
      this.storage.write(kindOf(resource), key, { ...live, metadata }, 'MODIFIED');
      return;
    }
    this.#remove(kindOf(resource), key, live);
  }

  #remove(kind: string, key: string, live: KubeObject): void {
    this.storage.write(kind, key, live, 'DELETED');
    const { uid = '' } = live.metadata;
    this.#owners.delete(uid);
    const there = new Set([...this.storage.all()].map(([, , object]) => object.metadata.uid));
    for (const [otherKind, otherKey, object] of this.storage.all()) {
      const owners = object.metadata.ownerReferences;
      if (!owners?.some((owner) => owner.uid === uid)) continue;
      if (owners.every((owner) => !there.has(owner.uid))) this.#collect(otherKind, otherKey, object);
    }
  }

  #collect(kind: string, key: string, object: KubeObject): void {
    const resource = this.#resources.get(kind);
    if (resource) this.delete(resource, builtIn.refFromKey(key));
    else this.#remove(kind, key, object);
  }

  #update(resource: Resource, live: KubeObject, object: JsonMap, request: WriteRequest): KubeObject {
    const part = onlyPart(object, request.subresource);
    const liveMap = live as unknown as JsonMap;
    const next: JsonMap = request.subresource
      ? { ...liveMap, status: part['status'] }
      : { ...part, ...('status' in liveMap ? { status: liveMap['status'] } : {}) };
    if (next['status'] === undefined) delete next['status'];
    return this.#store(resource, builtIn.keyOf(live), live, next, this.#updated(live, next, request), request);
  }

  /** Ownership after an update: fields that it changed are the updater's alone. */
  #updated(live: KubeObject | undefined, next: JsonMap, request: WriteRequest): readonly Owner[] {
    const owners = (live && this.#owners.get(live.metadata.uid ?? '')) ?? [];
    const fields = fieldsOf(next);
    const changed = new Set([...fields].filter((field) => !same(live && valueAt(live, field), valueAt(next, field))));
    const mine = (owner: Owner): boolean =>
      owner.manager === request.fieldManager && owner.operation === 'Update' && owner.subresource === (request.subresource ?? '');
    const old = owners.find(mine)?.fields ?? new Set<string>();
    const kept = owners
      .filter((owner) => !mine(owner))
      .map((owner) => ({
        ...owner,
        fields: new Set([...owner.fields].filter((field) => fields.has(field) && !changed.has(field))),
      }));
    const own = new Set([...old, ...changed].filter((field) => fields.has(field)));
    return [...kept, { manager: request.fieldManager, operation: 'Update', subresource: request.subresource ?? '', fields: own }];
  }

  /** The last step of every write: server fields, generation, finalizers; nothing is written where nothing changed. */
  #store(
    resource: Resource,
    key: string,
    live: KubeObject | undefined,
    next: JsonMap,
    owners: readonly Owner[],
    request: WriteRequest,
  ): KubeObject {
    const wanted = next['metadata'] as KubeObject['metadata'];
    const before = live as unknown as JsonMap | undefined;
    const content = (object: JsonMap): JsonMap => ({ ...object, metadata: undefined, status: undefined });
    const changed = !before || !same(content(before), content(next));
    const ref = live ? live.metadata : refIn(resource, wanted);
    const uid = live?.metadata.uid ?? `00000000-0000-4000-8000-${String(++this.#uids).padStart(12, '0')}`;
    if (live?.metadata.deletionTimestamp) {
      const added = (wanted.finalizers ?? []).filter((each) => !live.metadata.finalizers?.includes(each));
      if (added.length > 0)
        throw refusal(
          422,
          'Invalid',
          `metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
        );
    }
    const metadata: KubeObject['metadata'] = {
      ...wanted,
      name: ref.name,
      ...(resource.namespaced ? { namespace: ref.namespace ?? '' } : {}),
      uid,
      generation: (live?.metadata.generation ?? 0) + (changed ? 1 : 0),
      creationTimestamp: live?.metadata.creationTimestamp ?? timestamp(this.clock.now()),
      ...(live?.metadata.deletionTimestamp ? { deletionTimestamp: live.metadata.deletionTimestamp } : {}),
      ...(live?.metadata.resourceVersion ? { resourceVersion: live.metadata.resourceVersion } : {}),
    };
    const managed = owners
      .filter((owner) => owner.fields.size > 0)
      .map((owner) => ({
        manager: owner.manager,
        operation: owner.operation,
        apiVersion: builtIn.apiVersionOf(resource),
        fieldsType: 'FieldsV1',
        fieldsV1: fieldsV1(owner.fields),
        ...(owner.subresource ? { subresource: owner.subresource } : {}),
      }));
    const object = {
      ...next,
      apiVersion: builtIn.apiVersionOf(resource),
      kind: resource.kind,
      metadata: { ...metadata, managedFields: managed },
    } as KubeObject;
    if (live && same(live, object)) return live;
    if (request.dryRun) return object;
    this.#owners.set(uid, owners);
    if (live?.metadata.deletionTimestamp && !object.metadata.finalizers?.length) {
      this.#remove(kindOf(resource), key, object);
      return object;
    }
    return this.storage.write(kindOf(resource), key, structuredClone(object), live ? 'MODIFIED' : 'ADDED');
  }
}

/** The refusal as the client will see it, with what a Status needs. */
export function refusal(
  code: number,
  reason: string,
  message: string,
  causes: readonly StatusCause[] = [],
  retryAfterSeconds?: number,
): ApiError {
  return new ApiError(code, message, {
    reason,
    details: { ...(causes.length > 0 ? { causes } : {}), ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) },
  });
}

function refIn(resource: Resource, metadata: KubeObject['metadata']): ObjectRef {
  return resource.namespaced ? { namespace: metadata.namespace, name: metadata.name } : { name: metadata.name };
}

/** The main resource takes no status, the status subresource nothing else. */
function onlyPart(object: JsonMap, subresource: 'status' | undefined): JsonMap {
  const { status, ...rest } = object;
  if (!subresource) return rest;
  return status === undefined ? {} : { status };
}

function checkPreconditions(resource: Resource, live: KubeObject, { uid, resourceVersion }: Preconditions): void {
  const { name } = live.metadata;
  if (uid && uid !== live.metadata.uid)
    throw refusal(
      409,
      'Conflict',
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${live.metadata.uid} (${resource.plural} "${name}")`,
    );
  if (resourceVersion && resourceVersion !== live.metadata.resourceVersion)
    throw refusal(
      409,
      'Conflict',
      `Operation cannot be fulfilled on ${resource.plural} "${name}": the object has been modified; please apply your changes to the latest version and try again`,
    );
}
