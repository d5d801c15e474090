/**
 * Spreads keys over several buckets as JuiceFS does (pkg/object/sharding.go): shard = FNV-1a-32(key) mod N, where the key
 * includes the volume's name; so the prefix decorator goes around this one. A listing merges the shards in key order.
 */
import { ObjectError, type ObjectInfo, type ObjectStore } from './store.ts';

/** FNV-1a, 32 bits, of the bytes of an ASCII key. */
export function fnv1a(key: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

export function sharded(stores: readonly ObjectStore[]): ObjectStore {
  const first = stores[0];
  if (!first) throw new ObjectError('Invalid', 'a sharded store needs at least one bucket');
  const pick = (key: string): ObjectStore => stores[fnv1a(key) % stores.length] ?? first;
  return {
    description: `${stores.length} buckets from ${first.description}`,
    async create(signal) {
      for (const store of stores) await store.create(signal);
    },
    put: (key, body, signal) => pick(key).put(key, body, signal),
    get: (key, options) => pick(key).get(key, options),
    head: (key, signal) => pick(key).head(key, signal),
    delete: (key, signal) => pick(key).delete(key, signal),
    async *list(prefix, options) {
      const sources = stores.map((store) => store.list(prefix, options)[Symbol.asyncIterator]());
      try {
        const heads: (ObjectInfo | undefined)[] = await Promise.all(sources.map(async (source) => next(source)));
        for (;;) {
          let least = -1;
          for (const [index, info] of heads.entries()) if (info && (least < 0 || info.key < heads[least]!.key)) least = index;
          if (least < 0) return;
          yield heads[least]!;
          heads[least] = await next(sources[least]!);
        }
      } finally {
        for (const source of sources) await source.return?.(undefined);
      }
    },
    async close() {
      for (const store of stores) await store.close();
    },
  };
}

async function next(source: AsyncIterator<ObjectInfo>): Promise<ObjectInfo | undefined> {
  const step = await source.next();
  return step.done ? undefined : step.value;
}
