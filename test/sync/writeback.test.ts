/** docs/sync.md, guarantees of writing back: what one side did reaches the other, and nothing that either wrote is lost. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FsError } from '../../src/lib/errors.ts';
import { type Snapshot, World } from './world.ts';
import { until } from '../until.ts';

/** A hydrated world with a few files. */
async function begun(
  options: Parameters<World['sidecar']>[0] = {},
): Promise<{ world: World; sync: Awaited<ReturnType<World['sidecar']>>; at: (path: string) => string }> {
  const world = await World.make();
  await world.mkdir('d');
  await world.put('a', 'one');
  await world.put('d/b', 'two');
  await world.put('d/c', 'three');
  const sync = await world.sidecar(options);
  await sync.hydrate();
  return { world, sync, at: (path) => join(world.tree, path) };
}

const conflicts = (snapshot: Snapshot): readonly string[] =>
  Object.keys(snapshot).filter((name) => name.includes('.juicepod-conflict-'));

async function equal(world: World): Promise<Snapshot> {
  const volume = await world.volume();
  assert.deepEqual(world.pod(), volume);
  return volume;
}

test('W1: files made, changed, cut short, with holes, reach the volume whole, with mode and time', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('new'), 'n', { mode: 0o600 });
  appendFileSync(at('a'), ' more');
  truncateSync(at('d/b'), 1);
  mkdirSync(at('x/y'), { recursive: true });
  writeFileSync(at('x/y/z'), Buffer.alloc(500_000, 'z'));
  const fd = openSync(at('holes'), 'w');
  writeSync(fd, 'data', 100 * 2 ** 20);
  closeSync(fd);
  truncateSync(at('holes'), 130 * 2 ** 20);
  utimesSync(at('new'), 1000, 1_500_000_000);
  await sync.compare();
  const volume = await equal(world);
  assert.equal(volume['a'], '644 one more');
  assert.equal((await world.find('new'))?.attr.mtime, 1_500_000_000);
  const sparse = await world.find('holes');
  assert.ok(sparse);
  const pieces = (await world.meta.readChunk(sparse.ino, 1)).filter((piece) => piece.id !== 0);
  assert.ok(pieces.reduce((sum, piece) => sum + piece.len, 0) < 2 ** 20);
  assert.equal(
    (await world.meta.readChunk(sparse.ino, 0)).some((piece) => piece.id !== 0),
    false,
  );
});

test('W2: files, links and directories that were removed are removed, a whole tree too', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  unlinkSync(at('a'));
  rmSync(at('d'), { recursive: true });
  await sync.compare();
  assert.deepEqual(await equal(world), {});
});

test('W3: a rename is a rename: nothing is sent again, and a directory takes along what others put into it', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  const before = (await world.find('d/b'))?.ino;
  renameSync(at('d'), at('e'));
  renameSync(at('a'), at('e/a2'));
  await world.put('d/others', 'theirs');
  await sync.compare();
  await sync.compare();
  const volume = await equal(world);
  assert.deepEqual(Object.keys(volume), ['e/', 'e/a2', 'e/b', 'e/c', 'e/others']);
  assert.equal((await world.find('e/b'))?.ino, before);
  assert.equal(sync.status.counts.push, 0);
});

test('W4: hard links stay links, symbolic links stay links', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  linkSync(at('a'), at('d/a2'));
  symlinkSync('a', at('s'));
  symlinkSync('../nowhere', at('d/t'));
  await sync.compare();
  await equal(world);
  assert.equal((await world.find('a'))?.ino, (await world.find('d/a2'))?.ino);
  appendFileSync(at('a'), ' changed');
  await sync.compare();
  await equal(world);
  assert.equal((await world.find('a'))?.ino, (await world.find('d/a2'))?.ino, 'a change keeps them together');
});

test('W5: modes and times alone are sent without content, in both directions', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  chmodSync(at('a'), 0o600);
  chmodSync(at('d'), 0o700);
  utimesSync(at('d/b'), 1, 1_234_567_890);
  await sync.compare();
  assert.deepEqual([sync.status.counts.push, sync.status.counts.pull], [0, 0]);
  await equal(world);
  assert.equal((await world.find('d/b'))?.attr.mtime, 1_234_567_890);
  const entry = await world.find('d/c');
  assert.ok(entry);
  await world.meta.setattr({ uid: 0, gid: 0, pid: 0 }, entry.ino, { mode: 0o444, mtime: { sec: 77, nsec: 5 } });
  await sync.compare();
  await equal(world);
  assert.equal(statSync(at('d/c'), { bigint: true }).mtimeNs, 77_000_000_005n);
  assert.deepEqual([sync.status.counts.push, sync.status.counts.pull], [0, 0]);
});

