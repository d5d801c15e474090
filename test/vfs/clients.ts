/**
 * Clients of one volume in this process, each a Vfs over real metadata and a real block layer, and all over one object store in
 * memory. A client can die: from one moment on nothing it does has an effect and nothing it waits for comes, as after
 * SIGKILL; what it had sent to the database or the store before may still arrive. Its successor takes over its session, its
 * handle journal and its journal of writes.
 */
import { closeSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openChunkStore } from '../../src/chunk/store.ts';
import type { ChunkStore } from '../../src/chunk/types.ts';
import type { HandleJournal, OpenHandle } from '../../src/fuse/types.ts';
import { memoryFile } from '../../src/fuse/libc.ts';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import type { Meta } from '../../src/meta/types.ts';
import { type FaultPlan, withFaults } from '../../src/object/faults.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { withRetry } from '../../src/object/retry.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { AccessLog } from '../../src/vfs/accesslog.ts';
import { Compactor } from '../../src/vfs/compactor.ts';
import { Journal } from '../../src/vfs/journal.ts';
import type { VfsOptions } from '../../src/vfs/options.ts';
import { Pieces } from '../../src/vfs/pieces.ts';
import { Vfs } from '../../src/vfs/vfs.ts';
import { TestKernel } from './kernel.ts';
import { removeFolder } from '../remove-folder.ts';

export const BLOCK = 64 * 1024;

/**
 * What shall go wrong with a call of the metadata: `error` is thrown in place of the call, or after it where it is `applied` (the
 * answer is lost); `answer` holds the call's answer back until it resolves.
 */
export type MetaFault = { readonly error: Error; readonly applied?: boolean } | { readonly answer: Promise<void> } | undefined;
export type MetaPlan = (method: string) => MetaFault;

export interface ClientOptions extends Partial<VfsOptions> {
  readonly bufferBytes?: number;
  /** Pauses of the client are so many times shorter. @default 50 */
  readonly haste?: number;
  /** Size of its journal's segments. */
  readonly journalBytes?: number;
}

function bound(store: ObjectStore): ObjectStore {
  return {
    description: store.description,
    create: (...call) => store.create(...call),
    put: (...call) => store.put(...call),
    get: (...call) => store.get(...call),
    head: (...call) => store.head(...call),
    delete: (...call) => store.delete(...call),
    list: (...call) => store.list(...call),
    close: (...call) => store.close(...call),
  };
}

interface Life {
  dead: boolean;
}

/** A thing whose owner may die: afterwards calls do nothing, and what was asked before is never answered. */
function mortal<T extends object>(target: T, life: Life, plan: MetaPlan = () => undefined): T {
  return new Proxy(target, {
    get(_target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (life.dead) return new Promise(() => {});
        const run = (): unknown => Reflect.apply(value, target, args);
        const fault = plan(String(key));
        const result = fault ? failing(fault, run) : run();
        if (!(result instanceof Promise)) return result;
        return new Promise((resolve, reject) => {
          result.then(
            (answer: unknown) => life.dead || resolve(answer),
            (error: unknown) => life.dead || reject(error as Error),
          );
        });
      };
    },
  });
}

async function failing(fault: NonNullable<MetaFault>, run: () => unknown): Promise<unknown> {
  if ('error' in fault) {
    if (fault.applied) await run();
    throw fault.error;
  }
  const result = await run();
  await fault.answer;
  return result;
}

/** Handles, and memory, that outlive the client that opened them. */
export class KeptHandles implements HandleJournal {
  readonly #open = new Map<number, OpenHandle>();
  readonly file = { fd: memoryFile('juicepod-test'), from: 0 };

  add(open: OpenHandle): boolean {
    this.#open.set(open.handle, open);
    return true;
  }

  remove(handle: number): void {
    this.#open.delete(handle);
  }

  entries(): OpenHandle[] {
    return [...this.#open.values()];
  }
}

export interface Client {
  readonly vfs: Vfs;
  readonly kernel: TestKernel;
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly sid: number;
  readonly recovered: { readonly handles: number; readonly writes: number };
  /** Dies. The successor goes on where it was. */
  crash(): void;
  /** Ends in order; what its successor would need is kept where `keep` is set. */
  close(keep?: boolean): Promise<void>;
}

export class TestVolume implements AsyncDisposable {
  readonly url: string;
  readonly folder: string;
  readonly objects = new MemoryObjectStore();
  /** What the store does wrong; may be changed at any time. */
  storePlan: FaultPlan = () => undefined;
  /** Uploads for which this says so never end. */
  storeStops: () => boolean = () => false;
  /** What the metadata does wrong. */
  metaPlan: MetaPlan = () => undefined;
  readonly #ends = new Set<() => Promise<void>>();
  readonly #kept: KeptHandles[] = [];
  #mounts = 0;

  private constructor(url: string, folder: string) {
    this.url = url;
    this.folder = folder;
  }

