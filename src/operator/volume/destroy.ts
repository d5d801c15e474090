/**
 * Deleting a volume's data, where that was asked for and confirmed. Only what is provably the volume's: objects under its name
 * while `juicefs_uuid` names it or its database does, and the keys that JuiceFS knows. Objects first, then the database, the
 * marker last: whenever it stops, the next try can still prove whose the rest is. Streamed; at most `DELETERS` at a time.
 */
import type { Clock } from '../../lib/clock.ts';
import type { Logger } from '../../lib/log.ts';
import { isVolumeKey } from '../../meta/redis/keys.ts';
import { connectRedis } from '../../meta/redis/open.ts';
import { scanKeyBatches } from '../../meta/redis/scan.ts';
import { parseMetaUrl } from '../../meta/url.ts';
import type { ObjectStore } from '../../object/store.ts';
import { MARKER } from '../../object/check.ts';
import { on, type World } from './world.ts';

const DELETERS = 16;
/** Milliseconds of work in one reconcile; the next one goes on. */
const SLICE_MS = 30_000;

/** Deletes all objects but the marker. False where time ran out. */
export async function deleteObjects(store: ObjectStore, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const end = clock.monotonic() + SLICE_MS;
  const running = new Set<Promise<void>>();
  const failures: unknown[] = [];
  for await (const { key } of store.list('', { signal })) {
    if (key === MARKER) continue;
    if (failures.length > 0) break;
    if (clock.monotonic() > end) {
      await Promise.all(running);
      if (failures.length > 0) throw failures[0];
      return false;
    }
    while (running.size >= DELETERS) await Promise.race(running);
    const deletion: Promise<void> = store
      .delete(key, signal)
      .catch((error: unknown) => void failures.push(error))
      .finally(() => running.delete(deletion));
    running.add(deletion);
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
  return true;
}

async function emptyRedis(url: string, clock: Clock, logger: Logger, prove: (what: string) => void): Promise<void> {
  const parsed = parseMetaUrl(url);
  if (parsed.kind !== 'redis') throw new TypeError('not a Redis');
  const { connection, keys } = await connectRedis(parsed, { clock, logger, patience: 8000 });
  try {
    // `setting` first: clients that still run notice, and end. Keys of others in the database stay.
    prove('database DEL');
    await connection.call('DEL', keys.setting);
    for await (const found of scanKeyBatches(connection, `${keys.prefix}*`)) {
      const ours = found.filter((key) => isVolumeKey(key.toString('latin1').slice(keys.prefix.length)));
      if (ours.length === 0) continue;
      prove('database UNLINK');
      await connection.call('UNLINK', ...ours);
    }
  } finally {
    connection.close();
  }
}

/** Deletes everything of the volume. False where time ran out and the rest is for the next reconcile. Throws StepError. */
export async function destroy(
  world: World,
  options: {
    readonly clock: Clock;
    /** Asked before each write that does not go through the world's engine and store. */
    readonly prove: (what: string) => void;
    readonly logger: Logger;
    readonly signal: AbortSignal;
    readonly kind: 'redis' | 'sql';
    /** What is of no use without the data, and would be forgotten with the marker. */
    readonly beforeMarker: () => Promise<void>;
  },
): Promise<boolean> {
  const { clock, signal, logger, kind, prove } = options;
  const store = world.store();
  if (!(await on('storage', () => deleteObjects(store, clock, signal)))) return false;
  await on('metadata', async () =>
    kind === 'redis' ? emptyRedis(world.url, clock, logger, prove) : (await world.engine()).reset(),
  );
  await options.beforeMarker();
  await on('storage', () => store.delete(MARKER, signal));
  return true;
}
