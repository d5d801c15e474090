import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test, type TestContext } from 'node:test';
import { FsError, UserError } from '../../lib/errors.ts';
import { ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import type { MetaEngine } from '../engine.ts';
import { encodeSlices } from '../records.ts';
import { type Attr, NodeType } from '../types.ts';
import { openSqlite, type SqliteOptions } from './engine.ts';

const nowNs = 1_795_256_351_123_456_789n;

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-sqlite-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function open(t: TestContext, path: string, options: SqliteOptions = {}): Promise<MetaEngine> {
  const engine = await openSqlite({ kind: 'sqlite', path, tablePrefix: 'jfs_' }, options);
  t.after(() => engine.close());
  return engine;
}

async function volume(t: TestContext): Promise<{ readonly path: string; readonly engine: MetaEngine }> {
  const path = join(folderOf(t), 'volume.db');
  const engine = await open(t, path);
  assert.equal(await engine.writeSetting('{}', { trash: true, nowNs }), true);
  return { path, engine };
}

/** The file as another program sees it. */
function query(path: string, sql: string): readonly Record<string, unknown>[] {
  using database = new DatabaseSync(path, { readOnly: true, timeout: 1000 });
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  return statement.all().map((row) => ({ ...row }));
}

const fails = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof UserError && error.code === code && pattern.test(error.message);

test('a new volume has the rows that JuiceFS makes', async (t) => {
  const { path, engine } = await volume(t);
  assert.equal(await engine.writeSetting('{"a":1}', { trash: true, nowNs }), false, 'not a second time');
  assert.equal(await engine.readSetting(), '{}');
  assert.deepEqual(
    query(path, 'SELECT name, value FROM jfs_counter').map((row) => [row['name'], row['value']]),
    [
      ['nextInode', 2n],
      ['nextChunk', 1n],
      ['nextSession', 0n],
      ['usedSpace', 0n],
      ['totalInodes', 0n],
      ['nextCleanupSlices', 0n],
    ],
  );
  const nodes = query(path, 'SELECT inode, type, mode, nlink, length, parent, mtime, mtimensec FROM jfs_node ORDER BY inode');
  const rest = { type: 2n, nlink: 2n, length: 4096n, parent: 1n, mtime: 1_795_256_351_123_456n, mtimensec: 789n };
  assert.deepEqual(nodes, [
    { inode: 1n, mode: 0o777n, ...rest },
    { inode: 9_223_372_032_828_243_968n, mode: 0o555n, ...rest },
  ]);
  assert.deepEqual(query(path, 'PRAGMA journal_mode'), [{ journal_mode: 'wal' }]);
});

test('nodes of the trash, times before 1970 and whole numbers survive the database', async (t) => {
  const { path, engine } = await volume(t);
  const [root] = await engine.read([{ kind: 'node', ino: ROOT_INO }]);
  assert.ok(root);
  const hour = ino(TRASH_INO + 3);
  const attr: Attr = {
    ...root,
    type: NodeType.File,
    parent: hour,
    uid: 4_294_967_294,
    rdev: 4_294_967_295,
    length: 2 ** 52,
    atime: -2,
    atimensec: 999_999_999,
    mtime: -1,
    mtimensec: 1,
    tier: 2,
    accessAcl: 7,
  };
  const name = Buffer.from([0xff, 0x00, 0x41]);
  await engine.commit({
    checks: [],
    writes: [
      { kind: 'putNode', ino: hour, attr },
      { kind: 'putEntry', parent: hour, name, value: { type: NodeType.File, ino: hour } },
      { kind: 'addCounter', name: 'usedSpace', delta: 4096 },
      { kind: 'addDelfile', ino: hour, length: 5, time: 1 },
      { kind: 'addSustained', sid: 9, ino: hour },
    ],
  });
  assert.deepEqual(await engine.lookup(hour, name), { value: { type: NodeType.File, ino: hour }, attr });
  assert.deepEqual(await engine.scanDelfiles(2, 10), [{ ino: hour, length: 5 }]);
  assert.deepEqual(await engine.sustained(9), [hour]);
  assert.deepEqual(await engine.nodes([hour, ino(77)]), [attr, undefined]);
  const columns = ['inode', 'parent', 'uid', 'atime', 'length', 'tier_id'];
  assert.deepEqual(
    query(
      path,
      `SELECT ${columns.map((column) => `typeof(${column}) ${column}`).join(', ')} FROM jfs_node WHERE inode > 1 LIMIT 1`,
    ),
    [Object.fromEntries(columns.map((column) => [column, 'integer']))],
  );
  assert.deepEqual(query(path, "SELECT typeof(value) t, value FROM jfs_counter WHERE name = 'usedSpace'"), [
    { t: 'integer', value: 4096n },
  ]);
});

test('slices that the official client appended as TEXT are read and go on as bytes', async (t) => {
  const { path, engine } = await volume(t);
  const record = (id: number): Buffer => encodeSlices([{ pos: 0, id, size: 0x00ff_0080, off: 0, len: 0xff }]);
  const append = (id: number) =>
    engine.commit({
      checks: [],
      writes: [
        { kind: 'appendSlices', ino: ino(5), index: 0, records: record(id), onlyExisting: false, newSlice: { id, size: 1 } },
      ],
    });
  assert.deepEqual(await append(1), { ok: true, results: [1] });
  {
    using other = new DatabaseSync(path);
    other.prepare('UPDATE jfs_chunk SET slices = slices || ? WHERE inode = 5 AND indx = 0').run(record(2));
    assert.deepEqual({ ...other.prepare('SELECT typeof(slices) t FROM jfs_chunk').get() }, { t: 'text' });
  }
  const read = (): Promise<readonly [Buffer]> => engine.read([{ kind: 'chunk', ino: ino(5), index: 0 }]);
  assert.deepEqual((await read())[0], Buffer.concat([record(1), record(2)]));
  assert.deepEqual(await append(3), { ok: true, results: [3] });
  assert.deepEqual((await read())[0], Buffer.concat([record(1), record(2), record(3)]));
  assert.deepEqual(query(path, 'SELECT typeof(slices) t FROM jfs_chunk'), [{ t: 'blob' }]);
  await engine.commit({
    checks: [],
    writes: [{ kind: 'replaceSlices', ino: ino(5), index: 0, count: 2, records: record(9), newSlice: { id: 9, size: 1 } }],
  });
  assert.deepEqual((await read())[0], Buffer.concat([record(9), record(3)]));
});

test('commits that arrive together are each all or nothing, and one bad one spoils no other', async (t) => {
  const { engine } = await volume(t);
  const add = (name: string, id: number) =>
    engine.commit({
      checks: [{ kind: 'counterAtMost', name: 'guard', value: 10 }],
      writes: [
        { kind: 'addCounter', name, delta: 1 },
        {
          kind: 'appendSlices',
          ino: ino(9),
          index: id,
          records: Buffer.alloc(24),
          onlyExisting: false,
          newSlice: { id, size: 1 },
        },
      ],
    });
  const results = await Promise.allSettled([
    add('a', 1),
    add('b', 1),
    add('c', 2),
    ...Array.from({ length: 200 }, (_, i) => add('d', 10 + i)),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', ...Array.from({ length: 201 }, () => 'fulfilled')],
  );
  const [failed] = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
  assert.ok(failed instanceof FsError && failed.code === 'EIO');
  assert.deepEqual(await engine.read(['a', 'b', 'c', 'd'].map((name) => ({ kind: 'counter', name }) as const)), [1, 0, 1, 200]);
});

test('a database that cannot be used is refused with one sentence each', async (t) => {
  const folder = folderOf(t);
  const at = (name: string, options: SqliteOptions = {}) => open(t, join(folder, name), options);
  await assert.rejects(at('none/volume.db'), fails('NoFolder', /folder .*none of the SQLite database .* does not exist/));
  mkdirSync(join(folder, 'directory'));
  await assert.rejects(at('directory'), fails('NotADatabase', /is not a file/));
  writeFileSync(join(folder, 'text.db'), 'This is no database. '.repeat(100));
  await assert.rejects(at('text.db'), fails('NotADatabase', /text\.db is no SQLite database/));
  await assert.rejects(at('absent.db', { readOnly: true }), fails('NoDatabase', /There is no SQLite database/));
  {
    using holder = new DatabaseSync(join(folder, 'locked.db'));
    holder.exec('CREATE TABLE t (a); PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    await assert.rejects(at('locked.db', { lockTimeout: 50 }), fails('DatabaseLocked', /is locked by another process/));
  }
});

test(
  'a file without write access is refused',
  { skip: process.getuid?.() === 0 ? 'root may write everywhere' : false },
  async (t) => {
    const path = join(folderOf(t), 'volume.db');
    new DatabaseSync(path).close();
    chmodSync(path, 0o444);
    await assert.rejects(open(t, path), fails('DatabaseReadOnly', /no write access/));
  },
);

test('a database opened for reading answers, and refuses to be written', async (t) => {
  const { path } = await volume(t);
  const reader = await open(t, path, { readOnly: true });
  assert.equal(await reader.readSetting(), '{}');
  await assert.rejects(
    reader.commit({ checks: [], writes: [{ kind: 'setCounter', name: 'x', value: 1 }] }),
    (error) => error instanceof FsError && error.code === 'EROFS',
  );
});

test('an operation waits for a lock that is let go, and fails in a sentence where it is not', async (t) => {
  const { path, engine } = await volume(t);
  const impatient = await open(t, path, { lockTimeout: 60 });
  const add = (which: MetaEngine) => which.commit({ checks: [], writes: [{ kind: 'addCounter', name: 'n', delta: 1 }] });
  using other = new DatabaseSync(path);
  other.exec('BEGIN IMMEDIATE');
  await assert.rejects(
    add(impatient),
    (error) =>
      error instanceof FsError &&
      error.code === 'EIO' &&
      error.retryable &&
      /was locked by another process for 60 ms/.test(error.message),
  );
  const patient = add(engine);
  assert.deepEqual(await engine.read([{ kind: 'counter', name: 'n' }]), [0], 'readers do not wait');
  other.exec('COMMIT');
  assert.deepEqual(await patient, { ok: true, results: [1] });
});

test('a volume of an older version gets its missing tables and columns', async (t) => {
  const { path, engine } = await volume(t);
  await engine.close();
  {
    using old = new DatabaseSync(path);
    old.exec('DROP TABLE jfs_change_log; ALTER TABLE jfs_node DROP COLUMN tier_id; ALTER TABLE jfs_node DROP COLUMN mtimensec');
  }
  const again = await open(t, path);
  const [root] = await again.read([{ kind: 'node', ino: ROOT_INO }]);
  assert.deepEqual([root?.tier, root?.mtimensec], [0, 123_456_000]);
  assert.equal(query(path, "SELECT name FROM sqlite_master WHERE name = 'jfs_change_log'").length, 1);
});

test('volumes with different prefixes share a file', async (t) => {
  const path = join(folderOf(t), 'volume.db');
  const engines = await Promise.all(['jfs_', 'jfs_two_'].map((tablePrefix) => openSqlite({ kind: 'sqlite', path, tablePrefix })));
  t.after(() => Promise.all(engines.map((engine) => engine.close())));
  for (const [index, engine] of engines.entries())
    assert.ok(await engine.writeSetting(`{"n":${index}}`, { trash: false, nowNs }));
  await engines[1]?.reset();
  assert.deepEqual(await Promise.all(engines.map((engine) => engine.readSetting())), ['{"n":0}', undefined]);
});

test('a damaged row is an error of the call that met it', async (t) => {
  const { path, engine } = await volume(t);
  {
    using other = new DatabaseSync(path);
    other.exec('UPDATE jfs_node SET length = 9223372036854775807 WHERE inode = 1');
  }
  await assert.rejects(
    engine.read([{ kind: 'node', ino: ROOT_INO }]),
    (error) => error instanceof FsError && error.code === 'EIO' && /holds a value that cannot be/.test(error.message),
  );
  assert.equal(await engine.readSetting(), '{}', 'the next one is served');
});
