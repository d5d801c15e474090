/** Puts a prefix before every key: a volume's objects live under `<name>/`. */
import type { ObjectInfo, ObjectStore } from './store.ts';

type Options = { readonly after?: string; readonly signal?: AbortSignal };

export function withPrefix(store: ObjectStore, prefix: string): ObjectStore {
  if (prefix === '') return store;
  const bare = (info: ObjectInfo): ObjectInfo => ({ ...info, key: info.key.slice(prefix.length) });
  const optionsOf = ({ after, signal }: Options = {}): Options => ({
    ...(after === undefined ? {} : { after: prefix + after }),
    ...(signal ? { signal } : {}),
  });
  async function* inside(list: AsyncIterable<ObjectInfo>): AsyncGenerator<ObjectInfo> {
    for await (const info of list) yield bare(info);
  }
  return {
    description: `${store.description} under ${prefix}`,
    create: (signal) => store.create(signal),
    put: (key, body, signal) => store.put(prefix + key, body, signal),
    get: (key, options) => store.get(prefix + key, options),
    async head(key, signal) {
      const info = await store.head(prefix + key, signal);
      return info && bare(info);
    },
    delete: (key, signal) => store.delete(prefix + key, signal),
    list: (under, options) => inside(store.list(prefix + under, optionsOf(options))),
    ...(store.level
      ? { level: (under: string, options?: Options) => inside(store.level!(prefix + under, optionsOf(options))) }
      : {}),
    ...(store.partLimits ? { partLimits: store.partLimits } : {}),
    ...(store.upload ? { upload: (key: string, signal?: AbortSignal) => store.upload!(prefix + key, signal) } : {}),
    close: () => store.close(),
  };
}
