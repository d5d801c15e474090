import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FileSystem, FuseRequest, Reply } from '../fuse/types.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { context } from './nodes.ts';
import { squashed } from './squash.ts';

const reply = {} as Reply;
const signal = new AbortController().signal;
const requestOf = (uid: number): FuseRequest => ({ unique: 7, uid, gid: uid, pid: 99, resent: true, signal, park() {} });

/** A file system that notes who asks. */
function noting(): { readonly seen: unknown[]; readonly fileSystem: FileSystem } {
  const seen: unknown[] = [];
  const note = (request: FuseRequest, _reply: Reply, ino: Ino): void => void seen.push([context(request), ino]);
  return { seen, fileSystem: { getattr: note, open: note, forget: (ino: Ino) => void seen.push(ino) } as unknown as FileSystem };
}

test('root is taken for the account, whose permissions are checked; others stay who they are', () => {
  const { seen, fileSystem } = noting();
  const outer = squashed(fileSystem, { account: { uid: 65_534, gid: 1000 }, everybody: false });
  void outer.getattr(requestOf(0), reply, ROOT_INO, undefined);
  void outer.open(requestOf(5), reply, ROOT_INO, 0);
  outer.forget?.(ROOT_INO, 1);
  assert.deepEqual(seen, [
    [{ uid: 65_534, gid: 1000, pid: 99, checkPermission: true }, ROOT_INO],
    [{ uid: 5, gid: 5, pid: 99 }, ROOT_INO],
    ROOT_INO,
  ]);
  assert.ok(!outer.ioctl, 'what there is not stays so');
});

test('everybody is taken for the account, with the request that was made', () => {
  let inner: FuseRequest | undefined;
  const fileSystem = { open: (request: FuseRequest) => void (inner = request) } as unknown as FileSystem;
  const outer = squashed(fileSystem, { account: { uid: 5, gid: 6 }, everybody: true });
  void outer.open(requestOf(1000), reply, ROOT_INO, 0);
  assert.deepEqual(
    [inner?.uid, inner?.gid, inner?.pid, inner?.unique, inner?.resent, inner?.signal],
    [5, 6, 99, 7, true, signal],
  );
});
