/** docs/sync.md, guarantees of hydration. */
import assert from 'node:assert/strict';
import { lstatSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { UserError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { NodeType, SYSTEM } from '../../src/meta/types.ts';
import { World } from './world.ts';

const MIB = 2 ** 20;
const root = process.getuid?.() === 0;

test('H1: the whole tree comes: contents, modes, owners, times, links, empty directories, names that are not UTF-8', async () => {
  await using world = await World.make();
  await world.put('a.txt', 'hello', 0o640);
  await world.put('empty', '');
  await world.put('run.sh', '#!/bin/sh', 0o755);
  await world.mkdir('d', 0o750);
  await world.mkdir('d/empty', 0o700);
  await world.put('d/big', Buffer.alloc(300_000, 'x'));
  await world.symlink('d/link', '../a.txt');
  await world.symlink('dangling', '/nowhere');
  await world.link('a.txt', 'd/a2');
  await world.put(Buffer.from([0x78, 0xff, 0xfe]), 'bytes');
  const a = await world.find('a.txt');
  assert.ok(a);
  await world.meta.setattr(SYSTEM, a.ino, { uid: 1234, gid: 4321, mtime: { sec: 1_600_000_000, nsec: 123_456_789 } });
  const sync = await world.sidecar();
  await sync.hydrate();
  assert.deepEqual(world.pod(), await world.volume());
  const stat = statSync(join(world.tree, 'a.txt'), { bigint: true });
  assert.equal(stat.mtimeNs, 1_600_000_000_123_456_789n);
  assert.equal(stat.ino, statSync(join(world.tree, 'd/a2'), { bigint: true }).ino);
  if (root) assert.deepEqual([stat.uid, stat.gid], [1234n, 4321n]);
  assert.equal(lstatSync(join(world.tree, 'd/empty')).mode & 0o7777, 0o700);
});

test('H1, H5: many small files come as few do, of whatever they are made, though the sidecar dies on the way', async () => {
  await using world = await World.make();
  const BLOCK = 64 * 1024;
  const lengths = [0, 1, 4096, 10_000, BLOCK - 1, BLOCK, BLOCK + 1];
  for (let folder = 0; folder < 3; folder++) {
    await world.mkdir(`d${folder}`, 0o775);
    for (let file = 0; file < 100; file++) {
      const name = Buffer.concat([Buffer.from(`d${folder}/${file}\n `), Buffer.from(file % 2 ? [0xff, 0xfe] : [0x41])]);
      await world.put(name, Buffer.alloc(lengths[file % lengths.length] ?? 0, `${folder}.${file} `), 0o640 + (file % 8));
    }
  }
  const edit = async (path: string, change: (ino: Ino) => Promise<unknown>): Promise<void> => {
    await world.put(path, Buffer.alloc(20_000, 'o'));
    await change((await world.find(path))?.ino as Ino);
  };
  await edit('d0/overwritten', (ino) => world.write(ino, Buffer.from('in the middle'), 9000));
  await edit('d0/longer', (ino) => world.meta.truncate(SYSTEM, ino, 50_000));
  await edit('d0/shorter', (ino) => world.meta.truncate(SYSTEM, ino, 5000));
  await edit('d1/setuid', (ino) => world.meta.setattr(SYSTEM, ino, { mode: 0o4755 }));
  await edit('d1/dressed', (ino) =>
    world.meta.setattr(SYSTEM, ino, { uid: 1234, gid: 4321, mode: 0o6755, mtime: { sec: 1_500_000_000, nsec: 987_654_321 } }),
  );
  await edit('d1/first', () => world.link('d1/first', 'd2/second'));
  let deaths = 0;
  for (world.fuse = 8; ; world.fuse = 8 + deaths) {
    const sync = await world.sidecar();
    const failure = await sync.hydrate().then(
      () => undefined,
      (error: Error) => error.message,
    );
    world.fuse = Number.POSITIVE_INFINITY;
    if (!failure) {
      // Nothing differs: what was noted of each file is what it is.
      await sync.compare();
      assert.deepEqual(sync.status.counts.pull + sync.status.counts.push + sync.status.conflicts, 0);
    }
    await sync.stop();
    if (!failure) break;
    assert.match(failure, /the test ends this sidecar/);
    assert.ok(++deaths < 100);
  }
  assert.ok(deaths > 2, `${deaths} deaths`);
  assert.deepEqual(world.pod(), await world.volume());
  const stat = statSync(join(world.tree, 'd1/dressed'), { bigint: true });
  assert.equal(stat.mtimeNs, 1_500_000_000_987_654_321n);
  if (root) assert.deepEqual([stat.uid, stat.gid], [1234n, 4321n]);
  assert.equal(statSync(join(world.tree, 'd1/first')).ino, statSync(join(world.tree, 'd2/second')).ino);
});

test('H2: holes stay holes, on chunk borders and at the end', async () => {
  await using world = await World.make();
  await world.put('sparse', '');
  const entry = await world.find('sparse');
  assert.ok(entry);
  await world.write(entry.ino, Buffer.from('begin'), 1000);
  await world.write(entry.ino, Buffer.alloc(100_000, 'm'), 64 * MIB - 50_000);
  await world.meta.truncate(SYSTEM, entry.ino, 200 * MIB);
  const sync = await world.sidecar({ sync: { limitMiB: 10 } });
  await sync.hydrate();
  const path = join(world.tree, 'sparse');
  const stat = statSync(path);
  assert.equal(stat.size, 200 * MIB);
  assert.ok(stat.blocks * 512 < MIB, `${stat.blocks * 512} bytes on the disk`);
  assert.ok(readFileSync(path).equals(await world.read(entry.ino)));
});

test('H3: only what is selected comes, with the directories it needs', async () => {
  await using world = await World.make();
  for (const folder of ['train', 'train/1', 'test', 'other']) await world.mkdir(folder);
  for (const file of ['train/1/a.png', 'train/1/a.txt', 'train/b.png', 'test/c.png', 'other/d.txt', 'e.png'])
    await world.put(file, file);
  const sync = await world.sidecar({ sync: { include: ['**/*.png'], exclude: ['test'] } });
  await sync.hydrate();
  assert.deepEqual(Object.keys(world.pod()), ['e.png', 'train/', 'train/1/', 'train/1/a.png', 'train/b.png']);
});

test('H4: what does not fit is refused beforehand, with figures and advice, and nothing is downloaded', async () => {
  await using world = await World.make();
  await world.put('big', Buffer.alloc(3 * MIB, 'x'));
  const sync = await world.sidecar({ sync: { limitMiB: 2 } });
  await assert.rejects(sync.hydrate(), (error: UserError) => {
    assert.equal(error.code, 'TooLarge');
    assert.match(error.message, /default\/sync needs 3 MiB .* limit is 2 MiB; nothing was downloaded/);
    assert.match(error.hint ?? '', /include/);
    return true;
  });
  assert.deepEqual(world.pod(), {});
});

test('H5: a sidecar that dies at any point of hydration is followed by one that finishes it', async () => {
  await using world = await World.make();
  for (let folder = 0; folder < 4; folder++) {
    await world.mkdir(`d${folder}`);
    for (let file = 0; file < 5; file++) await world.put(`d${folder}/f${file}`, `${folder}/${file}`);
  }
  await world.link('d0/f0', 'd1/again');
  let deaths = 0;
  for (let calls = 1; ; calls++) {
    world.fuse = calls;
    const sync = await world.sidecar();
    const done = await sync.hydrate().then(
      () => true,
      () => false,
    );
    await sync.stop();
    if (done) break;
    deaths++;
    assert.ok(calls < 1000);
  }
  assert.ok(deaths > 3, `${deaths} deaths`);
  assert.deepEqual(world.pod(), await world.volume());
});

test('H6: a mount that is read-only is hydrated and nothing is ever written back', async () => {
  await using world = await World.make();
  await world.put('a', 'one');
  const sync = await world.sidecar({ readOnly: true });
  await sync.hydrate();
  writeFileSync(join(world.tree, 'a'), 'two');
  const ending = new AbortController();
  const running = sync.run(ending.signal);
  ending.abort();
  await running;
  assert.deepEqual(await sync.flush(AbortSignal.timeout(5000)), []);
  assert.deepEqual(await world.volume(), { a: '644 one' });
});

test('H7: files are opened up to the group or to all where the application’s user is not known', async () => {
  await using world = await World.make();
  await world.mkdir('d', 0o750);
  await world.put('d/f', 'x', 0o600);
  const sync = await world.sidecar({ sync: { share: 'all' } });
  await sync.hydrate();
  assert.deepEqual(world.pod(), { 'd/': '777', 'd/f': '666 x' });
  writeFileSync(join(world.tree, 'd/f'), 'y');
  await sync.compare();
  assert.deepEqual(await world.volume(), { 'd/': '750', 'd/f': '600 y' }, 'the volume keeps its own modes');
});

test('H8: special files do not come and are counted; they, and extended attributes, stay in the volume when files are written back', async () => {
  await using world = await World.make();
  await world.put('a', 'one');
  const pipe = await world.meta.mknod(SYSTEM, ROOT_INO, Buffer.from('pipe'), NodeType.Fifo, 0o644, 0, 0);
  const a = await world.find('a');
  assert.ok(a);
  await world.meta.setxattr(SYSTEM, a.ino, 'user.note', Buffer.from('kept'), {});
  const sync = await world.sidecar();
  await sync.hydrate();
  assert.deepEqual(Object.keys(world.pod()), ['a']);
  writeFileSync(join(world.tree, 'a'), 'two');
  await sync.compare();
  assert.deepEqual(await sync.flush(AbortSignal.timeout(5000)), []);
  const status = JSON.parse(readFileSync(join(world.folder, 'pod/state/status.json'), 'utf8')) as Record<string, unknown>;
  assert.equal(status['skipped'], 1);
  const after = await world.find('a');
  assert.ok(after && after.ino !== a.ino);
  assert.equal((await world.meta.getxattr(SYSTEM, after.ino, 'user.note')).toString(), 'kept');
  assert.equal((await world.find('pipe'))?.ino, pipe.ino);
});
