/** The control protocol: each command through a channel, with what is wrong in a request or forbidden to its caller. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { systemClock } from '../../src/lib/clock.ts';
import { errno } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { openMeta } from '../../src/meta/open.ts';
import { LockType, type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';
import type { ControlHost } from '../../src/vfs/control/call.ts';
import { Control } from '../../src/vfs/control/channel.ts';
import { type Answer, AnswerReader, CacheAction, type CacheAnswer, requests } from '../../src/vfs/control/protocol.ts';
import { BLOCK, type Client, TestVolume } from '../vfs/clients.ts';

const ROOT = { uid: 0, gid: 0, pid: 1 };
const OTHER = { uid: 1000, gid: 1000, pid: 0 };
const CONTROL = 0 as Ino;

interface Mount {
  readonly control: Control;
  readonly meta: Meta;
  readonly names: string[];
  readonly ask: (
    request: Buffer,
    caller?: typeof ROOT & { readonly checkPermission?: boolean },
  ) => Promise<Answer & { readonly progress: readonly (readonly [number, number])[] }>;
}

function mountOf({ meta, chunks, vfs }: Client, more: Partial<ControlHost> = {}): Mount {
  const names: string[] = [];
  const control = new Control({
    meta,
    chunks,
    volume: 'vfs',
    hashPrefix: false,
    root: ROOT_INO,
    readOnly: false,
    clock: { ...systemClock, timer: (ms, callback) => systemClock.timer(ms / 100, callback) },
    logger: nullLogger,
    commitAll: () => vfs.flushAll(),
    nameChanged: (parent, name) => void names.push(`${parent}/${name.toString()}`),
    ...more,
  });
  return {
    control,
    meta,
    names,
    async ask(request, caller = ROOT) {
      const handle = control.open(CONTROL);
      handle.write?.(request, 0, caller);
      const progress: (readonly [number, number])[] = [];
      const reader = new AnswerReader((first, second) => void progress.push([first, second]));
      const { signal } = new AbortController();
      for (let at = request.length; ;) {
        const bytes = await handle.read(at, 100, signal);
        at += bytes.length;
        const answer = bytes.length > 0 ? reader.push(Buffer.from(bytes)) : undefined;
        if (answer) {
          handle.close();
          return { ...answer, progress };
        }
        if (bytes.length === 0) await new Promise((done) => setTimeout(done, 1));
      }
    },
  };
}

/** A directory with files of `blocks` blocks each. */
async function folder({ kernel }: Client, name: string, files: number, blocks = 1, parent = ROOT_INO): Promise<Ino> {
  const { ino } = (await kernel.mkdir(parent, name)).attr;
  for (let at = 0; at < files; at++) {
    const file = await kernel.create(ino, `f${at}`);
    for (let block = 0; block < blocks; block++)
      await kernel.write(file.ino, file.handle, block * BLOCK, Buffer.alloc(BLOCK, at));
    await kernel.fsync(file.ino, file.handle);
    await kernel.release(file.ino, file.handle);
  }
  return ino;
}

const errnoOf = (answer: Answer): number => ('errno' in answer ? answer.errno : 0);
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- what the JSON holds is its reader's to say
const dataOf = <T>(answer: Answer): T => {
  assert.ok('data' in answer, JSON.stringify(answer));
  return answer.data as T;
};

test('rmr, clone and compact do what they are asked for and tell how far they are; the kernel is told of the names', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { ask, meta, names } = mountOf(client);
  const source = await folder(client, 'd', 5, 2);
  const cloned = await ask(
    requests.clone({ inode: BigInt(source), parent: 1n }, 1n, Buffer.from('copy'), { umask: 0o022, preserve: true, threads: 2 }),
  );
  assert.equal(errnoOf(cloned), 0);
  assert.deepEqual(cloned.progress.at(-1), [6, 6]);
  const copy = await meta.lookup(SYSTEM, ROOT_INO, Buffer.from('copy'));
  assert.deepEqual((await client.kernel.list(copy.ino)).toSorted(), ['f0', 'f1', 'f2', 'f3', 'f4']);
  const compacted = await ask(requests.compact(BigInt(source), 3));
  assert.equal(errnoOf(compacted), 0);
  assert.deepEqual(compacted.progress.at(-1), [5, 5]);
  const removed = await ask(requests.rmr(1n, Buffer.from('d'), false, 3));
  assert.equal(errnoOf(removed), 0);
  assert.deepEqual(removed.progress.at(-1), [6, 0]);
  await assert.rejects(meta.lookup(SYSTEM, ROOT_INO, Buffer.from('d')), { code: 'ENOENT' });
  assert.equal(errnoOf(await ask(requests.rmr(1n, Buffer.from('d'), false, 3))), errno.ENOENT);
  assert.deepEqual(names, ['1/copy', '1/d', '1/d']);
});

