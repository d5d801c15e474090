/** `juicepod mount`, `umount` and `info` as a person uses them, on real mounts: what comes up, what is refused, what is left. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { cannotMount, freshVolume, fuseMounts, mountBeside, startMount } from '../mounted.ts';
import { freePort, startRedis, startS3 } from '../servers.ts';
import { bin, commandLines, inScratch, refuses, refusesInJson, run, succeeds, until } from './command.ts';

const exec = promisify(execFile);

/** A volume over SQLite in a folder; answers its metadata URL. */
async function volumeIn(folder: string): Promise<string> {
  const url = `sqlite3://${join(folder, 'meta.db')}`;
  await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects')]);
  return url;
}

const cacheIn = (folder: string): readonly string[] => ['--cache-dir', join(folder, 'cache')];

test(
  'mount -d answers when the mount does, keeps a log, and umount ends it with everything stored',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const url = await volumeIn(folder);
      const log = join(folder, 'logs/mount.log');
      // Neither the mount point nor the folders of log and cache are there yet.
      const target = join(folder, 'not/yet/there');
      const mount = ['mount', url, target, ...cacheIn(folder), '-d', '--log', log];
      const mounted = JSON.parse(await succeeds([...mount, '--output', 'json'])) as {
        mounted: string;
        volume: string;
        pid: number;
      };
      assert.equal(mounted.mounted, target);
      assert.equal(mounted.volume, 'vol-a');
      writeFileSync(join(target, 'file'), 'content');
      await refuses(mount, /is a mount of JuiceFS:vol-a already/);
      await refusesInJson(mount, 'AlreadyMounted');
      assert.equal(fuseMounts(target).length, 1);

      const info = JSON.parse(await succeeds(['info', join(target, 'file'), '--output', 'json'])) as {
        Summary: { Length: number };
      }[];
      assert.equal(info[0]?.Summary.Length, 7);
      assert.match(await succeeds(['info', '--recursive', target]), /files +1/);
      const status = JSON.parse(await succeeds(['status', url, '--output', 'json'])) as { Sessions: { MountPoint: string }[] };
      assert.deepEqual(
        status.Sessions.map(({ MountPoint }) => MountPoint),
        [target],
      );

      writeFileSync(join(target, 'last'), 'written just before');
      assert.match(await succeeds(['umount', target]), /^Unmounted/);
      assert.deepEqual(fuseMounts(folder), []);
      await until('the process of the mount has ended', () => !existsSync(`/proc/${mounted.pid}`));
      for (const line of readFileSync(log, 'utf8').trimEnd().split('\n')) JSON.parse(line);
      await refuses(['umount', target], /is not a mounted volume/);

      await succeeds(mount);
      assert.equal(readFileSync(join(target, 'last'), 'utf8'), 'written just before');
      await succeeds(['umount', target]);
    });
  },
);

test(
  'what makes a mount impossible is told in one sentence, and nothing is left mounted or running',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const url = await volumeIn(folder);
      const target = join(folder, 'mnt');
      const file = join(folder, 'file');
      writeFileSync(file, '');
      writeFileSync(join(folder, 'empty.db'), '');
      const port = await freePort();
      await using redis = await startRedis();
      await using guarded = await startRedis(['--requirepass', 'another']);
      const locked = `redis://:pw-4711@127.0.0.1:${guarded.port}/0`;
      for (const background of [[], ['-d', '--log', join(folder, 'log')]])
        for (const [args, wanted] of [
          [[url, file], /MOUNTPOINT: .*\/file is no folder.*there is a file in its place/],
          [[url, join(file, 'below')], /MOUNTPOINT: .* is no folder/],
          [[url, '/'], /root directory cannot be mounted on/],
          [[url, target, '--read-only', '--subdir', 'no/such'], /directory \/no is not in the volume/],
          [[url, target, '--cache-dir', file], /--cache-dir: .* is no folder/],
          [[`sqlite3://${folder}/empty.db`, target], /holds no volume/],
          [[redis.url(3), target], /holds no volume/],
          [[locked, target], /refuses us/],
        ] as const) {
          await refuses(['mount', ...cacheIn(folder), ...args, ...background], wanted);
          assert.ok(!existsSync(target), 'the mount point that was made is removed');
        }
      const deep = join(folder, 'made/by/us');
      mkdirSync(join(folder, 'made'));
      await refuses(['mount', `sqlite3://${folder}/empty.db`, deep, ...cacheIn(folder)], /holds no volume/);
      assert.deepEqual(readdirSync(join(folder, 'made')), [], 'what was there stays');
      await refuses(['mount', `sqlite3://${folder}/empty.db`, join(folder, 'made'), '-d'], /holds no volume/);
      assert.ok(existsSync(join(folder, 'made')));
      const told = await refuses(['mount', `redis://:pw-4711@127.0.0.1:${port}/0`, target], /does not answer: .*ECONNREFUSED/);
      assert.ok(!told.includes('pw-4711'));
      await refuses(['mount', url, target, '-d', '--log', join(file, 'log')], /--log: .* is no folder/);
      await refuses(['mount', url, target, '-d', '--log', folder, ...cacheIn(folder)], /--log: .* cannot be written/);
      await refusesInJson(['mount', url, file, ...cacheIn(folder)], 'InvalidFolder');
      assert.deepEqual(fuseMounts(folder), []);
      await until('no process is left', () => !commandLines().some(({ text }) => text.includes(folder)));
    });
  },
);

