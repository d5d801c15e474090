/** `juicepod stats` and `profile` on mounts of this client and of the official one, as a person or a script uses them. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { bin, inScratch, refuses, refusesInJson, succeeds, until } from '../cli/command.ts';
import { cannotInteroperate, mountOfficial, run as official } from '../interop/official.ts';
import { cannotMount, freshVolume } from '../mounted.ts';

/** Runs a command that goes on until it is told to end; answers what it had said then. */
async function whileRunning(args: readonly string[], work: () => void, enough: (stdout: string) => boolean): Promise<string> {
  const child: ChildProcess = spawn(bin, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  let wrong = '';
  child.stdout?.on('data', (data: Buffer) => (said += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (wrong += data.toString()));
  const ended = new Promise<number | null>((done) => child.once('close', done));
  try {
    await until('it has begun', () => said !== '' || child.exitCode !== null);
    await until('it has said enough', () => {
      work();
      return enough(said) || child.exitCode !== null;
    });
  } finally {
    child.kill('SIGINT');
  }
  assert.equal(await ended, 0, `juicepod ${args.join(' ')}\n${said}\n${wrong}`);
  return said;
}

async function observe(folder: string): Promise<void> {
  let number = 0;
  const work = (): void => writeFileSync(join(folder, `file-${number++}`), 'x'.repeat(1000));
  interface Line {
    readonly seconds: number;
    readonly fuse: { readonly ops: number; readonly ops_latency: number; readonly write: number };
    readonly meta: { readonly ops: number; readonly txn: number };
    readonly usage: { readonly mem: number };
  }
  const linesOf = (text: string): Line[] =>
    text
      .split('\n')
      .filter((line) => line.endsWith('}'))
      .map((line) => JSON.parse(line) as Line);
  // The first line of a command that asks for two ends it; before that nothing is said.
  const json = succeeds(['stats', folder, '-l', '1', '--count', '2', '--output', 'json']);
  const ended = new AbortController();
  void json.finally(() => ended.abort());
  while (!ended.signal.aborted) {
    work();
    await new Promise((done) => setTimeout(done, 20));
  }
  const lines = linesOf(await json);
  assert.equal(lines.length, 2);
  for (const { seconds, fuse, meta, usage } of lines) {
    assert.ok(seconds >= 1 && fuse.ops > 1 && fuse.write > 1000 && fuse.ops_latency > 0, JSON.stringify(fuse));
    assert.ok(meta.ops > 1 && meta.txn > 1 && usage.mem > 2 ** 20);
  }
  const text = await whileRunning(['stats', folder, '--schema', 'fm'], work, (said) => said.split('\n').length > 4);
  assert.match(text, /^-+fuse-+ -+meta-+\n.*ops.*\n.*\|.*\n/);

  const live = await whileRunning(
    ['profile', folder, '--interval', '1', '--pid', String(process.pid)],
    work,
    (said) => /^create /m.test(said) && /^write /m.test(said),
  );
  assert.match(live, /^Operation +Count +Average\(us\) +Total\(us\) +Percent\(%\)$/m);
  // Whoever reads the log is nobody that was looked for.
  assert.doesNotMatch(live, /^opendir /m);
  await refuses(['profile', folder, '--interval', '0'], /--interval 0 is for a file/);
}

test('stats and profile tell what a mount does, live, until they are told to end', { skip: cannotMount }, async () => {
  await using mounted = await freshVolume('sqlite');
  await observe(mounted.folder);
  mkdirSync(join(mounted.folder, 'below'));
  await refuses(['stats', join(mounted.folder, 'below')], /is not the root of a mounted volume/);
  await refuses(['stats', mounted.work], /is not the root of a mounted volume/);
  await refuses(['profile', join(mounted.folder, 'nothing')], /there is no such file or directory/);
  await refusesInJson(['stats', '/no/such'], 'PathMissing');
  await refuses(['stats', mounted.folder, '--schema', 'ux'], /--schema: wanted letters of tufmcog, found "x"/);
  await refuses(['stats', mounted.folder, '--interval', '0'], /--interval: wanted a number from 1/);
});

test('they do the same on a mount of the official client', { skip: cannotInteroperate }, async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    await official(['format', url, 'testvol', '--bucket', join(folder, 'store')]);
    await using theirs = await mountOfficial(url, join(folder, 'mnt'), ['--cache-dir', join(folder, 'cache')]);
    await observe(theirs.folder);
  });
});

