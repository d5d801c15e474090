/**
 * The nouns of the controller kit, and the contracts between them.
 *
 * An API server is reached through a `Transport` (connections, tokens, limits, retries). A `KubeClient` turns it into one
 * `ResourceClient` per kind: raw JSON in, raw JSON out, typed only where the caller says so, so that fields nobody here
 * knows survive. A `Reflector` keeps a `Store` equal to what the server has. Handlers of a reflector put keys
 * ("namespace/name") into a `WorkQueue`; a `Controller` takes them out and calls `reconcile(key)`, which looks at the stores
 * and the world, and writes what is missing. A `Manager` starts all of it in order, a `Leader` lets one process write.
 *
 * Objects that come out of a store are shared: nobody changes them.
 */
export type * from './client-types.ts';
export type * from './controller-types.ts';
