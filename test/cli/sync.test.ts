/** `juicepod sync` as a person or a script runs it: between real places, with names of any kind, interrupted, and asked for what cannot be. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type S3Server, startS3 } from '../servers.ts';
import { inScratch, refuses, refusesInJson, run, succeeds, until } from './command.ts';

let server: S3Server;
before(async () => {
  server = await startS3();
  server.createBucket('things');
});
after(() => server?.stop());

const s3 = (path: string): string => `s3://${server.accessKey}:${server.secretKey}@127.0.0.1:${server.port}/things/${path}`;

interface Figures {
  readonly copied: number;
  readonly skipped: number;
  readonly checked: number;
  readonly deleted: number;
  readonly failed: number;
  readonly copiedBytes: number;
}

const figures = async (...args: readonly string[]): Promise<Figures> =>
  JSON.parse(await succeeds(['sync', '--output', 'json', ...args])) as Figures;

/** Names, types, owners, permissions, times and contents of a tree, as text. */
const tree = (folder: string): string =>
  execFileSync(
    'sh',
    [
      '-c',
      `cd "$1" && find . -mindepth 1 -printf '%P %y %U:%G %m %l ' \\( -type f -printf '%T@ ' -exec sha256sum {} \\; -o -printf '\\n' \\) | LC_ALL=C sort`,
      'sh',
      folder,
    ],
    {
      encoding: 'latin1',
    },
  );

/** A tree with what trees have: empty files and directories, links, odd names, a file in several parts. */
function plant(folder: string): void {
  mkdirSync(join(folder, 'sub/deep'), { recursive: true });
  mkdirSync(join(folder, 'empty'));
  writeFileSync(join(folder, 'sub/deep/file'), 'deep');
  writeFileSync(join(folder, 'sub/none'), '');
  writeFileSync(join(folder, 'sub-'), 'sorts before sub/');
  writeFileSync(join(folder, 'line\nbreak'), 'odd');
  writeFileSync(Buffer.concat([Buffer.from(`${folder}/not-utf8-`), Buffer.from([0xff, 0xfe])]), 'odd');
  writeFileSync(join(folder, 'large'), Buffer.alloc(20 * 1024 * 1024 + 17, 'large file '));
  symlinkSync('sub/deep/file', join(folder, 'link'));
  symlinkSync('nowhere', join(folder, 'dangling'));
  chmodSync(join(folder, 'sub/deep/file'), 0o4751);
  // Of times that a double holds exactly.
  for (const [index, entry] of readdirSync(folder, { recursive: true, encoding: 'latin1' }).entries()) {
    const at = Buffer.from(`${folder}/${entry}`, 'latin1');
    if (lstatSync(at).isFile()) utimesSync(at, 1_500_000_000, 1_500_000_000.25 + index);
  }
}

test('a tree goes from a folder to a volume and back with everything that it has, under four readers of lists', async () => {
  await inScratch(async (folder) => {
    const [from, back] = [join(folder, 'from'), join(folder, 'back')];
    mkdirSync(from);
    plant(from);
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    await succeeds(['format', url, 'testvol', '--bucket', join(folder, 'blocks')]);
    const env = { myvol: url };
    const all = ['--dirs', '--perms', '--links', '--check-new'];
    await succeeds(['sync', ...all, `${from}/`, 'jfs://myvol/in/here/'], { env });
    await succeeds(['sync', ...all, '--list-threads', '4', '--list-depth', '3', 'jfs://myvol/in/here/', `${back}/`], { env });
    assert.equal(tree(back), tree(from));
    const again = await figures(...all, '--check-all', `${from}/`, `${back}/`);
    assert.deepEqual([again.copied, again.failed], [0, 0]);
    assert.ok(again.checked > 4);
  });
});

test('a tree goes to S3 and back, large files in parts; names that cannot be keys are told, the others go', async () => {
  await inScratch(async (folder) => {
    const [from, back] = [join(folder, 'from'), join(folder, 'back')];
    mkdirSync(from);
    plant(from);
    const { code, stderr } = await run(['sync', '--no-https', '--dirs', '--check-new', `${from}/`, s3('tree/')]);
    assert.equal(code, 1);
    assert.match(stderr, /not-utf8-.*: an object store takes keys in UTF-8 only/);
    assert.match(stderr, /1 of \d+ objects failed/);
    await succeeds(['sync', '--no-https', '--dirs', '--check-new', s3('tree/'), `${back}/`]);
    for (const name of readdirSync(from, { recursive: true, encoding: 'latin1' })) {
      if (name.includes('ÿ') || name === 'dangling') continue;
      const path = Buffer.from(name, 'latin1').toString();
      assert.ok(existsSync(join(back, path)), path);
      if (statSync(join(from, path)).isFile())
        assert.ok(readFileSync(join(back, path)).equals(readFileSync(join(from, path))), path);
    }
  });
});

