/**
 * `juicepod status` beside `juicefs status`: the same settings, sessions, usage and, with --more, the same trash and leftovers; with --session
 * the same files and locks. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Ino } from '../../src/lib/int64.ts';
import { goldenDump, load } from '../dump/engines.ts';
import { openUrl } from '../meta/engines.ts';
import { loadRedis } from '../meta/golden-volume.ts';
import { juicepod } from '../mounted.ts';
import { startDatabase, startRedis } from '../servers.ts';
import { juicefs } from '../tools.ts';
import { run } from './official.ts';

const options = { skip: juicefs() ? false : 'JUICEFS_BIN names no official client' };

/** Numbers as text, for some have more digits than a number; moments as they are, whatever the time zone. */
const parsed = (text: string): Record<string, unknown> =>
  JSON.parse(text.replaceAll(/: (\d+)/g, ': "$1"'), (key, value: unknown) =>
    key === 'Expire' || key === 'MountTime' ? Date.parse(String(value)) : value,
  ) as Record<string, unknown>;

async function assertEqual(url: string, ...args: readonly string[]): Promise<Record<string, unknown>> {
  const official = parsed((await run(['status', url, ...args])).stdout);
  const ours = parsed(await juicepod(['status', url, ...args, '--output', 'json']));
  assert.deepEqual({ ...ours, Sessions: ours['Sessions'] ?? [] }, { ...official, Sessions: official['Sessions'] ?? [] });
  return ours;
}

describe('status beside the official client', options, () => {
  test('of a volume that is mounted, with an open file that was removed, and locks of both kinds', async () => {
    await using server = await startRedis();
    const url = server.url(1);
    await loadRedis('redis-live', url);
    await assertEqual(url);
    const session = await assertEqual(url, '--session', '1');
    assert.ok(session['Sustained'] && session['Flocks'] && session['Plocks'], Object.keys(session).join());
    const { Stat } = await assertEqual(url, '--more');
    assert.ok((Stat as object | undefined) && 'PendingDeletedFileCount' in (Stat as object), JSON.stringify(Stat));
    await assert.rejects(juicepod(['status', url, '--session', '77']), /has no session 77/);
  });

  for (const engine of ['sqlite', 'redis', 'postgres', 'mysql'] as const)
    test(`of a volume with a trash and leftovers, in ${engine}`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-status-'));
      try {
        await using database = await startDatabase(engine, folder);
        const opened = await openUrl(database.url);
        await load(opened, 'binary', goldenDump('redis-full', 'binary'));
        const delayed = Buffer.alloc(24);
        delayed.writeUInt32BE(1000, 8);
        delayed.writeUInt32BE(234, 20);
        const writes = [
          { kind: 'delaySlices', id: 3000, time: 1_795_000_000, slices: delayed },
          { kind: 'addDelfile', ino: 4000 as Ino, length: 12_345, time: 1_795_000_000 },
          { kind: 'addSliceRef', id: 3500, size: 777, delta: -1 },
        ] as const;
        await opened.commit({ checks: [], writes });
        await opened.close();
        const { Stat } = await assertEqual(database.url, '--more');
        assert.equal(Object.keys(Stat as object).length, 12, JSON.stringify(Stat));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
});
