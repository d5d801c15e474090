/**
 * A pod's directory and a volume in one process: a real metadata database (SQLite), blocks in memory, another client that changes the
 * volume, and the sidecar's MountSync over both, which can be made to fail from any call on.
 */
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SyncPlan } from '../../src/api/plan.ts';
import { openChunkStore } from '../../src/chunk/store.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import { CHUNK_SIZE, type Entry, type Meta, NodeType, SYSTEM } from '../../src/meta/types.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { MountSync } from '../../src/sync/mount-sync.ts';
import { removeFolder } from '../remove-folder.ts';

const BLOCK = 64 * 1024;

/** What is at a path, for comparison: contents as text, modes of files. */
export type Snapshot = Readonly<Record<string, string>>;

const shownName = (name: Buffer): string => (name.toString().includes('\ufffd') ? `0x${name.toString('hex')}` : name.toString());

export class World implements AsyncDisposable {
  readonly folder: string;
  readonly tree: string;
  readonly objects = new MemoryObjectStore();
  readonly #url: string;
  #meta!: Meta;
  #chunks!: ChunkStore;
  readonly #ends: (() => Promise<unknown>)[] = [];
  /** Calls of the sidecar on the metadata until it fails for good. */
  fuse = Number.POSITIVE_INFINITY;
  /** Called before each call of the sidecar on the metadata. */
  before: (method: string) => Promise<void> | undefined = () => undefined;

  private constructor(folder: string) {
    this.folder = folder;
    this.tree = join(folder, 'pod', 'tree');
    this.#url = `sqlite3://${join(folder, 'meta.db')}`;
  }

