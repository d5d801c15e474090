/** Virtual files as applications and the official tools use them; the control protocol against recorded answers of the official client. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { type Answer, AnswerReader } from '../../src/vfs/control/protocol.ts';
import { type Client, TestVolume } from './clients.ts';
import { refused } from './kernel.ts';

const root = ROOT_INO;
interface Recorded {
  readonly case: string;
  readonly request: string;
  readonly response: string;
}
const recorded = JSON.parse(
  readFileSync(join(import.meta.dirname, '../golden/control/control.json'), 'utf8'),
) as readonly Recorded[];

/** The JSON of an answer. */
function dataOf(answer: Answer | undefined): object {
  assert.ok(answer && 'data' in answer);
  return answer.data as object;
}

function lastProgress(answer: Buffer): readonly number[] {
  let last: readonly number[] = [];
  new AnswerReader((...progress) => void (last = progress)).push(answer);
  return last;
}

/** Sends a request as the tools do: written, and asked for at the offset behind it until there is something. */
async function ask({ kernel }: Client, request: Buffer, parent = root): Promise<Buffer> {
  const { attr } = await kernel.lookup(parent, '.control');
  const { handle, directIo } = await kernel.open(attr.ino, 2);
  assert.equal(directIo, true);
  await kernel.write(attr.ino, handle, 0, request);
  for (;;) {
    const answer = await kernel.read(attr.ino, handle, request.length, 65_536);
    if (answer.length > 0 && new AnswerReader().push(answer)) {
      await kernel.release(attr.ino, handle);
      return answer;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

test('.control answers as the official client did on the same tree', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start({ volume: 'control' });
  const { kernel } = client;
  const ctl = (await kernel.mkdir(root, 'ctl')).attr.ino;
  const sub = (await kernel.mkdir(ctl, 'sub')).attr.ino;
  const files = [await kernel.create(sub, 'f0'), await kernel.create(sub, 'f1'), await kernel.create(sub, 'f2')];
  for (const { ino, handle } of files) {
    await kernel.write(ino, handle, 0, Buffer.alloc(70_000, 'x'));
    await kernel.fsync(ino, handle);
  }
  const many = await kernel.create(ctl, 'many');
  await kernel.write(many.ino, many.handle, 0, Buffer.alloc(4500, 'y'));
  await kernel.fsync(many.ino, many.handle);
  assert.ok(recorded.length >= 4);
  for (const { case: name, request, response } of recorded) {
    // In any directory it is the same file.
    const answer = await ask(client, Buffer.from(request, 'hex'), name === 'info-file' ? sub : root);
    const theirs = Buffer.from(response, 'hex');
    if (name === 'unknown') {
      assert.deepEqual(answer, theirs, name);
      continue;
    }
    const comparable = (data: Buffer): unknown => ({
      // The last item of progress, if any: how many there are, the clock says.
      progress: lastProgress(data),
      // The storage class of an object is the store's to tell; this client does not ask for it.
      json: { ...dataOf(new AnswerReader().push(data)), Tier: undefined },
    });
    assert.deepEqual(comparable(answer), comparable(theirs), name);
  }
});

test('an answer that is not whole yet is told from one that is', async () => {
  const whole = Buffer.from(recorded.find((each) => each.case === 'info-file')?.response ?? '', 'hex');
  assert.ok(dataOf(new AnswerReader().push(whole)));
  for (const cut of [0, 17, 18, 22, whole.length - 1]) {
    const reader = new AnswerReader();
    assert.equal(reader.push(whole.subarray(0, cut)), undefined, `${cut} bytes`);
    assert.deepEqual(reader.push(whole.subarray(cut)), new AnswerReader().push(whole));
  }
  assert.deepEqual(new AnswerReader().push(Buffer.from([22])), { errno: 22 });
});

test('virtual files are listed in the root alone, cannot be made, removed or changed, and hide where they are told to', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino } = (await kernel.mkdir(root, 'd')).attr;
  const handle = await kernel.opendir(root);
  const names = (await kernel.readdir(root, handle, 0)).map(({ name }) => name);
  assert.deepEqual(names, ['.', '..', '.accesslog', '.stats', '.config', 'd']);
  assert.deepEqual(await kernel.list(ino), []);
  await assert.rejects(kernel.create(root, '.stats'), refused('EPERM'));
  await assert.rejects(kernel.unlink(root, '.config'), refused('EPERM'));
  await assert.rejects(kernel.rename(root, 'd', root, '.accesslog'), refused('EPERM'));
  await assert.rejects(kernel.mkdir(ino, '.control'), refused('EPERM'));
  // Elsewhere the other names are ordinary ones.
  await kernel.mkdir(ino, '.stats');
  const stats = (await kernel.lookup(root, '.stats')).attr;
  await assert.rejects(kernel.open(stats.ino, 1), refused('EACCES'));
  const opened = await kernel.open(stats.ino, 0);
  assert.equal((await kernel.read(stats.ino, opened.handle, 0, 4096)).toString(), 'juicefs_uptime 1\n');
  await assert.rejects(kernel.write(stats.ino, opened.handle, 0, 'x'), refused('EBADF'));
  const hidden = await volume.start({ hideInternal: true });
  assert.deepEqual(await hidden.kernel.list(root), ['d']);
});

