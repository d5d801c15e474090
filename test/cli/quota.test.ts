/** `juicepod quota` and `juicepod config`: what they set and show, what they refuse, and that a mounted volume obeys them. */
import assert from 'node:assert/strict';
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, statfsSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { errnoName } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { openMeta } from '../../src/meta/open.ts';
import { SYSTEM } from '../../src/meta/types.ts';
import { cannotMount, startMount } from '../mounted.ts';
import { inScratch, refuses, refusesInJson, succeeds, until } from './command.ts';

async function format(folder: string, ...more: readonly string[]): Promise<string> {
  const url = `sqlite3://${join(folder, 'meta.db')}`;
  await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects'), '--trash-days', '0', ...more]);
  return url;
}

const json = async <T>(args: readonly string[]): Promise<T> => JSON.parse(await succeeds([...args, '--output', 'json'])) as T;

test('a quota is set, shown, changed, listed, checked and removed', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder);
    assert.match(await succeeds(['quota', 'list', url]), /There are no quotas/);
    const set = ['quota', 'set', url, '--path', 'projects/a/', '--capacity', '1.5', '--create'];
    assert.match(await succeeds(set), /^\/projects\/a +1\.50 GiB +0 B +0% +unlimited +0$/m);
    await succeeds(['quota', 'set', url, '--path', '/projects/a', '--inodes', '10']);
    assert.deepEqual(await json(['quota', 'get', url, '--path', '/projects/a']), {
      owner: { kind: 'directory', path: '/projects/a' },
      capacity: 1.5 * 2 ** 30,
      inodes: 10,
      usedBytes: 0,
      usedInodes: 0,
    });
    await succeeds(['quota', 'set', url, '--uid', '1000', '--capacity', '500M']);
    await succeeds(['quota', 'set', url, '--gid', '0', '--inodes', '7']);
    const list = await succeeds(['quota', 'ls', url]);
    assert.match(list, /^\/projects\/a .*\nuid:1000 +500 MiB .*\ngid:0 .* 7 +2 +28%$/m);
    const checks = await json<{ consistent: boolean }[]>(['quota', 'check', url]);
    assert.deepEqual([...new Set(checks.map(({ consistent }) => consistent))], [true]);
    await succeeds(['quota', 'delete', url, '--path', '/projects/a']);
    await succeeds(['quota', 'del', url, '--uid', '1000']);
    assert.equal((await json<unknown[]>(['quota', 'list', url])).length, 1);
    await refusesInJson(['quota', 'get', url, '--path', '/projects/a'], 'NoQuota');
  });
});

test('a directory that is made for a quota can be written by those who are to', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder);
    const made = async (path: string): Promise<string> => {
      const meta = await openMeta(url, { backgroundJobs: false, readOnly: true });
      let ino: Ino = ROOT_INO;
      const told: string[] = [];
      for (const name of path.split('/').filter(Boolean)) {
        const { attr, ino: next } = await meta.lookup(SYSTEM, ino, Buffer.from(name));
        told.push(`${attr.mode.toString(8)} ${attr.uid}:${attr.gid}`);
        ino = next;
      }
      await meta.close();
      return told.join(', ');
    };
    const set = async (path: string, ...more: readonly string[]): Promise<string> =>
      succeeds(['quota', 'set', url, '--path', path, '--inodes', '9', '--create', ...more]);
    await set('/open/to/all');
    assert.equal(await made('/open/to/all'), '777 0:0, 777 0:0, 777 0:0');
    await set('/home/alice', '--owner', '1000:2000', '--permissions', '0770');
    assert.equal(await made('/home/alice'), '755 0:0, 770 1000:2000');
    await set('/home/bob', '--owner', '1001:1001');
    assert.equal(await made('/home/bob'), '755 0:0, 755 1001:1001');
    // One that is there stays as it is.
    await set('/home/alice', '--owner', '5:5');
    assert.equal(await made('/home/alice'), '755 0:0, 770 1000:2000');
    const wrong = ['quota', 'set', url, '--path', '/x', '--inodes', '1'];
    await refuses([...wrong, '--owner', '1:1'], /--owner and --permissions are of the directory of --path that --create makes/);
    await refuses([...wrong, '--create', '--owner', 'alice'], /--owner "alice" is not "user:group" in numbers/);
    await refuses([...wrong, '--create', '--permissions', 'rwx'], /--permissions "rwx" are not octal/);
    await refuses(['quota', 'set', url, '--path', '/', '--create'], /say how much: --capacity SIZE, --inodes COUNT/);
  });
});

test('quota says what is wrong with its arguments', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder);
    for (const [args, wanted] of [
      [['set', url], /say whose quota: --path DIRECTORY, --uid USER or --gid GROUP/],
      [['set', url, '--path', '/', '--uid', '5'], /three different quotas/],
      [['set', url, '--uid', '0', '--inodes', '1'], /--uid: wanted a number from 1/],
      [['set', url, '--gid', '4294967296', '--inodes', '1'], /--gid: wanted a number from 0/],
      [['set', url, '--path', '/', '--capacity', 'much'], /--capacity: wanted a size/],
      [['set', url, '--path', '/', '--inodes=-1'], /--inodes: wanted a number from 0/],
      [['set', url, '--path', '/nowhere', '--inodes', '1'], /no directory \/nowhere.*\n {2}Make it with --create/],
      [['set', url, '--path', '/.trash', '--inodes', '1'], /no directory \/\.trash/],
      [['check', url, '--path', '/'], /\/ has no quota/],
      [['list', `sqlite3://${join(folder, 'none.db')}`], /There is no SQLite database/],
    ] as const)
      await refuses(['quota', ...args], wanted);
  });
});

