/** Dumps of the official client, loaded into every engine: what we dump of that is the same again, byte for byte where it is JSON. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';
import type { Ino } from '../../src/lib/int64.ts';
import { describeEngines, openUrl } from '../meta/engines.ts';
import { contentOf as bytesOf, goldenBytes, GoldenStore, readManifest } from '../meta/golden-volume.ts';
import { contentOf, dumpOf, forms, goldenDump, load } from './engines.ts';

/** Every file of the tree has the content that its manifest says. */
async function assertContents(meta: Meta, volume: string): Promise<void> {
  const store = new GoldenStore(volume, meta.format);
  let files = 0;
  const find = async (path: string): Promise<Ino> => {
    let ino: Ino = ROOT_INO;
    for (const name of path.split('/').filter(Boolean)) ino = (await meta.lookup(SYSTEM, ino, Buffer.from(name, 'latin1'))).ino;
    return ino;
  };
  for (const [path, wanted] of readManifest(volume)) {
    if (path.startsWith('/.trash') || path === '/') continue;
    const ino = await find(path);
    const attr = await meta.getattr(SYSTEM, ino);
    assert.equal(attr.nlink, wanted.nlink, `${path} has as many links`);
    if (wanted.target !== undefined) assert.deepEqual(await meta.readlink(SYSTEM, ino), goldenBytes(wanted.target), path);
    if (attr.type !== NodeType.File || wanted.sha256 === undefined) continue;
    const hash = createHash('sha256');
    for await (const piece of bytesOf(meta, store, ino, attr.length)) hash.update(piece);
    assert.equal(hash.digest('hex'), wanted.sha256, path);
    files++;
  }
  assert.ok(files > 10, `${files} files were compared`);
}

describeEngines('dumps of the official client', (database) => {
  for (const volume of ['redis-full', 'postgres-full'])
    for (const form of forms)
      test(`${volume} as ${form} is loaded, dumped again as it was, and has its files`, async () => {
        const url = database.newUrl();
        const engine = await openUrl(url);
        try {
          const { name } = await load(engine, form, goldenDump(volume, form));
          assert.equal(name, volume);
          assert.equal((await dumpOf(engine, 'json')).toString(), goldenDump(volume, 'json').toString());
          // JSON keeps neither the numbers of access control lists nor statistics: they are made anew.
          if (form === 'binary')
            assert.deepEqual(
              await contentOf('binary', await dumpOf(engine, 'binary')),
              await contentOf('binary', goldenDump(volume, 'binary')),
            );
        } finally {
          await engine.close();
        }
        const meta = await openMeta(url, { readOnly: true });
        try {
          await assertContents(meta, volume);
        } finally {
          await meta.close();
        }
      });

  test('a binary dump keeps files that were open when they were removed, and the next client deletes them', async () => {
    const url = database.newUrl();
    const engine = await openUrl(url);
    try {
      await load(engine, 'binary', goldenDump('redis-live', 'binary'));
      assert.deepEqual(
        await contentOf('json', await dumpOf(engine, 'json')),
        await contentOf('json', goldenDump('redis-live', 'json')),
      );
      const [session] = await engine.sessions();
      assert.equal(session?.sid, 1);
      assert.ok((session?.expire ?? Infinity) <= Date.now() / 1000, 'its session has expired');
      const [ino] = await engine.sustained(1);
      assert.ok(ino);
      const meta = await openMeta(url, { heartbeat: 100 });
      try {
        await meta.newSession('/mnt/next');
        for (let attempt = 0; (await engine.nodes([ino]))[0] && attempt < 200; attempt++)
          await new Promise((done) => setTimeout(done, 50));
        assert.deepEqual(await engine.nodes([ino]), [undefined]);
      } finally {
        await meta.close();
      }
    } finally {
      await engine.close();
    }
  });

  test('a JSON dump leaves such files out, and says so', async () => {
    const engine = await openUrl(database.newUrl());
    try {
      const warnings: string[] = [];
      const onWarning = (message: string): void => void warnings.push(message);
      await load(engine, 'json', goldenDump('redis-live', 'json'), { onWarning });
      assert.match(warnings.join(), /^1 removed files that were still open/);
      const [space, inodes] = await engine.read([
        { kind: 'counter', name: 'usedSpace' },
        { kind: 'counter', name: 'totalInodes' },
      ]);
      const { FSTree } = (await contentOf('json', await dumpOf(engine, 'json'))) as { FSTree: { entries: object } };
      assert.equal(inodes, Object.keys(FSTree.entries).length);
      assert.equal(space, 32_768);
    } finally {
      await engine.close();
    }
  });
});