test('without a slash, everything is copied whose path begins so', async () => {
  await inScratch(async (folder) => {
    for (const name of ['ab', 'abc', 'b']) writeFileSync(join(folder, name), name);
    mkdirSync(join(folder, 'abd'));
    writeFileSync(join(folder, 'abd/x'), 'x');
    await succeeds(['sync', join(folder, 'ab'), join(folder, 'copy-ab')]);
    assert.deepEqual(readdirSync(folder).toSorted(), ['ab', 'abc', 'abd', 'b', 'copy-ab', 'copy-abc', 'copy-abd']);
    assert.equal(readFileSync(join(folder, 'copy-abd/x'), 'utf8'), 'x');
  });
});

test('links to a directory above are not followed for ever, and what leads nowhere is passed over', async () => {
  await inScratch(async (folder) => {
    mkdirSync(join(folder, 'from/a/b'), { recursive: true });
    writeFileSync(join(folder, 'from/a/file'), 'x');
    symlinkSync('../..', join(folder, 'from/a/b/up'));
    symlinkSync('nowhere', join(folder, 'from/a/dangling'));
    symlinkSync('a', join(folder, 'from/other'));
    const { failed } = await figures(`${folder}/from/`, `${folder}/to/`);
    assert.equal(failed, 0);
    const found = readdirSync(join(folder, 'to'), { recursive: true }).map(String).toSorted();
    assert.deepEqual(found, ['a', 'a/file', 'other', 'other/file']);
  });
});

test('interrupted it says so, leaves no temporary names and no half file, and goes on where it was', async () => {
  await inScratch(async (folder) => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    mkdirSync(from);
    const body = Buffer.alloc(1024 * 1024, 'data');
    for (let index = 0; index < 40; index++) writeFileSync(join(from, `file-${index}`), body);
    const copied = (): string[] => (existsSync(to) ? readdirSync(to) : []);
    const ended = await run(['sync', '--bwlimit', '40', `${from}/`, `${to}/`], {
      onStart: (child) => void until('some are copied', () => copied().length > 5).then(() => child.kill('SIGINT')),
    });
    assert.equal(ended.code, 130);
    assert.match(ended.stderr, /interrupted; what was copied is whole\n {2}Run the same again/);
    const whole = copied();
    assert.ok(whole.length < 40, `${whole.length} files`);
    for (const name of whole) {
      assert.match(name, /^file-\d+$/);
      assert.ok(readFileSync(join(to, name)).equals(body), name);
    }
    const rest = await figures(`${from}/`, `${to}/`);
    assert.equal(rest.copied, 40 - whole.length);
    assert.equal(rest.skipped, whole.length);
  });
});

test('with a checkpoint it says where it goes on, names what failed once more, and leaves no checkpoint in the end', async () => {
  await inScratch(async (folder) => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    mkdirSync(from);
    const body = Buffer.alloc(1024 * 1024, 'data');
    for (let index = 10; index < 50; index++) writeFileSync(join(from, `file-${index}`), body);
    const names = (): string[] => (existsSync(to) ? readdirSync(to) : []);
    const copied = (): string[] => names().filter((name) => name.startsWith('file-'));
    const checkpoints = (): string[] => names().filter((name) => /^\.juicefs-sync-checkpoint\.[0-9a-f]{32}\.json$/.test(name));
    const args = ['--enable-checkpoint', '--checkpoint-interval', '100ms', `${from}/`, `${to}/`];
    const ended = await run(['sync', '--bwlimit', '40', ...args], {
      // Without a chance to note anything at the end.
      onStart: (child) =>
        void until('some are copied, and it is noted', () => copied().length > 15 && checkpoints().length === 1).then(() =>
          child.kill('SIGKILL'),
        ),
    });
    assert.equal(ended.code, null);
    // A directory in the place of a file: that one fails.
    rmSync(join(to, 'file-49'), { force: true });
    mkdirSync(join(to, 'file-49/in'), { recursive: true });
    const { code, stderr, stdout } = await run(['sync', ...args]);
    assert.equal(code, 1, stdout);
    assert.match(
      stderr,
      /going on from the checkpoint of \d{4}-.*, \d+ objects were handled before; --checkpoint-force-reset begins anew/,
    );
    assert.match(stderr, /file-49: /);
    assert.match(stdout, /Found: [12]\d, .*failed: 1/);
    rmSync(join(to, 'file-49'), { recursive: true });
    const last = await figures(...args);
    assert.deepEqual([last.copied, last.skipped, last.failed], [1, 0, 0]);
    assert.deepEqual([checkpoints(), copied().length], [[], 40]);
    // Nothing is noted any more: all is looked at.
    assert.equal((await figures(...args)).skipped, 40);
    assert.deepEqual(checkpoints(), []);
    await refuses(['sync', ...args, '--checkpoint-interval', '1ms'], /--checkpoint-interval 1ms: wanted a time such as 10s/);
  });
});

