/** Mounts of a directory of a volume: how it is made, and what a mount that only reads does about it. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findRoot } from '../../src/client/root.ts';
import { openVolume as openClient } from '../../src/client/volume.ts';
import type { VolumeOptions } from '../../src/client/volume-options.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine } from '../../src/meta/open.ts';
import type { Attr, Meta } from '../../src/meta/types.ts';
import { succeeds } from '../cli/command.ts';
import { describeEngines } from '../meta/engines.ts';
import { name, openVolume, ROOT_USER } from '../meta/volume.ts';
import { cannotMount } from '../mounted.ts';
import { TestKernel } from '../vfs/kernel.ts';
import { startPodProcesses } from './pod.ts';
import { removeFolder } from '../remove-folder.ts';

const claim = { uid: 1000, gid: 2000, mode: 0o2770 };

async function at(meta: Meta, path: string): Promise<Attr> {
  let ino: Ino = ROOT_INO;
  let attr = await meta.getattr(ROOT_USER, ino);
  for (const part of path.split('/')) ({ ino, attr } = await meta.lookup(ROOT_USER, ino, name(part)));
  return attr;
}

const shown = ({ uid, gid, mode }: Attr): object => ({ uid, gid, mode });

describeEngines('a directory of a volume as a root', (database) => {
  test('is made with owner and mode, and what leads to it is writable by root alone', async (t) => {
    const { meta } = await openVolume(t, database.newUrl());
    await findRoot(meta, { subPath: 'claims/team/alice', directory: claim, readOnly: false });
    assert.deepEqual(shown(await at(meta, 'claims/team/alice')), claim);
    for (const above of ['claims', 'claims/team'])
      assert.deepEqual(shown(await at(meta, above)), { uid: 0, gid: 0, mode: 0o755 });
  });

  test('is left as it is where it exists', async (t) => {
    const { meta } = await openVolume(t, database.newUrl());
    const { ino } = await meta.mkdir({ ...ROOT_USER, uid: 7, gid: 8 }, ROOT_INO, name('claims'), 0o700, 0);
    assert.equal(await findRoot(meta, { subPath: 'claims', directory: claim, readOnly: false }), ino);
    assert.deepEqual(shown(await at(meta, 'claims')), { uid: 7, gid: 8, mode: 0o700 });
  });

  test('is made once by clients that come at the same time', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const clients = await Promise.all(Array.from({ length: 6 }, () => volume.another()));
    const roots = await Promise.all(
      clients.map((meta) => findRoot(meta, { subPath: 'a/b/c', directory: claim, readOnly: false })),
    );
    assert.equal(new Set(roots).size, 1);
    assert.deepEqual(shown(await at(clients[0]!, 'a/b/c')), claim);
  });

  test('has the group it shall have below a directory that gives its own to all', async (t) => {
    const { meta } = await openVolume(t, database.newUrl());
    await meta.mkdir({ ...ROOT_USER, gid: 55 }, ROOT_INO, name('shared'), 0o2777, 0);
    const directory = { uid: 1000, gid: 2000, mode: 0o750 };
    await findRoot(meta, { subPath: 'shared/alice', directory, readOnly: false });
    assert.deepEqual(shown(await at(meta, 'shared/alice')), directory);
  });

  test('that is missing is named by a mount that only reads, and not made', async (t) => {
    const volume = await openVolume(t, database.newUrl());
    const { meta } = volume;
    await meta.mkdir(ROOT_USER, ROOT_INO, name('there'), 0o755, 0);
    const reader = await volume.another({ readOnly: true });
    await assert.rejects(findRoot(reader, { subPath: 'there/missing/deep', readOnly: true }), {
      code: 'SubPathMissing',
      message: 'the directory /there/missing is not in the volume test-volume',
    });
    await assert.rejects(at(meta, 'there/missing'), { code: 'ENOENT' });
  });

  test('cannot be a file', async (t) => {
    const { meta } = await openVolume(t, database.newUrl());
    await meta.mknod(ROOT_USER, ROOT_INO, name('file'), 1, 0o644, 0, 0);
    for (const subPath of ['file', 'file/below'])
      await assert.rejects(findRoot(meta, { subPath, readOnly: false }), { code: 'SubPathInvalid' });
  });
});

test('a mount that only reads answers every change with EROFS itself, and reads', async (t) => {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-read-only-'));
  t.after(() => removeFolder(work));
  const metaUrl = `sqlite3://${join(work, 'meta.db')}`;
  const engine = await openEngine(metaUrl);
  await formatVolume(
    engine,
    newFormat({ name: 'testvol', storage: 'file', bucket: `${work}/store/`, trashDays: 0 }, systemRandom),
  );
  await engine.close();
  const options: VolumeOptions = {
    metaUrl,
    mountPoint: '/mnt',
    subPath: '',
    readOnly: false,
    xattr: true,
    hideInternal: true,
    attrTimeout: 1,
    entryTimeout: 1,
    dirEntryTimeout: 1,
    negativeTimeout: 0,
    bufferBytes: 64 << 20,
    readaheadBytes: 1 << 20,
    maxUploads: 4,
    maxDownloads: 4,
    heartbeatMs: 12_000,
    backgroundJobs: false,
  };
  const open = async (more: Partial<VolumeOptions>): Promise<TestKernel> => {
    const volume = await openClient({ ...options, ...more });
    t.after(() => volume.close(false));
    return new TestKernel(volume.fileSystem);
  };
  const writer = await open({});
  const file = await writer.create(ROOT_INO, 'file');
  await writer.write(file.ino, file.handle, 0, 'content');
  await writer.flush(file.ino, file.handle);
  const folder = await writer.mkdir(ROOT_INO, 'folder');

  const reader = await open({ readOnly: true });
  const changes: Readonly<Record<string, () => Promise<unknown>>> = {
    create: () => reader.create(ROOT_INO, 'new'),
    mkdir: () => reader.mkdir(ROOT_INO, 'new'),
    symlink: () => reader.symlink(ROOT_INO, 'new', 'target'),
    mknod: () => reader.mknod(ROOT_INO, 'new', 0o100644),
    link: () => reader.link(file.ino, ROOT_INO, 'new'),
    unlink: () => reader.unlink(ROOT_INO, 'file'),
    rmdir: () => reader.rmdir(ROOT_INO, 'folder'),
    rename: () => reader.rename(ROOT_INO, 'file', folder.attr.ino, 'file'),
    'open to write': () => reader.open(file.ino, 0o1),
    'open to truncate': () => reader.open(file.ino, 0o1001),
    chmod: () => reader.setattr(file.ino, { mode: 0o600 }),
    truncate: () => reader.setattr(file.ino, { size: 0 }),
    setxattr: () => reader.setxattr(file.ino, 'user.name', 'value'),
    removexattr: () => reader.removexattr(file.ino, 'user.name'),
  };
  for (const [what, change] of Object.entries(changes)) await assert.rejects(change(), { code: 'EROFS' }, what);
  const { handle } = await reader.open(file.ino, 0);
  assert.equal((await reader.read(file.ino, handle, 0, 100)).toString(), 'content');
  // A handle that was opened to read is none to write with.
  await assert.rejects(reader.write(file.ino, handle, 0, 'other'), { code: 'EROFS' });
  await assert.rejects(reader.fallocate(file.ino, handle, 0, 100, 0), { code: 'EROFS' });
  assert.deepEqual((await reader.list(ROOT_INO)).toSorted(), ['file', 'folder']);
});

test(
  'in a pod, a directory is made as the plan says, and one that is missing ends a client that only reads with a sentence',
  { skip: cannotMount },
  async (t) => {
    const work = mkdtempSync(join(tmpdir(), 'juicepod-sub-path-'));
    t.after(() => removeFolder(work));
    const metaUrl = `sqlite3://${join(work, 'meta.db')}`;
    await succeeds(['format', metaUrl, 'testvol', '--bucket', join(work, 'store')]);
    const status = JSON.parse(await succeeds(['status', metaUrl, '--output', 'json'])) as { Setting: { UUID: string } };
    const config = { name: 'testvol', uuid: status.Setting.UUID, metaUrl };
    {
      const directory = { uid: 1234, gid: 4321, mode: 0o770 };
      await using pod = await startPodProcesses(config, { mounts: [{ subPath: 'claims/alice', directory }, {}] });
      const [claim = '', whole = ''] = pod.targets;
      const { uid, gid, mode } = statSync(claim);
      assert.deepEqual({ uid, gid, mode: mode & 0o7777 }, directory);
      writeFileSync(join(claim, 'file'), 'content');
      assert.equal(readFileSync(join(whole, 'claims/alice/file'), 'utf8'), 'content');
    }
    await using reading = await startPodProcesses({ ...config, readOnly: true }, { mounts: [{ subPath: 'claims/alice' }] });
    assert.throws(() => writeFileSync(join(reading.targets[0] ?? '', 'file'), 'other'), { code: 'EROFS' });
    await using missing = await startPodProcesses(config, {
      mounts: [{ subPath: 'claims/bob', readOnly: true }],
      answers: false,
    });
    assert.equal(await missing.client.ended, 1);
    assert.match(missing.log(), /the directory \/claims\/bob is not in the volume testvol\n.*The mount is read-only/);
  },
);
