/** Open files of one client and of several: what is committed when, what is told to whom, and what readers and listers see meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { BLOCK, TestVolume } from './clients.ts';
import { refused } from './kernel.ts';

const root = ROOT_INO;
const O_RDONLY = 0;
const O_TRUNC = 0o1000;

/** The next calls of this method are answered late: `release` lets the answers out. `asked` resolves when one is held. */
function hold(volume: TestVolume, method: string): { readonly asked: Promise<void>; release(): void } {
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  volume.metaPlan = (called) => {
    if (called !== method) return undefined;
    // The call itself is made in this turn; whoever waits for `asked` goes on behind it.
    setTimeout(asked.resolve, 20);
    return { answer: answer.promise };
  };
  return {
    asked: asked.promise,
    release: () => {
      volume.metaPlan = () => undefined;
      answer.resolve();
    },
  };
}

test('what was written is read back at once, across chunks, holes and block borders', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino, handle } = await kernel.create(root, 'a');
  const far = 64 * 1024 * 1024 - 10;
  await kernel.write(ino, handle, far, 'over the border of a chunk');
  await kernel.write(ino, handle, 5, 'near');
  assert.equal((await kernel.read(ino, handle, far, 100)).toString(), 'over the border of a chunk');
  assert.equal((await kernel.read(ino, handle, 0, 12)).toString(), '\0\0\0\0\0near\0\0\0');
  assert.equal((await kernel.getattr(ino)).size, far + 26);
  assert.equal((await kernel.read(ino, handle, far + 26, 10)).length, 0);
});

test('a flushed file is whole for another client that opens it then', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const two = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, 'first');
  await one.kernel.flush(ino, handle);
  const opened = await two.kernel.open(ino, O_RDONLY);
  assert.equal((await two.kernel.read(ino, opened.handle, 0, 100)).toString(), 'first');
});

test('the kernel keeps its pages over an open only where nobody changed the file, also while other data is not committed', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const two = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, 'as it was');
  await one.kernel.flush(ino, handle);
  await one.kernel.open(ino, O_RDONLY);
  assert.equal((await one.kernel.open(ino, O_RDONLY)).keepCache, true, 'nothing was changed');
  const other = await two.kernel.open(ino);
  await two.kernel.write(ino, other.handle, 0, 'as it is.');
  await two.kernel.flush(ino, other.handle);
  await one.kernel.write(ino, handle, 1000, 'not committed');
  assert.equal((await one.kernel.open(ino, O_RDONLY)).keepCache, false, 'the other client changed it');
});

test('a file whose bytes were changed and whose time was set back is not taken for unchanged', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const two = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, 'as it was');
  await one.kernel.flush(ino, handle);
  const reader = await one.kernel.open(ino, O_RDONLY);
  assert.equal((await one.kernel.read(ino, reader.handle, 0, 100)).toString(), 'as it was');
  const { mtime, mtimensec } = await one.kernel.getattr(ino);
  const other = await two.kernel.open(ino);
  await two.kernel.write(ino, other.handle, 0, 'as it is.');
  await two.kernel.flush(ino, other.handle);
  await two.kernel.setattr(ino, { mtime: { sec: mtime, nsec: mtimensec } });
  const again = await one.kernel.open(ino, O_RDONLY);
  assert.equal(again.keepCache, false);
  assert.equal((await one.kernel.read(ino, again.handle, 0, 100)).toString(), 'as it is.');
});

for (const [method, ask] of [
  ['getattr', 'GETATTR'],
  ['lookup', 'LOOKUP'],
  ['setattr', 'SETATTR of the mode'],
] as const)
  test(`a commit while ${ask} is under way does not make the file look shorter than it is`, async () => {
    await using volume = await TestVolume.make();
    const { kernel, vfs } = await volume.start();
    const { ino, handle } = await kernel.create(root, 'a');
    await kernel.write(ino, handle, 0, 'ten bytes.');
    const held = hold(volume, method);
    const asked =
      method === 'getattr'
        ? kernel.getattr(ino)
        : method === 'lookup'
          ? kernel.lookup(root, 'a').then(({ attr }) => attr)
          : kernel.setattr(ino, { mode: 0o600 });
    await held.asked;
    await vfs.flushAll();
    held.release();
    const attr = await asked;
    assert.equal(attr.size, 10);
    if (method === 'setattr') assert.equal(attr.mode & 0o777, 0o600);
    assert.equal((await kernel.read(ino, handle, 0, 100)).toString(), 'ten bytes.');
  });

test('a commit while another OPEN is under way does not hide the data from its reads', async () => {
  await using volume = await TestVolume.make();
  const { kernel, vfs } = await volume.start();
  const { ino, handle } = await kernel.create(root, 'a');
  await kernel.write(ino, handle, 0, 'ten bytes.');
  const held = hold(volume, 'open');
  const opening = kernel.open(ino, O_RDONLY);
  await held.asked;
  await vfs.flushAll();
  held.release();
  const opened = await opening;
  assert.equal((await kernel.read(ino, opened.handle, 0, 100)).toString(), 'ten bytes.');
});