  /** A volume without trash in a new SQLite database, or in the database of `url`. */
  static async make(url?: string): Promise<TestVolume> {
    const folder = mkdtempSync(join(tmpdir(), 'juicepod-vfs-'));
    const where = url ?? `sqlite3://${join(folder, 'meta.db')}`;
    const engine = await openEngine(where);
    const format = newFormat({ name: 'vfs', bucket: '/nowhere', trashDays: 0, blockSize: BLOCK / 1024 }, systemRandom);
    await formatVolume(engine, format);
    await engine.close();
    return new TestVolume(where, folder);
  }

  /** A mount: where a client, and after its death another one, serves the same kernel. */
  mount(options: ClientOptions = {}): { start(more?: ClientOptions): Promise<Client> } {
    const journalFolder = join(this.folder, `journal-${++this.#mounts}`);
    const handles = new KeptHandles();
    this.#kept.push(handles);
    let sid: number | undefined;
    return {
      start: async (more = {}) => {
        const client = await this.#start({ ...options, ...more }, journalFolder, handles, sid);
        sid = client.sid;
        return client;
      },
    };
  }

  /** One client on a mount of its own. */
  start(options: ClientOptions = {}): Promise<Client> {
    return this.mount(options).start();
  }

  async #start(options: ClientOptions, journalFolder: string, handles: KeptHandles, resume: number | undefined): Promise<Client> {
    const { bufferBytes = 8 * 1024 * 1024, haste = 50, journalBytes, ...rest } = options;
    const life: Life = { dead: false };
    const clock: Clock = {
      ...systemClock,
      sleep: (ms, signal) => systemClock.sleep(ms / haste, signal),
      timer: (ms, callback) => systemClock.timer(ms, () => life.dead || callback()),
    };
    // Old and idle data is stored in the background within milliseconds, so that short tests meet it.
    const hasty: Clock = {
      ...clock,
      monotonic: () => systemClock.monotonic() * haste,
      timer: (ms, callback) => clock.timer(ms / haste, callback),
    };
    const store = mortal<ObjectStore>(
      {
        ...bound(this.objects),
        put: (...call) => (this.storeStops() ? new Promise(() => {}) : this.objects.put(...call)),
      },
      life,
    );
    const chunks = openChunkStore({
      objects: withRetry(
        withFaults(store, (...call) => this.storePlan(...call)),
        { retries: 3, baseMs: 1, maxMs: 5 },
      ),
      blockSize: BLOCK,
      uuid: 'f0e1d2c3-0000-4000-8000-000000000000',
      memoryBytes: 4 * 1024 * 1024,
      bufferBytes,
      clock,
    });
    const background: { compactor?: Compactor } = {};
    const real = await openMeta(this.url, {
      clock,
      backgroundJobs: false,
      callbacks: {
        deleteSlice: async (id, size) => {
          if (!life.dead) await chunks.remove({ id, size });
        },
        compactChunk: async (ino, index) => {
          if (!life.dead) await background.compactor?.add(ino, index);
        },
      },
    });
    const meta = mortal<Meta>(real, life, (method) => this.metaPlan(method));
    const compactor = new Compactor(meta, chunks);
    background.compactor = compactor;
    const sid = await real.newSession('/mnt', resume);
    const pieces = new Pieces(handles.file, { maxBytes: bufferBytes / 2, clock });
    const journal = new Journal(journalFolder, { segmentBytes: journalBytes, pieces });
    const vfs = new Vfs({
      meta,
      chunks,
      accessLog: new AccessLog(clock),
      stats: () => 'juicefs_uptime 1\n',
      config: () => ({ Meta: {} }),
      volume: 'vfs',
      hashPrefix: false,
      attrTimeout: 1,
      entryTimeout: 1,
      dirEntryTimeout: 1,
      negativeTimeout: 0,
      maxReadahead: 1024 * 1024,
      xattr: true,
      handles,
      journal,
      clock: hasty,
      ...rest,
    });
    const recovered = resume === undefined ? { handles: 0, writes: 0 } : await vfs.recover(journalFolder, pieces);
    let ended = false;
    const end = async (keep: boolean): Promise<void> => {
      if (ended) return;
      ended = true;
      this.#ends.delete(last);
      if (!life.dead) {
        await vfs.flushAll();
        await vfs.close();
        await compactor.close();
        await real.close({ keepSession: keep });
        await chunks.close();
        journal.close();
      } else await real.close({ keepSession: true });
    };
    const last = (): Promise<void> => end(false);
    this.#ends.add(last);
    return {
      vfs,
      kernel: new TestKernel(vfs),
      meta,
      chunks,
      sid,
      recovered,
      crash: () => void (life.dead = true),
      close: (keep = false) => end(keep),
    };
  }

  /** Keys of all objects. */
  async keys(): Promise<string[]> {
    const keys: string[] = [];
    for await (const { key } of this.objects.list('')) keys.push(key);
    return keys.toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.storePlan = () => undefined;
    this.metaPlan = () => undefined;
    for (const end of this.#ends) await end();
    for (const { file } of this.#kept) closeSync(file.fd);
    removeFolder(this.folder);
  }
}