test(
  'a store that cannot be reached does not keep a mount from coming up, for reading names needs none',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      await using s3 = await startS3();
      const url = `sqlite3://${join(folder, 'meta.db')}`;
      const keys = { ACCESS_KEY: s3.accessKey, SECRET_KEY: s3.secretKey };
      await succeeds(['format', url, 'vol-a', '--storage', 's3', '--bucket', `${s3.endpoint}/blocks`], { env: keys });
      await s3.stop();
      await using mounted = await startMount(url, join(folder, 'mnt'), folder);
      mkdirSync(join(mounted.folder, 'directory'));
      assert.deepEqual(
        readdirSync(mounted.folder).filter((name) => !name.startsWith('.')),
        ['directory'],
      );
    });
  },
);

test('a folder with files in it is covered, and shows them again after umount', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const url = await volumeIn(folder);
    const target = join(folder, 'mnt');
    mkdirSync(target);
    writeFileSync(join(target, 'below'), '');
    await succeeds(['mount', url, target, ...cacheIn(folder), '-d', '--log', join(folder, 'log'), '--hide-internal']);
    assert.deepEqual(readdirSync(target), []);
    await succeeds(['umount', target]);
    assert.deepEqual(readdirSync(target), ['below']);
  });
});

test('a read-only mount reads everything and changes nothing', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('redis');
  writeFileSync(join(volume.folder, 'file'), 'content');
  for (const option of [['--read-only'], ['-o', 'ro']]) {
    await using mounted = await mountBeside(volume, 'ro', { mount: option });
    const path = join(mounted.folder, 'file');
    assert.equal(readFileSync(path, 'utf8'), 'content');
    for (const change of [
      () => writeFileSync(path, 'other'),
      () => writeFileSync(join(mounted.folder, 'new'), ''),
      () => mkdirSync(join(mounted.folder, 'directory')),
      () => chmodSync(path, 0o600),
      () => execFileSync('rm', ['-f', path], { stdio: 'pipe' }),
      () => execFileSync('touch', [path], { stdio: 'pipe' }),
    ])
      assert.throws(change, /EROFS|Read-only file system/);
  }
  assert.equal(readFileSync(join(volume.folder, 'file'), 'utf8'), 'content');
  const { Sessions } = JSON.parse(await succeeds(['status', volume.metaUrl, '--output', 'json'])) as { Sessions: unknown[] };
  assert.equal(Sessions.length, 1, 'a read-only mount registers no session');
});

test('--subdir shows a directory of the volume as the root, and no way out of it', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite');
  mkdirSync(join(volume.folder, 'a/b'), { recursive: true });
  writeFileSync(join(volume.folder, 'a/b/inside'), '1');
  writeFileSync(join(volume.folder, 'outside'), '2');
  await using part = await mountBeside(volume, 'part', {
    mount: ['--subdir', '/a/b/', '--hide-internal'],
  });
  assert.deepEqual(readdirSync(part.folder), ['inside']);
  assert.equal(readFileSync(join(part.folder, '../part/inside'), 'utf8'), '1');
  writeFileSync(join(part.folder, 'new'), '3');
  assert.equal(readFileSync(join(volume.folder, 'a/b/new'), 'utf8'), '3');
  await refuses(
    ['mount', volume.metaUrl, join(volume.work, 'x'), '--subdir', 'outside', ...cacheIn(volume.work)],
    /\/outside in the volume testvol is not a directory/,
  );
});

