/**
 * Write-back of both clients over one cache directory: what one has staged when it is killed, the other finds, serves and uploads; then
 * anybody can read it. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { clearMounts, juicepod } from '../mounted.ts';
import { cannotInteroperate, runClean } from './official.ts';
import { type ClientName, openPair, otherClient, type Pair } from './pair.ts';
import { until } from '../until.ts';

const BLOCK = 1 << 20;
const WRITEBACK = ['--writeback', '--upload-delay', '1h'];

function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /^\d+_\d+_\d+$/.test(entry.name))
    .map(({ name }) => name)
    .toSorted();
}

/** What is staged in the folder that both use. */
function staged(pair: Pair): string[] {
  const [uuid = ''] = readdirSync(pair.cache('ours'));
  return filesIn(join(pair.cache('ours'), uuid, 'rawstaging'));
}

const uploaded = (pair: Pair): string[] => filesIn(join(pair.objects, 'chunks'));

const alive = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

/** The client and whoever started it, so that nobody starts it again. */
function processesOf(pair: Pair, client: ClientName): number[] {
  const { Pid, PPid } = JSON.parse(readFileSync(`${pair.folder(client)}/.config`, 'utf8')) as { Pid: number; PPid: number };
  return [PPid, Pid];
}

async function kill(pair: Pair, client: ClientName): Promise<void> {
  const pids = processesOf(pair, client).filter((pid) => pid > 1 && pid !== process.pid);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until(`${client} is dead`, () => pids.every((pid) => !alive(pid)));
  await clearMounts(pair.folder(client));
}

describe('what is staged', { skip: cannotInteroperate }, () => {
  for (const by of ['official', 'ours'] as const)
    for (const compression of ['none', 'lz4'] as const)
      test(`by ${by} when it is killed, is served and uploaded by the other (compression ${compression})`, async () => {
        const other = otherClient(by);
        await using pair = await openPair({
          engine: 'redis',
          compression,
          sharedCache: true,
          blockSize: BLOCK / 1024,
          mountOfficial: by === 'official' ? WRITEBACK : ['--writeback'],
          mountOurs: by === 'ours' ? WRITEBACK : ['--writeback'],
        });
        // Only the one that stages, at first: the other one would find its blocks at its start, and so early.
        await pair.unmount(other);
        const contents = { large: randomBytes(3 * BLOCK + 70_001), small: randomBytes(10) };
        for (const [name, data] of Object.entries(contents)) await writeFile(`${pair.folder(by)}/${name}`, data, { flush: true });
        const removed = `${pair.folder(by)}/removed`;
        await writeFile(removed, randomBytes(BLOCK), { flush: true });
        await unlink(removed);
        await until('five blocks are staged', () => staged(pair).length === 5);
        const blocks = staged(pair);
        assert.deepEqual(uploaded(pair), []);
        await kill(pair, by);
        assert.deepEqual(staged(pair), blocks);

        await pair.mount(other);
        for (const [name, data] of Object.entries(contents))
          assert.ok((await readFile(`${pair.folder(other)}/${name}`)).equals(data), `${name}, served by ${other}`);
        await until('nothing is staged any more', () => staged(pair).length === 0);
        assert.deepEqual(uploaded(pair), blocks);
        await pair.unmount(other);
        if (by === 'ours') {
          await pair.mount('ours');
          for (const [name, data] of Object.entries(contents)) assert.ok((await readFile(`${pair.ours}/${name}`)).equals(data));
          await pair.unmount('ours');
        }
        // The blocks; statistics of directories that the dead one had not written are another matter.
        await runClean(['fsck', pair.url]);
      });

  test('left by an orderly end of ours, is uploaded by the official client, and the other way round', async () => {
    await using pair = await openPair({
      engine: 'sqlite',
      sharedCache: true,
      blockSize: BLOCK / 1024,
      mountOfficial: WRITEBACK,
      mountOurs: WRITEBACK,
    });
    await pair.unmount('official');
    const data = randomBytes(BLOCK + 1);
    await writeFile(`${pair.ours}/file`, data, { flush: true });
    await pair.unmount('ours');
    assert.equal(staged(pair).length, 2);
    await pair.mount('official');
    assert.ok((await readFile(`${pair.official}/file`)).equals(data));
    await writeFile(`${pair.official}/more`, data, { flush: true });
    await pair.unmount('official');
    const left = staged(pair).length;
    assert.ok(left >= 2);
    await pair.mount('ours');
    for (const name of ['file', 'more']) assert.ok((await readFile(`${pair.ours}/${name}`)).equals(data));
    assert.equal(staged(pair).length, left, 'their delay is not over');
    // Without write-back of its own, ours uploads what it finds at once.
    await pair.unmount('ours');
    const mounted = join(pair.work, 'plain');
    await juicepod(['mount', pair.url, mounted, '--cache-dir', pair.cache('ours'), '-d', '--log', join(pair.work, 'plain.log')]);
    await juicepod(['umount', mounted, '--flush']);
    await pair.mount('ours');
    for (const name of ['file', 'more']) assert.ok((await readFile(`${pair.ours}/${name}`)).equals(data));
  });
});
