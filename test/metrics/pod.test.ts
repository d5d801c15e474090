/** Metrics of a pod's client, which mounts several volumes, and those of the client that follows it. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatOf } from '../../src/cli/volume.ts';
import { openEngine } from '../../src/meta/open.ts';
import { inScratch, succeeds, until } from '../cli/command.ts';
import { startPodProcesses } from '../client/pod.ts';
import { cannotMount } from '../mounted.ts';
import { freePort } from '../servers.ts';
import { parseExposition, type Scraped, total } from './scrape.ts';

test(
  'a pod serves the metrics of all its mounts at one port, and its next client goes on with that',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const metaUrl = `sqlite3://${join(folder, 'meta.db')}`;
      await succeeds(['format', metaUrl, 'testvol', '--bucket', join(folder, 'objects')]);
      const engine = await openEngine(metaUrl, { existing: true });
      const { name, uuid } = await formatOf(engine, metaUrl);
      await engine.close();
      const port = await freePort();
      await using pod = await startPodProcesses(
        { metaUrl, name, uuid },
        { mounts: [{}, { subPath: 'below/it', readOnly: false }], client: ['--metrics', `:${port}`] },
      );
      const scrape = async (): Promise<ReadonlyMap<string, Scraped>> =>
        parseExposition(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
      const [root = '', below = ''] = pod.targets;
      writeFileSync(join(below, 'file'), 'some bytes');
      const written = (families: ReadonlyMap<string, Scraped>, mp: string): number =>
        total(families, 'juicefs_fuse_written_size_bytes', { mp }, 'juicefs_fuse_written_size_bytes_sum');
      const first = await scrape();
      assert.equal(written(first, below), 10);
      assert.equal(written(first, root), 0);
      assert.deepEqual(
        first.get('juicefs_subdir_info')?.samples.map(({ labels }) => [labels['mp'], labels['subdir'], labels['vol_name']]),
        [
          [root, '', 'testvol'],
          [below, '/below/it', 'testvol'],
        ],
      );
      process.kill(pod.client.pid, 'SIGKILL');
      await pod.client.ended;
      pod.startClient();
      // What is written meanwhile waits for the next client.
      writeFileSync(join(root, 'file'), 'more');
      await until('the next client tells its own', async () => written(await scrape().catch(() => new Map()), root) === 4);
      assert.equal(written(await scrape(), below), 0);
    });
  },
);