test('--subdir makes the directory where it is missing, and whoever comes may write to it', { skip: cannotMount }, async () => {
  await using volume = await freshVolume('sqlite');
  await using part = await mountBeside(volume, 'part', {
    mount: ['--subdir', 'new/deep'],
  });
  writeFileSync(join(part.folder, 'file'), 'x');
  assert.equal(readFileSync(join(volume.folder, 'new/deep/file'), 'utf8'), 'x');
  assert.equal(statSync(join(volume.folder, 'new/deep')).mode & 0o7777, 0o777);
});

test(
  'umount of a mount in use needs --force, which leaves the files that are open to their users',
  { skip: cannotMount },
  async () => {
    await using volume = await freshVolume('sqlite');
    writeFileSync(join(volume.folder, 'file'), 'content');
    writeFileSync(join(volume.work, 'wait'), '');
    const again = exec('sh', ['-c', `exec 3< file; while [ -e "$0" ]; do sleep 0.05; done; cat <&3`, join(volume.work, 'wait')], {
      cwd: volume.folder,
    });
    await until('the file is open', () => readdirSync(`/proc/${again.child.pid}/fd`).includes('3'));
    await refuses(['umount', volume.folder], /is in use/);
    assert.equal(fuseMounts(volume.folder).length, 1);
    await succeeds(['umount', '--force', volume.folder]);
    assert.deepEqual(fuseMounts(volume.folder), []);
    execFileSync('rm', [join(volume.work, 'wait')]);
    assert.equal((await again).stdout, 'content');
    assert.equal(await volume.unmount(), 0);
  },
);

test('an ordinary user mounts through fusermount3, or is told what is missing', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const url = await volumeIn(folder);
    execFileSync('chown', ['-R', '65534:65534', folder]);
    const wrap = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const env = { HOME: folder, NODE_COMPILE_CACHE: join(folder, 'compiled') };
    const args = ['mount', url, join(folder, 'mnt'), ...cacheIn(folder), '-d', '--log', join(folder, 'log')];
    const { code, stderr } = await run(args, { wrap, env });
    if (code !== 0) return assert.match(stderr, /fusermount3|\/dev\/fuse/);
    await succeeds(['umount', join(folder, 'mnt')], { wrap, env });
    assert.deepEqual(fuseMounts(folder), []);
    // What belongs to others is refused.
    await refuses(['mount', url, '/root/mnt', ...cacheIn(folder)], /MOUNTPOINT: \/root\/mnt is no folder.*EACCES/, { wrap, env });
  });
});

test('no password is in any command line, log or virtual file of a mount', { skip: cannotMount }, async () => {
  const password = 'sEcReT-2718';
  await using redis = await startRedis(['--requirepass', password]);
  await using s3 = await startS3();
  await inScratch(async (folder) => {
    const url = `redis://:${password}@127.0.0.1:${redis.port}/1`;
    const bucket = [
      '--storage',
      's3',
      '--bucket',
      `${s3.endpoint}/blocks`,
      '--access-key',
      s3.accessKey,
      '--secret-key',
      s3.secretKey,
    ];
    await succeeds(['format', url, 'vol-a', ...bucket]);
    const log = join(folder, 'log');
    const target = join(folder, 'mnt');
    const said = await succeeds(['mount', url, target, ...cacheIn(folder), '-d', '--log', log]);
    writeFileSync(join(target, 'file'), 'content');
    const processes = commandLines().filter(({ text }) => text.includes(target));
    assert.ok(processes.length >= 2, 'the client and its holder are there');
    const shown = [said, ...processes.map(({ text }) => text)];
    for (const name of ['.config', '.stats']) shown.push(readFileSync(join(target, name), 'utf8'));
    shown.push(await succeeds(['umount', target]), readFileSync(log, 'utf8'));
    for (const secret of [password, s3.secretKey]) assert.ok(!shown.join('\n').includes(secret), secret);
  });
});

test('mount is found by its full path from any directory', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    await volumeIn(folder);
    const args = ['mount', 'sqlite3://meta.db', 'mnt', '--cache-dir', 'cache', '-d', '--log', 'log'];
    const { code, stderr } = await run(args, { cwd: folder });
    assert.equal(code, 0, stderr);
    assert.equal(fuseMounts(join(folder, 'mnt')).length, 1);
    await succeeds(['umount', 'mnt'], { cwd: folder });
    assert.ok(existsSync(bin));
  });
});
