/**
 * Databases and object stores whose every write first asks a question: may this process still write? The Lease protects the
 * API server only; what lies outside it is protected by asking before each write, and by writes that compare what they replace.
 *
 * What only reads is named here, all else counts as a write, so that a method that is added later is asked about, too.
 */
import type { Backends } from './volume/backends.ts';

const reads: ReadonlySet<string> = new Set([
  'get',
  'head',
  'list',
  'read',
  'readLog',
  'readSetting',
  'lookup',
  'nodes',
  'sessions',
  'sustained',
  'hasQuotas',
  'close',
  'constructor',
]);

/** All that is guarded answers promises. `before` gets the name of the call, such as `database writeSetting`; what it throws, the call throws. */
function guard<T extends object>(of: 'database' | 'store', target: T, before: (what: string) => void): T {
  return new Proxy(target, {
    get(object, name) {
      const value: unknown = Reflect.get(object, name, object);
      if (typeof value !== 'function' || typeof name !== 'string') return value;
      const call = value as (...args: readonly unknown[]) => unknown;
      if (reads.has(name) || name.startsWith('scan')) return call.bind(object);
      return async (...args: readonly unknown[]): Promise<unknown> => {
        before(`${of} ${name}`);
        return call.apply(object, [...args]);
      };
    },
  });
}

/** The same backends, writing only after `before` returned. */
export function guardedBackends(backends: Backends, before: (what: string) => void): Backends {
  return {
    ...backends,
    openEngine: async (url) => guard('database', await backends.openEngine(url), before),
    openStore: (input, override) => guard('store', backends.openStore(input, override), before),
  };
}
