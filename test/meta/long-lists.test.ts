/** Lists of chunks that get as long as an engine can hold, over every engine: what is written goes on, after a compaction. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { MOST_PARTS } from '../../src/meta/slices.ts';
import { CHUNK_SIZE, type Meta, NodeType } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { name, openVolume, ROOT_USER as root } from './volume.ts';

const PAGE = 4096;

describeEngines('long lists', (database: Database) => {
  test('thousands of scattered writes of four clients go into one chunk, whatever the engine holds of it at once', async (t) => {
    const lengths: number[] = [];
    const clients: Meta[] = [];
    const compactions: Promise<void>[] = [];
    /** Compacts without blocks: nobody reads them here. */
    const compact = async (at: number, file: Ino, index: number): Promise<void> => {
      const plan = await clients[at]?.planCompaction(file, index, true);
      if (!plan) return;
      lengths.push(plan.snapshot.length);
      await clients[at]?.commitCompaction(plan, { id: await clients[at].newSliceId(), size: plan.size });
    };
    const callbacksOf = (at: number) => ({
      deleteSlice: async () => {},
      compactChunk(file: Ino, index: number) {
        compactions.push(compact(at, file, index));
        return compactions.at(-1) ?? Promise.resolve();
      },
    });
    const volume = await openVolume(t, database.newUrl());
    for (const at of [0, 1, 2, 3]) clients.push(await volume.another({ callbacks: callbacksOf(at) }));
    const { ino: file } = await volume.meta.mknod(root, ROOT_INO, name('f'), NodeType.File, 0o644, 0, 0);
    await volume.meta.writeSlice(root, file, 0, 0, { id: await volume.meta.newSliceId(), size: CHUNK_SIZE }, 1n);

    /** The page `at` of the next slice is put at `at * step` pages, modulo the chunk's. */
    const pack = async (meta: Meta, step: number): Promise<void> => {
      const parts = Array.from({ length: MOST_PARTS }, (_, at) => ({
        index: 0,
        pos: ((at * step) % (CHUNK_SIZE / PAGE)) * PAGE,
        off: at * PAGE,
        len: PAGE,
      }));
      await meta.writeParts(root, file, { id: await meta.newSliceId(), size: MOST_PARTS * PAGE }, parts, 1n);
    };
    // All at once: none knows of what the others add.
    for (const step of [3, 5]) await Promise.all(clients.map((meta) => pack(meta, step)));
    assert.ok(lengths.length > 0, 'something was compacted');
    assert.ok(
      Math.max(...lengths) <= volume.engine.longestEntry,
      `no list was longer than the engine's longest, bytes: ${lengths.join(' ')}`,
    );
    const pieces = await volume.meta.readChunk(file, 0);
    assert.equal(
      pieces.reduce((sum, { len }) => sum + len, 0),
      CHUNK_SIZE,
    );
    assert.ok(!pieces.some(({ id }) => id === 0), 'nothing of the chunk is a hole');
    // Reads begin compactions, too, and wait for none.
    await Promise.all(compactions);
  });
});
