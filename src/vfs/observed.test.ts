import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FileSystem, FuseAttr, FuseRequest, Reply } from '../fuse/types.ts';
import { systemClock } from '../lib/clock.ts';
import { errno, FsError } from '../lib/errors.ts';
import { type Ino, ino, VIRTUAL_INO } from '../lib/int64.ts';
import { statsLines } from '../lib/metrics.ts';
import { AccessLog } from './accesslog.ts';
import { observed, OperationStats } from './observed.ts';

const request = { uid: 0, gid: 0, pid: 1 } as FuseRequest;
const reply = { code: 0, bytes: 3, data: () => {}, error: () => {} } as unknown as Reply;

test('the access log tells of what is read, but not of its own readers', async () => {
  const log = new AccessLog(systemClock);
  const inner = { read: (_request: FuseRequest, answer: Reply) => answer.data(Buffer.alloc(3)) } as unknown as FileSystem;
  const outer = observed(inner, new OperationStats(), log);
  const reader = log.open();
  const logFile = ino(VIRTUAL_INO + 1);
  await outer.read?.(request, reply, logFile, 1, 0, 4096);
  await outer.read?.(request, reply, ino(7), 2, 0, 4096);
  await outer.read?.(request, reply, logFile, 1, 0, 4096);
  const lines = (await reader.read(65_536, new AbortController().signal)).toString().trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => / (\w+ \(.*\)): \(3\) - OK/.exec(line)?.[1]),
    ['read (7,4096,0,2)'],
  );
  reader.close();
});

const golden = readFileSync(join(import.meta.dirname, '../../test/golden/redis-live/accesslog.txt'), 'utf8').split('\n');
/** Everything of a line that does not depend on when it was written, for how long it took, and by whom. */
const essence = (line: string): string => line.replace(/^.*?\] /, '').replace(/ <\d+\.\d{6}>$/, '');

const seconds = 1795256293;
const attr = (number: number, mode: number, nlink: number, size: number, atime = seconds): FuseAttr => ({
  ino: ino(number),
  size,
  blocks: 0,
  atime,
  mtime: seconds,
  ctime: seconds,
  atimensec: 0,
  mtimensec: 0,
  ctimensec: 0,
  mode,
  nlink,
  uid: 0,
  gid: 0,
  rdev: 0,
  blksize: 4096,
});
const entry = (...of: Parameters<typeof attr>): Parameters<Reply['entry']>[0] => ({
  attr: attr(...of),
  generation: 1,
  entryTimeout: 1,
  attrTimeout: 1,
});
const name = (text: string): Buffer => Buffer.from(text);