test('a dry run changes nothing and counts what would be done', async () => {
  await inScratch(async (folder) => {
    mkdirSync(join(folder, 'from'));
    mkdirSync(join(folder, 'to'));
    writeFileSync(join(folder, 'from/new'), 'xyz');
    writeFileSync(join(folder, 'to/old'), 'x');
    const dry = await figures('--dry', '--delete-dst', `${folder}/from/`, `${folder}/to/`);
    assert.deepEqual([dry.copied, dry.copiedBytes, dry.deleted], [1, 3, 1]);
    assert.deepEqual(readdirSync(join(folder, 'to')), ['old']);
  });
});

test('directories that are extra go with all that is in them, but for what is excluded', async () => {
  await inScratch(async (folder) => {
    mkdirSync(join(folder, 'from'));
    for (const name of ['to/gone/deep/er', 'to/kept/deep']) mkdirSync(join(folder, name), { recursive: true });
    writeFileSync(join(folder, 'to/gone/deep/er/x'), 'x');
    writeFileSync(join(folder, 'to/kept/deep/x.keep'), 'x');
    for (const threads of ['1', '3']) {
      const args = ['--dirs', '--delete-dst', '--exclude', '*.keep', '--list-threads', threads, '--list-depth', '5'];
      assert.equal((await figures(...args, `${folder}/from/`, `${folder}/to/`)).failed, 0);
      assert.deepEqual(readdirSync(join(folder, 'to'), { recursive: true }).map(String).toSorted(), [
        'kept',
        'kept/deep',
        'kept/deep/x.keep',
      ]);
    }
  });
});

test('moving removes from the source what was copied, directories too', async () => {
  await inScratch(async (folder) => {
    mkdirSync(join(folder, 'from/a/b'), { recursive: true });
    writeFileSync(join(folder, 'from/a/b/x'), 'x');
    writeFileSync(join(folder, 'from/y'), 'y');
    await succeeds(['sync', '--dirs', '--delete-src-after', `${folder}/from/`, `${folder}/to/`]);
    assert.deepEqual(readdirSync(join(folder, 'from')), []);
    assert.equal(readFileSync(join(folder, 'to/a/b/x'), 'utf8'), 'x');
  });
});

test('objects that fail are named, the others are copied; --max-failure ends it', async () => {
  await inScratch(async (folder) => {
    mkdirSync(join(folder, 'from'));
    for (const name of ['a', 'b', 'c']) {
      writeFileSync(join(folder, 'from', name), name);
      mkdirSync(join(folder, 'to', name, 'in the way'), { recursive: true });
    }
    writeFileSync(join(folder, 'from/d'), 'd');
    const all = await run(['sync', `${folder}/from/`, `${folder}/to/`]);
    assert.equal(all.code, 1);
    assert.match(all.stderr, /3 of 4 objects failed\n {2}Run the same again/);
    assert.equal(readFileSync(join(folder, 'to/d'), 'utf8'), 'd');
    assert.deepEqual(readdirSync(join(folder, 'to')).toSorted(), ['a', 'b', 'c', 'd']);
    rmSync(join(folder, 'to/d'));
    const few = await run(['sync', '--max-failure', '1', '--threads', '1', `${folder}/from/`, `${folder}/to/`]);
    assert.equal(few.code, 1);
    assert.match(few.stderr, /1 objects failed, which is as many as --max-failure allows/);
    assert.ok(!existsSync(join(folder, 'to/d')));
  });
});

