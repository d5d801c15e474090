/**
 * Both sides changed at random, the sidecar dying between and within its work. Whatever the order: no bytes that either side wrote are lost
 * (unless a later write of the same side, or a delete that knew them, took them away), without conflicts both sides are equal at the end, and
 * with conflicts too, for what is kept is on both.
 *
 * What must be there at the end is what stood in each side before a synchronisation and was not known to the other side's base: it is tracked here by
 * unique contents. `JUICEPOD_SEED` and `JUICEPOD_RUNS` repeat a run and lengthen the test.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { type Snapshot, World } from './world.ts';

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const names = ['a', 'b', 'c'];

/** Contents of files by path. */
function texts(snapshot: Snapshot): Map<string, string> {
  return new Map(
    Object.entries(snapshot)
      .filter(([path, value]) => !path.endsWith('/') && !value.startsWith('->'))
      .map(([path, value]) => [path, value.slice(value.indexOf(' ') + 1)]),
  );
}

async function run(seed: number): Promise<{ readonly conflicts: number; readonly deaths: number }> {
  const random = generator(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  await using world = await World.make({ trashDays: random() < 0.3 ? 1 : 0 });
  // Both sides meet at the same names often: there the rules are.
  let recent: string[] = [];
  const path = (): string => {
    const fresh = Array.from({ length: 1 + Math.floor(random() * 3) }, () => pick(names)).join('/');
    const chosen = random() < 0.4 && recent.length > 0 ? pick(recent) : fresh;
    recent.push(chosen);
    return chosen;
  };
  let serial = 0;
  const content = (side: string): string => `${side}${++serial}`.padEnd(random() < 0.2 ? 90_000 : 8, '.');
  const trace: string[] = [];

  for (let i = 0; i < 6; i++) {
    const at = path();
    await remoteWrite(world, at, content('base')).catch(() => {});
  }
  const start = (): ReturnType<World['sidecar']> => world.sidecar();
  let sync = await start();
  await sync.hydrate();
  let deaths = 0;
  let conflicts = 0;

  /** One change of the pod. */
  const localChange = (): void => {
    const at = path();
    const full = join(world.tree, at);
    const kind = random();
    try {
      if (kind < 0.45) {
        mkdirSync(dirname(full), { recursive: true });
        const text = content('pod');
        writeFileSync(full, text);
        trace.push(`pod: write ${at} ${text.slice(0, 8)}`);
      } else if (kind < 0.6) {
        rmSync(full, { recursive: true });
        trace.push(`pod: remove ${at}`);
      } else if (kind < 0.8) {
        const to = path();
        if (existsSync(join(world.tree, to)) || !existsSync(full)) return;
        renameSync(full, join(world.tree, to));
        trace.push(`pod: rename ${at} ${to}`);
      } else if (kind < 0.9) {
        mkdirSync(full, { recursive: true });
        trace.push(`pod: mkdir ${at}`);
      } else {
        if (lstatSync(full, { throwIfNoEntry: false })) unlinkSync(full);
        symlinkSync(pick(names), full);
        trace.push(`pod: symlink ${at}`);
      }
    } catch {
      // Not possible as things are.
    }
  };
  const remoteChange = async (): Promise<void> => {
    const at = path();
    const kind = random();
    try {
      if (kind < 0.5) {
        const text = content('vol');
        await remoteWrite(world, at, text);
        trace.push(`vol: write ${at} ${text.slice(0, 8)}`);
      } else if (kind < 0.65) {
        await world.remove(at);
        trace.push(`vol: remove ${at}`);
      } else if (kind < 0.85) {
        const to = path();
        if ((await world.find(to)) || !(await world.find(at))) return;
        await world.rename(at, to);
        trace.push(`vol: rename ${at} ${to}`);
      } else {
        await world.mkdir(at);
        trace.push(`vol: mkdir ${at}`);
      }
    } catch {
      // Not possible as things are.
    }
  };

  for (let round = 0; round < 8; round++) {
    recent = [];
    const agreed = new Set(texts(world.pod()).values());
    for (let change = Math.floor(random() * 5); change > 0; change--) localChange();
    for (let change = Math.floor(random() * 5); change > 0; change--) await remoteChange();
    // What each side holds now that was not on both before: nobody can have meant to take it away.
    const fresh = new Set(
      [...texts(world.pod()).values(), ...texts(await world.volume()).values()].filter((text) => !agreed.has(text)),
    );
    world.fuse = random() < 0.6 ? Math.floor(random() * 60) : Number.POSITIVE_INFINITY;
    const dying = Number.isFinite(world.fuse);
    await sync.compare().catch(() => {});
    conflicts += sync.status.conflicts;
    world.fuse = Number.POSITIVE_INFINITY;
    if (dying) {
      deaths++;
      trace.push('-- death');
      await sync.stop();
      sync = await start();
    }
    for (let settle = 0; settle < 3; settle++) await sync.compare();
    assert.equal(sync.status.failures.size, 0, JSON.stringify([...sync.status.failures]));
    const pod = world.pod();
    const volume = await world.volume();
    const story = (): string => `seed ${seed}, round ${round}:\n${trace.join('\n')}`;
    assert.deepEqual(pod, volume, story());
    const there = new Set(texts(pod).values());
    for (const text of fresh) assert.ok(there.has(text), `lost ${text.slice(0, 12)}: ${story()}`);
    trace.push(`-- round ${round} ended: ${Object.keys(pod).join(' ')}`);
  }
  assert.deepEqual(await sync.flush(AbortSignal.timeout(10_000)), []);
  assert.equal(await world.find('.juicepod-sync'), undefined);
  assert.deepEqual(readdirSync(join(world.folder, 'pod/state/old')), []);
  return { conflicts, deaths };
}

async function remoteWrite(world: World, path: string, text: string): Promise<void> {
  const parts = path.split('/');
  for (let depth = 1; depth < parts.length; depth++) {
    const folder = parts.slice(0, depth).join('/');
    if (!(await world.find(folder))) await world.mkdir(folder);
  }
  await world.put(path, text);
}

test(
  'two sides changed at random, with deaths of the sidecar: nothing new is lost, and both end equal',
  { timeout: 300_000 },
  async () => {
    const given = Number(process.env['JUICEPOD_SEED'] ?? Number.NaN);
    const runs = Number(process.env['JUICEPOD_RUNS'] ?? 25);
    const seeds = Number.isNaN(given) ? Array.from({ length: runs }, (_, index) => 1000 + index) : [given];
    let [conflicts, deaths] = [0, 0];
    for (const seed of seeds) {
      const result = await run(seed);
      conflicts += result.conflicts;
      deaths += result.deaths;
    }
    // The test would show nothing if it met neither.
    if (Number.isNaN(given)) assert.ok(conflicts > 0 && deaths > 0, `${conflicts} conflicts, ${deaths} deaths`);
  },
);
