import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatPlan, isSubPath, parsePlan, type Plan } from './plan.ts';

const plan: Plan = {
  version: 1,
  mounts: [
    {
      id: '0',
      volume: 'default/datasets',
      config: '/etc/juicepod/volumes/0/volume.json',
      target: '/juicepod/mnt/0',
      subPath: '',
      readOnly: true,
    },
    {
      id: '1',
      volume: 'default/checkpoints',
      config: '/etc/juicepod/volumes/1/volume.json',
      target: '/juicepod/mnt/1',
      subPath: 'a/b',
      directory: { uid: 1000, gid: 1000, mode: 0o770 },
      readOnly: false,
    },
  ],
  cache: { directory: '/juicepod/cache', sizeMiB: 10_240, freeSpaceRatio: 0.1 },
  bufferMiB: 300,
  readaheadMiB: 32,
  attrTTL: 1,
  entryTTL: 1,
  dirEntryTTL: 1,
  negativeTTL: 0,
  maxUploads: 20,
  maxDownloads: 200,
  logLevel: 'info',
};

test('parsePlan() reads what formatPlan() wrote', () => {
  assert.deepEqual(parsePlan(formatPlan(plan)), plan);
});

test('parsePlan() fills in what may be absent and ignores what it does not know', () => {
  const { mounts } = plan;
  const { cache: _, ...rest } = plan;
  assert.deepEqual(parsePlan(JSON.stringify({ version: 1, mounts, later: true })), rest);
});

test('parsePlan() keeps write-back and limits, and leaves out what is not limited', () => {
  const limited: Plan = {
    ...plan,
    writeback: { maxStagingMiB: 4096, uploadDelay: 0.5, drainTimeout: 60 },
    uploadLimit: 1_000_000,
    downloadLimit: 65_536,
    maxMetadataOps: 200,
  };
  assert.deepEqual(parsePlan(JSON.stringify(limited)), limited);
  assert.deepEqual(parsePlan(JSON.stringify({ ...plan, writeback: {} })).writeback, {
    maxStagingMiB: 4096,
    uploadDelay: 0,
    drainTimeout: 60,
  });
});

test('parsePlan() keeps how the cache is kept, and leaves out what is as without it', () => {
  const { cache } = plan;
  const kept: Plan = {
    ...plan,
    cache: { directory: '/c', sizeMiB: 1, freeSpaceRatio: 0, eviction: 'lru', expire: 0.5, checksum: 'full' },
    openCache: 5,
  };
  assert.deepEqual(parsePlan(JSON.stringify(kept)), kept);
  const usual = { ...cache, eviction: '2-random', expire: 0, checksum: 'extend' };
  assert.deepEqual(parsePlan(JSON.stringify({ ...plan, cache: usual })), plan);
});

const bad: readonly [string, unknown, RegExp][] = [
  ['no JSON', '{', /not JSON/],
  ['a newer version', { ...plan, version: 2 }, /version must be 1 .*found 2/],
  [
    'an unknown eviction',
    { ...plan, cache: { ...plan.cache, eviction: 'fifo' } },
    /cache\.eviction must be none, lru, 2-random, found "fifo"/,
  ],
  ['no mounts', { ...plan, mounts: [] }, /mounts must be a list/],
  [
    'two mounts on one directory',
    { ...plan, mounts: [plan.mounts[0], { ...plan.mounts[1], target: '/juicepod/mnt/0' }] },
    /mounts\[\]\.target/,
  ],
  [
    'an owner that is none',
    { ...plan, mounts: [{ ...plan.mounts[0], directory: { uid: -1, gid: 0, mode: 0 } }] },
    /directory\.uid/,
  ],
  [
    'a mode that is none',
    { ...plan, mounts: [{ ...plan.mounts[0], directory: { uid: 1, gid: 1, mode: 0o10000 } }] },
    /directory\.mode/,
  ],
  ['half an owner', { ...plan, mounts: [{ ...plan.mounts[0], directory: { uid: 1, mode: 0o700 } }] }, /directory\.gid/],
  ['a way out of the volume', { ...plan, mounts: [{ ...plan.mounts[0], subPath: 'a/../..' }] }, /mounts\[0\]\.subPath/],
  [
    'a relative target',
    { ...plan, mounts: [{ ...plan.mounts[0], target: 'mnt' }] },
    /mounts\[0\]\.target must be an absolute path, found "mnt"/,
  ],
  ['a buffer that is no number', { ...plan, bufferMiB: '300' }, /bufferMiB must be a number from 32 to 65536/],
  ['write-back without a cache', { ...plan, cache: undefined, writeback: {} }, /cache must be there where writeback is/],
  [
    'a drain of two hours',
    { ...plan, writeback: { drainTimeout: 7200 } },
    /writeback\.drainTimeout must be a number from 0 to 3600/,
  ],
  ['a limit of nothing', { ...plan, uploadLimit: 0 }, /uploadLimit must be a number from 1/],
  ['an unknown level', { ...plan, logLevel: 'loud' }, /logLevel/],
];
for (const [what, value, message] of bad)
  test(`parsePlan() refuses ${what} and names the member`, () => {
    assert.throws(() => parsePlan(typeof value === 'string' ? value : JSON.stringify(value)), { name: 'UserError', message });
  });

test('isSubPath() accepts exactly the normalised relative paths', () => {
  for (const good of ['', 'a', 'a/b', '.hidden', 'a..b', '...', 'a b/ü']) assert.ok(isSubPath(good), good);
  for (const wrong of ['/', '/a', 'a/', 'a//b', '.', '..', 'a/..', './a', 'a/./b', 'a\0b']) assert.ok(!isSubPath(wrong), wrong);
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', '.', '..', '', 'b.', '..c')), (parts) => {
      const path = parts.join('/');
      assert.equal(isSubPath(path), path === '' || parts.every((part) => part !== '' && part !== '.' && part !== '..'));
    }),
  );
});
