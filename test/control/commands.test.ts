/** `info`, `summary`, `rmr`, `clone`, `warmup` and `compact` as a person runs them, on a mount and on a mount of a directory. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { inScratch, refuses, refusesInJson, run, succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume, mountBeside, type Mounted, startMount } from '../mounted.ts';

/** As busybox's cat does it. */
const SENDFILE = `
import os, sys
path = os.open('PATH', os.O_RDONLY)
while os.sendfile(1, path, None, 1 << 24): pass
`;
const python = (script: string): string => execFileSync('python3', ['-c', script]).toString();

const json = async (args: readonly string[], cwd?: string): Promise<unknown> =>
  JSON.parse(await succeeds([...args, '--output', 'json'], cwd === undefined ? {} : { cwd }));

/** Whether a command has the mount's control file open, or has ended. */
function hasAsked({ pid, exitCode, signalCode }: ChildProcess): boolean {
  if (exitCode !== null || signalCode !== null) return true;
  try {
    const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    return open.some((path) => path.endsWith('control'));
  } catch {
    // A descriptor, or the command, has gone meanwhile.
    return false;
  }
}

describe('commands on a mounted volume', { skip: cannotMount }, () => {
  let mounted: Mounted;
  let top = '';
  let serial = 0;
  before(async () => {
    mounted = await freshVolume('sqlite', {
      format: ['--trash-days', '1', '--block-size', '64K'],
      mount: ['--free-space-ratio', '0.01', '--enable-xattr'],
    });
  });
  after(() => mounted[Symbol.asyncDispose]());

  /** A directory of its own with two files of three blocks, one in a directory below. */
  const prepared = (): string => {
    top = join(mounted.folder, `t${serial++}`);
    mkdirSync(join(top, 'sub'), { recursive: true });
    writeFileSync(join(top, 'f'), Buffer.alloc(150_000, 'f'));
    writeFileSync(join(top, 'sub/g'), Buffer.alloc(150_000, 'g'));
    return top;
  };
  /** The name of a file that is not UTF-8, as a shell hands it over. */
  const strange = (folder: string): Buffer => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe, 0x0a])]);

  test('info tells what a file or directory is made of, by path or inode', async () => {
    prepared();
    const [file] = (await json(['info', join(top, 'f')])) as [{ Ino: number; Objects: object[]; Paths: string[] }];
    assert.equal(file.Ino, statSync(join(top, 'f')).ino);
    assert.equal(file.Objects.length, 3);
    assert.deepEqual(file.Paths, [join(top, 'f').slice(mounted.folder.length)]);
    const [raw] = (await json(['info', '--raw', '-i', String(file.Ino)], top)) as [{ Chunks: object[]; Objects: null }];
    assert.equal(raw.Objects, null);
    assert.ok(raw.Chunks.length > 0);
    for (const options of [['-r'], ['-r', '--strict']]) {
      const [all] = (await json(['info', top, ...options])) as [{ Summary: object }];
      assert.deepEqual(all.Summary, { Length: 300_000, Size: 2 * 151_552 + 8192, Files: 2, Dirs: 2 });
    }
    symlinkSync('nowhere', join(top, 'dangling'));
    linkSync(join(top, 'f'), join(top, 'second'));
    const text = await succeeds(['info', join(top, 'f'), join(top, 'dangling')]);
    assert.match(text, /second/);
    assert.match(text, /objects\n {2}chunk 0 {2}testvol\/chunks\/0\/0\/\d+_0_65536 {2}0\+65536\n/);
  });

  test('summary shows the largest parts as a table, as JSON and as CSV', async () => {
    prepared();
    writeFileSync(join(top, 'with,"quotes"'), 'x');
    const tree = (await json(['summary', top, '--strict', '--depth', '1'])) as { Files: number; Children: { Path: string }[] };
    assert.equal(tree.Files, 3);
    assert.deepEqual(
      tree.Children.map(({ Path }) => Path),
      ['sub', 'f', 'with,"quotes"'],
    );
    assert.match(
      await succeeds(['summary', top, '--entries', '1']),
      /PATH +SIZE +DIRS +FILES\n\/ .*\nsub\/ .*\nsub\/g .*\n\.\.\. /,
    );
    const csv = await succeeds(['summary', top, '--csv', '--depth', '1']);
    assert.deepEqual(csv.split('\n'), [
      'PATH,SIZE,DIRS,FILES',
      '/,315392,2,3',
      'sub/,155648,1,1',
      'f,151552,0,1',
      '"with,""quotes""",4096,0,1',
      '',
    ]);
  });

  test('rmr removes trees whatever their names are, and the name is free at once', async () => {
    prepared();
    const lifetimes = ['--attr-cache', '60', '--entry-cache', '60', '--dir-entry-cache', '60'];
    const options = { mount: [...lifetimes, '--free-space-ratio', '0.01'] };
    await using longLived = await mountBeside(mounted, 'long', options);
    writeFileSync(strange(join(top, 'sub')), 'x');
    // Its lifetime in the kernel is longer than that of the command.
    assert.ok(existsSync(join(longLived.folder, top.slice(mounted.folder.length), 'sub')));
    const sub = join(longLived.folder, top.slice(mounted.folder.length), 'sub');
    assert.deepEqual(await json(['rmr', sub]), [{ path: sub, entries: 3 }]);
    assert.ok(!existsSync(sub));
    mkdirSync(join(top, 'sub'));
    rmdirSync(join(top, 'sub'));
    writeFileSync(strange(top), 'x');
    // An argument of Node itself would be UTF-8.
    execFileSync('sh', [
      '-c',
      `exec "$0" rmr "$1/$(printf '\\377\\376')
"`,
      join(import.meta.dirname, '../../bin/juicepod'),
      top,
    ]);
    assert.deepEqual(readdirSync(top), ['f']);
    assert.match(await succeeds(['rmr', '--skip-trash', '-p', '3', `${top}/`]), /: 2 entries removed\n$/);
    assert.ok(!existsSync(top));
    const hours = readdirSync(join(mounted.folder, '.trash'));
    const kept = hours.flatMap((hour) => readdirSync(join(mounted.folder, '.trash', hour)));
    assert.ok(kept.some((name) => name.endsWith('-g')) && !kept.some((name) => name.endsWith(`-t${serial - 1}`)));
  });

  test('clone copies a tree, and both go their own ways', async () => {
    prepared();
    python(`import os; os.setxattr('${join(top, 'f')}', 'user.note', b'kept')`);
    const to = join(top, 'copy');
    assert.deepEqual(await json(['clone', join(top, 'sub'), to]), { source: join(top, 'sub'), destination: to, entries: 2 });
    writeFileSync(join(top, 'sub/g'), 'changed');
    assert.deepEqual(readFileSync(join(to, 'g')), Buffer.alloc(150_000, 'g'));
    truncateSync(join(to, 'g'), 10);
    assert.equal(readFileSync(join(top, 'sub/g'), 'utf8'), 'changed');
    await succeeds(['clone', '-p', join(top, 'f'), `${to}/`]);
    assert.equal(python(`import os; print(os.getxattr('${join(to, 'f')}', 'user.note').decode(), end='')`), 'kept');
    assert.equal(lstatSync(join(to, 'f')).mtimeMs, lstatSync(join(top, 'f')).mtimeMs);
  });

  test('warmup fills the cache from paths and lists, --check tells, --evict drops', async () => {
    prepared();
    const state = async (...args: string[]): Promise<{ files: number; bytes: number; missed: number }> =>
      (await json(['warmup', ...args])) as { files: number; bytes: number; missed: number };
    await state(top, '--evict');
    const { files, bytes, missed } = await state(top, '--check');
    assert.deepEqual({ files, bytes, missed }, { files: 2, bytes: 300_000, missed: 300_000 });
    const list = join(mounted.work, 'list');
    writeFileSync(strange(top).subarray(0, -1), 'y');
    writeFileSync(list, Buffer.concat([Buffer.from(`${top}/f\n\n`), strange(top), Buffer.from(`${top}/sub`)]));
    assert.equal((await state('-f', list)).files, 3);
    assert.equal((await state(top, '--check')).missed, 0);
    assert.match(await succeeds(['warmup', top, '--check']), /3 files: 293 KiB of 293 KiB cached \(100\.0 %\)\n +\//);
    assert.match(await succeeds(['warmup', top, '--evict']), /3 files, 293 KiB: not cached any more/);
    assert.deepEqual(await json(['warmup', top, '-b']), { background: true, paths: 1 });
    while ((await state(top, '--check')).missed > 0) await new Promise((done) => setTimeout(done, 20));
  });

  test('compact leaves a file as it reads', async () => {
    prepared();
    const file = join(top, 'f');
    for (let at = 0; at < 3; at++)
      execFileSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=1000', 'count=1', `seek=${at * 20}`, 'conv=notrunc'], {
        stdio: 'ignore',
      });
    const bytes = readFileSync(file);
    assert.deepEqual(await json(['compact', top, '-p', '2']), [{ path: top, chunks: 2 }]);
    assert.deepEqual(readFileSync(file), bytes);
    const [info] = (await json(['info', '--raw', file])) as [{ Chunks: object[] }];
    assert.equal(info.Chunks.length, 1);
  });

  test('what is wrong is told in a sentence', async () => {
    prepared();
    const missing = join(top, 'missing');
    for (const command of ['info', 'summary', 'warmup', 'compact']) {
      await Promise.all([
        refusesInJson([command, missing], 'PathMissing'),
        refuses([command, '/tmp'], /\/tmp does not lie in a mounted volume/),
      ]);
    }
    await Promise.all([
      refuses(['rmr', missing], /missing: there is no such file/),
      refuses(['rmr', '/tmp/juicepod-no-such-thing'], /does not lie in a mounted volume/),
      refuses(['rmr', mounted.folder], /is a mount point, whose volume keeps its root\n {2}Name what lies in it: juicepod rmr /),
      refuses(['rmr', join(missing, 'x')], /the directory it should lie in cannot be had/),
    ]);
    await Promise.all(['/', '.', `${top}/..`].map((path) => refuses(['rmr', path], /wanted the path of a file or directory/)));
    await Promise.all([
      refuses(['rmr', join(mounted.folder, '.trash')], /not allowed/),
      refuses(['rmr', top, '--threads', '256'], /--threads: wanted a number from 1 to 255, found "256"/),
      refuses(['info', '-i', 'x'], /wanted an inode number, found "x"/, { cwd: top }),
    ]);
    await Promise.all([
      refuses(['info', '-i', '99999999'], /no such file or directory/, { cwd: top }),
      refuses(['summary', top, '--depth', '11'], /--depth: wanted a number from 0 to 10/),
      refuses(['summary', top, '--csv', '-o', 'json'], /two forms/),
    ]);
    await Promise.all([
      refuses(['warmup', top, '--evict', '--check'], /two things/),
      refuses(['warmup'], /wanted a path, found none/),
      refuses(['warmup', '-f', missing], /cannot be read/),
    ]);
    await Promise.all([
      refuses(['warmup', top, '/tmp'], /does not lie in the mount of/),
      refuses(['clone', top, `${top}/sub/x`], /cannot be copied into itself/),
      refuses(['clone', join(top, 'f'), join(top, 'sub')], /is there already/),
    ]);
    await Promise.all([
      refuses(['clone', join(top, 'f'), join(mounted.work, 'x')], /does not lie in the mount of .*\n {2}Copy it instead/),
      refuses(['clone', '/tmp', join(top, 'x')], /^juicepod: \/tmp does not lie in a mounted volume/),
      refuses(['clone', missing, join(top, 'x')], /missing: there is no such file/),
      refuses(['clone', join(top, 'f'), join(top, 'x'.repeat(256))], /./),
    ]);
    assert.deepEqual(readdirSync(top).toSorted(), ['f', 'sub']);
    // A user without the right to write is told so.
    const other = { wrap: ['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups'] };
    await refuses(['rmr', join(top, 'f')], /permission denied|cannot be had|does not take commands/, other);
  });

  test('a file of the name .control elsewhere is not written to', () =>
    inScratch(async (folder) => {
      writeFileSync(join(folder, '.control'), 'mine');
      await refuses(['info', folder], /does not lie in a mounted volume/);
      assert.equal(readFileSync(join(folder, '.control'), 'utf8'), 'mine');
    }));

  test('interrupted, a clone leaves nothing, and can be made again', async () => {
    prepared();
    for (let at = 0; at < 1500; at++) writeFileSync(join(top, 'sub', `f${at}`), '');
    const to = join(top, 'copy');
    const ended = await run(['clone', '--threads', '1', join(top, 'sub'), to], {
      onStart: (child) => void until('the clone has begun or is done', () => hasAsked(child) && child.kill('SIGINT'), 5),
    });
    if (ended.code !== 0) {
      assert.match(ended.stderr, /interrupted: nothing is there under/);
      assert.ok(!existsSync(to));
      await succeeds(['clone', join(top, 'sub'), to]);
    }
    assert.equal(readdirSync(to).length, 1501);
  });

  test('a mount of a directory is a volume of its own: paths begin there, and nothing beyond is reached', async () => {
    prepared();
    const hidden = statSync(mounted.folder).ino;
    assert.equal(hidden, 1);
    const outside = String(statSync(join(mounted.folder, 't0')).ino);
    const folder = join(mounted.work, 'part');
    const inner = top.slice(mounted.folder.length);
    const args = ['--subdir', inner, '--free-space-ratio', '0.01'];
    await using part = await startMount(mounted.metaUrl, folder, mounted.work, { mount: args });
    const [info] = (await json(['info', join(part.folder, 'sub/g')])) as [{ Paths: string[] }];
    assert.deepEqual(info.Paths, ['/sub/g']);
    await refuses(['info', '-i', outside], /no such file or directory/, { cwd: part.folder });
    const tree = (await json(['summary', part.folder, '--strict'])) as { Files: number };
    assert.equal(tree.Files, 2);
    await succeeds(['clone', join(part.folder, 'sub'), join(part.folder, 'copy')]);
    await succeeds(['warmup', part.folder]);
    await succeeds(['compact', part.folder]);
    await succeeds(['rmr', join(part.folder, 'sub')]);
    assert.deepEqual(
      readdirSync(part.folder)
        .filter((name) => !name.startsWith('.'))
        .toSorted(),
      ['copy', 'f'],
    );
  });

  test('.stats and .config are read by programs that use sendfile, however they have grown', () => {
    for (const name of ['.stats', '.config']) {
      const path = join(mounted.folder, name);
      for (let round = 0; round < 3; round++) {
        readdirSync(mounted.folder);
        const text = python(SENDFILE.replace('PATH', path));
        assert.equal(text.length > 500 && !text.includes('\0'), true, `${name}: ${text.length} bytes`);
        if (name === '.config') assert.deepEqual(JSON.parse(text), JSON.parse(readFileSync(path, 'utf8')));
        else assert.match(text, /juicefs_uptime \d/);
      }
    }
  });
});