test('a log that was kept is summed up at once, or in pieces', async () => {
  await inScratch(async (folder) => {
    const log = join(folder, 'log');
    const line = (second: number, operation: string, uid: number): string =>
      `2026.11.21 10:00:0${second}.000000 [uid:${uid},gid:0,pid:1] ${operation} (1): (2) - OK <0.000500>\n`;
    writeFileSync(log, `${line(0, 'read', 0)}#\n${line(1, 'read', 0)}${line(4, 'write', 7)}no line\n`);
    const all = JSON.parse(await succeeds(['profile', log, '--output', 'json'])) as unknown;
    assert.deepEqual(all, {
      time: '2026-11-21T10:00:04.000Z',
      seconds: 4,
      operations: [
        { operation: 'read', count: 2, total_us: 1000 },
        { operation: 'write', count: 1, total_us: 500 },
      ],
    });
    const pieces = (await succeeds(['profile', log, '--interval', '2', '--output', 'json'])).trimEnd().split('\n');
    assert.deepEqual(
      pieces.map((piece) => (JSON.parse(piece) as { operations: { count: number }[] }).operations.map(({ count }) => count)),
      [[2], [1]],
    );
    assert.match(await succeeds(['profile', log, '-u', '7']), /^write +1 +500 +500 /m);
    await refuses(['profile', log, '-u', '8'], /holds no operation of those wanted/);
    await refuses(['profile', log, '-u', 'root'], /--uid: wanted a number/);
  });
});

/**
 * Of what Unicode has given out only parts that it gave out long ago: the two clients know different versions of it, and a character that
 * is new to one of them is shown by the other.
 */
const LONG_KNOWN = [
  [0, 0x37f],
  [0x2000, 0x206f],
  [0x4e00, 0x9fa5],
  [0xac00, 0xd7a3],
  [0xe000, 0xf8ff],
  [0xfeff, 0xfeff],
  [0x1f300, 0x1f64f],
  [0x20000, 0x2a6d6],
  // What is no text at all reads as this.
  [0xfffd, 0xfffd],
  [0xe0000, 0xe007f],
  [0xf0000, 0x10ffff],
] as const;
const isAlike = (code: number): boolean =>
  !/\p{Assigned}/u.test(String.fromCodePoint(code)) || LONG_KNOWN.some(([first, last]) => first <= code && code <= last);
const character = fc
  .integer({ min: 0, max: 0x10ffff })
  .filter((code) => code < 0xd800 || code > 0xdfff)
  .filter(isAlike)
  .map((code) => String.fromCodePoint(code));

test('names are logged as the official client logs them, whatever bytes they have', { skip: cannotInteroperate }, async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    await official(['format', url, 'testvol', '--bucket', join(folder, 'store')]);
    await using theirs = await mountOfficial(url, join(folder, 'mnt'), ['--cache-dir', join(folder, 'cache')]);
    await using ours = await freshVolume('sqlite');
    const byte = fc.oneof(
      fc.constantFrom(...Buffer.from('ab "`\\\n\t\r\u007f\u0001\u001f\ufeff\u00ad\u2028é漢😀\u{e0001}')),
      fc.integer({ min: 1, max: 255 }),
    );
    const unit = fc.oneof(character, fc.constantFrom('é', '漢', '😀', '\u{e0001}', '\u{ad}', '\u{2028}'));
    const text = fc.string({ unit, minLength: 1, maxLength: 20 }).map((each) => [...Buffer.from(each)]);
    const names = fc
      .sample(fc.oneof(fc.array(byte, { minLength: 1, maxLength: 20 }), text), 300)
      // Neither names of directories nor of virtual files.
      .map((bytes) => Buffer.from([0x78, ...bytes.filter((each) => each !== 0 && each !== 0x2f), 0x78]))
      .filter((name) => Array.from(name.toString(), (each) => each.codePointAt(0) ?? 0).every(isAlike));
    const logged = (mount: string): readonly string[] => {
      const log = openSync(join(mount, '.accesslog'), 'r');
      try {
        for (const name of names) assert.throws(() => statSync(Buffer.concat([Buffer.from(`${mount}/`), name])));
        const buffer = Buffer.alloc(1 << 20);
        let said = '';
        while (!/^#$/m.test(said)) said += buffer.toString('latin1', 0, readSync(log, buffer, 0, buffer.length, null));
        return said.split('\n').flatMap((line) => / (lookup \(1,x.*\)): - no such file/.exec(line)?.[1] ?? []);
      } finally {
        closeSync(log);
      }
    };
    const wanted = logged(theirs.folder);
    assert.ok(wanted.length >= new Set(names.map(String)).size / 2);
    assert.deepEqual(logged(ours.folder), wanted);
    assert.match(readFileSync(join(ours.folder, '.stats'), 'utf8'), /^juicefs_fuse_ops_total_lookup /m);
  });
});