test('W6: what others do in the volume reaches the pod, if the pod left it alone', async () => {
  const { world, sync } = await begun();
  await using _ = world;
  await world.put('a', 'changed by others');
  await world.put('d/new', 'new');
  await world.mkdir('n');
  await world.put('n/deep', 'deep');
  await world.remove('d/c');
  await world.rename('d/b', 'b2');
  await sync.compare();
  await sync.compare();
  const volume = await equal(world);
  assert.deepEqual(Object.keys(volume), ['a', 'b2', 'd/', 'd/new', 'n/', 'n/deep']);
});

test('C1: both changed a file: the volume’s keeps the name, the pod’s is kept beside it on both sides', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('a'), 'of the pod');
  utimesSync(at('a'), 1, 1_700_000_000);
  await world.put('a', 'of the volume');
  await sync.compare();
  const volume = await equal(world);
  assert.equal(volume['a'], '644 of the volume');
  assert.equal(volume['a.juicepod-conflict-pod-1-20231114T221320Z'], '644 of the pod');
  assert.equal(sync.status.conflicts, 1);
});

test('C2: both made the same bytes: no conflict', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  for (const name of ['a', 'fresh']) {
    writeFileSync(at(name), 'agreed');
    await world.put(name, 'agreed');
  }
  await sync.compare();
  assert.deepEqual(conflicts(await equal(world)), []);
});

test('C3: a delete loses against a change, on either side', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  unlinkSync(at('a'));
  await world.put('a', 'changed');
  writeFileSync(at('d/b'), 'changed in the pod');
  await world.remove('d/b');
  await sync.compare();
  const volume = await equal(world);
  assert.equal(volume['a'], '644 changed');
  assert.equal(volume['d/b'], '644 changed in the pod');
  assert.deepEqual(conflicts(volume), []);
});

test('C4: a removed directory in which the other side changed something stays with that, and only that', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  await world.mkdir('e');
  await world.put('e/kept', 'k');
  await world.put('e/other', 'o');
  await sync.compare();
  rmSync(at('d'), { recursive: true });
  await world.put('d/c', 'changed');
  await world.remove('e');
  writeFileSync(at('e/kept'), 'changed in the pod');
  await sync.compare();
  await sync.compare();
  const volume = await equal(world);
  assert.deepEqual(Object.keys(volume), ['a', 'd/', 'd/c', 'e/', 'e/kept']);
});

test('C5: a file here and a directory there: both are kept', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  unlinkSync(at('a'));
  mkdirSync(at('a'));
  writeFileSync(at('a/inside'), 'i');
  await world.put('a', 'still a file');
  rmSync(at('d'), { recursive: true });
  writeFileSync(at('d'), 'now a file');
  await world.put('d/b', 'changed');
  await sync.compare();
  await sync.compare();
  const volume = await equal(world);
  assert.equal(volume['a'], '644 still a file');
  assert.equal(volume['d/b'], '644 changed');
  const names = conflicts(volume);
  assert.ok(
    names.some((name) => name.startsWith('a.') && name.endsWith('/inside')),
    names.join(),
  );
  assert.ok(
    names.some((name) => volume[name] === '644 now a file'),
    names.join(),
  );
});

test('C6: a kind that changed on one side only changes on the other', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  unlinkSync(at('a'));
  mkdirSync(at('a'));
  writeFileSync(at('a/inside'), 'i');
  await world.remove('d');
  await world.put('d', 'a file');
  await sync.compare();
  await sync.compare();
  const volume = await equal(world);
  assert.deepEqual(conflicts(volume), []);
  assert.deepEqual(Object.keys(volume), ['a/', 'a/inside', 'd']);
});

test('C7: a name that was not selected but exists in the volume is not overwritten', async () => {
  const { world, sync, at } = await begun({ sync: { include: ['d'] } });
  await using _ = world;
  assert.deepEqual(Object.keys(world.pod()), ['d/', 'd/b', 'd/c']);
  writeFileSync(at('a'), 'of the pod');
  writeFileSync(at('z'), 'result');
  await sync.compare();
  const volume = await world.volume();
  assert.equal(volume['a'], '644 one');
  assert.equal(volume['z'], '644 result');
  assert.equal(conflicts(volume).length, 1);
});

