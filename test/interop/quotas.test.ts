/**
 * Quotas between the two clients: what one sets the other shows and enforces, both count alike, and a quota that has grown lets a
 * writer go on. Takes the official client from JUICEFS_BIN and is skipped where that names none.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { errnoName } from '../../src/lib/errors.ts';
import { openEngine } from '../../src/meta/open.ts';
import { checkQuotas } from '../../src/meta/quotas.ts';
import { juicepod } from '../mounted.ts';
import { type ClientName, type EngineName, openPair, type Pair } from './pair.ts';
import { cannotInteroperate, run } from './official.ts';
import { until } from '../until.ts';

const KIB = 1024;
/** What is changed is noticed within a second or so. */
const QUICK = { mountOurs: ['--heartbeat', '1s'], mountOfficial: ['--heartbeat', '1s'] };

interface Shown {
  readonly owner: { readonly path?: string; readonly uid?: number; readonly gid?: number };
  readonly capacity: number;
  readonly inodes: number;
}

const ourList = async ({ url }: Pair): Promise<Shown[]> =>
  JSON.parse(await juicepod(['quota', 'list', url, '--output', 'json'])) as Shown[];

/** Rows of the official table, without its borders: name, size, used, %, inodes, used, %. */
function rows(table: string): string[][] {
  return table
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(1)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function errnoOf(work: () => void): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    // Node has no name for EDQUOT.
    return errnoName(-((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

/** Writes a file and closes it; the error of whichever call fails. */
function store(path: string, bytes: number): string | undefined {
  return errnoOf(() => {
    const file = openSync(path, 'w');
    try {
      const data = Buffer.alloc(bytes, 'x');
      // A write that does not fit as a whole is cut short first.
      for (let done = 0; done < bytes;) done += writeSync(file, data, done);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  });
}

/** What `df` shows of a folder. */
function room(path: string): { readonly total: number; readonly free: number; readonly files: number } {
  const { blocks, bavail, bsize, files } = statfsSync(path);
  return { total: blocks * bsize, free: bavail * bsize, files };
}

async function remount(pair: Pair, work: () => Promise<unknown>): Promise<void> {
  const both: readonly ClientName[] = ['ours', 'official'];
  await Promise.all(both.map((client) => pair.unmount(client)));
  await work();
  await Promise.all(both.map((client) => pair.mount(client)));
}

// Two at a time: they wait for what a client notices within a second or so.
describe('quotas of both clients', { skip: cannotInteroperate, concurrency: 2 }, () => {
  for (const engine of ['redis', 'sqlite', 'postgres', 'mysql'] as const satisfies readonly EngineName[]) {
    test(`what one sets the other shows, ${engine}`, async () => {
      await using pair = await openPair({ engine });
      const { url, ours } = pair;
      mkdirSync(join(ours, 'a/b'), { recursive: true });
      mkdirSync(join(ours, 'c'));
      await juicepod(['quota', 'set', url, '--path', '/a', '--capacity', '3', '--inodes', '70']);
      await juicepod(['quota', 'set', url, '--path', '/a/b', '--inodes', '7']);
      await juicepod(['quota', 'set', url, '--uid', '1000', '--capacity', '2G']);
      await juicepod(['quota', 'set', url, '--gid', '100', '--inodes', '9']);
      const theirs = rows((await run(['quota', 'list', url])).stdout);
      assert.deepEqual(
        theirs.map(([name, size, , , inodes]) => [name, size, inodes]),
        [
          ['/a', '3.0 GiB', '70'],
          ['/a/b', 'unchanged', '7'],
          ['gid:100', 'unchanged', '9'],
          ['uid:1000', '2.0 GiB', 'unchanged'],
        ],
      );
      await run(['quota', 'set', url, '--path', '/c', '--capacity', '1']);
      await run(['quota', 'set', url, '--path', '/a', '--inodes', '71']);
      await run(['quota', 'set', url, '--gid', '101', '--capacity', '1', '--inodes', '5']);
      await run(['quota', 'delete', url, '--path', '/a/b']);
      await run(['quota', 'delete', url, '--uid', '1000']);
      assert.deepEqual(
        (await ourList(pair)).map(({ owner, capacity, inodes }) => [owner.path ?? owner.gid, capacity, inodes]),
        [
          ['/a', 3 * 2 ** 30, 71],
          ['/c', 2 ** 30, 0],
          [100, 0, 9],
          [101, 2 ** 30, 5],
        ],
      );
      await juicepod(['quota', 'delete', url, '--gid', '100']);
      assert.doesNotMatch((await run(['quota', 'list', url])).stdout, /gid:100/);
    });

    test(`both count alike, ${engine}`, async () => {
      await using pair = await openPair({ engine });
      const { url } = pair;
      mkdirSync(join(pair.ours, 'a/b'), { recursive: true });
      mkdirSync(join(pair.ours, 'out'));
      await remount(pair, async () => {
        await juicepod(['quota', 'set', url, '--path', '/a', '--inodes', '1000']);
        await run(['quota', 'set', url, '--path', '/a/b', '--capacity', '1']);
        await run(['quota', 'set', url, '--uid', '1000', '--inodes', '1000']);
      });
      for (const client of ['ours', 'official'] as const) {
        const folder = pair.folder(client);
        const path = (name: string): string => join(folder, name.replaceAll('@', client));
        mkdirSync(path('a/@/deep'), { recursive: true });
        for (let file = 0; file < 12; file++) store(path(`a/@/deep/${file}`), file * 3000);
        for (let file = 0; file < 4; file++) unlinkSync(path(`a/@/deep/${file}`));
        linkSync(path('a/@/deep/5'), path('a/b/@-link'));
        linkSync(path('a/@/deep/6'), path('out/@-link'));
        truncateSync(path('a/@/deep/5'), 40_000);
        truncateSync(path('a/@/deep/6'), 1);
        renameSync(path('a/@/deep/7'), path('out/@-7'));
        renameSync(path('a/@/deep/8'), path('a/b/@-8'));
        mkdirSync(path('out/@/tree'), { recursive: true });
        store(path('out/@/tree/file'), 9000);
        // The official client counts a tree that moves by what is recorded of its directories, a second later.
        await new Promise((done) => setTimeout(done, 2500));
        renameSync(path('out/@'), path('a/b/@'));
        rmSync(path('a/@/deep/9'));
      }
      await Promise.all([pair.unmount('ours'), pair.unmount('official')]);
      for (const path of ['/a', '/a/b'])
        for (const more of [[], ['--strict']]) await run(['quota', 'check', url, '--path', path, ...more]);
      await run(['quota', 'check', url]);
      const meta = await openEngine(url);
      try {
        const checks = await checkQuotas(meta, { strict: true });
        assert.ok(checks.length > 3);
        for (const check of checks) assert.ok(check.consistent, JSON.stringify(check));
      } finally {
        await meta.close();
      }
    });

    test(`a quota that either sets is enforced by ours, and one that has grown lets a writer go on, ${engine}`, async () => {
      await using pair = await openPair({ engine, ...QUICK });
      const { url, ours } = pair;
      mkdirSync(join(ours, 'a'));
      await run(['quota', 'set', url, '--path', '/a', '--capacity', '1M', '--inodes', '4']);
      await until('the quota is shown', () => room(join(ours, 'a')).total === 1024 * KIB);
      assert.equal(store(join(ours, 'a/1'), 900 * KIB), undefined);
      // Refused when it is written, not when it is stored: what was accepted before stays.
      const file = openSync(join(ours, 'a/1'), 'a');
      try {
        assert.equal(
          errnoOf(() => writeSync(file, Buffer.alloc(200 * KIB))),
          'EDQUOT',
        );
        assert.equal(writeSync(file, Buffer.alloc(100 * KIB, 'y')), 100 * KIB);
        fsyncSync(file);
        assert.deepEqual(room(join(ours, 'a')), { total: 1024 * KIB, free: 24 * KIB, files: 4 });
        await juicepod(['quota', 'set', url, '--path', '/a', '--capacity', '10M']);
        // The same open file goes on, without a restart.
        await until('there is room', () => errnoOf(() => writeSync(file, Buffer.alloc(200 * KIB))) === undefined);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      for (const name of ['2', '3', '4']) assert.equal(store(join(ours, 'a', name), 1), undefined);
      assert.equal(
        errnoOf(() => writeFileSync(join(ours, 'a/5'), '')),
        'EDQUOT',
      );
      assert.equal(
        errnoOf(() => mkdirSync(join(ours, 'a/5'))),
        'EDQUOT',
      );
      writeFileSync(join(ours, 'elsewhere'), '');

      await juicepod(['config', url, '--capacity', '3M', '--yes']);
      await until('the capacity is shown', () => room(ours).total === 3072 * KIB);
      assert.equal(
        errnoOf(() => truncateSync(join(ours, 'elsewhere'), 8_000_000)),
        'ENOSPC',
      );
      assert.equal(store(join(ours, 'full'), 4000 * KIB), 'ENOSPC');
      await run(['config', url, '--capacity', '0', '--yes']);
      await until('there is room', () => store(join(ours, 'full'), 4000 * KIB) === undefined);
    });
  }
});
