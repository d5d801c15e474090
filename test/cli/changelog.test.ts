/** `juicepod changelog`, and the options of `format` and `config` for it: what they set and print, what they refuse, how they end. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { inScratch, refusesInJson, run, succeeds, until } from './command.ts';

async function format(folder: string, ...more: readonly string[]): Promise<string> {
  const url = `sqlite3://${join(folder, 'meta.db')}`;
  await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects'), '--trash-days', '0', ...more]);
  return url;
}

const settings = async (url: string): Promise<readonly unknown[]> => {
  const { ChangeLog, ChangeLogMaxAge, ChangeLogMaxLines } = JSON.parse(await succeeds(['config', url])) as Record<
    string,
    unknown
  >;
  return [ChangeLog, ChangeLogMaxAge, ChangeLogMaxLines];
};

test('a volume is made with a change log, or gets one, and is told how much of it to keep', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder);
    assert.deepEqual(await settings(url), [undefined, undefined, undefined]);
    await refusesInJson(['changelog', url], 'NoChangeLog');
    assert.match(await succeeds(['config', url, '--changelog']), /ChangeLog: false -> true\nChangeLogMaxAge: for ever -> 7200 s/);
    await succeeds(['config', url, '--changelog-max-age', '30m', '--changelog-max-lines', '5']);
    assert.deepEqual(await settings(url), [true, 1800, 5]);
    await succeeds(['config', url, '--changelog-max-age', '0']);
    await succeeds(['config', url, '--changelog=false']);
    await succeeds(['config', url, '--changelog', '--changelog-max-age', '0']);
    assert.deepEqual(await settings(url), [true, undefined, 5]);
    for (const [option, value] of [
      ['--changelog', 'maybe'],
      ['--changelog-max-age', '-1h'],
      ['--changelog-max-lines', '1.5'],
    ] as const)
      assert.match((await run(['config', url, `${option}=${value}`])).stderr, new RegExp(`${option}: wanted`));
  });
  await inScratch(async (folder) => {
    const url = await format(folder, '--changelog', '--changelog-max-lines', '9');
    assert.deepEqual(await settings(url), [true, 7200, 9]);
  });
});

test('it prints what is kept, from any number on, as text or a JSON object on each line', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder, '--changelog');
    await succeeds(['quota', 'set', url, '--path', '/a,b', '--create', '--inodes', '5']);
    const all = (await succeeds(['changelog', url, '--all', '--once'])).trimEnd().split('\n');
    const made = all.findIndex((line) => line.includes('|CREATE(1,a%2Cb,0,0,2,511,0,,'));
    assert.ok(made > 0, all.join('\n'));
    assert.ok(all.every((line, at) => line.startsWith(`${at + 1}: `)));
    const rest = (await succeeds(['changelog', url, '--from', String(made), '--once', '--output', 'json'])).trimEnd().split('\n');
    assert.equal(rest.length, all.length - made);
    const { number, operation, args, session } = JSON.parse(rest[0] ?? '') as Record<string, unknown>;
    assert.deepEqual([number, operation, (args as string[])[1], session], [made + 1, 'CREATE', 'a%2Cb', 0]);
    assert.equal(await succeeds(['changelog', url, '--once']), '');
    await refusesInJson(['changelog', url, '--from', 'x'], 'InvalidNumber');
    await refusesInJson(['changelog', `sqlite3://${join(folder, 'nothing.db')}`], 'NoDatabase');
  });
});

test('it follows what happens until it is interrupted, and ends cleanly', async () => {
  await inScratch(async (folder) => {
    const url = await format(folder, '--changelog');
    let seen = '';
    const following = run(['changelog', url, '--all'], {
      onStart: (child) => {
        child.stdout?.on('data', (data: Buffer) => (seen += data.toString()));
        void until('it follows', () => seen.includes('DIRSTAT'))
          .then(() => succeeds(['quota', 'set', url, '--path', '/later', '--create', '--inodes', '5']))
          .then(() => until('it tells', () => seen.includes('CREATE(1,later')))
          .finally(() => child.kill('SIGINT'));
      },
    });
    const { code, stdout, stderr } = await following;
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /CREATE\(1,later/);
  });
});
