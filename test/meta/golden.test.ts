/** Volumes that the official client wrote are read whole: every attribute, every name, every byte. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { formatIno, type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { parseFormat, serialiseFormat } from '../../src/meta/format.ts';
import { openMeta } from '../../src/meta/open.ts';
import { openSqlite } from '../../src/meta/sqlite/engine.ts';
import { type Attr, type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';
import { startMariadb, startPostgres, startRedis } from '../servers.ts';
import { openUrl } from './engines.ts';
import { contentOf, goldenBytes, GoldenStore, goldenRoot, loadRedis, loadTables, readManifest } from './golden-volume.ts';

const typeNames = { 1: 'regular', 2: 'directory', 3: 'symlink', 4: 'fifo', 5: 'blockdev', 6: 'chardev', 7: 'socket' } as const;

interface Found {
  readonly ino: Ino;
  readonly attr: Attr;
}

/** Every path below the root and the trash, by Latin-1 of its bytes. */
async function walk(meta: Meta, trash: boolean): Promise<ReadonlyMap<string, Found>> {
  const found = new Map<string, Found>();
  const visit = async (path: string, ino: Ino, attr: Attr): Promise<void> => {
    found.set(path || '/', { ino, attr });
    if (attr.type !== NodeType.Directory) return;
    for await (const batch of meta.readdir(SYSTEM, ino, true))
      for (const entry of batch) {
        assert.ok(entry.attr, `${path}/${entry.name.toString('latin1')} has attributes`);
        assert.equal(entry.attr.type, entry.type);
        await visit(`${path}/${entry.name.toString('latin1')}`, entry.ino, entry.attr);
      }
  };
  await visit('', ROOT_INO, await meta.getattr(SYSTEM, ROOT_INO));
  if (trash) await visit('/.trash', TRASH_INO, await meta.getattr(SYSTEM, TRASH_INO));
  return found;
}

const nanoseconds = (sec: number, nsec: number): string => String(BigInt(sec) * 1_000_000_000n + BigInt(nsec));

async function assertVolume(meta: Meta, volume: string, settingText: string): Promise<void> {
  const format = parseFormat(settingText);
  assert.equal(serialiseFormat(format), settingText, 'the format is written again byte for byte');
  const manifest = new Map(readManifest(volume));
  // The mount shows a trash where there is none.
  if (format.trashDays === 0) manifest.delete('/.trash');
  // More was done in this root after its manifest was taken.
  if (volume === 'redis-live') manifest.delete('/');
  const found = await walk(meta, format.trashDays > 0);
  assert.deepEqual([...found.keys()].toSorted(), [...new Set([...manifest.keys(), '/'])].toSorted());
  const store = new GoldenStore(volume, format);
  for (const [path, wanted] of manifest) {
    const { ino, attr } = found.get(path)!;
    const seen = {
      ino: formatIno(ino),
      type: typeNames[attr.type],
      mode: attr.mode.toString(8).padStart(4, '0'),
      uid: attr.uid,
      gid: attr.gid,
      nlink: attr.nlink,
      ...(wanted.rdev === undefined ? {} : { rdev: attr.rdev }),
      // The mount shows the trash with size 0 and times of its own.
      ...(path === '/.trash'
        ? {}
        : {
            size: attr.length,
            mtimeNs: nanoseconds(attr.mtime, attr.mtimensec),
            ctimeNs: nanoseconds(attr.ctime, attr.ctimensec),
          }),
    };
    assert.deepEqual(seen, Object.fromEntries(Object.keys(seen).map((key) => [key, wanted[key as keyof typeof wanted]])), path);
    if (wanted.target !== undefined) assert.deepEqual(await meta.readlink(SYSTEM, ino), goldenBytes(wanted.target), path);
    const xattrs = wanted.xattrs ?? {};
    const names = (await meta.listxattr(SYSTEM, ino)).filter((name) => !name.startsWith('system.posix_acl_'));
    assert.deepEqual([...names].toSorted(), Object.keys(xattrs).toSorted(), path);
    for (const [name, value] of Object.entries(xattrs))
      assert.deepEqual(await meta.getxattr(SYSTEM, ino, name), goldenBytes(value), `${path} ${name}`);
    if (wanted.sha256 !== undefined) {
      const hash = createHash('sha256');
      for await (const bytes of contentOf(meta, store, ino, attr.length)) hash.update(bytes);
      assert.equal(hash.digest('hex'), wanted.sha256, `content of ${path}`);
    }
  }
}

async function settingOf(url: string): Promise<string> {
  const engine = await openUrl(url);
  const text = await engine.readSetting();
  await engine.close();
  assert.ok(text);
  return text;
}

let redis: Awaited<ReturnType<typeof startRedis>> | undefined;
let folder = '';
let databases = 0;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'juicepod-golden-'));
  redis = await startRedis(['--databases', '100']);
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await redis?.stop();
});

const onRedis = [
  'redis-full',
  'redis-live',
  ...['none', 'lz4', 'zstd'].flatMap((compression) => [`matrix/${compression}-plain-flat`, `matrix/${compression}-plain-hash`]),
  'matrix/shards',
];

for (const volume of onRedis)
  test(`the golden volume ${volume} is read whole`, async () => {
    const url = redis?.url(++databases) ?? '';
    await loadRedis(volume, url);
    const meta = await openMeta(url, { readOnly: true });
    try {
      await assertVolume(meta, volume, await settingOf(url));
    } finally {
      await meta.close();
    }
  });

test('the golden volume sqlite-full is read whole', async () => {
  const path = join(folder, 'sqlite-full.db');
  copyFileSync(join(goldenRoot, 'sqlite-full', 'sqlite.db'), path);
  const meta = await openMeta(`sqlite3://${path}`, { readOnly: true });
  try {
    await assertVolume(meta, 'sqlite-full', await settingOf(`sqlite3://${path}`));
  } finally {
    await meta.close();
  }
});

for (const [volume, start] of [
  ['postgres-full', startPostgres],
  ['mysql-full', startMariadb],
] as const)
  test(`the golden volume ${volume} is read whole`, async () => {
    await using server = await start();
    await loadTables(volume, server.port);
    const meta = await openMeta(server.url(), { readOnly: true, environment: {} });
    try {
      await assertVolume(meta, volume, await settingOf(server.url()));
    } finally {
      await meta.close();
    }
  });

test('a SQLite volume of ours has the tables and indexes of the official client, word for word', async () => {
  const path = join(folder, 'ours.db');
  const engine = await openSqlite({ kind: 'sqlite', path, tablePrefix: 'jfs_' });
  await engine.writeSetting('{}', { trash: true, nowNs: 0n });
  await engine.close();
  using database = new DatabaseSync(path, { readOnly: true });
  const ours = database.prepare('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL').all();
  const theirs = readFileSync(join(goldenRoot, 'sqlite-full', 'schema.sql'), 'utf8')
    .trim()
    .split('\n');
  assert.deepEqual(ours.map(({ sql }) => `${String(sql)};`).toSorted(), theirs.toSorted());
});
