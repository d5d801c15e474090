/** Automatic backups of the metadata: made when they are due, by one client, into the store, from where they are loaded again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { backupIfDue, type BackupOptions } from '../../src/meta/dump/backup.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { ObjectError, type ObjectStore } from '../../src/object/store.ts';
import { describeEngines, openUrl } from '../meta/engines.ts';
import { dumpOf, goldenDump, load } from './engines.ts';

const HOUR = 3_600_000;
const START = Date.UTC(2026, 10, 21, 12);

const at = (ms: number): Clock => ({ ...systemClock, now: () => ms });

const keysOf = async (store: ObjectStore): Promise<string[]> => {
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  return keys;
};

const lastBackup = async (engine: MetaEngine): Promise<string | undefined> => {
  const [value] = await engine.read([{ kind: 'xattr', ino: ROOT_INO, name: 'lastBackup' }]);
  return value?.toString();
};

describeEngines('backups', (database) => {
  const options = (engine: MetaEngine, store: ObjectStore, now: number, interval = HOUR): BackupOptions => ({
    engine,
    store,
    interval,
    skipTrash: false,
    clock: at(now),
    logger: nullLogger,
  });

  test('one is made when it is due, by one of several clients, and is loaded again as the volume was', async () => {
    const url = database.newUrl();
    const [engine, other, copy] = await Promise.all([openUrl(url), openUrl(url), openUrl(database.newUrl())]);
    const store = new MemoryObjectStore();
    try {
      await load(engine, 'json', goldenDump('redis-full', 'json'));
      const made = await Promise.all([engine, other].map((each) => backupIfDue(options(each, store, START))));
      assert.deepEqual(made.filter(Boolean), ['meta/dump-2026-11-21-120000.json.gz']);
      assert.equal(await lastBackup(engine), '2026-11-21T12:00:00Z');
      // Not due, and then due.
      assert.equal(await backupIfDue(options(engine, store, START + HOUR - 1000)), undefined);
      assert.equal(await backupIfDue(options(other, store, START + HOUR)), 'meta/dump-2026-11-21-130000.json.gz');
      assert.deepEqual(await keysOf(store), ['meta/dump-2026-11-21-120000.json.gz', 'meta/dump-2026-11-21-130000.json.gz']);
      const dump = gunzipSync(await store.get('meta/dump-2026-11-21-130000.json.gz'));
      await load(copy, 'json', dump);
      assert.equal((await dumpOf(copy, 'json')).toString(), (await dumpOf(engine, 'json')).toString());
    } finally {
      await Promise.all([engine.close(), other.close(), copy.close()]);
    }
  });

  test('one that fails is taken back, and made at the next look', async () => {
    const engine = await openUrl(database.newUrl());
    const store = new MemoryObjectStore();
    try {
      await load(engine, 'json', goldenDump('redis-full', 'json'));
      const broken = Object.create(store, {
        put: { value: () => Promise.reject(new ObjectError('Unavailable', 'the store is gone')) },
      }) as ObjectStore;
      await assert.rejects(backupIfDue(options(engine, broken, START)), /the store is gone/);
      assert.equal(await lastBackup(engine), undefined);
      assert.ok(await backupIfDue(options(engine, store, START + 1000)));
    } finally {
      await engine.close();
    }
  });

  test('a large volume is backed up less often, and what is too old is deleted', async () => {
    const engine = await openUrl(database.newUrl());
    const store = new MemoryObjectStore();
    try {
      await load(engine, 'json', goldenDump('redis-full', 'json'));
      await store.put('meta/dump-2020-01-01-000000.json.gz', Buffer.from('old'));
      await store.put('meta/of-somebody-else', Buffer.from('kept'));
      assert.ok(await backupIfDue(options(engine, store, START)));
      assert.deepEqual(await keysOf(store), ['meta/dump-2026-11-21-120000.json.gz', 'meta/of-somebody-else']);
      await engine.commit({ checks: [], writes: [{ kind: 'setCounter', name: 'totalInodes', value: 5_000_000 }] });
      assert.equal(await backupIfDue(options(engine, store, START + 4 * HOUR)), undefined);
      assert.ok(await backupIfDue(options(engine, store, START + 5 * HOUR)));
    } finally {
      await engine.close();
    }
  });
});
