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
  // The store does not answer, so that nothing is committed.
  volume.storePlan = () => ({ kind: 'slow', ms: 10_000_000 });
  const { ino, handle } = await first.kernel.create(root, 'a');
  const parts = ['a', 'b', 'c'].map((letter) => Buffer.alloc(2 * BLOCK, letter));
  for (const [index, part] of parts.entries()) await first.kernel.write(ino, handle, index * 4 * BLOCK, part);
  first.crash();
  volume.storePlan = () => undefined;
  // The second has so little memory that it commits each write before it takes the next; it comes as far as the second one.
  const reached = Promise.withResolvers<void>();
  let commits = 0;
  volume.metaPlan = (method) => {
    if (method !== 'writeSlice' || ++commits < 2) return undefined;
    reached.resolve();
    return { answer: new Promise(() => {}) };
  };
  void mount.start({ bufferBytes: BLOCK });
  await reached.promise;
  volume.metaPlan = () => undefined;
  const third = await mount.start();
  for (const [index, part] of parts.entries())
    assert.deepEqual(await third.kernel.read(ino, handle, index * 4 * BLOCK, part.length), part);
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
