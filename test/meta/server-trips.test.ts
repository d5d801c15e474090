/** Round trips of commits on SQL servers, and that what is sent in one is carried out once, however late it comes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { plainFile } from '../../src/meta/testing/sample.ts';
import { type Attr, NodeType } from '../../src/meta/types.ts';
import { Line } from '../line.ts';
import { startMariadb, startPostgres } from '../servers.ts';
import { asAdministrator } from '../sql-servers.ts';

const file: Attr = {
  ...plainFile,
  uid: 7,
  gid: 8,
  atime: 1,
  atimensec: 5,
  mtime: 1,
  mtimensec: 1_999,
  ctime: 1,
  ctimensec: 999_999_999,
};

const name = (number: number): Buffer => Buffer.from(`file ${number}`);

/** Makes a file in the root, as it is made where nothing is known of the name. */
const create = (number: number, root: Attr): Transaction => ({
  checks: [
    { kind: 'node', ino: ROOT_INO, expect: root, scope: 'access' },
    { kind: 'entry', parent: ROOT_INO, name: name(number), expect: undefined },
  ],
  writes: [
    { kind: 'putNode', ino: ino(number), attr: file },
    { kind: 'putEntry', parent: ROOT_INO, name: name(number), value: { ino: ino(number), type: NodeType.File } },
    { kind: 'touchNode', ino: ROOT_INO, sec: number, nsec: 0, nlink: 0 },
  ],
});

/** Adds a slice to it. */
const append = (number: number, expect: Attr): Transaction => ({
  checks: [{ kind: 'node', ino: ino(number), expect, scope: 'all' }],
  writes: [
    {
      kind: 'appendSlices',
      ino: ino(number),
      index: 0,
      records: Buffer.alloc(24, 1),
      onlyExisting: false,
      newSlice: { id: number, size: 100 },
    },
    { kind: 'putNode', ino: ino(number), attr: { ...expect, length: 100 } },
  ],
});

const unlink = (number: number, root: Attr): Transaction => ({
  checks: [
    { kind: 'node', ino: ROOT_INO, expect: root, scope: 'access' },
    { kind: 'entry', parent: ROOT_INO, name: name(number), expect: { ino: ino(number), type: NodeType.File } },
    { kind: 'node', ino: ino(number), expect: { ...file, length: 100 }, scope: 'all' },
  ],
  writes: [
    { kind: 'removeEntry', parent: ROOT_INO, name: name(number) },
    { kind: 'removeNode', ino: ino(number) },
    { kind: 'removeChunk', ino: ino(number), index: 0 },
    { kind: 'addSliceRef', id: number, size: 100, delta: -1 },
    { kind: 'touchNode', ino: ROOT_INO, sec: number, nsec: 1, nlink: 0 },
  ],
});

async function rootOf(engine: MetaEngine): Promise<Attr> {
  const [root] = await engine.nodes([ROOT_INO]);
  assert.ok(root);
  return root;
}

const servers = [
  {
    product: 'PostgreSQL',
    kind: 'postgres',
    start: startPostgres,
    url: (port: number) => `postgres://postgres@127.0.0.1:${port}/postgres?sslmode=disable`,
  },
  {
    product: 'MariaDB',
    kind: 'mysql',
    start: startMariadb,
    url: (port: number) => `mysql://root@(127.0.0.1:${port})/juicefs?tls=false`,
  },
] as const;

describe('round trips', () => {
  for (const { product, start, url } of servers)
    test(`${product}: creating, writing and unlinking are one each, and so is finding out that a check does not hold`, async () => {
      await using server = await start();
      await using line = await Line.start(server.port);
      const engine = await openEngine(`${url(line.port)}&max_open_conns=1`, { environment: {} });
      await engine.writeSetting('{}', { trash: true, nowNs: 1n });
      const root = await rootOf(engine);
      for (const number of [10, 11]) {
        line.take();
        const seen: (readonly [boolean, number])[] = [];
        for (const transaction of [create(number, root), append(number, file), unlink(number, root)]) {
          const { ok } = await engine.commit(transaction);
          seen.push([ok, line.take()]);
        }
        // The second time every statement is known to the server.
        if (number === 11)
          assert.deepEqual(
            seen,
            Array.from({ length: 3 }, () => [true, 1]),
          );
      }
      assert.ok((await engine.commit(create(12, root))).ok);
      line.take();
      const again = await engine.commit(create(12, root));
      assert.ok(!again.ok);
      assert.deepEqual([again.failed, again.current[1], line.take()], [[1], { ino: ino(12), type: NodeType.File }, 1]);
      const stale = await engine.commit(append(12, { ...file, mtime: 5 }));
      assert.ok(!stale.ok);
      assert.deepEqual([stale.failed, stale.current], [[0], [file]]);
      const missing = await engine.commit(append(99, file));
      assert.deepEqual(missing, { ok: false, failed: [0], current: [undefined] });
      await engine.close();
    });
});

for (const { product, kind, start, url } of servers)
  test(`${product}: a commit that was given up and comes late all the same is not carried out again`, async () => {
    await using server = await start();
    await using line = await Line.start(server.port);
    const engine = await openEngine(url(line.port), { environment: {} });
    await engine.writeSetting('{}', { trash: true, nowNs: 1n });
    const stat = (delta: number): Transaction => ({
      checks: [],
      writes: [{ kind: 'addDirStat', ino: ino(5), delta: { length: delta, space: 0, inodes: 0 } }],
    });
    await engine.commit({ checks: [], writes: [{ kind: 'putDirStat', ino: ino(5), value: { length: 0, space: 0, inodes: 0 } }] });
    for (let done = 1; done <= 5; done++) {
      let keeping = true;
      line.keeps = (data) => keeping && data.includes('COMMIT') && !(keeping = false);
      assert.ok((await engine.commit(stat(1))).ok);
      assert.equal(await line.deliver(), 1);
      const [found] = await engine.read([{ kind: 'dirStat', ino: ino(5) }]);
      assert.equal(found?.length, done);
    }
    // What was carried out and not answered is found to be so, by the count that it has left.
    const rows = await asAdministrator(kind, server.port, 'SELECT COUNT(*) FROM jfs_juicepod_commit WHERE number < 0');
    assert.equal(Number(rows[0]?.[0]), 5);
    await engine.close();
  });
