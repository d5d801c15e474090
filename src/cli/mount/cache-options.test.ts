import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Command } from 'commander';
import { UserError } from '../../lib/errors.ts';
import { addCache } from '../program-cache.ts';
import { cacheOf } from './cache-options.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-cache-options-'));
after(() => rmSync(root, { recursive: true, force: true }));
for (const name of ['disk1', 'disk2', 'other', 'with:colon']) mkdirSync(join(root, name));
writeFileSync(join(root, 'disk3'), 'a file');

const warnings: string[] = [];
function read(args: readonly string[], writeback = false): ReturnType<typeof cacheOf> {
  const command = addCache(new Command()).parse(args, { from: 'user' });
  return cacheOf(command.opts(), writeback, (line) => void warnings.push(line));
}

test('directories may be several, patterns, or missing; each counts once', async () => {
  const at = (...names: string[]): string[] => names.map((name) => join(root, name));
  const folders = async (text: string): Promise<unknown> => (await read(['--cache-dir', text]))?.folder;
  assert.equal(await folders(join(root, 'other')), join(root, 'other'));
  assert.deepEqual(await folders(`${at('other', 'disk1', 'other').join(':')}:`), at('disk1', 'other'));
  assert.deepEqual(await folders(at('disk2', 'disk1').join(',')), at('disk1', 'disk2'));
  assert.deepEqual(await folders(join(root, 'disk*')), at('disk1', 'disk2'));
  assert.equal(await folders(join(root, 'with:colon')), join(root, 'with:colon'));
  assert.equal(await folders(join(root, 'new/below')), join(root, 'new/below'));
  assert.ok(existsSync(join(root, 'new/below')));
  assert.equal(await folders('memory'), undefined);
});

test('a directory of several that cannot be made is said, one that is alone is refused', async () => {
  const wrong = join(root, 'disk3');
  warnings.length = 0;
  assert.deepEqual((await read(['--cache-dir', `${join(root, 'disk1')}:${wrong}`]))?.folder, [join(root, 'disk1'), wrong]);
  assert.match(warnings.join(''), /disk3 cannot be used now: there is a file in its place/);
  await assert.rejects(read(['--cache-dir', wrong]), /disk3 is no folder/);
  await assert.rejects(read(['--cache-dir', join(root, 'nothing*')]), /no directory is named like/);
});

test('what is wrong is named with what was wanted', async () => {
  for (const [args, message] of [
    [['--cache-eviction', 'fifo'], /--cache-eviction: wanted none, 2-random, lru, found "fifo"/],
    [['--verify-cache-checksum', 'all'], /--verify-cache-checksum: wanted none, full, shrink, extend/],
    [['--cache-mode', '0044'], /--cache-mode: wanted octal permissions/],
    [['--cache-items', '-1'], /--cache-items: wanted a number/],
    [['--cache-expire', 'soon'], /--cache-expire: wanted a duration/],
  ] as const)
    await assert.rejects(read(args), (error) => error instanceof UserError && message.test(error.message));
  await assert.rejects(read(['--cache-dir', 'memory'], true), /--writeback needs a cache directory/);
});

test('what is asked for is what the block layer gets', async () => {
  const args = ['--cache-size', '1G', '--cache-items', '0', '--cache-eviction', 'lru', '--cache-expire', '1h'];
  const more = ['--cache-scan-interval', '5m', '--cache-mode', '0640', '--cache-partial-only', '--cache-large-write'];
  assert.deepEqual(
    await read([
      '--cache-dir',
      join(root, 'other'),
      ...args,
      ...more,
      '--verify-cache-checksum',
      'full',
      '--free-space-ratio',
      '0.3',
    ]),
    {
      folder: join(root, 'other'),
      bytes: 2 ** 30,
      maxItems: 0,
      eviction: 'lru',
      expireMs: 3_600_000,
      scanIntervalMs: 300_000,
      mode: 0o640,
      partialOnly: true,
      largeWrites: true,
      checksum: 'full',
      freeRatio: 0.3,
    },
  );
});
