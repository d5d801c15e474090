/**
 * Mounts with write-back: what `fsync` has answered is on the disk of the cache, whatever becomes of client, holder and store, and in the
 * store as soon as somebody can put it there. And limits that come and go under a mount.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseFormat, serialiseFormat } from '../../src/meta/format.ts';
import { openEngine } from '../../src/meta/open.ts';
import { commandLines, succeeds, until } from '../cli/command.ts';
import { cannotMount, clearMounts, freshVolume, mountBeside, type Mounted } from '../mounted.ts';
import { startFailingS3 } from './s3-proxy.ts';

const MIB = 1024 * 1024;
const LATER = ['--writeback', '--upload-delay', '1h'];

interface Config {
  readonly Pid: number;
  readonly Chunk: { readonly UploadLimit: number; readonly DownloadLimit: number };
}

const configOf = (folder: string): Config => JSON.parse(readFileSync(join(folder, '.config'), 'utf8')) as Config;
const figure = (folder: string, name: string): number =>
  Number(new RegExp(`^juicefs_${name} (.*)$`, 'm').exec(readFileSync(join(folder, '.stats'), 'utf8'))?.[1]);

function blocksIn(folder: string): number {
  if (!existsSync(folder)) return 0;
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && /^\d+_\d+_\d+$/.test(entry.name),
  ).length;
}
const stored = ({ work }: Mounted): number => blocksIn(join(work, 'store'));

async function writeSynced(path: string, data: Buffer): Promise<void> {
  const file = await open(path, 'w');
  await file.write(data);
  await file.sync();
  await file.close();
}

test(
  'a client that is killed leaves what it staged to the one that follows, under an open file',
  { skip: cannotMount },
  async () => {
    await using volume = await freshVolume('redis', { mount: LATER });
    const data = randomBytes(9 * MIB);
    const file = await open(join(volume.folder, 'file'), 'w+');
    await file.write(data);
    await file.sync();
    assert.equal(stored(volume), 0);
    const first = configOf(volume.folder).Pid;
    process.kill(first, 'SIGKILL');
    await until('another client serves', () => {
      try {
        return configOf(volume.folder).Pid !== first;
      } catch {
        return false;
      }
    });
    assert.equal(figure(volume.folder, 'staging_block_bytes'), data.length);
    const read = Buffer.alloc(data.length);
    await file.read(read, 0, read.length, 0);
    assert.ok(read.equals(data));
    await file.write('more', data.length);
    await file.sync();
    await file.close();
    assert.equal(readFileSync(join(volume.folder, 'file'), 'latin1').slice(-4), 'more');
    assert.equal(stored(volume), 0);
    assert.equal(await volume.unmount(), 0);
  },
);

test('after SIGKILL of client and holder the next mount reads and uploads what was synced', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('redis', { mount: LATER });
  const data = randomBytes(9 * MIB);
  await writeSynced(join(volume.folder, 'file'), data);
  const pids = [volume.child.pid ?? 0, configOf(volume.folder).Pid];
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until('both are gone', () => commandLines().every(({ pid }) => !pids.includes(pid)));
  await clearMounts(volume.folder);
  assert.equal(stored(volume), 0);
  await using again = await mountBeside(volume, 'again', { mount: ['--writeback'] });
  assert.ok(readFileSync(join(again.folder, 'file')).equals(data));
  await until('everything is uploaded', () => figure(again.folder, 'staging_blocks') === 0);
  assert.equal(stored(again), 3);
});

test('while the store is away programs go on, and all of it is there when it is back', { skip: cannotMount }, async () => {
  await using store = await startFailingS3();
  await using volume = await freshVolume('sqlite', { format: store.format, mount: ['--writeback', '--io-retries', '1'] });
  // The store is a part of this process: whatever waits for it must not be waited for synchronously.
  store.trouble = { status: 503 };
  const data = randomBytes(5 * MIB);
  await writeSynced(join(volume.folder, 'file'), data);
  assert.ok((await readFile(join(volume.folder, 'file'))).equals(data));
  await writeSynced(join(volume.folder, 'removed'), data);
  await unlink(join(volume.folder, 'removed'));
  await until('uploads fail', () => figure(volume.folder, 'object_request_errors') > 0);
  assert.ok(figure(volume.folder, 'staging_blocks') >= 2);
  store.release();
  const said = await succeeds(['umount', volume.folder, '--flush']);
  assert.doesNotMatch(said, /staged/);
  await using elsewhere = await mountBeside(volume, 'elsewhere', {
    mount: ['--cache-dir', join(volume.work, 'cache-of-another')],
  });
  assert.ok((await readFile(join(elsewhere.folder, 'file'))).equals(data), 'a client without that cache directory');
});

test('umount says what is left staged, and where', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite', { mount: LATER });
  await writeSynced(join(volume.folder, 'file'), randomBytes(5 * MIB));
  const said = JSON.parse(await succeeds(['umount', volume.folder, '--output', 'json'])) as { staged: { blocks: number } };
  assert.equal(said.staged.blocks, 2);
});

test('limits in the volume’s settings are taken up by a mount, and given up again', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite', { mount: ['--heartbeat', '1s', '--download-limit', '16'] });
  const limits = (): unknown => {
    const { UploadLimit, DownloadLimit } = configOf(volume.folder).Chunk;
    return { UploadLimit, DownloadLimit };
  };
  const own = 1_700_000;
  assert.deepEqual(limits(), { UploadLimit: 0, DownloadLimit: own });
  const set = async (uploadLimit: number): Promise<void> => {
    const engine = await openEngine(volume.metaUrl, { existing: true });
    const format = parseFormat((await engine.readSetting()) ?? '');
    await engine.writeSetting(serialiseFormat({ ...format, uploadLimit, downloadLimit: 800 }));
    await engine.close();
  };
  await set(8);
  await until('the limit is taken up', () => configOf(volume.folder).Chunk.UploadLimit === 850_000);
  assert.deepEqual(limits(), { UploadLimit: 850_000, DownloadLimit: own }, 'the mount’s own comes first');
  writeFileSync(join(volume.folder, 'file'), randomBytes(100_000));
  await set(0);
  await until('the limit is given up', () => configOf(volume.folder).Chunk.UploadLimit === 0);
});

test('a mount with a limit of operations works, more slowly', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite', {
    mount: ['--max-metadata-ops', '20', '--attr-cache', '0', '--entry-cache', '0'],
  });
  const begun = performance.now();
  for (let count = 0; count < 15; count++) writeFileSync(join(volume.folder, String(count)), 'x');
  assert.equal(readdirSync(volume.folder).filter((name) => /^\d+$/.test(name)).length, 15);
  // No speed: only that it was held back at all. 15 files are at least 30 operations; 20 go at once.
  assert.ok(performance.now() - begun > 100);
  assert.equal(await volume.unmount(), 0);
});
