/** `juicepod dump` and `juicepod load` as a person runs them: through files and pipes, refused where they must be, interrupted, killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { openEngine } from '../../src/meta/open.ts';
import { goldenDump } from '../dump/engines.ts';
import { goldenRoot } from '../meta/golden-volume.ts';
import { bin, inScratch, refuses, refusesInJson, succeeds, until } from './command.ts';

const JSON_DUMP = join(goldenRoot, 'redis-full', 'dump.json');
const BINARY_DUMP = join(goldenRoot, 'redis-full', 'dump.bin');

/** A load that has read a part of its standard input and waits for more. */
async function loadHalf(url: string): Promise<{ readonly child: ChildProcess; readonly ended: Promise<string> }> {
  const child = spawn(bin, ['load', url], { stdio: ['pipe', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (data: Buffer) => (said += data.toString()));
  const ended = new Promise<string>((done) => child.once('close', () => done(said)));
  child.stdin?.on('error', () => {});
  child.stdin?.write(goldenDump('redis-full', 'json').subarray(0, 20_000));
  await until('the load has begun', async () => (await contentsOf(url)) === 'loading');
  return { child, ended };
}

async function contentsOf(url: string): Promise<string | undefined> {
  const engine = await openEngine(url, { readOnly: true }).catch(() => undefined);
  try {
    return (await engine?.bulk?.contents())?.kind;
  } finally {
    await engine?.close();
  }
}

describe('dump and load', () => {
  test('a volume goes through files of every kind, and through pipes, and comes out as it was', () =>
    inScratch(async (folder) => {
      const database = (name: string): string => `sqlite3://${join(folder, `${name}.db`)}`;
      const file = (name: string): string => join(folder, name);
      await succeeds(['load', database('first'), JSON_DUMP]);
      for (const [name, ...flags] of [
        ['plain.json'],
        ['small.json.gz'],
        ['small.json.zstd'],
        ['plain.bin', '--binary'],
        ['small.bin.gz', '--binary'],
      ] as const) {
        await succeeds(['dump', database('first'), file(name), ...flags]);
        const told = await succeeds(['load', database(name), file(name), ...flags, '--output', 'json']);
        assert.equal((JSON.parse(told) as { volume: string }).volume, 'redis-full');
        assert.equal(await succeeds(['dump', database(name)]), readFileSync(JSON_DUMP, 'utf8'), name);
      }
      assert.ok(readFileSync(file('small.json.gz')).length * 5 < readFileSync(file('plain.json')).length);
      await succeeds(['load', database('piped'), '/dev/stdin'], { wrap: ['sh', '-c', `exec "$@" < ${JSON_DUMP}`, 'sh'] });
      assert.equal(await succeeds(['dump', database('piped')]), readFileSync(JSON_DUMP, 'utf8'));
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.endsWith('.tmp')),
        [],
      );
    }));

  test('a directory by itself is dumped as a volume of its own, and the trash is left out', () =>
    inScratch(async (folder) => {
      const [whole, part] = ['whole', 'part'].map((name) => `sqlite3://${join(folder, `${name}.db`)}`) as [string, string];
      await succeeds(['load', whole, JSON_DUMP]);
      const path = join(folder, 'acl.json');
      await succeeds(['dump', whole, path, '--subdir', '/acl']);
      await succeeds(['load', part, path]);
      const { FSTree, Trash, Counters } = JSON.parse(await succeeds(['dump', part])) as {
        readonly FSTree: { readonly attr: { readonly inode: number }; readonly entries: object };
        readonly Trash: { readonly entries: object };
        readonly Counters: { readonly usedInodes: number };
      };
      assert.deepEqual(Object.keys(FSTree.entries), ['access', 'def', 'mindef', 'same']);
      assert.deepEqual([FSTree.attr.inode, Object.keys(Trash.entries).length, Counters.usedInodes], [1, 0, 7]);
      const without = JSON.parse(await succeeds(['dump', whole, '--skip-trash'])) as object;
      assert.ok(!('Trash' in without));
      await refuses(['dump', whole, '--subdir', '/nowhere'], /has no directory \/nowhere/);
      await refuses(['dump', whole, '--subdir', '/acl', '--binary'], /--binary dumps the whole volume/);
    }));

  test('what is in a binary dump is shown without a database', () =>
    inScratch(async (folder) => {
      const shown = await succeeds(['load', '--stat', '--binary', BINARY_DUMP]);
      assert.match(shown, /^Backup Version: 1\n/);
      assert.match(shown, /^node +102$/m);
      const { segments } = JSON.parse(await succeeds(['load', '--stat', '--binary', BINARY_DUMP, '--output', 'json'])) as {
        readonly segments: readonly { readonly name: string; readonly offsets: readonly number[] }[];
      };
      const [at] = segments.find(({ name }) => name === 'symlink')?.offsets ?? [];
      const links = await succeeds(['load', '--stat', '--binary', BINARY_DUMP, '--offset', String(at)]);
      assert.match(links, /^Segment: symlink\nValue: \{\n {2}"symlinks": \[/);
      await refuses(['load', '--stat', '--binary', JSON_DUMP], /no whole binary dump/);
      assert.deepEqual(readdirSync(folder), []);
    }));

  test('nothing is loaded where something is, or from what is no dump, and the database is empty again', () =>
    inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'one.db')}`;
      await refuses(['dump', url], /There is no SQLite database/);
      await refusesInJson(['load', url, join(folder, 'missing.json')], 'FileUnreadable');
      const half = join(folder, 'half.json');
      writeFileSync(half, readFileSync(JSON_DUMP).subarray(0, 20_000));
      writeFileSync(join(folder, 'half.bin'), readFileSync(BINARY_DUMP).subarray(0, 9000));
      writeFileSync(join(folder, 'not.json.gz'), 'this is not compressed');
      writeFileSync(join(folder, 'other.json'), '{"hello": "world"}');
      for (const [wanted, ...args] of [
        [/ends in the middle at byte 20000/, half],
        [/ends in the middle/, '--binary', join(folder, 'half.bin')],
        [/not\.json\.gz cannot be read to its end/, join(folder, 'not.json.gz')],
        [/holds no Setting/, join(folder, 'other.json')],
        [/no whole JSON dump: wanted "\{"/, BINARY_DUMP],
        [/no whole binary dump/, '--binary', JSON_DUMP],
      ] as const) {
        await refuses(['load', url, ...args], wanted);
        assert.equal(await contentsOf(url), 'empty');
      }
      await succeeds(['load', url, JSON_DUMP]);
      await refusesInJson(['load', url, JSON_DUMP], 'NotEmpty');
      await refuses(['load', '--restart', url, JSON_DUMP], /is used by volume "redis-full"/);
      await refuses(['dump', url, join(folder, 'no', 'folder.json')], /cannot be written/);
    }));

  test('one that is interrupted leaves nothing', () =>
    inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'one.db')}`;
      const { child, ended } = await loadHalf(url);
      child.kill('SIGINT');
      assert.match(await ended, /The load was interrupted; what it had written was removed/);
      assert.notEqual(child.exitCode, 0);
      assert.equal(await contentsOf(url), 'empty');
      await succeeds(['load', url, JSON_DUMP]);
    }));

  test('one that is killed leaves a mark: nobody mounts that, and a load begins again only when it is told to', () =>
    inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'one.db')}`;
      const { child, ended } = await loadHalf(url);
      await refuses(['load', url, JSON_DUMP], /is under way, or was interrupted/);
      child.kill('SIGKILL');
      await ended;
      await refuses(['status', url], /holds no volume/);
      await refusesInJson(['load', url, JSON_DUMP], 'LoadInterrupted');
      await succeeds(['load', url, JSON_DUMP, '--restart']);
      assert.equal(await succeeds(['dump', url]), readFileSync(JSON_DUMP, 'utf8'));
    }));

  test('a dump into a pipe that nobody reads any more ends quietly', () =>
    inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'one.db')}`;
      await succeeds(['load', url, JSON_DUMP]);
      const closed = spawn(bin, ['dump', url], { stdio: ['ignore', 'pipe', 'pipe'] });
      closed.stdout.destroy();
      let said = '';
      closed.stderr.on('data', (data: Buffer) => (said += data.toString()));
      await new Promise((done) => closed.once('close', done));
      assert.equal(said, '');
    }));
});