test('a listing with attributes that were fetched before a write does not undo it', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino, handle } = await kernel.create(root, 'a');
  const directory = await kernel.opendir(root);
  // The first READDIRPLUS has room for `.` and `..` alone; the batch behind them is fetched then.
  const first = await kernel.readdir(root, directory, 0, 5);
  await kernel.write(ino, handle, 0, 'ten bytes.');
  await kernel.flush(ino, handle);
  const rest = await kernel.readdir(root, directory, first.at(-1)?.offset ?? 0);
  const entry = [...first, ...rest].find(({ name }) => name === 'a');
  assert.ok(entry);
  assert.ok(entry.entry === undefined || entry.entry.attr.size === 10, `the kernel was told ${entry.entry?.attr.size} bytes`);
  assert.equal((await kernel.read(ino, handle, 0, 100)).toString(), 'ten bytes.');
});

test('names that were removed since their batch was fetched are not given with attributes, which would bring them back', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino } = await kernel.mkdir(root, 'd').then(({ attr }) => attr);
  for (const name of ['a', 'b', 'c']) await kernel.create(ino, name);
  const directory = await kernel.opendir(ino);
  const first = await kernel.readdir(ino, directory, 0, 3);
  await kernel.unlink(ino, 'c');
  const rest = await kernel.readdir(ino, directory, first.at(-1)?.offset ?? 0);
  for (const { name, entry } of rest) assert.equal(entry, undefined, name);
  assert.deepEqual(await kernel.list(ino), ['a', 'b']);
});

test('a lost write is told to fsync once, to close each time until then, and to nobody who opened later', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino, handle } = await kernel.create(root, 'a');
  const other = await kernel.open(ino);
  await kernel.write(ino, handle, 0, 'lost');
  volume.storePlan = (operation) => (operation === 'put' ? { kind: 'status', status: 403 } : undefined);
  await assert.rejects(kernel.flush(ino, handle), refused('EIO'));
  // A child that closes the descriptor it was born with must not take the error away from its parent's fsync.
  await assert.rejects(kernel.flush(ino, handle), refused('EIO'));
  await assert.rejects(kernel.fsync(ino, handle), refused('EIO'));
  await kernel.fsync(ino, handle);
  volume.storePlan = () => undefined;
  await kernel.write(ino, handle, 0, 'kept');
  await kernel.fsync(ino, handle);
  const late = await kernel.open(ino);
  await kernel.fsync(ino, late.handle);
  await assert.rejects(kernel.write(ino, other.handle, 0, 'told'), refused('EIO'));
  await kernel.write(ino, other.handle, 0, 'told');
  await kernel.fsync(ino, other.handle);
  assert.equal((await kernel.read(ino, handle, 0, 10)).toString(), 'told');
});

test('the blocks of a commit whose answer was lost are kept: the metadata may name them', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, Buffer.alloc(BLOCK + 10, 'x'));
  volume.metaPlan = (method) =>
    method === 'writeSlice' ? { error: new FsError('EIO', 'the database went away'), applied: true } : undefined;
  await assert.rejects(one.kernel.fsync(ino, handle), refused('EIO'));
  volume.metaPlan = () => undefined;
  await one.close();
  const two = await volume.start();
  const opened = await two.kernel.open(ino, O_RDONLY);
  assert.deepEqual(await two.kernel.read(ino, opened.handle, BLOCK, 100), Buffer.alloc(10, 'x'));
});

test('the blocks of data that could not be committed are deleted, where it is certain that nobody names them', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const two = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, Buffer.alloc(3 * BLOCK, 'x'));
  await two.kernel.unlink(root, 'a');
  await assert.rejects(one.kernel.fsync(ino, handle), refused('EBADF'));
  await one.close();
  await two.close();
  assert.deepEqual(await volume.keys(), []);
});

test('a name that came into being is opened by CREATE and cut to nothing with what was written to it and not committed', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino, handle } = await kernel.create(root, 'a');
  await kernel.write(ino, handle, 0, 'committed');
  await kernel.flush(ino, handle);
  await kernel.write(ino, handle, 100, 'not committed');
  const again = await kernel.create(root, 'a', 0o102 | O_TRUNC);
  assert.equal(again.ino, ino);
  assert.equal((await kernel.getattr(ino)).size, 0);
  await kernel.fsync(ino, handle);
  assert.equal((await kernel.getattr(ino)).size, 0);
});

test('a journal that cannot take the mark of a commit does not stop the file', async () => {
  await using volume = await TestVolume.make();
  let full = false;
  const journal = {
    write: () => ({ index: 0, path: '', users: 0 }),
    clean: () => {
      if (full) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    },
    hold: () => {},
    release: () => {},
    close: () => {},
  };
  const { kernel } = await volume.start({ journal: journal as never });
  const { ino, handle } = await kernel.create(root, 'a');
  full = true;
  await kernel.write(ino, handle, 0, 'one');
  await kernel.fsync(ino, handle);
  await kernel.write(ino, handle, 3, 'two');
  await kernel.fsync(ino, handle);
  assert.equal((await kernel.read(ino, handle, 0, 10)).toString(), 'onetwo');
});
