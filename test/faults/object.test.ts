/** A mount whose object store fails: who is told, once; what recovers by itself; and that nothing waits for ever. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../cli/command.ts';
import { cannotMount, freshVolume, type Mounted } from '../mounted.ts';
import { type FailingS3, startFailingS3 } from './s3-proxy.ts';

/** A volume on a store that fails on demand, with few retries; nothing of it is kept in a cache on disk. */
async function failingVolume(store: FailingS3, retries = 1): Promise<Mounted> {
  return freshVolume('sqlite', { format: store.format, mount: ['--io-retries', String(retries), '--cache-size', '0'] });
}

const fails =
  (code: string) =>
  (error: unknown): boolean =>
    (error as NodeJS.ErrnoException).code === code;

/** How much the client has of something. */
function figure(volume: Mounted, name: string): number {
  return Number(new RegExp(`^juicefs_${name} (\\S+)`, 'm').exec(readFileSync(join(volume.folder, '.stats'), 'utf8'))?.[1]);
}

for (const [what, trouble] of [
  ['answers 403', { status: 403, code: 'AccessDenied' }],
  ['answers 404 to its bucket', { status: 404, code: 'NoSuchBucket' }],
  ['answers 500', { status: 500, code: 'InternalError' }],
  ['cuts every connection', { cut: true }],
] as const)
  test(
    `a store that ${what} fails fsync once with EIO; what is written when it is back is kept`,
    { skip: cannotMount },
    async () => {
      await using store = await startFailingS3();
      await using volume = await failingVolume(store);
      const path = join(volume.folder, 'file');
      const file = openSync(path, 'w');
      try {
        writeSync(file, 'one');
        fsyncSync(file);
        store.trouble = trouble;
        writeSync(file, 'two');
        assert.throws(() => fsyncSync(file), fails('EIO'));
        // Told once: it is not forgotten who knows.
        fsyncSync(file);
        store.trouble = undefined;
        writeSync(file, 'three');
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      // A hole where the lost bytes were, as after a failed write-back of the kernel.
      assert.equal(readFileSync(path, 'latin1'), 'one\0\0\0three');
      const log = readFileSync(join(volume.work, 'mount.log'), 'utf8');
      assert.match(log, /written data could not be stored/);
      assert.equal(figure(volume, 'dirty_bytes'), 0);
      assert.equal(figure(volume, 'used_buffer_size_bytes') < 64 * 1024 * 1024, true);
    },
  );

test('each handle that was open is told of lost data, at close too, and a later one is not', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store);
  const path = join(volume.folder, 'file');
  const writer = openSync(path, 'w');
  const other = openSync(path, 'r+');
  store.trouble = { status: 403, code: 'AccessDenied', only: 'PUT' };
  writeSync(writer, 'lost');
  assert.throws(() => closeSync(writer), fails('EIO'));
  assert.throws(() => fsyncSync(other), fails('EIO'));
  store.trouble = undefined;
  closeSync(other);
  writeFileSync(path, 'kept');
  assert.equal(readFileSync(path, 'utf8'), 'kept');
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
  // Nothing of it is in a cache: the mount that reads it is another one.
  await using again = await freshMount(volume);
  store.trouble = { cut: true };
  const before = store.troubled;
  const read = readFile(join(again.folder, 'file'));
  await until('downloads have failed', () => store.troubled >= before + 2);
  store.trouble = undefined;
  assert.ok((await read).equals(content));
});

test('reads that fail with the store succeed when it is back', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store);
  writeFileSync(join(volume.folder, 'file'), 'content');
  await using again = await freshMount(volume, ['--io-retries', '0']);
  const path = join(again.folder, 'file');
  for (const trouble of [{ status: 500 }, { status: 403, code: 'AccessDenied' }, { cut: true }] as const) {
    store.trouble = trouble;
    assert.throws(() => readFileSync(path), fails('EIO'));
  }
  store.trouble = undefined;
  assert.equal(readFileSync(path, 'utf8'), 'content');
});

test('a slow store is only slow', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store);
  store.trouble = { lateMs: 700 };
  const content = randomBytes(5 * 1024 * 1024);
  writeFileSync(join(volume.folder, 'file'), content);
  await using again = await freshMount(volume);
  assert.ok(readFileSync(join(again.folder, 'file')).equals(content));
});

test('a program that waits for a store that never answers can be killed', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await failingVolume(store);
  writeFileSync(join(volume.folder, 'file'), 'content');
  await using again = await freshMount(volume);
  store.trouble = { silent: true };
  for (const command of ['cat file', 'echo more > other', 'dd if=/dev/zero of=third bs=64K count=1 conv=fsync']) {
    const before = store.troubled;
    const child = execFile('sh', ['-c', `exec ${command.replace('echo', '/bin/echo')}`], { cwd: again.folder });
    const ended = new Promise<void>((done) => child.once('exit', () => done()));
    await until('the store was asked', () => store.troubled > before);
    child.kill('SIGKILL');
    await ended;
  }
  store.trouble = undefined;
});

/** A second mount of the same volume, without what the first has in memory. */
async function freshMount(volume: Mounted, options: readonly string[] = ['--io-retries', '10']): Promise<Mounted> {
  const { startMount } = await import('../mounted.ts');
  const folder = join(volume.work, `again-${randomBytes(3).toString('hex')}`);
  return startMount(volume.metaUrl, folder, volume.work, {
    mount: [...options, '--cache-dir', join(volume.work, 'cache-again'), '--cache-size', '0'],
  });
}
