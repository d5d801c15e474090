/** Real mounts over /dev/fuse, each served by a process of its own. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { onPath } from '../tools.ts';
import { mountsAt } from '../../src/fuse/mountinfo.ts';
import { abortSession, clearDead, mountState, unmount } from '../../src/fuse/mount.ts';
import { run, scratch, serve, shell, until, whyNoFuse } from './mounted.ts';

const skip = whyNoFuse() ?? false;
const timeout = 60_000;

function target(folder: string): string {
  const path = join(folder, 'mnt');
  mkdirSync(path);
  return path;
}

for (const [name, config] of [
  ['answers at once', {}],
  ['answers later', { delayed: true }],
  ['waits in threads', { watch: 'threads', delayed: true }],
  ['may hold one write at a time', { delayed: true, maxHeldBuffers: 1 }],
] as const)
  test(`files, directories, links and attributes work with a server that ${name}`, { skip, timeout }, async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt, ...config });
    assert.equal(
      await shell(`cd ${mnt}; echo hello > a; mkdir d; mv a d/b; ln -s d/b link; ln d/b hard; cat link hard`),
      'hello\nhello\n',
    );
    assert.equal(
      await shell(`cd ${mnt}; stat -c '%s %h %F' d/b; stat -c %F d; readlink link; ls -1 | sort | tr '\\n' ' '`),
      '6 2 regular file\ndirectory\nd/b\nd hard link ',
    );
    assert.equal(
      await shell(`cd ${mnt}; chmod 741 d/b; touch -d @1234567890.123456789 d/b; stat -c '%a %.9Y' hard`),
      '741 1234567890.123456789\n',
    );
    assert.equal(await shell(`cd ${mnt}; truncate -s 3 hard; cat d/b; rm hard d/b link; rmdir d; ls -A`), 'hel');
    await shell(
      `head -c 9000000 /dev/urandom > ${folder.path}/random; cd ${mnt}; for i in 1 2 3 4; do cp ../random copy$i & done; wait`,
    );
    await shell(`cd ${mnt}; for i in 1 2 3 4; do cmp ../random copy$i; done`);
    await assert.rejects(shell(`cat ${mnt}/missing`), /No such file/);
    await run('umount', [mnt]);
    assert.equal((await server.next('end'))['end'], 'unmounted');
    assert.equal(await server.ended, 0);
    assert.doesNotMatch(server.output, /twice|unforeseen|refused/);
  });

test(
  'a directory of ten thousand names is listed whole, with attributes, and each once; the kernel reads ahead a MiB',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt, names: 10_000 });
    const names = (await run('ls', ['-lU', mnt])).trim().split('\n').slice(1);
    const expected = Array.from({ length: 10_000 }, (_, index) => `name-${index}`);
    assert.deepEqual(names.map((line) => line.split(' ').at(-1) ?? '').toSorted(), expected.toSorted());
    assert.ok(names.every((line) => line.startsWith('-rw-r--r-- 1')));
    const device = mountsAt(mnt).at(-1)?.device ?? '';
    assert.equal(readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8'), '1024\n');
    assert.ok(server.child.pid);
  },
);

test(
  'what the kernel was given it gives back: no reference is left after the caches are dropped',
  { skip, timeout },
  async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt, timeout: 0 });
    await shell(
      `cd ${mnt}; mkdir -p a/b/c; for i in $(seq 50); do echo $i > a/b/c/f$i; done; ls -lR > /dev/null; find . | xargs stat > /dev/null`,
    );
    const before = Object.keys((await server.stats())['lookups'] as object).length;
    assert.ok(before > 50, `the kernel holds ${before} nodes`);
    await until('all references are given back', async () => {
      await shell('echo 2 > /proc/sys/vm/drop_caches');
      const { lookups, open } = await server.stats();
      assert.ok(Object.values(lookups as Record<string, number>).every((count) => count > 0));
      return Object.keys(lookups as object).every((ino) => ino === '1') && open === 0;
    });
  },
);

test(
  'large reads and writes and a memory map carry the right bytes',
  { skip: skip || (!onPath('python3') && 'no python3'), timeout },
  async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt, delayed: true });
    const script = `
import mmap, os, random, sys
path = sys.argv[1]
data = random.Random(7).randbytes(5 * 1048576 + 123)
with open(path, 'wb', buffering=0) as f:
    at = 0
    while at < len(data): at += f.write(data[at:at + 1048576])
fd = os.open(path, os.O_RDWR)
assert os.pread(fd, len(data), 0) == data
m = mmap.mmap(fd, len(data))
assert m[:] == data
m[1000000:1000005] = b'mmap!'
m.flush()
m.close()
direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1048576)
assert os.preadv(direct, [buffer], 0) == 1048576
assert buffer[1000000:1000005] == b'mmap!' and buffer[:1000000] == data[:1000000]
print('same')
`;
    assert.equal(await run('python3', ['-c', script, join(mnt, 'file')]), 'same\n');
    assert.doesNotMatch(server.output, /error/);
  },
);

test(
  'extended attributes keep their bytes, and a buffer that is too small is ERANGE',
  { skip: skip || (!onPath('python3') && 'no python3'), timeout },
  async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt, delayed: true });
    const script = `
import os, sys
path = sys.argv[1]
open(path, 'w').close()
value = bytes(range(256)) * 20
os.setxattr(path, 'user.a', value)
os.setxattr(path, 'user.b', b'')
assert os.getxattr(path, 'user.a') == value and sorted(os.listxattr(path)) == ['user.a', 'user.b']
os.removexattr(path, 'user.b')
assert os.listxattr(path) == ['user.a']
try: os.getxattr(path, 'user.b')
except OSError as e: print(e.errno)
`;
    assert.equal(await run('python3', ['-c', script, join(mnt, 'file')]), '61\n');
    assert.ok(server.child.pid);
  },
);

test(
  'a signal ends a read that waits, with EINTR, and the server hears of it',
  { skip: skip || (!onPath('python3') && 'no python3'), timeout },
  async () => {
    await using folder = scratch();
    const mnt = target(folder.path);
    await using server = await serve({ target: mnt });
    await shell(`echo x > ${mnt}/block`);
    const script = `
import os, signal, sys
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.3)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
try: os.read(fd, 10)
except Alarm: print('interrupted')
`;
    assert.equal(await run('python3', ['-c', script, join(mnt, 'block')]), 'interrupted\n');
    assert.equal((await server.stats())['interrupted'], 1);
  },
);

test('the kernel forgets what it cached of a file when it is told to', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  await using server = await serve({ target: mnt, timeout: 1000 });
  const mode = (): Promise<string> => shell(`stat -c %a ${mnt}/file`);
  await shell(`echo 1 > ${mnt}/file; chmod 644 ${mnt}/file`);
  const { lookups } = await server.stats();
  const ino = Object.keys(lookups as object).find((key) => key !== '1');
  server.say(`chmod ${ino}`);
  await server.next('done');
  assert.equal(await mode(), '644\n');
  server.say(`invalidate ${ino}`);
  await server.next('done');
  assert.equal(await mode(), '600\n');
});

test('an idle server uses no processor time, and its timers are not late', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  await using server = await serve({ target: mnt });
  await shell(`ls ${mnt}`);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const first = (await server.stats())['cpu'] as NodeJS.CpuUsage;
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const second = (await server.stats())['cpu'] as NodeJS.CpuUsage;
  const used = second.user + second.system - first.user - first.system;
  // A thread that spins would have used three seconds.
  assert.ok(used < 300_000, `${used} µs of processor time in 3 s of nothing to do`);
});

test('a mount in use is not unmounted unless lazily, and then lives as long as its user', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  await using server = await serve({ target: mnt });
  const user = execFile('sh', ['-c', `exec 3> ${mnt}/file; read line; echo $line >&3`]);
  await until('the file is open', async () => (await server.stats())['open'] === 1);
  await assert.rejects(unmount(mnt, { lazy: false }), { code: 'MOUNT_BUSY' });
  await unmount(mnt);
  assert.deepEqual(mountsAt(mnt), []);
  user.stdin?.end('written after the unmount\n');
  assert.equal((await server.next('end'))['end'], 'unmounted');
});

test('a stopped server answers what it has in hand and leaves the mount to whoever holds it', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  await using server = await serve({ target: mnt, delayed: true });
  await shell(`echo x > ${mnt}/file`);
  server.say('stop');
  assert.equal((await server.next('end'))['end'], 'stopped');
  assert.equal(await server.ended, 0);
  assert.equal(await mountState(mnt), 'dead');
});

test('a killed server leaves a dead mount, which is found and cleared away', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  {
    await using server = await serve({ target: mnt });
    assert.equal(await mountState(mnt), 'alive');
    server.child.kill('SIGKILL');
    await server.ended;
  }
  await assert.rejects(shell(`ls ${mnt}`), /Transport endpoint is not connected/);
  assert.equal(await mountState(mnt), 'dead');
  assert.equal(await clearDead(mnt), 1);
  assert.deepEqual(readdirSync(mnt), []);
  await using next = await serve({ target: mnt });
  assert.equal(await shell(`echo again > ${mnt}/f; cat ${mnt}/f`), 'again\n');
  assert.ok(next.child.pid);
});

test('an aborted session gives everybody an error instead of a hang', { skip, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  await using server = await serve({ target: mnt });
  await shell(`echo x > ${mnt}/block`);
  const reader = assert.rejects(
    shell(`dd if=${mnt}/block iflag=direct of=/dev/null`),
    /not connected|Software caused connection abort|Input\/output/,
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  await abortSession(mnt);
  await reader;
  assert.equal((await server.next('end'))['end'], 'unmounted');
});

const nobody = 65534;
const noHelper =
  (!onPath('fusermount3') && 'no fusermount3 (package fuse3)') ||
  ((statSync('/dev/fuse').mode & 0o006) !== 0o006 && '/dev/fuse is not open to ordinary users');
test('an ordinary user mounts through fusermount3, and unmounts', { skip: skip || noHelper, timeout }, async () => {
  await using folder = scratch();
  const mnt = target(folder.path);
  chmodSync(folder.path, 0o755);
  chownSync(mnt, nobody, nobody);
  await using server = await serve({ target: mnt }, { uid: nobody, gid: nobody });
  assert.equal(mountsAt(mnt).at(-1)?.type, 'fuse.juicepod');
  const as = (script: string): Promise<string> =>
    run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', 'sh', '-ec', script]);
  assert.equal(await as(`echo mine > ${mnt}/file; cat ${mnt}/file`), 'mine\n');
  await as(`fusermount3 -u ${mnt}`);
  assert.equal((await server.next('end'))['end'], 'unmounted');
  await rm(mnt, { recursive: true });
});
