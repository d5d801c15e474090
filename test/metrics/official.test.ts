/**
 * The metrics of a mount beside those of the official client after the same work on volumes of the same kind: names, types, labels, and
 * the numbers that do not depend on how each of them caches.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { freshVolume } from '../mounted.ts';
import { cannotInteroperate, mountOfficial, run } from '../interop/official.ts';
import { inScratch, until } from '../cli/command.ts';
import { type Scraped, scrape, statsOf, total } from './scrape.ts';

/** Names of the official client that mean nothing here, or would not be true; see docs/metrics.md. */
const THEIRS = /^juicefs_(go_|process_network_|last_(successful_)?backup)/;
/** Names that only this client has; a restart is counted when there was one. */
const OURS =
  /^juicefs_(transaction_restart$|nodejs_|credentials_|(dirty|block_memory)_bytes$|blockcache_(io_errors|corrupt|failing_dirs)$|staging_(lost|unreadable)_blocks$)/;

const DATA = Buffer.alloc(100_000, 'x');

function work(root: string): void {
  const at = (name: string): string => join(root, name);
  for (let number = 0; number < 5; number++) {
    mkdirSync(at(`d${number}`));
    const file = openSync(at(`d${number}/f`), 'w');
    writeSync(file, DATA);
    fsyncSync(file);
    closeSync(file);
    symlinkSync('f', at(`d${number}/s`));
    assert.equal(readlinkSync(at(`d${number}/s`)), 'f');
    linkSync(at(`d${number}/f`), at(`d${number}/l`));
    renameSync(at(`d${number}/f`), at(`d${number}/g`));
    assert.throws(() => statSync(at(`d${number}/nothing`)));
    assert.equal(readdirSync(at(`d${number}`)).length, 3);
    truncateSync(at(`d${number}/g`), 10);
    unlinkSync(at(`d${number}/l`));
  }
  assert.equal(readFileSync(at('d0/g')).length, 10);
  assert.throws(() => rmdirSync(at('d0')));
}

test('a mount tells what one of the official client tells after the same work', { skip: cannotInteroperate }, async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'theirs.db')}`;
    await run(['format', url, 'testvol', '--bucket', join(folder, 'store')]);
    await using theirs = await mountOfficial(url, join(folder, 'theirs'), ['--cache-dir', join(folder, 'cache')]);
    await using ours = await freshVolume('sqlite');
    const mounts = [theirs.folder, ours.folder] as const;
    await until('both serve metrics', () => Promise.all(mounts.map(scrape)).then(Boolean, () => false));
    // What a client reports of the volume is some seconds old.
    const before = await Promise.all(mounts.map(scrape));
    for (const mount of mounts) work(mount);
    await until('both have stored everything', async () =>
      (await Promise.all(mounts.map(scrape))).every(
        (families) => total(families, 'juicefs_object_request_data_bytes', { method: 'PUT' }) === 5 * DATA.length,
      ),
    );
    const [their, our] = await Promise.all(mounts.map(scrape));
    assert.ok(their && our);
    for (const [name, { type, labels }] of their) {
      if (THEIRS.test(name)) continue;
      const mine = our.get(name);
      assert.ok(mine, `${name} is missing`);
      assert.equal(mine.type, type, name);
      assert.deepEqual([...mine.labels].toSorted(), [...labels].toSorted(), name);
      if (type !== 'histogram') continue;
      const bounds = (families: ReadonlyMap<string, Scraped>): number[] => {
        const all = families.get(name)?.samples.filter((sample) => sample.name.endsWith('_bucket')) ?? [];
        return [...new Set(all.map((sample) => Number(sample.labels['le']?.replace('+Inf', 'Infinity'))))];
      };
      const close = (list: readonly number[]): readonly string[] => list.map((bound) => bound.toPrecision(12));
      assert.deepEqual(close(bounds(our)), close(bounds(their)), `bounds of ${name}`);
    }
    assert.deepEqual(
      [...our.keys()].filter((name) => !their.has(name) && !OURS.test(name)),
      [],
    );
    const since = (which: 0 | 1, family: string, labels: Readonly<Record<string, string>>, name = family): number =>
      total(which === 0 ? their : our, family, labels, name) - total(before[which] as typeof their, family, labels, name);
    const same = (family: string, labels: Readonly<Record<string, string>>, name = family, wanted?: number): void => {
      assert.equal(since(1, family, labels, name), since(0, family, labels, name), `${name} ${JSON.stringify(labels)}`);
      if (wanted !== undefined) assert.equal(since(1, family, labels, name), wanted, `${name} ${JSON.stringify(labels)}`);
    };
    for (const [method, count] of Object.entries({
      mkdir: 5,
      create: 5,
      fsync: 5,
      symlink: 5,
      readlink: 5,
      link: 5,
      rename: 5,
      unlink: 5,
      rmdir: 1,
      write: 5,
      opendir: 5,
      releasedir: 5,
    }))
      same('juicefs_fuse_ops_total', { method }, 'juicefs_fuse_ops_total', count);
    same('juicefs_fuse_ops_io_errors', { errno: 'ENOTEMPTY' }, 'juicefs_fuse_ops_io_errors', 1);
    for (const end of ['sum', 'count']) same('juicefs_fuse_written_size_bytes', {}, `juicefs_fuse_written_size_bytes_${end}`);
    same('juicefs_object_request_data_bytes', { method: 'PUT' }, undefined, 5 * DATA.length);
    const requests = 'juicefs_object_request_durations_histogram_seconds';
    same(requests, { method: 'PUT' }, `${requests}_count`, 5);
    for (const method of ['Mknod', 'Rename', 'Link', 'Unlink', 'Rmdir', 'ReadLink', 'Truncate', 'Write', 'NewDirHandler'])
      same('juicefs_meta_ops_total', { method });
    for (const name of ['total_space', 'fuse_open_handlers', 'subdir_info', 'object_request_errors'])
      assert.equal(total(our, `juicefs_${name}`), total(their, `juicefs_${name}`), name);

    // Theirs is some seconds old.
    const free = (families: typeof our): number =>
      total(families, 'juicefs_total_inodes') - total(families, 'juicefs_used_inodes');
    assert.equal(free(our), free(their));
    const { blocks, bfree, bsize, files, ffree } = statfsSync(ours.folder);
    assert.equal(total(our, 'juicefs_used_inodes'), files - ffree);
    assert.equal(total(our, 'juicefs_used_space'), (blocks - bfree) * bsize);

    // Of all operations, the histogram tells as many as the counters.
    const operations = 'juicefs_fuse_ops_durations_histogram_seconds';
    assert.equal(total(our, operations, {}, `${operations}_count`), total(our, 'juicefs_fuse_ops_total'));
    assert.equal(total(our, operations, { le: '+Inf' }, `${operations}_bucket`), total(our, 'juicefs_fuse_ops_total'));

    // The names of .stats are made of the same.
    const [theirStats, ourStats] = [statsOf(theirs.folder), statsOf(ours.folder)];
    const missing = [...theirStats.keys()].filter((name) => !ourStats.has(name) && !THEIRS.test(name));
    // Which operations each of them asks of its metadata is its own affair.
    assert.deepEqual(
      missing.filter((name) => !/_(StatFS|GET)(_|$)/.test(name)),
      [],
    );

    // The official tools understand ours.
    const { stdout } = await run(['stats', ours.folder, '--count', '2', '--interval', '1', '--no-color']);
    assert.match(stdout, /usage.*fuse.*meta.*blockcache.*object/s);
    assert.equal(stdout.trimEnd().split('\n').length, 4, stdout);
  });
});
