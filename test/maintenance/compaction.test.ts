/**
 * Compaction under writers and readers, over every engine: writers are never kept waiting or refused, what they wrote is there, and
 * readers with an old list of slices find their blocks: for days where the trash is on, else after they have asked for the list anew.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { compactChunk } from '../../src/vfs/compactor.ts';
import { type Piece } from '../../src/meta/types.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, type World } from './world.ts';

const PAGE = 1000;
const PAGES = 60;
const WRITERS = 3;
const ROUNDS = 40;

/** A page says who wrote it and when: all its bytes are the same two. */
const page = (writer: number, round: number): Buffer => Buffer.alloc(PAGE, Buffer.from([writer + 1, round + 1]));

async function readPieces({ chunks }: World, pieces: readonly Piece[]): Promise<Buffer> {
  const target = Buffer.alloc(PAGE * PAGES);
  for (const { pos, id, size, off, len } of pieces)
    if (id !== 0) await chunks.read({ id, size }, off, target.subarray(pos, pos + len));
  return target;
}

describeEngines('compaction', (database: Database) => {
  for (const trashDays of [0, 1])
    test(`under writers and readers nothing is lost, and nothing is left over (trash: ${trashDays})`, async (t) => {
      const world = await openWorld(t, database.newUrl(), { format: { trashDays } });
      const { meta, chunks } = world;
      const file = await world.file(ROOT_INO, 'file', 0);
      /** Round of the last write of each page that was told to be done; and of the last one begun. */
      const done = new Int32Array(PAGES).fill(-1);
      const begun = new Int32Array(PAGES).fill(-1);
      const state = { writing: true, compactions: 0, overtaken: 0, reads: 0, again: 0 };

      const writer = async (number: number): Promise<void> => {
        let seed = number + 1;
        for (let round = 0; round < ROUNDS; round++) {
          seed = (seed * 48_271) % 2_147_483_647;
          const at = (seed % (PAGES / WRITERS)) * WRITERS + number;
          begun[at] = round;
          await world.write(file, at * PAGE, page(number, round));
          done[at] = round;
        }
      };
      const compactor = async (): Promise<void> => {
        while (state.writing) {
          try {
            if (await compactChunk(meta, chunks, file, 0)) state.compactions++;
            else state.overtaken++;
          } catch (error) {
            // The other one was quicker, and has deleted what this one was to read.
            assert.ok(trashDays === 0 && error instanceof FsError && error.code === 'ENOENT', String(error));
            state.overtaken++;
          }
          await new Promise((next) => setTimeout(next, 1));
        }
      };
      const reader = async (): Promise<void> => {
        while (state.writing) {
          const least = Int32Array.from(done);
          meta.invalidateChunk(file, 0);
          const pieces = await meta.readChunk(file, 0);
          // Long enough for the list to be an old one.
          await new Promise((next) => setTimeout(next, 5));
          let bytes: Buffer;
          try {
            bytes = await readPieces(world, pieces);
          } catch (error) {
            assert.ok(error instanceof FsError && error.code === 'ENOENT', String(error));
            assert.equal(trashDays, 0, 'with the trash on, an old list stays good');
            state.again++;
            continue;
          }
          state.reads++;
          for (let at = 0; at < PAGES; at++) {
            const [who = 0, when = 0] = bytes.subarray(at * PAGE);
            const round = when - 1;
            assert.ok(
              bytes.subarray(at * PAGE, (at + 1) * PAGE).equals(who === 0 ? Buffer.alloc(PAGE) : page(who - 1, round)),
              `page ${at} is whole`,
            );
            if (who !== 0) assert.equal(who - 1, at % WRITERS);
            assert.ok(round >= (least[at] ?? -1) && round <= (begun[at] ?? -1), `page ${at}: round ${round}`);
          }
        }
      };
      const others = [compactor(), compactor(), reader(), reader()];
      await Promise.all(Array.from({ length: WRITERS }, (_, number) => writer(number))).finally(() => (state.writing = false));
      await Promise.all(others);
      assert.ok(state.compactions > 0 && state.reads > 0, JSON.stringify(state));

      while (await compactChunk(meta, chunks, file, 0));
      meta.invalidateChunk(file, 0);
      const bytes = await readPieces(world, await meta.readChunk(file, 0));
      for (let at = 0; at < PAGES; at++) {
        const round = done[at] ?? -1;
        assert.ok(
          bytes.subarray(at * PAGE, (at + 1) * PAGE).equals(round < 0 ? Buffer.alloc(PAGE) : page(at % WRITERS, round)),
          `page ${at}`,
        );
      }
      const report = await world.gc();
      assert.deepEqual([report.leaked.objects, report.pendingDelete.objects], [0, 0]);
      assert.equal(report.compacted.objects > 0, trashDays > 0);
      assert.equal((await world.fsck()).lostBlocks, 0);
    });
});