test('the settings of a volume are shown, and changed where they are named', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder, '--secret-key', 'geheim', '--access-key', 'known');
    const shown = await succeeds(['config', url]);
    assert.equal((JSON.parse(shown) as { SecretKey: string }).SecretKey, 'removed');
    const changed = await json<{ changed: string[]; format: Record<string, unknown> }>([
      'config',
      url,
      '--capacity=2T',
      '--inodes=5000',
      '--trash-days=3',
      '--upload-limit=200',
      '--download-limit=1.5G',
      '--user-group-quota',
      '--dir-stats=true',
    ]);
    assert.deepEqual(changed.changed, ['Capacity', 'Inodes', 'UploadLimit', 'DownloadLimit', 'TrashDays', 'UserGroupQuota']);
    const { Capacity, Inodes, TrashDays, UploadLimit, DownloadLimit, UserGroupQuota } = changed.format;
    assert.deepEqual(
      [Capacity, Inodes, TrashDays, UploadLimit, DownloadLimit, UserGroupQuota],
      [2 * 2 ** 40, 5000, 3, 200, 1500, true],
    );
    assert.match(await succeeds(['config', url, '--capacity', '2T']), /Nothing is to be changed/);
    assert.match(await succeeds(['config', url, '--inodes', '0']), /^Inodes: 5000 -> unlimited$/m);
    // A new key is taken over without being shown; the others stay as they are.
    const secret = await succeeds(['config', url, '--secret-key', 'neugeheim']);
    assert.match(secret, /^SecretKey: updated$/m);
    assert.doesNotMatch(secret + readFileSync(join(folder, 'meta.db'), 'latin1'), /neugeheim/);
    const status = await json<{ Setting: { AccessKey: string; Capacity: number } }>(['status', url]);
    assert.deepEqual([status.Setting.AccessKey, status.Setting.Capacity], ['known', 2 * 2 ** 40]);
  });
});

test('config refuses what is wrong, and what should be thought about first', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder);
    await succeeds(['quota', 'set', url, '--path', '/a', '--inodes', '5', '--create']);
    await succeeds(['config', url, '--trash-days', '1']);
    for (const [args, wanted] of [
      [['--capacity', '4096B'], /holds 4\.00 KiB already.*\n.*--yes/],
      [['--inodes', '1'], /holds 1 files and directories already/],
      [['--trash-days', '0'], /the trash is emptied.*\n.*--yes/],
      [['--dir-stats=false'], /a quota of directories.*\n.*Delete them first/],
      [['--dir-stats=maybe'], /--dir-stats: wanted --dir-stats or --dir-stats=false/],
      [['--upload-limit', 'fast'], /--upload-limit: wanted megabits per second/],
      [['--min-client-version', 'new'], /wanted a version/],
      [['--min-client-version', '9.0.0'], /this client itself could not mount.*\n.*--yes/],
      [['--bucket', '/proc/nowhere'], /could not/],
    ] as const)
      await refuses(['config', url, ...args], wanted);
    await succeeds(['config', url, '--trash-days', '0', '--yes']);
    await succeeds(['config', url, '--bucket', join(folder, 'other'), '--force']);
  });
});

/** The error of a call by its name; Node knows none for EDQUOT. */
function errnoOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    return errnoName(-((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

test(
  'a writer that has met its quota, or the end of the volume, goes on when there is more, without a restart',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const url = await format(folder);
      await succeeds(['quota', 'set', url, '--path', '/a', '--capacity', '1M', '--create']);
      await using mounted = await startMount(url, join(folder, 'mnt'), folder, { mount: ['--heartbeat', '1s'] });
      const path = join(mounted.folder, 'a/file');
      const block = Buffer.alloc(64 * 1024, 'x');
      const file = openSync(path, 'a');
      let written = 0;
      /** Writes until it is refused; answers with what. */
      const fill = (): string | undefined =>
        errnoOf(() => {
          for (let count = 0; count < 100; count++) written += writeSync(file, block);
        });
      try {
        assert.equal(fill(), 'EDQUOT');
        assert.equal(written, 1024 * 1024);
        // What was accepted is stored: the refusal came before, not instead.
        fsyncSync(file);
        assert.ok(readFileSync(path).equals(Buffer.alloc(written, 'x')));
        const { blocks, bsize, bavail } = statfsSync(join(mounted.folder, 'a'));
        assert.deepEqual([blocks * bsize, bavail], [1024 * 1024, 0]);
        await succeeds(['quota', 'set', url, '--path', '/a', '--capacity', '2M']);
        await until('the grown quota is noticed', () => {
          fill();
          return written === 2 * 1024 * 1024;
        });
        await succeeds(['config', url, '--capacity', '3M']);
        await succeeds(['quota', 'delete', url, '--path', '/a']);
        await until('the quota is gone and the volume is full', () => fill() === 'ENOSPC');
        assert.equal(written, 3 * 1024 * 1024 - 64 * 1024);
        truncateSync(path, 0);
        assert.equal(
          errnoOf(() => writeSync(file, block)),
          undefined,
        );
        mkdirSync(join(mounted.folder, 'b'));
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      assert.equal(await mounted.unmount(), 0);
    });
  },
);
