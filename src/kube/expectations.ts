/**
 * What a controller has written and its cache has not shown yet.
 *
 * A cache lags behind; a decision on it right after a write would repeat the write, or create a second child. After a write
 * a controller remembers, under the key it reconciles, the object's uid and version; until the store shows that version or a
 * later one, it should wait instead of deciding. An expectation lasts 30 s at most: the object may be gone again, and a
 * reflector that is that far behind has other troubles. Memory: what is awaited; a key's expectations go when it is looked at.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { keyOf } from './resources.ts';
import type { KubeObject, Store } from './types.ts';

const LIFETIME_MS = 30_000;
/** How soon to look again; the store's own event usually comes first. */
const LOOK_AGAIN_MS = 1000;

interface Expectation {
  readonly store: Store;
  readonly objectKey: string;
  readonly uid: string | undefined;
  readonly version: string;
  readonly until: number;
}

/** Orders two resource versions of one kind. They are decimal numbers, larger than 2^53 perhaps. */
export function compareVersions(left: string, right: string): number {
  if (left.length !== right.length) return left.length - right.length;
  return left < right ? -1 : left > right ? 1 : 0;
}

export interface Expectations {
  /** Remembers a write made while `key` was reconciled. */
  wrote(key: string, store: Store, object: KubeObject): void;
  /** Milliseconds to wait before deciding on `key`, 0 where the stores show all that was written. */
  waitMs(key: string): number;
}

export function createExpectations(clock: Clock = systemClock): Expectations {
  const byKey = new Map<string, Expectation[]>();

  const open = (each: Expectation, now: number): boolean => {
    if (now >= each.until) return false;
    const seen = each.store.get(each.objectKey);
    if (!seen) return true;
    // Another object of the name can only be a later one: a name is free again when its object is gone.
    if (seen.metadata.uid !== each.uid) return false;
    return compareVersions(seen.metadata.resourceVersion ?? '0', each.version) < 0;
  };

  return {
    wrote(key, store, object) {
      const { uid, resourceVersion } = object.metadata;
      if (!resourceVersion)
        throw new TypeError(`expectation of ${keyOf(object)}: the answer of a write was expected, with its version`);
      const entry: Expectation = {
        store,
        objectKey: keyOf(object),
        uid,
        version: resourceVersion,
        until: clock.monotonic() + LIFETIME_MS,
      };
      const list = byKey.get(key)?.filter((each) => each.store !== store || each.objectKey !== entry.objectKey) ?? [];
      byKey.set(key, [...list, entry]);
    },
    waitMs(key) {
      const now = clock.monotonic();
      const list = byKey.get(key)?.filter((each) => open(each, now)) ?? [];
      if (list.length === 0) {
        byKey.delete(key);
        return 0;
      }
      byKey.set(key, list);
      return Math.min(LOOK_AGAIN_MS, ...list.map((each) => each.until - now));
    },
  };
}
