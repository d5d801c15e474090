/**
 * A mount whose object store fails: who is told, once; what recovers by itself; and that nothing waits for ever. The line that
 * fails is in this process, so nothing here may wait for the mount synchronously.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, type Mounted, startMount } from '../mounted.ts';
import { type FailingS3, startFailingS3 } from './s3-proxy.ts';

/** A volume on a store that fails on demand; nothing of it is kept in a cache on disk. */
async function failingVolume(store: FailingS3, retries: number): Promise<Mounted> {
  return freshVolume('sqlite', { format: store.format, mount: ['--io-retries', String(retries), '--cache-dir', 'memory'] });
}

/** A second mount of the same volume, without what the first has in memory. */
async function freshMount(volume: Mounted, retries: number): Promise<Mounted> {
  const folder = join(volume.work, `again-${randomBytes(3).toString('hex')}`);
  return startMount(volume.metaUrl, folder, volume.work, {
    mount: ['--io-retries', String(retries), '--cache-dir', 'memory'],
  });
}

const fails =
  (code: string) =>
  (error: unknown): boolean =>
    (error as NodeJS.ErrnoException).code === code;

/** A figure of the client's. */
async function figure(volume: Mounted, name: string): Promise<number> {
  const text = await readFile(join(volume.folder, '.stats'), 'utf8');
  const value = new RegExp(`^juicefs_${name} (\\S+)`, 'm').exec(text)?.[1];
  assert.ok(value !== undefined, `${name} is not in .stats`);
  return Number(value);
}

test(
  'a store that refuses or breaks fails fsync once with EIO, and what is written later is kept',
  { skip: cannotMount },
  async (t) => {
    await using store = await startFailingS3();
    await using volume = await failingVolume(store, 1);
    for (const [what, trouble] of [
      ['answers 403', { status: 403, code: 'AccessDenied' }],
      ['has lost its bucket', { status: 404, code: 'NoSuchBucket' }],
      ['answers 500', { status: 500, code: 'InternalError' }],
      ['cuts every connection', { cut: true }],
    ] as const)
      await t.test(`a store that ${what}`, async () => {
        const path = join(volume.folder, what.replaceAll(' ', '-'));
        await using file = await open(path, 'w');
        await file.write('one');
        await file.sync();
        store.trouble = trouble;
        await file.write('two');
        await assert.rejects(file.sync(), fails('EIO'));
        // Who knows is not told again.
        await file.sync();
        store.trouble = undefined;
        await file.write('three');
        await file.sync();
        // A hole where the lost bytes were, as after a failed write-back of a disk.
        assert.equal(await readFile(path, 'latin1'), 'one\0\0\0three');
        assert.equal(await figure(volume, 'dirty_bytes'), 0);
      });
    assert.match(await readFile(join(volume.work, 'mount.log'), 'utf8'), /written data could not be stored.*AccessDenied/);
  },
);

test('each handle that was open is told of lost data, at close too, and a later one is not', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store, 0);
  const path = join(volume.folder, 'file');
  const writer = await open(path, 'w');
  const other = await open(path, 'r+');
  store.trouble = { status: 403, code: 'AccessDenied', only: 'PUT' };
  await writer.write('lost');
  await assert.rejects(writer.close(), fails('EIO'));
  await assert.rejects(other.sync(), fails('EIO'));
  store.trouble = undefined;
  await other.close();
  await writeFile(path, 'kept');
  assert.equal(await readFile(path, 'utf8'), 'kept');
});

test('a store that is away for a while delays writers and readers, who notice nothing else', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store, 10);
  const content = randomBytes(9 * 1024 * 1024);
  store.trouble = { status: 503, code: 'SlowDown' };
  const written = (async () => {
    await using file = await open(join(volume.folder, 'file'), 'w');
    await file.writeFile(content);
    await file.sync();
  })();
  await until('uploads have failed', () => store.troubled >= 3);
  store.trouble = undefined;
  await written;
  await using again = await freshMount(volume, 10);
  store.trouble = { cut: true };
  const before = store.troubled;
  const read = readFile(join(again.folder, 'file'));
  await until('downloads have failed', () => store.troubled >= before + 2);
  store.trouble = undefined;
  assert.ok((await read).equals(content));
  assert.match(await readFile(join(volume.work, 'mount.log'), 'utf8'), /the object store failed, trying again/);
});

test('reads that fail with the store succeed when it is back', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store, 0);
  await writeFile(join(volume.folder, 'file'), 'content');
  await using again = await freshMount(volume, 0);
  const path = join(again.folder, 'file');
  for (const trouble of [{ status: 500 }, { status: 403, code: 'AccessDenied' }, { cut: true }] as const) {
    store.trouble = trouble;
    await assert.rejects(readFile(path), fails('EIO'));
  }
  store.trouble = undefined;
  assert.equal(await readFile(path, 'utf8'), 'content');
});

test('a slow store is only slow', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store, 0);
  store.trouble = { lateMs: 700 };
  const content = randomBytes(5 * 1024 * 1024);
  await writeFile(join(volume.folder, 'file'), content);
  await using again = await freshMount(volume, 0);
  assert.ok((await readFile(join(again.folder, 'file'))).equals(content));
});

test('a program that waits for a store that never answers can be killed', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store, 10);
  await writeFile(join(volume.folder, 'file'), 'content');
  await using again = await freshMount(volume, 10);
  store.trouble = { silent: true };
  for (const command of [
    ['cat', 'file'],
    ['cp', '/etc/hostname', 'copied'],
    ['dd', 'if=/dev/zero', 'of=synced', 'bs=64K', 'count=1', 'conv=fsync'],
  ]) {
    const before = store.troubled;
    const [program = '', ...args] = command;
    const child = spawn(program, args, { cwd: again.folder, stdio: 'ignore' });
    const ended = new Promise<NodeJS.Signals | null>((done) => child.once('exit', (_code, signal) => done(signal)));
    await until(`the store was asked by ${program}`, () => store.troubled > before);
    child.kill('SIGKILL');
    assert.equal(await ended, 'SIGKILL');
  }
  // What still waits is cut off, tried again, and stored.
  store.release();
});
