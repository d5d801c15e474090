/**
 * A store that fails on demand, for tests: each call asks a plan what shall go wrong with it. Beneath a mount it shows
 * what the layers above make of a store that refuses, stalls, lies or is away.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { s3Error } from './s3-error.ts';
import { ObjectError, type ObjectStore } from './store.ts';

export type Operation = 'put' | 'get' | 'head' | 'delete' | 'list';

export type Fault =
  /** An HTTP status other than success; `retryAfterSeconds` as the header. */
  | { readonly kind: 'status'; readonly status: number; readonly retryAfterSeconds?: number }
  /** The connection breaks. A put may have arrived (`applied`) or not. */
  | { readonly kind: 'reset'; readonly applied?: boolean }
  /** The body ends early, and nobody says so. */
  | { readonly kind: 'truncate'; readonly length: number }
  /** One byte of the body is another, and nobody says so. */
  | { readonly kind: 'flip'; readonly at: number }
  /** The answer comes late. */
  | { readonly kind: 'slow'; readonly ms: number };

/** What goes wrong with this call; `call` counts all calls from 0. */
export type FaultPlan = (operation: Operation, key: string, call: number) => Fault | undefined;

export function withFaults(store: ObjectStore, plan: FaultPlan, clock: Clock = systemClock): ObjectStore {
  let calls = 0;
  const run = async <T>(
    operation: Operation,
    key: string,
    signal: AbortSignal | undefined,
    action: () => Promise<T>,
  ): Promise<T> => {
    const fault = plan(operation, key, calls++);
    if (!fault) return action();
    switch (fault.kind) {
      case 'status': {
        const headers = fault.retryAfterSeconds === undefined ? {} : { 'retry-after': String(fault.retryAfterSeconds) };
        throw s3Error(`could not ${operation} ${key}`, { status: fault.status, headers, body: Buffer.alloc(0) }, clock.now());
      }
      case 'reset':
        if (fault.applied) await action();
        throw new ObjectError('Unavailable', `could not ${operation} ${key}: the connection was reset`);
      case 'slow':
        await clock.sleep(fault.ms, signal);
        return action();
      case 'truncate': {
        const body = await action();
        return (Buffer.isBuffer(body) ? body.subarray(0, fault.length) : body) as T;
      }
      default: {
        const body = await action();
        if (Buffer.isBuffer(body) && body.length > 0) body[fault.at % body.length]! ^= 0x10;
        return body;
      }
    }
  };
  return {
    description: store.description,
    create: (signal) => store.create(signal),
    put: (key, body, signal) => run('put', key, signal, () => store.put(key, body, signal)),
    get: (key, options) => run('get', key, options?.signal, () => store.get(key, options)),
    head: (key, signal) => run('head', key, signal, () => store.head(key, signal)),
    delete: (key, signal) => run('delete', key, signal, () => store.delete(key, signal)),
    async *list(prefix, options) {
      await run('list', prefix, options?.signal, () => Promise.resolve());
      yield* store.list(prefix, options);
    },
    close: () => store.close(),
  };
}