test('a read-only mount refuses every change, and reads all the same', async () => {
  await using volume = await TestVolume.make();
  const one = await volume.start();
  const { ino, handle } = await one.kernel.create(root, 'a');
  await one.kernel.write(ino, handle, 0, 'text');
  await one.kernel.fsync(ino, handle);
  const { kernel } = await volume.start({ readOnly: true });
  const opened = await kernel.open(ino, 0);
  assert.equal((await kernel.read(ino, opened.handle, 0, 10)).toString(), 'text');
  for (const change of [
    kernel.open(ino, 2),
    kernel.create(root, 'b'),
    kernel.mkdir(root, 'b'),
    kernel.symlink(root, 'b', 'a'),
    kernel.mknod(root, 'b', 0o010644),
    kernel.link(ino, root, 'b'),
    kernel.unlink(root, 'a'),
    kernel.rename(root, 'a', root, 'b'),
    kernel.setattr(ino, { mode: 0o600 }),
    kernel.fallocate(ino, opened.handle, 0, 10, 0),
    kernel.setxattr(ino, 'user.a', 'b'),
    kernel.removexattr(ino, 'user.a'),
  ])
    await assert.rejects(change, refused('EROFS'));
});

test('extended attributes: sizes are told, values kept, kinds that are not kept refused', async () => {
  await using volume = await TestVolume.make();
  const { kernel } = await volume.start();
  const { ino } = await kernel.create(root, 'a');
  await kernel.setxattr(ino, 'user.a', 'value');
  await assert.rejects(kernel.setxattr(ino, 'user.a', 'again', 1), refused('EEXIST'));
  await assert.rejects(kernel.setxattr(ino, 'user.b', 'none', 2), refused('ENODATA'));
  await assert.rejects(kernel.setxattr(ino, 'security.capability', 'x'), refused('ENOTSUP'));
  await assert.rejects(kernel.setxattr(ino, 'user.big', Buffer.alloc(65_537)), refused('E2BIG'));
  assert.equal(await kernel.getxattr(ino, 'user.a', 0), 5);
  assert.equal((await kernel.getxattr(ino, 'user.a', 100)).toString(), 'value');
  await assert.rejects(kernel.getxattr(ino, 'user.a', 4), refused('ERANGE'));
  await assert.rejects(kernel.getxattr(ino, 'security.capability', 100), refused('ENODATA'));
  assert.equal((await kernel.listxattr(ino, 100)).toString(), 'user.a\0');
  await kernel.removexattr(ino, 'user.a');
  await assert.rejects(kernel.getxattr(ino, 'user.a', 100), refused('ENODATA'));
});

test('a directory shown as the root is the root: its `..`, its attributes, and what is in it', async () => {
  await using volume = await TestVolume.make();
  const whole = await volume.start();
  const top = (await whole.kernel.mkdir(root, 'top')).attr.ino;
  const below = (await whole.kernel.mkdir(top, 'below')).attr.ino;
  const { kernel } = await volume.start({ root: top });
  assert.equal((await kernel.getattr(root)).ino, root);
  assert.equal((await kernel.lookup(root, 'below')).attr.ino, below);
  const handle = await kernel.opendir(below);
  const listed = await kernel.readdir(below, handle, 0);
  assert.deepEqual(
    listed.map(({ name, ino }) => [name, ino]),
    [
      ['.', below],
      ['..', root],
    ],
  );
  await kernel.create(root, 'new');
  assert.deepEqual((await whole.kernel.list(top)).toSorted(), ['below', 'new']);
});
