/** Local disks that are full: the one with cache and journal fails nothing, the one that is the store says so at fsync. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inScratch, succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume, startMount } from '../mounted.ts';
import { removeFolder } from '../remove-folder.ts';

const MIB = 1024 * 1024;

/** A small file system of its own at a folder. */
function smallDisk(folder: string, mib: number): Disposable & { readonly folder: string; fill(): void; free(): void } {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', folder]);
  const ballast = join(folder, 'ballast');
  return {
    folder,
    fill() {
      const file = openSync(ballast, 'w');
      try {
        for (;;) writeSync(file, Buffer.alloc(4096));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      } finally {
        closeSync(file);
      }
      assert.equal(statfsSync(folder).bfree, 0);
    },
    free: () => rmSync(ballast),
    [Symbol.dispose]: () => void execFileSync('umount', ['-l', folder]),
  };
}

test(
  'a disk with cache and journal that is too small, and then full, fails neither writes nor reads',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      using disk = smallDisk(join(folder, 'cache-disk'), 12);
      await using volume = await freshVolume('sqlite', { mount: ['--cache-dir', disk.folder] });
      // More than the disk holds, in one file and in many.
      const large = randomBytes(40 * MIB);
      writeFileSync(join(volume.folder, 'large'), large);
      disk.fill();
      const small = Array.from({ length: 50 }, (_, index) => ({
        path: join(volume.folder, `small-${index}`),
        data: randomBytes(20_000),
      }));
      const log = openSync(join(volume.folder, 'log'), 'a');
      for (const { path, data } of small) {
        writeFileSync(path, data);
        writeSync(log, `${path}\n`);
      }
      fsyncSync(log);
      disk.free();
      for (const { path } of small) writeSync(log, `${path}\n`);
      closeSync(log);
      assert.ok(readFileSync(join(volume.folder, 'large')).equals(large));
      for (const { path, data } of small) assert.ok(readFileSync(path).equals(data));
      assert.equal(readFileSync(join(volume.folder, 'log'), 'utf8').trimEnd().split('\n').length, 100);
      assert.match(readFileSync(join(volume.work, 'mount.log'), 'utf8'), /the journal of written data has no room/);
    });
  },
);

test('what was answered while the journal had no room is there after the client was killed', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    using disk = smallDisk(join(folder, 'cache-disk'), 4);
    await using volume = await freshVolume('sqlite', { mount: ['--cache-dir', disk.folder] });
    const client = (): number => (JSON.parse(readFileSync(join(volume.folder, '.config'), 'utf8')) as { Pid: number }).Pid;
    const path = join(volume.folder, 'file');
    const other = openSync(join(volume.folder, 'other'), 'w');
    const file = openSync(path, 'w');
    writeSync(other, 'journaled');
    writeSync(file, randomBytes(10_000));
    disk.fill();
    // Written over: what the journal says of the file's beginning must not come back.
    const whole = randomBytes(20_000);
    writeSync(file, whole, 0, whole.length, 0);
    assert.match(readFileSync(join(volume.work, 'mount.log'), 'utf8'), /the journal of written data has no room/);
    const pid = client();
    process.kill(pid, 'SIGKILL');
    await until('another client serves', () => client() !== pid);
    disk.free();
    writeSync(file, ' after', whole.length);
    fsyncSync(file);
    fsyncSync(other);
    closeSync(file);
    closeSync(other);
    assert.ok(readFileSync(path).equals(Buffer.concat([whole, Buffer.from(' after')])));
    assert.equal(readFileSync(join(volume.folder, 'other'), 'utf8'), 'journaled');
  });
});

test(
  'a cache folder that cannot be written makes a mount without cache and journal, not none',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const place = join(folder, 'ro');
      mkdirSync(place);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=64k', 'tmpfs', place]);
      try {
        await using volume = await freshVolume('sqlite', { mount: ['--cache-dir', place] });
        writeFileSync(join(volume.folder, 'file'), 'content');
        assert.equal(readFileSync(join(volume.folder, 'file'), 'utf8'), 'content');
        assert.match(readFileSync(join(volume.work, 'mount.log'), 'utf8'), /no journal of written data can be kept/);
      } finally {
        execFileSync('umount', ['-l', place]);
      }
    });
  },
);

test('a cache folder that is taken away under a mount is only a cache that is gone', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite');
  writeFileSync(join(volume.folder, 'one'), 'first');
  // The client may be writing there: what it adds meanwhile is removed in the next round.
  removeFolder(join(volume.work, 'cache'));
  writeFileSync(join(volume.folder, 'two'), 'second');
  const file = openSync(join(volume.folder, 'three'), 'w');
  for (let round = 0; round < 20; round++) {
    writeSync(file, randomBytes(3 * MIB));
    fsyncSync(file);
  }
  closeSync(file);
  assert.equal(readFileSync(join(volume.folder, 'one'), 'utf8'), 'first');
  assert.equal(readFileSync(join(volume.folder, 'two'), 'utf8'), 'second');
});

test(
  'a store in a folder whose disk is full says ENOSPC at fsync and takes more when there is room again',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      using disk = smallDisk(join(folder, 'store-disk'), 16);
      const url = `sqlite3://${join(folder, 'meta.db')}`;
      await succeeds(['format', url, 'vol-a', '--bucket', join(disk.folder, 'objects'), '--trash-days', '0']);
      await using mounted = await startMount(url, join(folder, 'mnt'), folder);
      const path = join(mounted.folder, 'file');
      writeFileSync(path, 'content');
      disk.fill();
      const file = openSync(join(mounted.folder, 'more'), 'w');
      writeSync(file, randomBytes(MIB));
      assert.throws(() => fsyncSync(file), { code: 'ENOSPC' });
      disk.free();
      const data = randomBytes(MIB);
      writeSync(file, data, 0, MIB, 0);
      fsyncSync(file);
      closeSync(file);
      assert.ok(readFileSync(join(mounted.folder, 'more')).equals(data));
      assert.equal(readFileSync(path, 'utf8'), 'content');
      const left = readdirSync(join(disk.folder, 'objects/vol-a/chunks'), { recursive: true, encoding: 'utf8' });
      assert.deepEqual(
        left.filter((name) => name.includes('.tmp.')),
        [],
        'nothing half-written is left',
      );
    });
  },
);