test('C8: what others write at the very moment of a replacement or removal is kept', async () => {
  for (const trashDays of [0, 1]) {
    await using world = await World.make({ trashDays });
    await world.put('a', 'one');
    await world.put('b', 'one');
    const sync = await world.sidecar();
    await sync.hydrate();
    writeFileSync(join(world.tree, 'a'), 'of the pod');
    unlinkSync(join(world.tree, 'b'));
    // Just before the sidecar's change, after all its looking.
    let met = 0;
    world.before = (method) => {
      if (method !== 'rename' || met++ > 0) return undefined;
      return world.put('a', 'at the last moment').then(() => world.put('b', 'also'));
    };
    await sync.compare();
    await sync.compare();
    const volume = await equal(world);
    const all = Object.values(volume);
    for (const text of ['of the pod', 'at the last moment', 'also'])
      assert.ok(all.includes(`644 ${text}`), `${text} in ${all.join()}`);
    assert.ok(met > 0);
  }
});

test('C9: a file that gives way while a program writes to it loses nothing', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  const fd = openSync(at('a'), 'r+');
  await world.put('a', 'of the volume, and longer');
  await sync.compare();
  assert.equal(readFileSync(at('a'), 'latin1'), 'of the volume, and longer');
  writeSync(fd, 'written after', 0);
  closeSync(fd);
  assert.equal(sync.tend(false), 1);
  await sync.compare();
  const volume = await equal(world);
  assert.ok(
    Object.entries(volume).some(([name, text]) => name.startsWith('a.juicepod-conflict-') && text === '644 written after'),
  );
  assert.equal(volume['a'], '644 of the volume, and longer');
});

test('P1: two pods of one volume: each finds what the other did; where both changed a file, both versions are in both', async () => {
  await using world = await World.make();
  await world.put('shared', 'one');
  const targets = ['first', 'second'].map((pod) => join(world.folder, pod, 'tree'));
  const syncs = await Promise.all(targets.map((target, index) => world.sidecar({ target, pod: `pod-${index}` })));
  for (const sync of syncs) await sync.hydrate();
  for (const [index, target] of targets.entries()) {
    writeFileSync(join(target, `own-${index}`), `of ${index}`);
    writeFileSync(join(target, 'shared'), `changed by ${index}`);
  }
  for (let round = 0; round < 2; round++) for (const sync of syncs) await sync.compare();
  const volume = await world.volume();
  for (const target of targets) assert.deepEqual(world.pod(target), volume);
  assert.equal(volume['shared'], '644 changed by 0');
  assert.deepEqual(
    conflicts(volume).map((name) => volume[name]),
    ['644 changed by 1'],
  );
  assert.equal(volume['own-0'], '644 of 0');
  assert.equal(volume['own-1'], '644 of 1');
});

test('R1: what was done but not noted before a crash is no conflict', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('a'), 'second');
  writeFileSync(at('n'), 'new');
  renameSync(at('d'), at('e'));
  await world.put('others', 'o');
  let restarts = 0;
  await sync.stop();
  for (let calls = 1; ; calls += 2) {
    world.fuse = calls;
    const next = await world.sidecar();
    const done = await next.compare().then(
      () => next.status.failures.size === 0,
      () => false,
    );
    await next.stop();
    if (done) break;
    restarts++;
    assert.ok(calls < 500);
  }
  assert.ok(restarts > 5, `${restarts} restarts`);
  world.fuse = Number.POSITIVE_INFINITY;
  const last = await world.sidecar();
  await last.compare();
  const volume = await equal(world);
  assert.deepEqual(conflicts(volume), []);
  assert.deepEqual(Object.keys(volume), ['a', 'e/', 'e/b', 'e/c', 'n', 'others']);
  await last.flush(AbortSignal.timeout(5000));
  assert.equal(await world.find('.juicepod-sync'), undefined, 'nothing of ours is left in the volume');
});

test('E1: with events a file is sent when it is closed, without any comparison', async () => {
  const { world, sync, at } = await begun({ events: true, sync: { scanSeconds: 0 } });
  await using _ = world;
  const ending = new AbortController();
  const running = sync.run(ending.signal);
  await until('it knows the files', () => sync.status.counts !== undefined && sync.known > 0);
  await sleep(300);
  mkdirSync(at('new/deep'), { recursive: true });
  writeFileSync(at('new/deep/file'), 'text');
  writeFileSync(Buffer.concat([Buffer.from(`${world.tree}/`), Buffer.from([0xfe, 0x41])]), 'bytes');
  renameSync(at('d'), at('moved'));
  await until(
    'the new and the moved file are there',
    async () => (await world.find('new/deep/file')) !== undefined && (await world.find('moved/b')) !== undefined,
  );
  writeFileSync(at('moved/b'), 'in a moved directory');
  unlinkSync(at('a'));
  await until(
    'the changes are there',
    async () => (await world.volume())['moved/b'] === '644 in a moved directory' && (await world.find('a')) === undefined,
  );
  ending.abort();
  await running;
  await equal(world);
});

