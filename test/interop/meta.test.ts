/**
 * The official client as the judge of our metadata: it reads, checks and dumps what we wrote, and we read what it made of a
 * dump. Takes the client from JUICEFS_BIN and is skipped where that names none.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { type Ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import { CHUNK_SIZE, type DirEntry, type Meta, NodeType, RenameFlag, SYSTEM } from '../../src/meta/types.ts';
import { startDatabase } from '../servers.ts';
import { juicefs } from '../tools.ts';
import { fsck, run } from './official.ts';

const binary = juicefs();
const NAME = 'interop-volume';

const official = async (...args: readonly string[]): Promise<string> => (await run(args)).stdout;

const name = (text: string): Buffer => Buffer.from(text);

/** Puts a slice in a file together with the block it promises. */
async function write(meta: Meta, store: string, ino: Ino, offset: number, size: number): Promise<void> {
  const id = await meta.newSliceId();
  const path = join(store, NAME, 'chunks', '0', String(Math.floor(id / 1000)), `${id}_0_${size}`);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Buffer.alloc(size, 'x'));
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  await meta.writeSlice(SYSTEM, ino, Math.floor(offset / CHUNK_SIZE), offset % CHUNK_SIZE, { id, size }, nowNs);
}

/** A bit of everything that changes metadata. */
async function work(meta: Meta, store: string): Promise<void> {
  const dir = await meta.mkdir(SYSTEM, ROOT_INO, name('dir'), 0o2750, 0o022);
  const deep = await meta.mkdir({ uid: 1000, gid: 100, pid: 1 }, dir.ino, name('deep'), 0o755, 0o022);
  const file = await meta.create(SYSTEM, dir.ino, name('file'), 0o644, 0o022, true);
  await write(meta, store, file.ino, 0, 10_000);
  await write(meta, store, file.ino, 5000, 20_000);
  await write(meta, store, file.ino, CHUNK_SIZE + 100, 300);
  await meta.truncate(SYSTEM, file.ino, 8000);
  await meta.truncate(SYSTEM, file.ino, 3 * CHUNK_SIZE + 5);
  await meta.fallocate(SYSTEM, file.ino, 3, 100, 2 * CHUNK_SIZE);
  await meta.link(SYSTEM, file.ino, deep.ino, name('second name'));
  await meta.link(SYSTEM, file.ino, ROOT_INO, name('third\u{1f600}name'));
  await meta.unlink(SYSTEM, dir.ino, name('file'));
  await meta.symlink(SYSTEM, deep.ino, name('link'), name('../nowhere'));
  await meta.mknod(SYSTEM, deep.ino, name('fifo'), NodeType.Fifo, 0o600, 0, 0);
  await meta.mknod(SYSTEM, deep.ino, name('device'), NodeType.CharDevice, 0o600, 0, 0x103);
  await meta.setxattr(SYSTEM, deep.ino, 'user.colour', name('blue'), {});
  await meta.setattr(SYSTEM, deep.ino, { mode: 0o700, uid: 5, gid: 6, mtime: { sec: 1_600_000_000, nsec: 123_456_789 } });
  for (const each of ['a', 'b', 'c']) {
    const { ino } = await meta.create(SYSTEM, deep.ino, name(each), 0o600, 0, true);
    await write(meta, store, ino, 0, 4097);
    await meta.release(ino);
  }
  await meta.rename(SYSTEM, deep.ino, name('a'), deep.ino, name('b'), 0);
  await meta.rename(SYSTEM, deep.ino, name('b'), ROOT_INO, name('moved'), RenameFlag.NoReplace);
  await meta.rename(SYSTEM, ROOT_INO, name('moved'), deep.ino, name('c'), RenameFlag.Exchange);
  const empty = await meta.mkdir(SYSTEM, ROOT_INO, name('empty'), 0o755, 0);
  await meta.mkdir(SYSTEM, empty.ino, name('below'), 0o755, 0);
  await meta.rename(SYSTEM, empty.ino, name('below'), dir.ino, name('below'), 0);
  await meta.rmdir(SYSTEM, ROOT_INO, name('empty'));
  const open = await meta.create(SYSTEM, ROOT_INO, name('kept open'), 0o600, 0, true);
  await meta.unlink(SYSTEM, ROOT_INO, name('kept open'));
  await meta.release(open.ino);
  const compacted = await meta.create(SYSTEM, ROOT_INO, name('compacted'), 0o600, 0, true);
  for (let at = 0; at < 5; at++) await write(meta, store, compacted.ino, at * 1000, 1500);
  const plan = await meta.planCompaction(compacted.ino, 0);
  assert.ok(plan);
  const id = await meta.newSliceId();
  writeFileSync(join(store, NAME, 'chunks', '0', '0', `${id}_0_${plan.size}`), Buffer.alloc(plan.size, 'y'));
  assert.ok(await meta.commitCompaction(plan, { id, size: plan.size }));
  await meta.release(compacted.ino);
}