test('a clone has what was written here and is not stored yet', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { kernel } = client;
  const { ask, meta } = mountOf(client);
  const file = await kernel.create(ROOT_INO, 'f');
  await kernel.write(file.ino, file.handle, 0, 'not stored');
  const options = { umask: 0, preserve: true, threads: 1 };
  assert.equal(errnoOf(await ask(requests.clone({ inode: BigInt(file.ino), parent: 1n }, 1n, Buffer.from('g'), options))), 0);
  assert.equal((await meta.lookup(SYSTEM, ROOT_INO, Buffer.from('g'))).attr.length, 10);
});

test('compaction leaves one slice where there were many', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { kernel } = client;
  const { ask, meta } = mountOf(client);
  const file = await kernel.create(ROOT_INO, 'f');
  for (let at = 0; at < 4; at++) {
    await kernel.write(file.ino, file.handle, at * 1000, Buffer.alloc(1000, at + 1));
    await kernel.fsync(file.ino, file.handle);
  }
  assert.equal((await meta.readChunks([{ ino: file.ino, index: 0 }]))[0]?.length, 4);
  assert.equal(errnoOf(await ask(requests.compact(1n, 2))), 0);
  assert.equal((await meta.readChunks([{ ino: file.ino, index: 0 }]))[0]?.length, 1);
  const bytes = await kernel.read(file.ino, file.handle, 0, 4000);
  for (let at = 0; at < 4; at++) assert.equal(bytes[at * 1000 + 7], at + 1);
});

test('info tells slices or objects, locks and paths; in its old form it is a text', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { ask, meta } = mountOf(client);
  const dir = await folder(client, 'd', 1, 2);
  const { ino } = await meta.lookup(SYSTEM, dir, Buffer.from('f0'));
  await meta.flock(SYSTEM, ino, 0xffff_ffff_ffff_ffffn, LockType.Write, false);
  await meta.setlk(SYSTEM, ino, 5n, { type: LockType.Read, start: 1n, end: 0x7fff_ffff_ffff_ffffn, pid: 9 }, false);
  const request = requests.info(BigInt(ino), false, true, false);
  const info = dataOf<Record<string, unknown>>(await ask(request));
  assert.deepEqual(info['Paths'], ['/d/f0']);
  assert.equal((info['Chunks'] as unknown[]).length, 1);
  assert.deepEqual(info['FLocks'], [{ Sid: client.sid, Owner: 2 ** 64, Type: 'W' }]);
  assert.deepEqual(info['PLocks'], [{ Sid: client.sid, Owner: 5, Type: 0, Pid: 9, Start: 1, End: 2 ** 63 }]);
  const objects = dataOf<{ Objects: unknown[] }>(await ask(requests.info(BigInt(ino), false, false, false))).Objects;
  assert.equal(objects.length, 2);
  // Numbers of 64 bits keep all their digits on the way.
  const trash = { control: mountOf(client).control.open(CONTROL), request: Buffer.from(request) };
  trash.request.writeBigUInt64BE(0x7fff_ffff_1000_0000n, 8);
  trash.control.write?.(trash.request, 0, ROOT);
  for (let text = ''; !text.includes('"Ino":9223372032828243968,');) {
    await new Promise((done) => setTimeout(done, 1));
    text = (await trash.control.read(request.length, 1000, new AbortController().signal)).toString('latin1');
  }
  // 1003, with 8 bytes of inode.
  const legacy = Buffer.alloc(16);
  legacy.writeUInt32BE(1003, 0);
  legacy.writeUInt32BE(8, 4);
  legacy.writeBigUInt64BE(BigInt(ino), 8);
  const handle = mountOf(client).control.open(CONTROL);
  handle.write?.(legacy, 0, ROOT);
  let text = Buffer.alloc(0);
  while (text.length === 0) {
    await new Promise((done) => setTimeout(done, 1));
    text = Buffer.from(await handle.read(16, 1000, new AbortController().signal));
  }
  assert.equal(text.readUInt32BE(0), text.length - 4);
  const lines = text.toString('utf8', 4).split('\n');
  assert.deepEqual(lines.slice(0, 7), [
    `  inode: ${ino}`,
    '  files: 1',
    '   dirs: 0',
    ' length: 128.00 KiB (131072 Bytes)',
    '   size: 128.00 KiB (131072 Bytes)',
    '   path: /d/f0',
    'objects:',
  ]);
  assert.match(lines[7] ?? '', /^\t0:\tvfs\/chunks\/0\/0\/\d+_0_65536\t65536\t0\t65536$/);
});

