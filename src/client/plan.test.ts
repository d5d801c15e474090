import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { formatMountConfig } from '../api/mount.ts';
import { readPlan } from './plan.ts';

const folder = mkdtempSync(join(tmpdir(), 'juicepod-plan-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('each mount of a plan has the passphrases of its own volume, and one that is not encrypted has none', () => {
  const uuid = 'faa27c8f-edab-4791-a4e0-1620b732b343';
  const mounts = ['one', 'two', 'plain'].map((name, index) => {
    const config = join(folder, `${name}.json`);
    const previous = name === 'two' ? { previous: 'before' } : {};
    const encryption = name === 'plain' ? {} : { encryption: { passphrase: `pass ${name}`, ...previous } };
    writeFileSync(config, formatMountConfig({ name, uuid, metaUrl: 'redis://h/1', ...encryption }));
    return { id: String(index), volume: `default/${name}`, config, target: `/mnt/${index}`, subPath: '', readOnly: false };
  });
  const plan = join(folder, 'plan.json');
  writeFileSync(
    plan,
    JSON.stringify({
      version: 1,
      mounts,
      bufferMiB: 300,
      readaheadMiB: 32,
      attrTTL: 1,
      entryTTL: 1,
      dirEntryTTL: 1,
      negativeTTL: 0,
      maxUploads: 20,
      maxDownloads: 200,
      logLevel: 'info',
    }),
  );
  assert.deepEqual(
    readPlan(plan).mounts.map(({ volume }) => volume.passphrases),
    [['pass one'], ['pass two', 'before'], undefined],
  );
});

test('how the cache is kept, and for how long files are opened unasked, is what each mount gets', () => {
  const config = join(folder, 'kept.json');
  writeFileSync(
    config,
    formatMountConfig({ name: 'kept', uuid: 'faa27c8f-edab-4791-a4e0-1620b732b343', metaUrl: 'redis://h/1' }),
  );
  const mount = { id: '0', volume: 'default/kept', config, target: '/mnt/0', subPath: '', readOnly: false };
  const plan = join(folder, 'kept-plan.json');
  const cache = { directory: '/cache', sizeMiB: 64, freeSpaceRatio: 0.2, eviction: 'lru', expire: 60, checksum: 'full' };
  writeFileSync(plan, JSON.stringify({ version: 1, mounts: [mount], cache, openCache: 1.5 }));
  const [served] = readPlan(plan).mounts;
  assert.deepEqual(served?.volume.cache, {
    folder: '/cache',
    bytes: 64 * 2 ** 20,
    freeRatio: 0.2,
    eviction: 'lru',
    expireMs: 60_000,
    checksum: 'full',
  });
  assert.deepEqual(served?.volume.semantics, { openCacheMs: 1500 });
});
