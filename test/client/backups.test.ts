/** Backups of the metadata that clients in pods make: as often as volume.json says, by one of them, and in another rhythm when that changes. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { MountBackups } from '../../src/client/backups.ts';
import { FakeClock } from '../../src/kube/testing/fake-clock.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, readFormat } from '../../src/meta/open.ts';
import { backupTime } from '../../src/meta/dump/rotation.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { succeeds } from '../cli/command.ts';
import { cannotMount } from '../mounted.ts';
import { until } from '../until.ts';
import { startPodProcesses } from './pod.ts';
import { removeFolder } from '../remove-folder.ts';

const MINUTE = 60_000;
const hourly = { intervalMs: 60 * MINUTE, skipTrash: false };

test('of three clients one makes each backup, an hour after the last; none where none is wanted any more', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-backups-'));
  t.after(() => removeFolder(folder));
  const url = `sqlite3://${folder}/meta.db`;
  const store = new MemoryObjectStore();
  const clock = new FakeClock(Date.UTC(2026, 10, 22));
  const engines = await Promise.all([1, 2, 3].map(() => openEngine(url, { environment: {} })));
  t.after(() => Promise.all(engines.map((engine) => engine.close())));
  const [first] = engines;
  assert.ok(first);
  await formatVolume(first, newFormat({ name: 'testvol', storage: 'file', bucket: '/nowhere', trashDays: 0 }, systemRandom));
  const common = { store, clock, random: systemRandom, logger: nullLogger };
  const clients = engines.map((engine) => new MountBackups({ engine, ...common }, hourly));
  const times = async (): Promise<number[]> => {
    const found: number[] = [];
    for await (const { key } of store.list('meta/')) found.push(backupTime(key.slice('meta/'.length)) ?? 0);
    return found;
  };
  const pass = async (minutes: number): Promise<void> => {
    for (let minute = 0; minute < minutes; minute++) {
      await clock.advance(MINUTE);
    }
  };
  await until('four backups are made', async () => {
    await pass(5);
    return (await times()).length >= 4;
  });
  const made = await times();
  for (const [index, time] of made.entries())
    if (index > 0) assert.ok(time - (made[index - 1] ?? 0) >= 54 * MINUTE, JSON.stringify(made.map((each) => new Date(each))));
  for (const client of clients) client.follow(undefined);
  // What was under way has ended when they are closed.
  for (const client of clients) await client.close();
  const last = (await times()).length;
  for (const client of clients) client.follow(hourly);
  await pass(200);
  assert.equal((await times()).length, last);
});

test(
  'a pod makes backups from when its Secret says so, and says of one what is in the volume',
  { skip: cannotMount },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'juicepod-backups-'));
    t.after(() => removeFolder(folder));
    const metaUrl = `sqlite3://${folder}/meta.db`;
    await succeeds(['format', metaUrl, 'testvol', '--storage', 'file', '--bucket', join(folder, 'blocks')]);
    const engine = await openEngine(metaUrl, { environment: {} });
    const { uuid = '' } = (await readFormat(engine)) ?? {};
    await engine.close();
    const config = { name: 'testvol', uuid, metaUrl };
    await using pod = await startPodProcesses({ ...config, generation: '1' });
    writeFileSync(join(pod.targets[0] ?? '', 'a-file-of-the-pod'), 'x');
    const backups = join(folder, 'blocks', 'testvol', 'meta');
    assert.equal(existsSync(backups), false);
    pod.project({ ...config, backup: { interval: 1 }, generation: '2' });
    const [name = ''] = await until('a backup is there', () => {
      const names = existsSync(backups) ? readdirSync(backups).filter((each) => backupTime(each) !== undefined) : [];
      return names.length > 0 && names;
    });
    assert.match(gunzipSync(readFileSync(join(backups, name))).toString(), /"a-file-of-the-pod"/);
    assert.equal(pod.config().Credentials.Generation, '2');
  },
);
