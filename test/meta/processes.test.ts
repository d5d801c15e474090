/**
 * One volume, several processes at once: clients of ours that are killed or end in order, and the official client beside
 * them (JUICEFS_BIN; skipped by name where that names none). In the end the tree, the counters and the usage of directories
 * agree, and the official client's own check finds nothing wrong.
 */
import assert from 'node:assert/strict';
import { execFile, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import { type Meta, NodeType } from '../../src/meta/types.ts';
import { juicefs } from '../tools.ts';
import { describeEngines } from './engines.ts';
import { list, name, ROOT_USER as root } from './volume.ts';

const run = promisify(execFile);
const binary = juicefs();
const COUNT = 40;
const WORKER = join(import.meta.dirname, 'process-worker.ts');

async function official(...args: readonly string[]): Promise<string> {
  assert.ok(binary);
  const { stdout, stderr } = await run(binary, [...args], { timeout: 120_000, maxBuffer: 1 << 26 });
  return stdout + stderr;
}

/** Another process of ours works in the root until it is done; its exit code. */
function worker(url: string, label: string): Promise<number | null> {
  const child = fork(WORKER, [url, label, String(COUNT)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
}

/** Sum of what lies below, as the counters should have it. */
async function weigh(meta: Meta, ino: typeof ROOT_INO): Promise<{ readonly bytes: number; readonly inodes: number }> {
  let [bytes, inodes] = [0, 0];
  for await (const batch of meta.readdir(root, ino, true))
    for (const entry of batch) {
      assert.ok(entry.attr);
      const below = entry.type === NodeType.Directory ? await weigh(meta, entry.ino) : { bytes: 0, inodes: 0 };
      bytes += Math.max(4096, entry.type === NodeType.File ? Math.ceil(entry.attr.length / 4096) * 4096 : 0) + below.bytes;
      inodes += 1 + below.inodes;
    }
  return { bytes, inodes };
}

describeEngines('several processes on one volume', (database) => {
  const format = async (url: string, store: string): Promise<void> => {
    const engine = await openEngine(url);
    assert.ok(await formatVolume(engine, newFormat({ name: 'shared', bucket: store, trashDays: 0 }, systemRandom)));
    await engine.close();
  };

  test('processes of ours make, rename and remove names side by side, and it all adds up', async () => {
    const url = database.newUrl();
    await format(url, '/nowhere');
    assert.deepEqual(await Promise.all([worker(url, 'a'), worker(url, 'b'), worker(url, 'c')]), [0, 0, 0]);
    const meta = await openMeta(url, { readOnly: true });
    try {
      const names = (await list(meta, ROOT_INO)).map(([text]) => text);
      const kept = ['a', 'b', 'c'].flatMap((label) => Array.from({ length: COUNT }, (_, n) => `${label} moved ${n}`));
      assert.deepEqual(
        names.filter((text) => text !== 'common'),
        kept.toSorted(),
      );
      const common = await meta.lookup(root, ROOT_INO, name('common'));
      assert.equal(common.attr.length, 3 * COUNT * 100, 'each appended behind the others');
      assert.deepEqual(await meta.usage(), await weigh(meta, ROOT_INO));
      assert.deepEqual(await meta.sessions(), []);
    } finally {
      await meta.close();
    }
  });

  test(
    'the official client works beside us',
    { skip: binary === undefined && 'JUICEFS_BIN names no official client' },
    async () => {
      const url = database.newUrl();
      const store = mkdtempSync(join(tmpdir(), 'juicepod-shared-'));
      try {
        await format(url, store);
        const theirs = official(
          'mdtest',
          '--threads',
          '2',
          '--depth',
          '2',
          '--dirs',
          '3',
          '--files',
          '20',
          '--skip-dir-mtime',
          '0s',
          url,
          '/theirs',
        );
        const codes = await Promise.all([worker(url, 'a'), worker(url, 'b')]);
        await theirs;
        assert.deepEqual(codes, [0, 0]);
        const meta = await openMeta(url, { readOnly: true });
        assert.equal((await list(meta, ROOT_INO)).length, 2 * COUNT + 2);
        assert.deepEqual(await meta.usage(), await weigh(meta, ROOT_INO));
        // The blocks that the workers left out.
        for await (const { id, size } of meta.slices()) {
          const folder = join(store, 'shared', 'chunks', '0', String(Math.floor(id / 1000)));
          mkdirSync(folder, { recursive: true });
          writeFileSync(join(folder, `${id}_0_${size}`), Buffer.alloc(size));
        }
        await meta.close();
        await official('fsck', url, '--path', '/', '-r', '--sync-dir-stat');
        await official('fsck', url);
      } finally {
        rmSync(store, { recursive: true, force: true });
      }
    },
  );
});