test('E2: a file that stays open is sent by the timer, and whole when it is closed', async () => {
  const { world, sync, at } = await begun({ events: true, sync: { scanSeconds: 0, writerSeconds: 1 } });
  await using _ = world;
  const ending = new AbortController();
  const running = sync.run(ending.signal);
  await sleep(300);
  const fd = openSync(at('log'), 'w');
  writeSync(fd, 'first ');
  await until('the first half is there', async () => (await world.volume())['log'] === '644 first ');
  writeSync(fd, 'second');
  closeSync(fd);
  await until('all of it is there', async () => (await world.volume())['log'] === '644 first second');
  ending.abort();
  await running;
  assert.equal(sync.status.conflicts, 0);
});

test('F1: the last write-back sends everything, also what is open; what it cannot send it names, and keeps for the next', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  const fd = openSync(at('open'), 'w');
  writeSync(fd, 'not closed');
  writeFileSync(at('d/b'), 'changed');
  world.fuse = 3;
  const left = await sync.flush(AbortSignal.timeout(1500));
  assert.ok(left.length > 0);
  assert.match(sync.status.unsent(left), /default\/sync: \d+ changes were not written back \(/);
  await sync.stop();
  world.fuse = Number.POSITIVE_INFINITY;
  const next = await world.sidecar();
  assert.equal(next.hydrated, true);
  assert.deepEqual(await next.flush(AbortSignal.timeout(5000)), []);
  const volume = await equal(world);
  assert.equal(volume['open'], '644 not closed');
  assert.equal(volume['d/b'], '644 changed');
  closeSync(fd);
});

test('F1: what fails for a moment at the end is tried again, and a file that cannot go does not keep the others', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('a'), 'changed');
  writeFileSync(at('d/b'), 'changed, too');
  let failures = 2;
  world.before = (method) =>
    method === 'mknod' && failures-- > 0 ? Promise.reject(new FsError('EIO', 'for a moment')) : undefined;
  assert.deepEqual(await sync.flush(AbortSignal.timeout(20_000)), []);
  const volume = await equal(world);
  assert.equal(volume['a'], '644 changed');
  assert.equal(volume['d/b'], '644 changed, too');
});

test('F3: what was not written back, and where both sides had changed a file, is told in lines for the operator', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  assert.deepEqual(sync.status.reports([]), []);
  await world.put('a', 'theirs');
  writeFileSync(at('a'), 'ours, which is longer');
  await sync.compare();
  const long = `${'x'.repeat(300)}/end`;
  const [unsent, kept, ...more] = sync.status.reports(['1', '2', long, '4', '5', '6']);
  assert.match(
    unsent ?? '',
    /^NotFlushed: default\/sync: 6 changes were not written back \(1, 2, …x+\/end, 4, 5, …\); they are on/,
  );
  assert.match(kept ?? '', /^ConflictKept: default\/sync: 1 times both sides had changed .*\(a\.juicepod-conflict-pod-1-\S+\)$/);
  assert.deepEqual(more, []);
});

test('F2: the last write-back ends in time though the store does not answer', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('a'), 'changed');
  world.before = (method) => (method === 'mknod' ? new Promise(() => {}) : undefined);
  const left = await Promise.race([sync.flush(AbortSignal.timeout(500)), sleep(20_000).then(() => undefined)]);
  assert.deepEqual(left, ['a']);
});

test('S1: the status file and nothing else is beside the tree, and says what happened', async () => {
  const { world, sync, at } = await begun();
  await using _ = world;
  writeFileSync(at('a'), 'changed');
  await sync.flush(AbortSignal.timeout(5000));
  const status = JSON.parse(readFileSync(join(world.folder, 'pod/state/status.json'), 'utf8')) as Record<string, unknown>;
  assert.equal(status['phase'], 'ended');
  assert.deepEqual(status['total'], { files: 3, directories: 1, bytes: 4 * 4096 });
  assert.deepEqual((status['done'] as Record<string, number>)['push'], 1);
  assert.deepEqual(readdirSync(world.tree).toSorted(), ['a', 'd']);
});
