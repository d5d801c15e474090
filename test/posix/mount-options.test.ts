/** What options of `juicepod mount` change, seen through mounts of one volume. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { noPython } from '../locks/locker.ts';
import { cannotMount, freshVolume, juicepod, type Mounted, startMount } from '../mounted.ts';

const exec = promisify(execFile);

/** Runs Python as a user; answers what it prints, or the name of the errno it fails with. */
async function python(uid: number, script: string, ...args: readonly string[]): Promise<string> {
  const guarded = `
import errno, os, stat, sys
os.setgroups([]); os.setgid(${uid}); os.setuid(${uid})
try:
    ${script.trim().split('\n').join('\n    ')}
except OSError as error:
    print(errno.errorcode[error.errno])
`;
  const { stdout } = await exec('python3', ['-c', guarded, ...args], { timeout: 30_000 });
  return stdout.trim();
}

const NO_LIFETIMES = ['--attr-cache', '0s', '--entry-cache', '0s', '--dir-entry-cache', '0s'];

describe('options of a mount', { skip: cannotMount || noPython }, () => {
  let volume: Mounted;
  let mounts = 0;

  before(async () => {
    // Redis lists names in no order.
    volume = await freshVolume('redis', { format: ['--trash-days', '0'] });
  });
  after(() => volume?.[Symbol.asyncDispose]());

  /** Another mount of the volume. */
  const mount = (...options: readonly string[]): Promise<Mounted> =>
    startMount(volume.metaUrl, join(volume.work, `mnt-${++mounts}`), volume.work, { mount: options });
  /** A file made through the first mount. */
  const file = (name: string, mode = 0o644): string => {
    const path = join(volume.folder, name);
    writeFileSync(path, 'text');
    chmodSync(path, mode);
    return path;
  };

  test('--atime-mode says when reading changes access times', async () => {
    const long = new Date(1_000_000_000_000);
    const read = async (path: string): Promise<number> => {
      utimesSync(path, long, long);
      readFileSync(path);
      // It is stored in the background.
      for (let turn = 0; turn < 100 && statSync(path).atimeMs === long.getTime(); turn++)
        await new Promise((done) => setTimeout(done, 20));
      return statSync(path).atimeMs;
    };
    file('atime');
    await using relatime = await mount('--atime-mode', 'relatime', ...NO_LIFETIMES);
    await using noatime = await mount(...NO_LIFETIMES);
    const touched = await read(join(relatime.folder, 'atime'));
    assert.ok(touched > long.getTime() + 1e9, 'an old access time is changed');
    readFileSync(join(relatime.folder, 'atime'));
    await new Promise((done) => setTimeout(done, 100));
    assert.equal(statSync(join(relatime.folder, 'atime')).atimeMs, touched, 'and then left alone');
    assert.equal(await read(join(noatime.folder, 'atime')), long.getTime());
  });

  test('--umask takes the place of what programs have', async () => {
    await using mounted = await mount('--umask', '027');
    const made = (name: string): number => {
      mkdirSync(join(mounted.folder, name), { mode: 0o777 });
      writeFileSync(join(mounted.folder, name, 'file'), '', { mode: 0o666 });
      return (
        (statSync(join(mounted.folder, name)).mode & 0o777) * 0o1000 + (statSync(join(mounted.folder, name, 'file')).mode & 0o777)
      );
    };
    for (const mask of ['0', '077']) {
      const before = process.umask(mask);
      try {
        assert.equal(made(`umask-${mask}`).toString(8), '750640', mask);
      } finally {
        process.umask(before);
      }
    }
  });

  test('--root-squash takes root for another user, and leaves others who they are', async () => {
    file('private', 0o600);
    await using mounted = await mount('--root-squash', '4711:4712', ...NO_LIFETIMES);
    const path = (name: string): string => join(mounted.folder, name);
    writeFileSync(path('squashed'), 'mine', { mode: 0o600 });
    const { uid, gid } = statSync(path('squashed'));
    assert.deepEqual([uid, gid], [4711, 4712]);
    assert.equal(readFileSync(path('squashed'), 'utf8'), 'mine');
    assert.throws(() => readFileSync(path('private')), { code: 'EACCES' });
    assert.throws(() => chmodSync(path('private'), 0o666), { code: 'EPERM' });
    assert.throws(() => execFileSync('chown', ['0', path('squashed')], { stdio: 'pipe' }), /not permitted/);
    assert.equal(await python(5, `os.mkdir(sys.argv[1]); print(os.stat(sys.argv[1]).st_uid)`, path('of-5')), '5');
  });

  test('--all-squash takes everybody for one user, whose permissions count', async () => {
    file('of-root', 0o600);
    await using mounted = await mount('--all-squash', '4711:4712', ...NO_LIFETIMES);
    const path = join(mounted.folder, 'everybody');
    assert.equal(
      await python(5, `os.close(os.open(sys.argv[1], os.O_CREAT, 0o600)); print(os.stat(sys.argv[1]).st_uid)`, path),
      '4711',
    );
    assert.equal(
      await python(6, `os.close(os.open(sys.argv[1], os.O_RDWR)); print(os.access(sys.argv[1], os.W_OK))`, path),
      'True',
    );
    const other = join(mounted.folder, 'of-root');
    for (const uid of [0, 6]) {
      assert.equal(await python(uid, `print(os.access(sys.argv[1], os.R_OK))`, other), 'False');
      assert.equal(await python(uid, `os.open(sys.argv[1], os.O_RDONLY)`, other), 'EACCES');
      assert.equal(await python(uid, `os.chmod(sys.argv[1], 0o666)`, other), 'EPERM');
    }
    assert.equal(
      await python(6, `os.mkdir(sys.argv[1] + '/d', 0o700); os.mkdir(sys.argv[1] + '/d/e'); print('made')`, mounted.folder),
      'made',
    );
  });

  test('--enable-cap and --enable-selinux let the attributes of the kernel be kept', async () => {
    const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex').toString('hex');
    const set = `os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])); print(os.getxattr(sys.argv[1], sys.argv[2]).hex())`;
    file('labelled');
    await using without = await mount('--enable-xattr');
    assert.equal(await python(0, set, join(without.folder, 'labelled'), 'security.capability', capability), 'ENOTSUP');
    await using mounted = await mount('--enable-cap', '--enable-selinux');
    const path = join(mounted.folder, 'labelled');
    assert.equal(await python(0, set, path, 'security.capability', capability), capability);
    assert.equal(await python(0, set, path, 'security.selinux', '6100'), '6100');
    assert.equal(await python(0, set, path, 'user.a', '61'), '61', 'with them come the others');
    // The kernel takes them from what is written to.
    writeFileSync(path, 'changed');
    assert.equal(await python(0, `os.getxattr(sys.argv[1], 'security.capability')`, path), 'ENODATA');
  });

  test('--sort-dir lists in the order of names, --readdir-cache what is there', async () => {
    const names = Array.from({ length: 700 }, (_, at) => `name-${(at * 7919) % 700}`);
    mkdirSync(join(volume.folder, 'many'));
    for (const name of names) writeFileSync(join(volume.folder, 'many', name), '');
    await using mounted = await mount('--sort-dir', '--readdir-cache');
    const script = `print(' '.join(entry.name for entry in os.scandir(sys.argv[1])))`;
    const listed = async (): Promise<string[]> => (await python(0, script, join(mounted.folder, 'many'))).split(' ');
    assert.deepEqual(await listed(), names.toSorted());
    assert.deepEqual(await listed(), names.toSorted());
    rmSync(join(mounted.folder, 'many', 'name-5'));
    writeFileSync(join(mounted.folder, 'many', 'name-5a'), '');
    assert.deepEqual(await listed(), [...names.filter((name) => name !== 'name-5'), 'name-5a'].toSorted());
  });

  test('--max-fuse-io bounds a request', async () => {
    await using mounted = await mount('--max-fuse-io', '64K');
    writeFileSync(join(mounted.folder, 'large'), Buffer.alloc(1 << 20));
    const stats = readFileSync(join(mounted.folder, '.stats'), 'utf8');
    assert.equal(/^juicefs_fuse_ops_total_write (\d+)$/m.exec(stats)?.[1], '16');
  });

  test('.config tells what the mount was asked for', async () => {
    await using mounted = await mount(
      '--atime-mode',
      'strictatime',
      '--open-cache',
      '3s',
      '--root-squash',
      '5:6',
      '--fast-statfs',
    );
    const config = JSON.parse(readFileSync(join(mounted.folder, '.config'), 'utf8')) as Record<string, unknown>;
    const { AtimeMode, OpenCache, FastStatfs } = config['Meta'] as Record<string, unknown>;
    assert.deepEqual([AtimeMode, OpenCache, FastStatfs, config['RootSquash']], ['strictatime', 3e9, true, { Uid: 5, Gid: 6 }]);
    assert.deepEqual(readdirSync(mounted.folder).includes('.config'), true);
  });

  test('values that make no sense are refused with what was wanted', async () => {
    for (const [option, value, message] of [
      ['--atime-mode', 'never', /wanted noatime, relatime, strictatime, found "never"/],
      ['--umask', '999', /--umask: wanted permissions in octal/],
      ['--root-squash', 'root', /--root-squash: wanted UID:GID in numbers, found "root"/],
      ['--all-squash', '0:5', /--all-squash: nobody can be taken for root/],
      ['--max-fuse-io', '4M', /--max-fuse-io: wanted 4K to 1M/],
      ['--open-cache-limit', '-1', /--open-cache-limit: wanted a number/],
    ] as const)
      await assert.rejects(juicepod(['mount', volume.metaUrl, join(volume.work, 'never'), option, value]), message);
  });
});
