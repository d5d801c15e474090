/**
 * Where a controller's keys come from.
 *
 * A source turns changes of a store, or calls from elsewhere, into keys; it never passes objects, because what counts is
 * how the world is when the key is worked on. Keys of an initial list come at low priority, so that live changes overtake.
 */
import { controllerOf } from './owner.ts';
import { keyFor } from './resources.ts';
import type { AddOptions, KubeObject, Predicate, Reflector, Resource, Source, StoreChange } from './types.ts';

/** Initial lists and resyncs. */
export const LOW_PRIORITY = -100;

const passes = <T>(predicates: readonly Predicate<T>[], change: StoreChange<T>): boolean =>
  predicates.every((predicate) => predicate(change));

function priorityOf<T>(change: StoreChange<T>): AddOptions {
  return change.type === 'added' && change.initial ? { priority: LOW_PRIORITY } : {};
}

/** The objects themselves. The first such source of a controller is what a resync goes through. */
export function forKind<T extends KubeObject>(reflector: Reflector<T>, ...predicates: readonly Predicate<T>[]): Source {
  return {
    reflector,
    resyncs: true,
    connect: (add) =>
      reflector.onChange((change) => {
        if (passes(predicates, change)) add(change.key, priorityOf(change));
      }),
  };
}

/** Children: the key is that of the controller named in their owner references, where it is of the kind `owner`. */
export function owns<T extends KubeObject>(
  reflector: Reflector<T>,
  owner: Resource,
  ...predicates: readonly Predicate<T>[]
): Source {
  return watches(
    reflector,
    (object) => {
      const reference = controllerOf(object);
      if (!reference || reference.kind !== owner.kind) return [];
      // The version is left open: one kind may be owned through several.
      const group = reference.apiVersion.includes('/') ? reference.apiVersion.slice(0, reference.apiVersion.indexOf('/')) : '';
      if (group !== owner.group) return [];
      return [keyFor({ namespace: owner.namespaced ? object.metadata.namespace : undefined, name: reference.name })];
    },
    ...predicates,
  );
}

/** Any objects, mapped to the keys that depend on them; after an update both the old and the new object are mapped. */
export function watches<T extends KubeObject>(
  reflector: Reflector<T>,
  map: (object: T) => readonly string[],
  ...predicates: readonly Predicate<T>[]
): Source {
  return {
    reflector,
    connect: (add) =>
      reflector.onChange((change) => {
        if (!passes(predicates, change)) return;
        const options = priorityOf(change);
        const keys = new Set(map(change.object));
        if (change.type === 'updated') for (const key of map(change.old)) keys.add(key);
        for (const key of keys) add(key, options);
      }),
  };
}

/** Keys that come from outside the API server: polls, timers. What is sent before the controller connects is dropped. */
export interface Channel extends Source {
  send(key: string, options?: AddOptions): void;
}

export function channel(): Channel {
  const sinks: ((key: string, options?: AddOptions) => void)[] = [];
  return {
    connect: (add) => void sinks.push(add),
    send: (key, options) => {
      for (const sink of sinks) sink(key, options);
    },
  };
}

/** Passes updates that changed the spec (metadata.generation), additions and deletions. */
export const generationChanged: Predicate<KubeObject> = (change) =>
  change.type !== 'updated' ||
  change.object.metadata.generation !== change.old.metadata.generation ||
  (change.object.metadata.deletionTimestamp !== undefined && change.old.metadata.deletionTimestamp === undefined);

const sameMap = (
  left: Readonly<Record<string, string>> | undefined = {},
  right: Readonly<Record<string, string>> | undefined = {},
): boolean => {
  const keys = Object.keys(left);
  return keys.length === Object.keys(right).length && keys.every((key) => left[key] === right[key]);
};

/** Passes updates that changed the annotations, additions and deletions. */
export const annotationsChanged: Predicate<KubeObject> = (change) =>
  change.type !== 'updated' || !sameMap(change.object.metadata.annotations, change.old.metadata.annotations);

/** Passes updates that changed the labels, additions and deletions. */
export const labelsChanged: Predicate<KubeObject> = (change) =>
  change.type !== 'updated' || !sameMap(change.object.metadata.labels, change.old.metadata.labels);

/** Passes what any of the predicates passes. */
export function anyOf<T>(...predicates: readonly Predicate<T>[]): Predicate<T> {
  return (change) => predicates.some((predicate) => predicate(change));
}