/** Everything below a directory, as text: names, attributes, targets, extended attributes, chunks. */
async function describeTree(meta: Meta, directory: Ino, path = ''): Promise<string[]> {
  const lines: string[] = [];
  const entries: DirEntry[] = [];
  for await (const batch of meta.readdir(SYSTEM, directory, true)) entries.push(...batch);
  for (const { name: raw, ino, attr } of entries.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
    assert.ok(attr);
    const here = `${path}/${raw.toString()}`;
    // What a dump does not keep: lengths of other things than files.
    const { length, ...rest } = attr;
    const facts: unknown[] = [ino, rest, attr.type === NodeType.File ? length : 0];
    if (attr.type === NodeType.Symlink) facts.push((await meta.readlink(SYSTEM, ino)).toString());
    for (const xattr of (await meta.listxattr(SYSTEM, ino)).toSorted())
      facts.push(xattr, (await meta.getxattr(SYSTEM, ino, xattr)).toString());
    if (attr.type === NodeType.File)
      for (let index = 0; index * CHUNK_SIZE < length; index++) facts.push(await meta.readChunk(ino, index));
    lines.push(`${here} ${JSON.stringify(facts)}`);
    if (attr.type === NodeType.Directory) lines.push(...(await describeTree(meta, ino, here)));
  }
  return lines;
}

async function treeOf(url: string): Promise<string[]> {
  const meta = await openMeta(url, { readOnly: true });
  try {
    const trash = await meta.getattr(SYSTEM, TRASH_INO).catch(() => undefined);
    return [...(await describeTree(meta, ROOT_INO)), ...(trash ? await describeTree(meta, TRASH_INO, '.trash') : [])];
  } finally {
    await meta.close();
  }
}

const options = { skip: binary ? false : 'JUICEFS_BIN names no official client' };

for (const engine of ['sqlite', 'redis', 'postgres', 'mysql'] as const)
  describe(`beside the official client, ${engine}`, () => {
    for (const trashDays of [0, 1])
      test(
        `what we format and fill is sound to it, and its dump loads as the same tree (trash ${trashDays})`,
        options,
        async () => {
          const folder = mkdtempSync(join(tmpdir(), 'juicepod-interop-'));
          try {
            const store = join(folder, 'store');
            await using database = await startDatabase(engine, folder);
            const { url } = database;
            const opened = await openEngine(url);
            const format = newFormat({ name: NAME, storage: 'file', bucket: store, trashDays }, systemRandom);
            assert.ok(await formatVolume(opened, format));
            await opened.close();
            const meta = await openMeta(url, {});
            const sid = await meta.newSession('/mnt/ours');
            const status = JSON.parse(await official('status', url)) as { Sessions: { Sid: number; MountPoint: string }[] };
            assert.deepEqual(
              status.Sessions.map((session) => [session.Sid, session.MountPoint]),
              [[sid, '/mnt/ours']],
            );
            await work(meta, store);
            await meta.close();
            await fsck(url);
            const after = JSON.parse(await official('status', url)) as { Sessions: unknown };
            assert.deepEqual(after.Sessions ?? [], []);

            const dump = join(folder, 'dump.json');
            await official('dump', url, dump);
            const counters = (JSON.parse(readFileSync(dump, 'utf8')) as { Counters: Record<string, number> }).Counters;
            const copy = database.spareUrl;
            await official('load', copy, dump);
            assert.deepEqual(await treeOf(copy), await treeOf(url));
            // The official client counts anew when it loads.
            const again = join(folder, 'again.json');
            await official('dump', copy, again);
            const counted = (JSON.parse(readFileSync(again, 'utf8')) as { Counters: Record<string, number> }).Counters;
            assert.deepEqual([counters['usedSpace'], counters['usedInodes']], [counted['usedSpace'], counted['usedInodes']]);
            await fsck(copy);
          } finally {
            rmSync(folder, { recursive: true, force: true });
          }
        },
      );

    test('a volume it formatted is worked on by us, and stays sound to it', options, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-interop-'));
      try {
        const store = join(folder, 'store');
        await using database = await startDatabase(engine, folder);
        const { url } = database;
        await official('format', url, NAME, '--storage', 'file', '--bucket', store, '--block-size', '64');
        const meta = await openMeta(url);
        assert.equal(meta.format.name, NAME);
        assert.equal(meta.format.blockSize, 64);
        await meta.newSession('/mnt/ours');
        await work(meta, store);
        await meta.close();
        await fsck(url);
        assert.ok((await treeOf(url)).some((line) => line.startsWith('/dir/deep/second name')));
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  });
