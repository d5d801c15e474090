/** A client dies, another one takes its session over: what was acknowledged is there, what was open can be used and closed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { BLOCK, TestVolume } from './clients.ts';
import { refused } from './kernel.ts';

const root = ROOT_INO;

test('acknowledged writes of a dead client are there for its handles, and durable for others', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const { ino, handle } = await first.kernel.create(root, 'a');
  await first.kernel.write(ino, handle, 0, 'acknowledged');
  first.crash();
  const second = await mount.start();
  assert.deepEqual(second.recovered, { handles: 1, writes: 1 });
  const other = await volume.start();
  const opened = await other.kernel.open(ino, 0);
  assert.equal((await other.kernel.read(ino, opened.handle, 0, 100)).toString(), 'acknowledged');
  await second.kernel.write(ino, handle, 12, ', and more');
  assert.equal((await second.kernel.read(ino, handle, 0, 100)).toString(), 'acknowledged, and more');
});

test('a file that was closed before its client died is not held open by the next one', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const { ino, handle } = await first.kernel.create(root, 'a');
  await first.kernel.write(ino, handle, 0, Buffer.alloc(BLOCK * 2, 'x'));
  // The kernel sends RELEASE without waiting for the commit.
  void first.kernel.release(ino, handle);
  first.crash();
  const second = await mount.start();
  assert.equal(second.recovered.handles, 0);
  const opened = await second.kernel.open(ino, 0);
  assert.equal((await second.kernel.read(ino, opened.handle, 0, 10)).toString(), 'x'.repeat(10));
  await second.kernel.release(ino, opened.handle);
  await second.kernel.unlink(root, 'a');
  await second.vfs.flushAll();
  await second.close();
  assert.deepEqual(await volume.keys(), [], 'its blocks go with its name');
});

test('a file that was removed by others while its writer was dead does not keep the rest from being taken over', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const gone = await first.kernel.create(root, 'gone');
  const kept = await first.kernel.create(root, 'kept');
  await first.kernel.write(gone.ino, gone.handle, 0, 'gone');
  await first.kernel.write(kept.ino, kept.handle, 0, 'kept');
  first.crash();
  const other = await volume.start();
  await other.kernel.unlink(root, 'gone');
  const second = await mount.start();
  assert.equal((await second.kernel.read(kept.ino, kept.handle, 0, 10)).toString(), 'kept');
  await assert.rejects(second.kernel.write(gone.ino, gone.handle, 0, 'x'), refused('EBADF'));
  await second.kernel.release(gone.ino, gone.handle);
});

test('a file without a name lives until the successor closes it, and its blocks no longer', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const { ino, handle } = await first.kernel.create(root, 'a');
  await first.kernel.write(ino, handle, 0, Buffer.alloc(BLOCK, 'x'));
  await first.kernel.fsync(ino, handle);
  await first.kernel.unlink(root, 'a');
  first.crash();
  const second = await mount.start();
  assert.equal((await second.kernel.read(ino, handle, 0, 3)).toString(), 'xxx');
  await second.kernel.release(ino, handle);
  await second.close(true);
  assert.deepEqual(await volume.keys(), []);
});

test('a successor that dies while it takes over leaves everything to the third', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  volume.storeStops = () => true;
  const a = await first.kernel.create(root, 'a');
  const b = await first.kernel.create(root, 'b');
  const data = ['x', 'y', 'z'].map((letter) => Buffer.alloc(2 * BLOCK, letter)) as [Buffer, Buffer, Buffer];
  await first.kernel.write(a.ino, a.handle, 0, data[0]);
  await first.kernel.write(b.ino, b.handle, 0, data[1]);
  await first.kernel.write(a.ino, a.handle, 4 * BLOCK, data[2]);
  first.crash();
  // The second has little memory, and a store that stops after the first write: that one is committed, the last not even taken.
  let puts = 0;
  volume.storeStops = () => ++puts > 2;
  const committed = Promise.withResolvers<void>();
  volume.metaPlan = (method) => {
    if (method === 'writeSlice') setTimeout(committed.resolve, 50);
    return undefined;
  };
  void mount.start({ bufferBytes: BLOCK });
  await committed.promise;
  volume.metaPlan = () => undefined;
  volume.storeStops = () => false;
  const third = await mount.start();
  assert.deepEqual(await third.kernel.read(a.ino, a.handle, 0, 2 * BLOCK), data[0]);
  assert.deepEqual(await third.kernel.read(b.ino, b.handle, 0, 2 * BLOCK), data[1]);
  assert.deepEqual(await third.kernel.read(a.ino, a.handle, 4 * BLOCK, 2 * BLOCK), data[2]);
});

test('the number of a handle that was not noted may be used again, and its late RELEASE ends nobody else', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const { attr } = await first.kernel.lookup(root, '.stats');
  const virtual = await first.kernel.open(attr.ino, 0);
  first.crash();
  const second = await mount.start();
  const { ino, handle } = await second.kernel.create(root, 'a');
  assert.equal(handle, virtual.handle, 'the numbers meet, else this shows nothing');
  await second.kernel.release(attr.ino, virtual.handle);
  await second.kernel.write(ino, handle, 0, 'still open');
});

test('a file without a name outlives its client, can still be named, and goes with its last close', async () => {
  await using volume = await TestVolume.make();
  const mount = volume.mount();
  const first = await mount.start();
  const [a, b] = [await first.kernel.tmpfile(root), await first.kernel.tmpfile(root)];
  assert.equal(a.attr.nlink, 0);
  await first.kernel.write(a.ino, a.handle, 0, 'kept');
  await first.kernel.fsync(a.ino, a.handle);
  first.crash();
  const second = await mount.start();
  assert.equal((await second.kernel.read(a.ino, a.handle, 0, 10)).toString(), 'kept');
  assert.equal((await second.kernel.link(a.ino, root, 'name')).attr.nlink, 1);
  await second.kernel.release(a.ino, a.handle);
  await second.kernel.release(b.ino, b.handle);
  await second.vfs.flushAll();
  assert.equal((await second.kernel.lookup(root, 'name')).attr.ino, a.ino);
  await assert.rejects(second.kernel.getattr(b.ino), refused('ENOENT'));
});
