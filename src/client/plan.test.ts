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
