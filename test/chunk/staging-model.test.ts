/**
 * Random lives of a block layer with write-back against a model of plain bytes. Clients die at every step (a file half there, a
 * rename, a link, an upload that arrived or not, an unlink), end in order, or drain; the disk is full or broken for a while, and so
 * is the store. A slice that was finished can be read at any time by this client and the next; in the end all of it is in the
 * store, what was removed is not, and nothing is staged.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import { blockFiles, type BlockFiles } from '../../src/chunk/disk-files.ts';
import type { ChunkStore, SliceId } from '../../src/chunk/types.ts';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import type { ObjectStore } from '../../src/object/store.ts';
import { BLOCK, keysOf, open, pattern, readAll, UUID, write } from './tools.ts';

const root = mkdtempSync(join(tmpdir(), 'juicepod-staging-model-'));
after(() => rmSync(root, { recursive: true, force: true }));

interface Step {
  readonly kind: 'write' | 'read' | 'remove' | 'drop' | 'die' | 'restart' | 'drain' | 'disk' | 'store';
  readonly pick: number;
  readonly a: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('write', 'write', 'write', 'read', 'remove', 'drop', 'die', 'die', 'restart', 'drain', 'disk', 'store'),
  pick: fc.nat(1000),
  a: fc.nat(1_000_000),
});

/** A process over a folder and a store: at its death, whatever it does never comes back, and nothing more happens. */
class Process {
  readonly died = Promise.withResolvers<'died'>();
  dead = false;
  /** Steps until it dies. */
  left = Infinity;
  readonly #afterwards: boolean;

  /** With `afterwards` the step at which it dies is done. */
  constructor(afterwards: boolean) {
    this.#afterwards = afterwards;
  }

  async step<T>(action: () => Promise<T>): Promise<T> {
    if (!this.dead && --this.left < 0) {
      this.dead = true;
      if (this.#afterwards) await action().catch(() => undefined);
      this.died.resolve('died');
    }
    if (this.dead) return new Promise<T>(() => {});
    const result = await action();
    return this.dead ? new Promise<T>(() => {}) : result;
  }

  files(broken: () => string | undefined): BlockFiles {
    const step = <A extends readonly unknown[]>(action: (path: string, ...args: A) => Promise<void>) => {
      return (path: string, ...args: A): Promise<void> =>
        this.step(async () => {
          const code = broken();
          if (code !== undefined) throw Object.assign(new Error(code), { code });
          await action(path, ...args);
        });
    };
    return {
      ...blockFiles,
      write: step((path, parts: readonly Uint8Array[], mode: number) => blockFiles.write(path, parts, mode)),
      rename: step((from, to: string) => blockFiles.rename(from, to)),
      link: step((from, to: string) => blockFiles.link(from, to)),
      unlink: (path) => this.step(() => blockFiles.unlink(path)),
    };
  }

  over(objects: ObjectStore): ObjectStore {
    return {
      description: objects.description,
      create: () => objects.create(),
      put: (key, body, signal) => this.step(() => objects.put(key, body, signal)),
      get: (key, options) => objects.get(key, options),
      head: (key) => objects.head(key),
      delete: (key) => this.step(() => objects.delete(key)),
      list: (prefix, options) => objects.list(prefix, options),
      close: () => objects.close(),
    };
  }
}

function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.tmp'))
    .map(({ name }) => name);
}

