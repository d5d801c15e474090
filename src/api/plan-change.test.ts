import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parsePlan, type Plan } from './plan.ts';
import { endsWriteback, planChange } from './plan-change.ts';

const cache = { directory: '/juicepod/cache', sizeMiB: 100, freeSpaceRatio: 0.1 };
const mount = { id: '0', volume: 'data/x', config: '/etc/juicepod/volumes/0/volume.json', target: '/juicepod/mnt/0' };
const plan = (more: object = {}): Plan =>
  parsePlan(JSON.stringify({ version: 1, mounts: [mount], cache, journal: '/juicepod/cache', ...more }));

const changes: readonly (readonly [string, object, object, string])[] = [
  ['nothing', {}, {}, 'none'],
  ['a member that is written out and was left to its default', {}, { bufferMiB: 300 }, 'none'],
  ['which policy the pod chose', {}, { policy: 'data/y' }, 'none'],
  ['a limit that begins', {}, { uploadLimit: 1e6 }, 'live'],
  ['limits that end', { uploadLimit: 1e6, maxMetadataOps: 5 }, {}, 'live'],
  ['a limit of operations', { maxMetadataOps: 5 }, { maxMetadataOps: 6, logLevel: 'warn' }, 'live'],
  ['a limit of operations that begins', {}, { maxMetadataOps: 6 }, 'restart'],
  ['what the kernel keeps', {}, { attrTTL: 2, uploadLimit: 1e6 }, 'restart'],
  ['a cache that ends', {}, { cache: undefined }, 'restart'],
  ['a cache elsewhere', {}, { cache: { ...cache, directory: '/etc' } }, 'never'],
  ['a journal elsewhere', {}, { journal: '/etc' }, 'never'],
  ['a directory', {}, { mounts: [{ ...mount, subPath: 'x' }] }, 'never'],
  ['one mount more', {}, { mounts: [mount, { ...mount, id: '1', target: '/juicepod/mnt/1' }] }, 'never'],
];

for (const [name, before, after, change] of changes)
  test(`a plan that changes: ${name} → ${change}`, () => assert.equal(planChange(plan(before), plan(after)), change));

test('write-back ends where it is switched off, and where there is no cache any more', () => {
  const on = plan({ writeback: { maxStagingMiB: 64, uploadDelay: 0, drainTimeout: 1 } });
  assert.equal(endsWriteback(on, on), false);
  assert.equal(endsWriteback(on, plan()), true);
  assert.equal(endsWriteback(plan(), on), false);
});
