/** Announcements of released locks on PostgreSQL: what they cost, and that they survive their connection. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino } from '../../src/lib/int64.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import type { LockedFile } from '../../src/meta/types.ts';
import { startPostgres } from '../servers.ts';
import { asAdministrator } from '../sql-servers.ts';
import { until } from '../until.ts';

const release = (engine: MetaEngine, file: LockedFile): Promise<unknown> =>
  engine.commit({
    checks: [],
    writes: [
      { kind: 'addCounter', name: 'x', delta: 1 },
      { kind: 'announceLocks', ...file },
    ],
  });

test('one connection listens for all who wait, is made again when it is cut, and is heard of in the end', async (t) => {
  await using server = await startPostgres();
  const open = async (): Promise<MetaEngine> => {
    const engine = await openEngine(server.url(), { environment: {} });
    t.after(() => engine.close());
    return engine;
  };
  const [waits, releases] = [await open(), await open()];
  await waits.writeSetting('{}', { trash: false, nowNs: 1n });
  const listeners = (): Promise<readonly unknown[][]> =>
    asAdministrator('postgres', server.port, `SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %'`);
  assert.equal((await listeners()).length, 0);
  const heard = Array.from({ length: 100 }, () => 0);
  const files = heard.map((_, index): LockedFile => ({ of: index % 2 === 0 ? 'flock' : 'posix', ino: ino(100 + index) }));
  const ends = await Promise.all(
    files.map(async (file, index) => waits.watchLocks?.(file, () => void (heard[index] = (heard[index] ?? 0) + 1))),
  );
  const [[pid] = []] = await listeners();
  assert.equal((await listeners()).length, 1);
  await until('the first look is over', () => heard.every((times) => times > 0));
  heard.fill(0);
  for (const file of files) await release(releases, file);
  await until('each has heard', () => heard.every((times) => times === 1));

  heard.fill(0);
  await asAdministrator('postgres', server.port, `SELECT pg_terminate_backend(${String(pid)})`);
  await until('all look again, on another connection', () => heard.every((times) => times === 1));
  for (const file of files) await release(releases, file);
  await until('each has heard', () => heard.every((times) => times === 2));
  assert.equal((await listeners()).length, 1);

  heard.fill(0);
  for (const end of ends) end?.();
  for (const file of files) await release(releases, file);
  assert.deepEqual(new Set(heard), new Set([0]));
});