type Method = Exclude<keyof FileSystem, 'forget' | 'destroy'>;
/** A call, what it answers, and the line that the official client wrote for it, as far as is needed to find it. */
const calls: readonly (readonly [string, Method, readonly unknown[], (reply: Reply) => void])[] = [
  ['opendir (1) [fh:57]', 'opendir', [ino(1), 0], (r) => r.opened({ handle: 57 })],
  [
    'readdir (1,65536,0,true)',
    'readdir',
    [ino(1), 57, 0, 65536, true],
    (r) => {
      for (let count = 0; count < 20; count++) if (!r.sink.add(name('x'), ino(2), 8, count)) break;
      r.directory();
    },
  ],
  ['releasedir (1)', 'releasedir', [ino(1), 57], (r) => r.ok()],
  [
    'lookup (1,al)',
    'lookup',
    [ino(1), name('al')],
    () => {
      throw new FsError('ENOENT');
    },
  ],
  ['lookup (1,nosuch)', 'lookup', [ino(1), name('nosuch')], (r) => r.negative(1)],
  [
    'create (1,al,',
    'create',
    [ino(1), name('al'), 0x8241, 0o100644, 0o22],
    (r) => r.created(entry(12, 0o100644, 1, 0), { handle: 58 }),
  ],
  ['flush (12,58,', 'flush', [ino(12), 58, 0x3b8971ae00b31889n], (r) => r.ok()],
  ['write (12,2,0,58)', 'write', [ino(12), 58, 0, name('hi'), false], (r) => r.written(2)],
  ['release (12,58)', 'release', [ino(12), 58, 0, 0n, false], (r) => r.ok()],
  ['open (12,0x8000)', 'open', [ino(12), 0x8000], (r) => r.opened({ handle: 59 })],
  ['getattr (12): (12,[-rw-r--r--', 'getattr', [ino(12), undefined], (r) => r.attr(attr(12, 0o100644, 1, 2), 1)],
  ['read (12,4096,0,59)', 'read', [ino(12), 59, 0, 4096], (r) => r.data(name('hi'))],
  ['mkdir (1,ald,', 'mkdir', [ino(1), name('ald'), 0o755, 0o22], (r) => r.entry(entry(13, 0o40755, 2, 4096))],
  ['rename (1,al,', 'rename', [ino(1), name('al'), ino(13), name('al2'), 1], (r) => r.ok()],
  ['symlink (13,s,t)', 'symlink', [ino(13), name('s'), name('t')], (r) => r.entry(entry(14, 0o120777, 1, 1))],
  ['readlink (14)', 'readlink', [ino(14)], (r) => r.data(name('t'))],
  ['link (12,13,al3)', 'link', [ino(12), ino(13), name('al3')], (r) => r.entry(entry(12, 0o100644, 2, 2))],
  ['setattr (12[0]', 'setattr', [ino(12), { mode: 0o100600 }], (r) => r.attr(attr(12, 0o100600, 2, 2), 1)],
  ['setxattr (12,user.a', 'setxattr', [ino(12), 'user.a', name('v'), 0], (r) => r.ok()],
  ['listxattr (12,0)', 'listxattr', [ino(12), 0], (r) => r.xattrSize(7)],
  ['getxattr (12,user.a,256)', 'getxattr', [ino(12), 'user.a', 256], (r) => r.data(name('v'))],
  ['fallocate (12,', 'fallocate', [ino(12), 62, 0, 9, 0], (r) => r.ok()],
  ['fsync (12,0)', 'fsync', [ino(12), 62, false], (r) => r.ok()],
  [
    'statfs (13)',
    'statfs',
    [ino(13)],
    (r) =>
      r.statfs({
        blocks: (118784 + 1125899906723840) / 4096,
        bavail: 1125899906723840 / 4096,
        bfree: 1125899906723840 / 4096,
        files: 10 + 10485760,
        ffree: 10485760,
        bsize: 4096,
        namelen: 255,
      }),
  ],
  ['unlink (13,al2)', 'unlink', [ino(13), name('al2')], (r) => r.ok()],
  ['rmdir (1,ald)', 'rmdir', [ino(1), name('ald')], (r) => r.ok()],
];

test('lines of the access log are those of the official client', async () => {
  const log = new AccessLog(systemClock);
  let taken = 0;
  const anyReply = new Proxy({} as Reply, {
    get: (_target, key) => (key === 'sink' ? { add: () => ++taken <= 12, addPlus: () => true } : () => undefined),
  });
  const reader = log.open();
  for (const [wanted, method, args, answer] of calls) {
    const inner = { [method]: (_request: FuseRequest, reply: Reply) => answer(reply) } as unknown as FileSystem;
    const outer = observed(inner, new OperationStats(), log) as unknown as Record<string, (...all: unknown[]) => unknown>;
    await outer[method]?.(request, anyReply, ...args);
    const line = (await reader.read(65_536, new AbortController().signal)).toString().trimEnd();
    assert.match(line, /^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d{6} \[uid:0,gid:0,pid:1\] .* <\d+\.\d{6}>$/);
    const theirs = golden.map(essence).find((each) => each.startsWith(wanted));
    assert.equal(essence(line), theirs, wanted);
  }
  reader.close();
});

