/** How a mount ends: told to with data not yet stored, or killed with everything that holds it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { commandLines, succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume, fuseMounts, startMount } from '../mounted.ts';
import { startFailingS3 } from './s3-proxy.ts';

const MIB = 1024 * 1024;
const client = (folder: string): number => (JSON.parse(readFileSync(join(folder, '.config'), 'utf8')) as { Pid: number }).Pid;
const gone = (pid: number): boolean => !existsSync(`/proc/${pid}`);

for (const [engine, signal] of [
  ['redis', 'SIGTERM'],
  ['sqlite', 'SIGINT'],
] as const)
  test(`${signal} to a mount over ${engine} with data in its buffers stores all of it`, { skip: cannotMount }, async () => {
    await using volume = await freshVolume(engine);
    const data = randomBytes(24 * MIB);
    writeFileSync(join(volume.folder, 'whole'), data);
    // Open, not synced, in several slices.
    const file = openSync(join(volume.folder, 'open'), 'w');
    writeSync(file, data, 0, 10 * MIB, 0);
    writeSync(file, data, 0, 100, 70 * MIB);
    const ended = new Promise<number | null>((done) => volume.child.once('exit', done));
    volume.child.kill(signal);
    assert.equal(await ended, 0);
    try {
      closeSync(file);
    } catch {
      // The mount is over; closing may say so.
    }
    assert.deepEqual(fuseMounts(volume.folder), []);
    await using again = await startMount(volume.metaUrl, volume.folder, volume.work);
    assert.ok(readFileSync(join(again.folder, 'whole')).equals(data));
    const read = readFileSync(join(again.folder, 'open'));
    assert.equal(read.length, 70 * MIB + 100);
    assert.ok(read.subarray(0, 10 * MIB).equals(data.subarray(0, 10 * MIB)));
    assert.ok(read.subarray(70 * MIB).equals(data.subarray(0, 100)));
    assert.ok(read.subarray(10 * MIB, 70 * MIB).equals(Buffer.alloc(60 * MIB)));
  });

test(
  'after SIGKILL of client and holder, what was synced is there, and the dead mount point can be mounted on',
  { skip: cannotMount },
  async () => {
    await using volume = await freshVolume('redis');
    const data = randomBytes(9 * MIB);
    mkdirSync(join(volume.folder, 'directory'));
    const file = openSync(join(volume.folder, 'directory/synced'), 'w');
    writeSync(file, data);
    fsyncSync(file);
    writeSync(file, 'not synced');
    const pids = [volume.child.pid ?? 0, client(volume.folder)];
    // Both at once, so that neither can do anything about the other.
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await until('both are gone', () => pids.every(gone) || commandLines().every(({ pid }) => !pids.includes(pid)));
    try {
      closeSync(file);
    } catch {
      // Nobody serves it.
    }
    assert.equal(fuseMounts(volume.folder).length, 1, 'a dead mount is left');
    assert.throws(() => readFileSync(join(volume.folder, 'directory/synced')), { code: 'ENOTCONN' });
    await using again = await remount(volume.metaUrl, volume.folder, volume.work);
    assert.equal(fuseMounts(volume.folder).length, 1);
    const read = readFileSync(join(again.folder, 'directory/synced'));
    assert.ok(read.subarray(0, data.length).equals(data));
  },
);

test('umount takes away a dead mount', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite');
  const pids = [volume.child.pid ?? 0, client(volume.folder)];
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until('both are gone', () => pids.every(gone) || commandLines().every(({ pid }) => !pids.includes(pid)));
  await succeeds(['umount', volume.folder]);
  assert.deepEqual(fuseMounts(volume.folder), []);
});

test(
  'a mount told to end while its store is away ends in time, not with 0, and says what that means',
  { skip: cannotMount },
  async () => {
    await using store = await startFailingS3();
    await using volume = await freshVolume('sqlite', { format: store.format, mount: ['--io-retries', '2'] });
    const file = await open(join(volume.folder, 'file'), 'w');
    store.trouble = { status: 500 };
    await file.write('lost');
    const ended = new Promise<number | null>((done) => volume.child.once('exit', done));
    volume.child.kill('SIGTERM');
    assert.notEqual(await ended, 0);
    await file.close().catch(() => {});
    assert.deepEqual(fuseMounts(volume.folder), []);
    assert.match(readFileSync(join(volume.work, 'mount.log'), 'utf8'), /written data could not be stored/);
  },
);

/** Mounts where a dead mount is: `startMount` looks for one, so this waits until it answers. */
async function remount(metaUrl: string, folder: string, work: string): ReturnType<typeof startMount> {
  await succeeds(['mount', metaUrl, folder, '--cache-dir', join(work, 'cache'), '-d', '--log', join(work, 'again.log')]);
  const pid = commandLines().find(({ text }) => text.includes(' supervise ') && text.includes(folder))?.pid;
  assert.ok(pid !== undefined);
  const unmount = async (): Promise<number> => {
    await succeeds(['umount', folder]);
    return 0;
  };
  return {
    folder,
    metaUrl,
    work,
    child: undefined as never,
    unmount,
    [Symbol.asyncDispose]: async () => void (await unmount()),
  };
}
