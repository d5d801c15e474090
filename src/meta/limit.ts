/**
 * A limit on what programs ask of the metadata: so many operations on names and attributes per second, for one client. Callers
 * wait in turn, one of each process at a time; a wait that is interrupted ends.
 *
 * What is not limited: everything that stores or gives something back (slices committed, files closed, sessions renewed and
 * ended, background work), and what is read to find a file's data. So a limit delays programs and holds nothing up for ever:
 * no limited operation is waited for by one that is not.
 *
 * Bounds: `MOST_WAITING` callers; more fail with EAGAIN. A second's worth may be saved up.
 */
import type { Clock } from '../lib/clock.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import type { Context, Meta } from './types.ts';

/** More threads than a pod has. */
const MOST_WAITING = 65_536;

const burstOf = (perSecond: number): number => Math.max(1, perSecond);

/** A limit of operations per second, shared by all volumes of one client. 0 is none. */
export function operationLimit(perSecond: number, clock: Clock): TokenBucket {
  return new TokenBucket({ rate: perSecond, burst: burstOf(perSecond), clock, maxWaiting: MOST_WAITING });
}

/** Changes it; who waits goes on at the new rate. */
export function setOperationLimit(limit: TokenBucket, perSecond: number): void {
  limit.setRate(perSecond, burstOf(perSecond));
}

/** Operations that a program asks for; each takes its caller first. */
const LIMITED = [
  'lookup',
  'getattr',
  'access',
  'setattr',
  'truncate',
  'fallocate',
  'copyFileRange',
  'seek',
  'mknod',
  'mkdir',
  'create',
  'tmpfile',
  'symlink',
  'readlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'getxattr',
  'setxattr',
  'listxattr',
  'removexattr',
  'open',
  'statfs',
] as const satisfies readonly (keyof Meta)[];

type Operation = (ctx: Context, ...rest: readonly unknown[]) => Promise<unknown>;

/** The same metadata, limited. A batch of a directory's names counts as one operation. */
export function withOperationLimit(meta: Meta, limit: TokenBucket): Meta {
  const limited = new Map<PropertyKey, unknown>();
  for (const name of LIMITED) {
    const operation = (meta[name] as unknown as Operation).bind(meta);
    limited.set(name, async (ctx: Context, ...rest: readonly unknown[]) => {
      await limit.take(1, ctx.pid, ctx.signal);
      return operation(ctx, ...rest);
    });
  }
  limited.set('readdir', async function* (...call: Parameters<Meta['readdir']>) {
    const [ctx] = call;
    await limit.take(1, ctx.pid, ctx.signal);
    for await (const batch of meta.readdir(...call)) {
      yield batch;
      await limit.take(1, ctx.pid, ctx.signal);
    }
  });
  return new Proxy(meta, {
    get(target, name) {
      let member = limited.get(name);
      if (member !== undefined) return member;
      member = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      const bound: unknown = (member as Operation).bind(target);
      limited.set(name, bound);
      return bound;
    },
  });
}
