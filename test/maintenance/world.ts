/** A volume with names in a database and blocks in a store, worked on without a mount, and looked after as the commands do. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { BlockGeometry } from '../../src/chunk/key.ts';
import { openChunkStore } from '../../src/chunk/store.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { type BlockReport, checkBlocks, checkFiles, newBlockReport } from '../../src/maintenance/check-blocks.ts';
import { collectGarbage, type GarbageOptions, type GarbageReport } from '../../src/maintenance/gc.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import type { Format } from '../../src/meta/format.ts';
import { type FormatInput, newFormat } from '../../src/meta/format-input.ts';
import { newTreeReport, type TreeReport } from '../../src/meta/maintenance/tree-report.ts';
import { checkTree, type TreeOptions } from '../../src/meta/maintenance/tree.ts';
import { formatVolume, openMeta } from '../../src/meta/open.ts';
import { type Context, type Meta, NodeType } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { openObjectStore } from '../../src/object/open.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { openUrl } from '../meta/engines.ts';
import { TestClock } from '../meta/volume.ts';

export const root: Context = { uid: 0, gid: 0, pid: 1 };
const CHUNK = 64 * 1024 * 1024;

export interface World {
  readonly url: string;
  readonly engine: MetaEngine;
  readonly clock: TestClock;
  readonly meta: Meta;
  readonly objects: ObjectStore;
  readonly chunks: ChunkStore;
  readonly geometry: BlockGeometry;
  readonly format: Format;
  /** A volume without a session, as commands have it. */
  volume(): Volume;
  /** Makes a file of this length, in one slice per chunk. */
  file(parent: Ino, name: string, length: number): Promise<Ino>;
  /** Writes one slice into a file. */
  write(ino: Ino, at: number, data: Buffer): Promise<number>;
  read(ino: Ino, at: number, length: number): Promise<Buffer>;
  mkdir(parent: Ino, name: string): Promise<Ino>;
  /** Keys of the volume's blocks. */
  keys(): Promise<string[]>;
  gc(options?: Partial<GarbageOptions>): Promise<GarbageReport>;
  fsck(pending?: number): Promise<BlockReport>;
  /** Checks the tree from the root on, and the blocks of its files. */
  tree(options?: Partial<TreeOptions>): Promise<{ readonly tree: TreeReport; readonly blocks: BlockReport }>;
}

export interface WorldOptions {
  readonly storage?: Partial<Pick<FormatInput, 'storage' | 'bucket' | 'accessKey' | 'secretKey'>>;
  readonly format?: Partial<FormatInput>;
}

/** Formats a volume; all of it ends with the test. */
export async function openWorld(t: Pick<TestContext, 'after'>, url: string, options: WorldOptions = {}): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-maintenance-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  // Blocks are as old as the system says, so the volume's clock begins there.
  const clock = new TestClock(BigInt(Date.now()) * 1_000_000n);
  const engine = await openUrl(url);
  t.after(() => engine.close());
  const input = {
    name: 'maintained',
    bucket: join(folder, 'store'),
    blockSize: 64,
    trashDays: 0,
    ...options.storage,
    ...options.format,
  };
  const format = newFormat(input, systemRandom);
  await formatVolume(engine, format, clock);
  const { name, storage, bucket, hashPrefix, compression, uuid } = format;
  const { accessKey, secretKey } = input;
  const objects = openObjectStore({ name, storage, bucket, accessKey, secretKey });
  await objects.create();
  await objects.put('juicefs_uuid', Buffer.from(uuid));
  const geometry = new BlockGeometry(format.blockSize * 1024);
  const chunks = openChunkStore({ objects, blockSize: geometry.blockSize, compression, hashPrefix, uuid, memoryBytes: 1 << 20 });
  t.after(() => chunks.close());
  const callbacks = { deleteSlice: (id: number, size: number) => chunks.remove({ id, size }) };
  const meta = await openMeta(url, { clock, callbacks, backgroundJobs: false });
  t.after(() => meta.close());
  await meta.newSession('/mnt');
  const volume = (): Volume =>
    new Volume(engine, meta.format, { clock, random: systemRandom, logger: nullLogger, readOnly: false, callbacks });
  const signal = new AbortController().signal;
  const common = { objects, geometry, temporary: folder, signal };

  const world: World = {
    url,
    engine,
    clock,
    meta,
    objects,
    chunks,
    geometry,
    format,
    volume,
    async file(parent, fileName, length) {
      const { ino } = await meta.mknod(root, parent, Buffer.from(fileName, 'latin1'), NodeType.File, 0o644, 0, 0);
      for (let at = 0; at < length; at += CHUNK) await world.write(ino, at, Buffer.alloc(Math.min(CHUNK, length - at), fileName));
      return ino;
    },
    async write(ino, at, data) {
      const id = await meta.newSliceId();
      const writer = chunks.newSlice();
      writer.setId(id);
      writer.write(data, 0);
      await writer.finish();
      await meta.writeSlice(root, ino, Math.floor(at / CHUNK), at % CHUNK, { id, size: data.length }, clock.nowNs());
      return id;
    },
    async read(ino, at, length) {
      const target = Buffer.alloc(length);
      for (const piece of await meta.readChunk(ino, Math.floor(at / CHUNK))) {
        const base = Math.floor(at / CHUNK) * CHUNK + piece.pos;
        const from = Math.max(base, at);
        const to = Math.min(base + piece.len, at + length);
        if (from >= to || piece.id === 0) continue;
        await chunks.read({ id: piece.id, size: piece.size }, piece.off + from - base, target.subarray(from - at, to - at));
      }
      return target;
    },
    async mkdir(parent, directory) {
      return (await meta.mkdir(root, parent, Buffer.from(directory, 'latin1'), 0o755, 0)).ino;
    },
    async keys() {
      const keys: string[] = [];
      for await (const { key } of objects.list('chunks/')) keys.push(key);
      return keys;
    },
    gc: (more = {}) => collectGarbage({ ...common, volume: volume(), chunks, minAge: -3600, ...more }),
    fsck: (pending) =>
      checkBlocks({ ...common, engine, format: meta.format, logger: nullLogger, ...(pending ? { pending } : {}) }),
    async tree(more = {}) {
      const tree = newTreeReport();
      const blocks = newBlockReport();
      const start = { ino: ROOT_INO, type: NodeType.Directory, path: Buffer.from('/'), parent: ROOT_INO, name: undefined };
      const files = checkTree({
        volume: volume(),
        start,
        recursive: true,
        repair: false,
        syncDirStat: true,
        dirMode: 0o755,
        activeSessions: false,
        report: tree,
        signal,
        ...more,
      });
      await checkFiles({ ...common, engine, format: meta.format, logger: nullLogger, report: blocks }, files);
      return { tree, blocks };
    },
  };
  return world;
}

/** Writes what this client holds back of statistics and usage: they are written once a second. */
export async function settle(world: World): Promise<void> {
  await world.meta.close();
}