test('summary tells the largest parts, and of what is not there an errno', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { ask } = mountOf(client);
  const dir = await folder(client, 'd', 3, 2);
  await folder(client, 'sub', 1, 1, dir);
  const answer = dataOf<{ Errno: number; Tree: Record<string, unknown> }>(await ask(requests.summary(BigInt(dir), 2, 2, true)));
  assert.equal(answer.Errno, 0);
  const { Children: children, ...top } = answer.Tree;
  assert.deepEqual(top, { Inode: dir, Path: '', Type: 2, Size: 6 * BLOCK + BLOCK + 8192, Files: 4, Dirs: 2 });
  assert.deepEqual(
    (children as { Path: string; Size: number }[]).map(({ Path, Size }) => [Path, Size]),
    [
      ['f0', 2 * BLOCK],
      ['f1', 2 * BLOCK],
      ['...', 3 * BLOCK + 4096],
    ],
  );
  const missing = dataOf<{ Errno: number }>(await ask(requests.summary(9999n, 2, 2, false)));
  assert.equal(missing.Errno, errno.ENOENT);
});

test('files are brought into the cache, found there, and dropped; paths may be names, links and inodes', async () => {
  await using volume = await TestVolume.make();
  const writer = await volume.start();
  const dir = await folder(writer, 'd', 4, 3);
  await writer.kernel.symlink(ROOT_INO, 'link', 'd/../d');
  await writer.kernel.symlink(ROOT_INO, 'absolute', '/d');
  await writer.kernel.symlink(ROOT_INO, 'loop', 'loop');
  const client = await volume.start();
  let downloads = 0;
  volume.storePlan = (operation) => {
    if (operation === 'get') downloads++;
    return undefined;
  };
  const { ask, control } = mountOf(client);
  const fill = async (paths: readonly string[], action: CacheAction): Promise<CacheAnswer> =>
    dataOf(await ask(requests.fillCache(paths, 4, false, action)));
  const all = { FileCount: 4, SliceCount: 4, TotalBytes: 12 * BLOCK, MissBytes: 0, Locations: {} };
  assert.deepEqual(await fill(['/d'], CacheAction.Check), { ...all, MissBytes: 12 * BLOCK });
  const warmed = await ask(requests.fillCache([`inode:${dir}`], 4, false, CacheAction.Warm));
  assert.deepEqual(dataOf(warmed), all);
  assert.deepEqual(warmed.progress.at(-1), [4, 12 * BLOCK]);
  assert.equal(downloads, 12);
  for (const path of ['/d', 'link/', '/d/./../d'])
    assert.deepEqual(await fill([path], CacheAction.Check), { ...all, Locations: { memory: 12 * BLOCK } }, path);
  assert.deepEqual(await fill(['d'], CacheAction.Warm), all);
  assert.equal(downloads, 12);
  assert.deepEqual(await fill(['d/f1'], CacheAction.Evict), { ...all, FileCount: 1, SliceCount: 1, TotalBytes: 3 * BLOCK });
  assert.equal((await fill(['d'], CacheAction.Check)).MissBytes, 3 * BLOCK);
  const none = { FileCount: 0, SliceCount: 0, TotalBytes: 0, MissBytes: 0, Locations: {} };
  assert.deepEqual(await fill(['nothing', 'absolute', 'loop', '../../etc', 'inode:999', 'd/f0/x', ''], CacheAction.Warm), none);
  // Nobody waits for it.
  assert.deepEqual(dataOf(await ask(requests.fillCache(['d'], 4, true, CacheAction.Warm))), none);
  while ((await fill(['d'], CacheAction.Check)).MissBytes > 0) await new Promise((done) => setTimeout(done, 5));
  await control.close();
});

