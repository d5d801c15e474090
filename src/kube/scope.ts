/**
 * Reflectors of a process that may look into some namespaces only (its rights are Roles, not a ClusterRole).
 *
 * A kind that lives in namespaces is listed and watched in each of them; what comes out looks like one reflector. Namespaces
 * themselves cannot be listed or watched then, but a Role of a namespace may allow to get that one: they are asked for by
 * name, every 30 s.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import type { KubeObject, ListPage, Reflector, ReflectorOptions, Store, WatchEvent } from './types.ts';
import type { ResourceClient } from './client-types.ts';

/** How old the labels of a namespace may be, milliseconds. */
export const LOOK_MS = 30_000;

/** One reflector out of several, each of another namespace: `parts` by the name of theirs. */
export function unionReflector<T extends KubeObject>(parts: ReadonlyMap<string, Reflector<T>>): Reflector<T> {
  const all = [...parts.values()];
  const [first] = all;
  if (!first) throw new TypeError('a union of no namespace shows nothing; name one at least');
  const chain = function* <R>(of: (store: Store<T>) => Iterable<R>): Generator<R, undefined, undefined> {
    for (const { store } of all) yield* of(store);
    return undefined;
  };
  const store: Store<T> = {
    get size() {
      return all.reduce((sum, part) => sum + part.store.size, 0);
    },
    get: (key) => parts.get(key.slice(0, key.indexOf('/')))?.store.get(key),
    keys: () => chain((part) => part.keys()),
    values: () => chain((part) => part.values()),
    byIndex: (index, value) => all.flatMap((part) => part.store.byIndex(index, value)),
  };
  return {
    resource: first.resource,
    store,
    get hasSynced() {
      return all.every((part) => part.hasSynced);
    },
    get lastEventAt() {
      const times = all.map((part) => part.lastEventAt);
      return times.includes(undefined) ? undefined : Math.min(...times.map(Number));
    },
    async synced(signal) {
      await Promise.all(all.map((part) => part.synced(signal)));
    },
    get refusal() {
      return all.find((part) => part.refusal !== undefined)?.refusal;
    },
    onRefusal(handler) {
      for (const part of all) part.onRefusal(handler);
    },
    onChange(handler) {
      for (const part of all) part.onChange(handler);
    },
    async run(signal) {
      await Promise.all(all.map((part) => part.run(signal)));
    },
  };
}

/** Lists and watches objects without a namespace by getting each of `names`. One that is not there is left out. */
export function byName<T extends KubeObject>(
  client: ResourceClient<T>,
  names: readonly string[],
  clock: Clock = systemClock,
): ReflectorOptions<T>['client'] {
  let last = new Map<string, T>();
  const look = async (signal: AbortSignal | undefined): Promise<Map<string, T>> => {
    const found = new Map<string, T>();
    for (const name of names) {
      const object = await client.find({ name }, signal);
      if (object) found.set(name, object);
    }
    return found;
  };
  return {
    resource: client.resource,
    async *pages(options = {}): AsyncGenerator<ListPage<T>, void, undefined> {
      last = await look(options.signal);
      yield { items: [...last.values()], resourceVersion: '0' };
    },
    async *watch(options): AsyncGenerator<WatchEvent<T>, void, undefined> {
      for (;;) {
        await clock.sleep(LOOK_MS, options.signal);
        const [before, now] = [last, await look(options.signal)];
        last = now;
        for (const [name, object] of before) if (!now.has(name)) yield { type: 'DELETED', object };
        // The reflector leaves out what it has in that version already.
        for (const object of now.values()) yield { type: 'MODIFIED', object };
        yield { type: 'BOOKMARK', resourceVersion: '0' };
      }
    },
  };
}