test('what cannot be is refused in a sentence, and never with a secret in it', async () => {
  await inScratch(async (folder) => {
    const to = `${folder}/to/`;
    writeFileSync(join(folder, 'file'), '');
    const secret = 'hunter2';
    for (const [args, wanted] of [
      [[folder, to], /SRC and DST both end with a slash, or neither/],
      [[to, to], /SRC and DST are the same place/],
      [['ceph://pool/', to], /SRC: storage ceph is not supported; the supported ones are jfs, file, s3/],
      [['user@host:/path/', to], /reached by ssh/],
      [['jfs://no_such_variable/', to], /there is no variable no_such_variable/],
      [['jfs://redis%3A%2F%2F%3Ahunter2%40127.0.0.1%3A1%2F1/', to], /127\.0\.0\.1:1/],
      [[`s3://id:${secret}@127.0.0.1:1/`, to], /the bucket is missing/],
      [[`s3://${server.accessKey}:${secret}@127.0.0.1:${server.port}/things/`, to, '--no-https'], /SignatureDoesNotMatch/],
      [[s3('').replace('/things/', '/no-such-bucket/'), to, '--no-https'], /NoSuchBucket/],
      [[to, to.replace('to', 'too'), '--exclude', '[a'], /--exclude: "\[a" is no pattern/],
      [[to, to.replace('to', 'too'), '--min-size', '2M', '--max-size', '1M'], /--min-size is larger than --max-size/],
      [[to, to.replace('to', 'too'), '--start-time', 'yesterday'], /--start-time: wanted a time/],
      [[to, to.replace('to', 'too'), '--threads', '0'], /--threads: wanted a number from 1/],
    ] as const) {
      const stderr = await refuses(['sync', ...args], wanted);
      assert.ok(!stderr.includes(secret) && !stderr.includes(server.secretKey), stderr);
    }
    await refusesInJson(['sync', 'ceph://pool/', to], 'UnsupportedStorage');
    await refusesInJson(['sync', `sqlite3://x/`, to], 'UnsupportedStorage');
    await refusesInJson(['sync', `jfs://${encodeURIComponent(`sqlite3://${folder}/none.db`)}/`, to], 'NoDatabase');
  });
});

test('--files-from copies the files and directories of a list, of any bytes, and says what is not there', async () => {
  await inScratch(async (path) => {
    const [from, to, list] = [join(path, 'from/'), join(path, 'to/'), join(path, 'list')];
    mkdirSync(join(from, 'tree/deep'), { recursive: true });
    mkdirSync(join(from, 'other'));
    mkdirSync(to);
    const odd = Buffer.concat([Buffer.from(from), Buffer.from('odd \xff name', 'latin1')]);
    for (const name of ['a', 'b', 'tree/one', 'tree/deep/two', 'other/three', 'other/four'])
      writeFileSync(join(from, name), name);
    writeFileSync(odd, 'odd');
    writeFileSync(list, Buffer.from('b\n\ntree\nother/three  \r\nmissing\nodd \xff name\nb', 'latin1'));
    const names = (folder: string): string[] =>
      execFileSync('sh', ['-c', 'cd "$1" && find . -type f | LC_ALL=C sort', 'sh', folder], { encoding: 'latin1' })
        .split('\n')
        .filter(Boolean);
    const wanted = ['./b', './odd \xff name', './other/three', './tree/deep/two', './tree/one'];
    const { stdout, stderr, code } = await run(['sync', '--files-from', list, from, to]);
    assert.equal(code, 0, stderr);
    assert.deepEqual(names(to), wanted);
    assert.match(stderr, /missing: named in --files-from, and not there/);
    assert.match(stdout, /missing: 1/);
    assert.equal((await figures('--files-from', list, from, to)).copied, 0, 'nothing is left to do');

    // Into a store, and what is extra there goes, but only where something was named.
    const partly = await run(['sync', '--no-https', '--files-from', list, from, s3('listed/')]);
    assert.equal(partly.code, 1);
    assert.match(partly.stderr, /an object store takes keys in UTF-8 only[^]*1 of 6 objects failed/);
    writeFileSync(list, 'b\ntree\nother/three\n');
    assert.equal((await figures('--no-https', '--files-from', list, from, s3('listed/'))).copied, 0);
    rmSync(join(from, 'tree/one'));
    const again = await figures('--no-https', '--files-from', list, '--deleteDst', '--list-threads', '4', from, s3('listed/'));
    assert.deepEqual([again.deleted, again.copied, again.failed], [1, 0, 0]);

    writeFileSync(list, 'a\n../from/b\n');
    await refuses(['sync', '--files-from', list, from, to], /wanted paths below SRC, found \.\.\/from\/b/);
    await refuses(['sync', '--files-from', join(path, 'none'), from, to], /none cannot be read/);
    writeFileSync(list, 'x'.repeat(20_000));
    await refuses(['sync', '--files-from', list, from, to], /a line of more than 16384 bytes/);
  });
});