for (const compression of ['none', 'lz4'])
  test(`no finished slice is lost in any life of a client with write-back (${compression})`, async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 8, maxLength: 30 }),
        fc.boolean(),
        fc.boolean(),
        async (steps, delayed, small) => {
          const folder = join(root, `${compression}-${run++}`);
          const objects = new MemoryObjectStore();
          let broken: string | undefined;
          let away = false;
          let process = new Process(false);
          const start = (afterwards: boolean): ChunkStore => {
            process = new Process(afterwards);
            return open(
              process.over(objects),
              {
                compression,
                memoryBytes: 4 * BLOCK,
                bufferBytes: 8 * BLOCK,
                prefetch: 0,
                disk: { folder, freeRatio: 0, maxBytes: 10 * BLOCK },
                writeback: {
                  maxBytes: small ? 6 * BLOCK : 100 * BLOCK,
                  delayMs: delayed ? 3_600_000 : 0,
                  files: process.files(() => broken),
                },
              },
              (operation) => (away && operation !== 'delete' ? { kind: 'status', status: 503 } : undefined),
            );
          };
          let store = start(false);
          const finished = new Map<number, Buffer>();
          /** Being written when a client died: nobody was told anything. */
          const unknown = new Set<number>();
          const removed = new Set<number>();
          let id = 1;
          const sliceOf = (number: number): SliceId => ({ id: number, size: finished.get(number)!.length });
          /** Its answer, or what the client's death makes of it. */
          const lived = <T>(action: Promise<T>): Promise<T | 'died'> => Promise.race([action, process.died.promise]);
          const revive = (a: number): void => {
            if (process.dead) store = start(a % 2 === 0);
          };
          for (const { kind, pick, a } of steps) {
            const at = [...finished.keys()][pick % Math.max(1, finished.size)];
            if (kind === 'write') {
              const mine = id++;
              const data = pattern(1 + (a % (3 * BLOCK)), a);
              const outcome = await lived(
                write(store, mine, data).then(
                  () => 'told' as const,
                  // A disk and a store that are both away: whoever wrote was told.
                  () => 'failed' as const,
                ),
              );
              if (outcome === 'told') finished.set(mine, data);
              else unknown.add(mine);
              if (outcome === 'failed') assert.ok(away, 'a write fails only where the store does');
            } else if (kind === 'drop') {
              const writer = store.newSlice();
              unknown.add(id);
              writer.setId(id++);
              writer.write(pattern(1 + (a % (2 * BLOCK)), a), 0);
              writer.abort();
            } else if (kind === 'die') process.left = a % 12;
            else if (kind === 'restart') {
              if ((await lived(store.close())) !== 'died') store = start(a % 2 === 0);
            } else if (kind === 'drain') {
              if (away) continue;
              const left = await lived(store.drain(AbortSignal.timeout(60_000)));
              if (left !== 'died') assert.deepEqual(left, { blocks: 0, bytes: 0 });
              if (left === 'died' || (await lived(store.close())) === 'died') revive(a);
              else store = start(a % 2 === 0);
            } else if (kind === 'disk') broken = broken === undefined ? (a % 2 === 0 ? 'ENOSPC' : 'EIO') : undefined;
            else if (kind === 'store') away = !away;
            else if (at === undefined) continue;
            else if (kind === 'remove') {
              const slice = sliceOf(at);
              finished.delete(at);
              removed.add(at);
              // As metadata does: until it has succeeded, by whichever client.
              while ((await lived(store.remove(slice))) === 'died') revive(a);
            } else {
              await lived(store.ready);
              const all = await lived(
                readAll(store, sliceOf(at)).catch((error: unknown) => {
                  // A block that could not be staged is in the store, which may be away.
                  if (away) return undefined;
                  throw error;
                }),
              );
              if (all !== 'died' && all) assert.ok(all.equals(finished.get(at)!), `slice ${at}`);
            }
            revive(a);
          }
          process.left = Infinity;
          broken = undefined;
          away = false;
          await store.ready;
          for (const number of finished.keys())
            assert.ok((await readAll(store, sliceOf(number))).equals(finished.get(number)!), `slice ${number} before the end`);
          assert.deepEqual(await store.drain(AbortSignal.timeout(60_000)), { blocks: 0, bytes: 0 });
          await store.close();
          assert.equal(store.dirtyBytes, 0);
          assert.equal(store.stats()['used_buffer_size_bytes'], 0);
          assert.deepEqual(filesIn(join(folder, UUID, 'rawstaging')), [], 'nothing is staged');
          const elsewhere = open(objects, { compression });
          for (const number of finished.keys())
            assert.ok((await readAll(elsewhere, sliceOf(number))).equals(finished.get(number)!), `slice ${number} in the store`);
          await elsewhere.close();
          for (const key of await keysOf(objects)) {
            const number = Number(/(\d+)_\d+_\d+$/.exec(key)?.[1]);
            assert.ok(finished.has(number) || unknown.has(number), `${key} is left of a slice that was removed`);
          }
          rmSync(folder, { recursive: true, force: true });
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
  });