  static async make(options: { readonly trashDays?: number } = {}): Promise<World> {
    const world = new World(mkdtempSync(join(tmpdir(), 'juicepod-sync-')));
    const engine = await openEngine(world.#url);
    const format = { name: 'sync', bucket: '/nowhere', trashDays: options.trashDays ?? 0, blockSize: BLOCK / 1024 };
    await formatVolume(engine, newFormat(format, systemRandom));
    await engine.close();
    ({ meta: world.#meta, chunks: world.#chunks } = await world.#open());
    mkdirSync(world.tree, { recursive: true });
    return world;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
    removeFolder(this.folder);
  }

  async #open(): Promise<{ meta: Meta; chunks: ChunkStore; close: () => Promise<void> }> {
    const chunks = openChunkStore({
      objects: this.objects,
      blockSize: BLOCK,
      uuid: 'u',
      memoryBytes: 1 << 20,
      bufferBytes: 8 << 20,
    });
    const meta = await openMeta(this.#url, {
      backgroundJobs: false,
      callbacks: { deleteSlice: (id, size) => chunks.remove({ id, size }) },
    });
    await meta.newSession('/test');
    let open = true;
    const close = async (): Promise<void> => {
      if (!open) return;
      open = false;
      await meta.close();
      await chunks.close();
    };
    this.#ends.push(close);
    return { meta, chunks, close };
  }

  /** A sidecar. Several of one name follow one another; the earlier must have ended. */
  async sidecar(
    options: {
      readonly sync?: SyncPlan;
      readonly readOnly?: boolean;
      readonly pod?: string;
      readonly events?: boolean;
      readonly target?: string;
    } = {},
  ): Promise<MountSync & { stop(): Promise<void> }> {
    const { meta, chunks, close } = await this.#open();
    const alive = (): boolean => --this.fuse >= 0;
    const wait = (method: string): Promise<void> | undefined => this.before(method);
    const failing = new Proxy(meta, {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          if (!alive())
            return key === 'readdir' ? failingList() : Promise.reject(new FsError('EIO', 'the test ends this sidecar'));
          const waiting = wait(String(key));
          return waiting
            ? waiting.then(() => Reflect.apply(value, target, args) as unknown)
            : (Reflect.apply(value, target, args) as unknown);
        };
      },
    });
    const sync = new MountSync({
      plan: {
        id: '0',
        volume: 'default/sync',
        target: options.target ?? this.tree,
        readOnly: options.readOnly ?? false,
        ...(options.sync ? { sync: options.sync } : {}),
      },
      volume: { name: 'sync', uuid: 'u', parts: { meta: failing, chunks, root: ROOT_INO } },
      pod: options.pod ?? 'pod-1',
      log: nullLogger,
      events: options.events ?? false,
    });
    let stopped = false;
    const stop = async (): Promise<void> => {
      if (stopped) return;
      stopped = true;
      await sync[Symbol.asyncDispose]();
      await close();
    };
    this.#ends.push(stop);
    return Object.assign(sync, { stop });
  }

  // ------------------------------------------------------------------------------------------------- another client

  get meta(): Meta {
    return this.#meta;
  }

  async find(path: string | Buffer): Promise<Entry | undefined> {
    let at: Entry = { ino: ROOT_INO, attr: await this.#meta.getattr(SYSTEM, ROOT_INO) };
    const bytes = Buffer.from(path as string);
    if (bytes.length === 0) return at;
    for (const name of bytes.toString('latin1').split('/')) {
      try {
        at = await this.#meta.lookup(SYSTEM, at.ino, Buffer.from(name, 'latin1'));
      } catch {
        return undefined;
      }
    }
    return at;
  }

  async #place(path: string | Buffer): Promise<{ readonly parent: Ino; readonly name: Buffer }> {
    const bytes = Buffer.from(path as string);
    const slash = bytes.lastIndexOf(0x2f);
    const parent = await this.find(bytes.subarray(0, Math.max(0, slash)));
    if (!parent) throw new Error(`no directory for ${bytes.toString()}`);
    return { parent: parent.ino, name: bytes.subarray(slash + 1) };
  }

  /** Writes a file in place, as a program on a mount does: same inode where there is one. */
  async put(path: string | Buffer, content: string | Buffer, mode = 0o644): Promise<void> {
    const { parent, name } = await this.#place(path);
    const { ino } = await this.#meta.create(SYSTEM, parent, name, mode, 0, false);
    await this.#meta.truncate(SYSTEM, ino, 0);
    await this.write(ino, Buffer.from(content as string), 0);
    await this.#meta.release(ino);
  }

  async write(ino: Ino, data: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < data.length;) {
      const index = Math.floor((offset + done) / CHUNK_SIZE);
      const position = offset + done - index * CHUNK_SIZE;
      const part = data.subarray(done, done + Math.min(data.length - done, CHUNK_SIZE - position));
      const slice = this.#chunks.newSlice();
      slice.write(part, 0);
      const id = await this.#meta.newSliceId();
      slice.setId(id);
      await slice.finish();
      await this.#meta.writeSlice(SYSTEM, ino, index, position, { id, size: part.length }, systemClock.nowNs());
      done += part.length;
    }
  }

  async mkdir(path: string | Buffer, mode = 0o755): Promise<void> {
    const { parent, name } = await this.#place(path);
    await this.#meta.mkdir(SYSTEM, parent, name, mode, 0);
  }

  async symlink(path: string, target: string): Promise<void> {
    const { parent, name } = await this.#place(path);
    await this.#meta.symlink(SYSTEM, parent, name, Buffer.from(target));
  }

  async link(from: string, to: string): Promise<void> {
    const entry = await this.find(from);
    const { parent, name } = await this.#place(to);
    if (entry) await this.#meta.link(SYSTEM, entry.ino, parent, name);
  }

  async rename(from: string, to: string): Promise<void> {
    const [a, b] = [await this.#place(from), await this.#place(to)];
    await this.#meta.rename(SYSTEM, a.parent, a.name, b.parent, b.name, 0);
  }

  async remove(path: string): Promise<void> {
    const { parent, name } = await this.#place(path);
    const entry = await this.#meta.lookup(SYSTEM, parent, name);
    if (entry.attr.type !== NodeType.Directory) return this.#meta.unlink(SYSTEM, parent, name);
    for await (const batch of this.#meta.readdir(SYSTEM, entry.ino, false))
      for (const child of batch) await this.remove(`${path}/${child.name.toString()}`);
    await this.#meta.rmdir(SYSTEM, parent, name);
  }

  async read(ino: Ino): Promise<Buffer> {
    const { length } = await this.#meta.getattr(SYSTEM, ino);
    const content = Buffer.alloc(length);
    for (let index = 0; index * CHUNK_SIZE < length; index++)
      for (const piece of await this.#meta.readChunk(ino, index)) {
        if (piece.id === 0) continue;
        const at = index * CHUNK_SIZE + piece.pos;
        await this.#chunks.read(piece, piece.off, content.subarray(at, at + piece.len));
      }
    return content;
  }

  /** The volume's tree. */
  async volume(): Promise<Snapshot> {
    const found: Record<string, string> = {};
    const walk = async (ino: Ino, path: string): Promise<void> => {
      for await (const batch of this.#meta.readdir(SYSTEM, ino, true))
        for (const { name, ino: child, attr } of batch) {
          if (!attr || name.toString() === '.juicepod-sync') continue;
          const at = `${path}${shownName(name)}`;
          const mode = (attr.mode & 0o7777).toString(8);
          if (attr.type === NodeType.Directory) {
            found[`${at}/`] = mode;
            await walk(child, `${at}/`);
          } else if (attr.type === NodeType.Symlink) found[at] = `-> ${(await this.#meta.readlink(SYSTEM, child)).toString()}`;
          else found[at] = `${mode} ${(await this.read(child)).toString('latin1')}`;
        }
    };
    await walk(ROOT_INO, '');
    return sorted(found);
  }

  /** The pod's tree. */
  pod(tree = this.tree): Snapshot {
    const found: Record<string, string> = {};
    const walk = (folder: Buffer, path: string): void => {
      for (const name of readdirSync(folder, { encoding: 'buffer' })) {
        const full = Buffer.concat([folder, Buffer.from('/'), name]);
        const stat = lstatSync(full);
        const at = `${path}${shownName(name)}`;
        const mode = (stat.mode & 0o7777).toString(8);
        if (stat.isDirectory()) {
          found[`${at}/`] = mode;
          walk(full, `${at}/`);
        } else if (stat.isSymbolicLink()) found[at] = `-> ${readlinkSync(full)}`;
        else found[at] = `${mode} ${readFileSync(full).toString('latin1')}`;
      }
    };
    walk(Buffer.from(tree), '');
    return sorted(found);
  }
}

const sorted = (record: Record<string, string>): Snapshot =>
  Object.fromEntries(Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1)));

// oxlint-disable-next-line require-yield -- a list that fails at once
async function* failingList(): AsyncIterable<never> {
  await Promise.resolve();
  throw new FsError('EIO', 'the test ends this sidecar');
}