test('a block that is gone is missed, and the others are brought all the same', async () => {
  await using volume = await TestVolume.make();
  const writer = await volume.start();
  await folder(writer, 'd', 2, 2);
  const [first = ''] = await volume.keys();
  await volume.objects.delete(first);
  const { ask } = mountOf(await volume.start());
  const answer = dataOf<CacheAnswer>(await ask(requests.fillCache(['d'], 4, false, CacheAction.Warm)));
  assert.deepEqual([answer.FileCount, answer.TotalBytes, answer.MissBytes], [2, 4 * BLOCK, BLOCK]);
});

test('a request is taken in pieces, several after each other, and a malformed one is refused', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { control, ask } = mountOf(client);
  const { signal } = new AbortController();
  const handle = control.open(CONTROL);
  const request = requests.info(1n, false, false, false);
  let at = 0;
  for (let round = 0; round < 3; round++) {
    for (const byte of request) handle.write?.(Buffer.from([byte]), at++, ROOT);
    const reader = new AnswerReader();
    for (let answer: Answer | undefined; !answer;) {
      const bytes = await handle.read(at, 7, signal);
      at += bytes.length;
      if (bytes.length > 0) answer = reader.push(Buffer.from(bytes));
      else await new Promise((done) => setTimeout(done, 1));
      if (answer) assert.equal(dataOf<{ Ino: number }>(answer).Ino, 1);
    }
  }
  await assert.rejects(async () => handle.read(0, 10, signal), { code: 'EIO' });
  handle.close();
  for (const [whole, code] of [
    [Buffer.from('0000ffff00000000', 'hex'), errno.EINVAL],
    [Buffer.from('000003ea00000000', 'hex'), errno.EINVAL],
    [Buffer.from('000003ea000000090000000000000001ff', 'hex'), errno.EINVAL],
    [Buffer.from('000003ee00000003000000', 'hex'), errno.EINVAL],
    [Buffer.from('000003f00000000800000000000000ff', 'hex'), errno.EINVAL],
    // One byte more than it says.
    [Buffer.concat([request, Buffer.from([0])]), errno.EIO],
    [requests.rmr(1n, Buffer.alloc(0), false, 1), errno.ENOENT],
    [requests.rmr(2n ** 63n + 5n, Buffer.from('x'), false, 1), errno.ENOENT],
    [requests.rmr(0x7fff_ffff_0000_0002n, Buffer.from('x'), false, 1), errno.ENOENT],
    [requests.compact(77n, 1), errno.ENOENT],
    [requests.fillCache(['/'], 1, false, 9 as CacheAction), errno.EINVAL],
  ] as const)
    assert.equal(errnoOf(await ask(whole)), code, whole.toString('hex'));
  const flood = control.open(CONTROL);
  const megabyte = Buffer.alloc(1 << 20, 0x7f);
  assert.throws(
    () => {
      for (let count = 0; count < 65; count++) flood.write?.(megabyte, count << 20, ROOT);
    },
    { code: 'EAGAIN' },
  );
  flood.close();
  assert.equal(errnoOf(await ask(requests.rmr(1n, Buffer.from('x'), false, 1))), errno.ENOENT);
});

test('closing the channel, or the mount, ends what runs for it', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const { meta } = client;
  const top = (await client.kernel.mkdir(ROOT_INO, 'd')).attr.ino;
  for (let at = 0; at < 400; at++) await meta.mknod(SYSTEM, top, Buffer.from(`f${at}`), NodeType.File, 0o644, 0, 0);
  const before = await meta.usage();
  for (const end of ['channel', 'mount'] as const) {
    const { control } = mountOf(client);
    const handle = control.open(CONTROL);
    const name = Buffer.from('copy');
    const options = { umask: 0, preserve: true, threads: 1 };
    handle.write?.(requests.clone({ inode: BigInt(top), parent: 1n }, 1n, name, options), 0, ROOT);
    // Some of it is made.
    while ((await meta.usage()).inodes <= before.inodes + 30) await new Promise((done) => setTimeout(done, 1));
    if (end === 'channel') handle.close();
    await control.close();
    await assert.rejects(meta.lookup(SYSTEM, ROOT_INO, name), { code: 'ENOENT' });
    assert.deepEqual(await meta.usage(), before);
  }
});