test('which members a SETATTR sets is told by bits and by name', async () => {
  const log = new AccessLog(systemClock);
  const reader = log.open();
  const inner = { setattr: (_request: FuseRequest, r: Reply) => r.ok() } as unknown as FileSystem;
  const set = { uid: 5, atime: 'now', mtime: { sec: 9, nsec: 1 }, size: 7, handle: 60 } as const;
  await observed(inner, new OperationStats(), log).setattr(request, { ok: () => {} } as unknown as Reply, ino(12), set);
  const line = (await reader.read(65_536, new AbortController().signal)).toString().trimEnd();
  assert.equal(essence(line), 'setattr (12[60],0xFA,[uid=5,atime=NOW,mtime=9,size=7]) - OK');
  reader.close();
});

test('a failed operation is counted by its errno and answered with it', async () => {
  const stats = new OperationStats();
  const inner = {
    rmdir: () => Promise.reject(new FsError('ENOTEMPTY')),
    unlink: () => {
      throw new Error('a defect');
    },
  } as unknown as FileSystem;
  const outer = observed(inner, stats, new AccessLog(systemClock));
  const codes: number[] = [];
  const failing = (): Reply => {
    const given = { code: 0, bytes: 0, error: (code: number) => codes.push((given.code = code)) };
    return given as unknown as Reply;
  };
  await outer.rmdir(request, failing(), ino(1), name('d'));
  await outer.unlink(request, failing(), ino(1), name('f'));
  assert.deepEqual(codes, [errno.ENOTEMPTY, errno.EIO]);
  const lines = statsLines('', stats.families()).split('\n');
  for (const line of ['fuse_ops_total_rmdir 1', 'fuse_ops_io_errors_ENOTEMPTY 1', 'fuse_ops_io_errors_EIO 1'])
    assert.ok(lines.includes(line), line);
});

test('reads and writes are counted with what they moved, reads of virtual files not at all', async () => {
  const stats = new OperationStats();
  const inner = {
    read: async (_request: FuseRequest, r: Reply, _ino: Ino, _handle: number, _offset: number, size: number) => {
      if (size === 0) throw new FsError('EINTR');
      r.data(Buffer.alloc(size));
    },
    write: (_request: FuseRequest, r: Reply, _ino: Ino, _handle: number, _offset: number, data: Buffer) => r.written(data.length),
    lookup: (_request: FuseRequest, r: Reply) => r.negative(1),
  } as unknown as FileSystem;
  const outer = observed(inner, stats, new AccessLog(systemClock));
  const answer = (): Reply => {
    const given = {
      code: 0,
      bytes: 0,
      data: (data: Buffer): void => void (given.bytes = data.length),
      written: (bytes: number): void => void (given.bytes = bytes),
      negative: (): void => void (given.code = errno.ENOENT),
      error: (code: number): void => void (given.code = code),
    };
    return given as unknown as Reply;
  };
  for (const size of [10, 4096, 0]) await outer.read(request, answer(), ino(7), 2, 0, size);
  await outer.read(request, answer(), ino(VIRTUAL_INO + 3), 2, 0, 100);
  await outer.write(request, answer(), ino(7), 2, 0, Buffer.alloc(5000), false);
  await outer.lookup(request, answer(), ino(1), name('x'));
  const lines = statsLines('', stats.families()).split('\n');
  assert.deepEqual(
    lines.filter((line) => !line.includes('durations') && line !== ''),
    [
      'fuse_ops_io_errors_EINTR 1',
      'fuse_ops_io_errors_ENOENT 1',
      'fuse_ops_total_lookup 1',
      'fuse_ops_total_read 3',
      'fuse_ops_total_write 1',
      'fuse_read_size_bytes_total 2',
      'fuse_read_size_bytes_sum 4106',
      'fuse_written_size_bytes_total 1',
      'fuse_written_size_bytes_sum 5000',
    ],
  );
  assert.ok(lines.includes('fuse_ops_durations_histogram_seconds_total 5'));
});