test('who may not is refused: without root, in a read-only mount, and beyond a mounted directory', async () => {
  await using volume = await TestVolume.make();
  const client = await volume.start();
  const top = await folder(client, 'top', 1);
  const inside = await folder(client, 'inside', 1, 1, top);
  const outside = await folder(client, 'outside', 1);
  const { ino: hidden } = await client.meta.lookup(SYSTEM, outside, Buffer.from('f0'));
  const name = Buffer.from('f0');
  const clone = (from: Ino, to: Ino): Buffer =>
    requests.clone({ inode: BigInt(from), parent: 1n }, BigInt(to), Buffer.from('copy'), {
      umask: 0,
      preserve: true,
      threads: 1,
    });
  const whole = mountOf(client);
  assert.equal(errnoOf(await whole.ask(requests.rmr(BigInt(top), name, false, 1), OTHER)), errno.EACCES);
  assert.equal(errnoOf(await whole.ask(requests.rmr(BigInt(top), name, true, 1), OTHER)), errno.EPERM);
  assert.equal(errnoOf(await whole.ask(clone(inside, top), OTHER)), errno.EACCES);

  const part = mountOf(client, { root: top });
  for (const request of [
    requests.rmr(BigInt(outside), name, false, 1),
    clone(hidden, 1 as Ino),
    clone(inside, outside),
    requests.compact(BigInt(outside), 1),
  ])
    assert.equal(errnoOf(await part.ask(request)), errno.ENOENT);
  const info = dataOf<{ Failed: boolean; Reason: string }>(await part.ask(requests.info(BigInt(hidden), false, false, false)));
  assert.deepEqual([info.Failed, info.Reason], [true, 'no such file or directory']);
  const looked = await part.ask(requests.fillCache([`inode:${hidden}`, '../outside', '/outside'], 1, false, CacheAction.Check));
  assert.equal(dataOf<CacheAnswer>(looked).FileCount, 0);
  // Its root has number 1 there, as everywhere.
  const summary = dataOf<{ Tree: { Files: number } }>(await part.ask(requests.summary(1n, 1, 9, true)));
  assert.equal(summary.Tree.Files, 2);
  assert.equal(errnoOf(await part.ask(clone(inside, 1 as Ino))), 0);
  assert.deepEqual((await client.kernel.list(top)).toSorted(), ['copy', 'f0', 'inside']);

  const reader = await openMeta(volume.url, { readOnly: true });
  const frozen = mountOf({ ...client, meta: reader }, { readOnly: true });
  for (const request of [requests.rmr(1n, Buffer.from('top'), false, 1), clone(inside, 1 as Ino), requests.compact(1n, 1)])
    assert.equal(errnoOf(await frozen.ask(request)), errno.EROFS);
  assert.equal(dataOf<{ Failed: boolean }>(await frozen.ask(requests.info(1n, true, false, true))).Failed, false);
  await reader.close();
});

test(
  'the groups of the caller count, but not for whom he is taken',
  { skip: process.getuid?.() !== 0 && 'needs root' },
  async () => {
    await using volume = await TestVolume.make();
    const client = await volume.start();
    const { ask, meta } = mountOf(client);
    const dir = await folder(client, 'd', 1);
    await meta.setattr(SYSTEM, dir, { mode: 0o770, gid: 4242 });
    const child = spawn('setpriv', ['--reuid', '1000', '--regid', '1000', '--groups', '4242', 'sleep', '60'], {
      stdio: 'ignore',
    });
    const pid = child.pid ?? 0;
    try {
      while (!/^Groups:\s*4242/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
        await new Promise((done) => setTimeout(done, 5));
      const caller = { uid: 1000, gid: 1000, pid };
      const request = requests.rmr(BigInt(dir), Buffer.from('f0'), false, 1);
      assert.equal(errnoOf(await ask(request, { ...caller, checkPermission: true })), errno.EACCES);
      assert.equal(errnoOf(await ask(request, { ...caller, pid: 0 })), errno.EACCES);
      assert.equal(errnoOf(await ask(request, caller)), 0);
    } finally {
      child.kill();
    }
  },
);
