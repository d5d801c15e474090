/** The journal where written bytes lie in memory that outlives the client. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { memoryFile } from '../fuse/libc.ts';
import { UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { Journal, readJournal, type Segment } from './journal.ts';
import { Pieces } from './pieces.ts';

const a = 5 as Ino;
const b = 6 as Ino;
const PIECE = 4096;
const FROM = 100;
const FILE = 200;

function setUp(): { readonly folder: string; readonly fd: number; readonly pieces: (most: number) => Pieces } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-journal-'));
  const fd = memoryFile('test');
  writeSync(fd, 'x'.repeat(FROM));
  return {
    folder,
    fd,
    pieces: (most) => new Pieces({ fd, from: FROM }, { maxBytes: most * PIECE }),
    [Symbol.dispose]() {
      closeSync(fd);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

test('bytes in a piece are read back after the death of their writer, and take no room in the folder', () => {
  using at = setUp();
  const pieces = at.pieces(2);
  const journal = new Journal(at.folder, { pieces });
  const buffer = pieces.take(PIECE, true);
  assert.ok(buffer);
  for (let round = 0; round < 10; round++) {
    const text = Buffer.from(`round ${round}`.repeat(50));
    text.copy(buffer, 7);
    journal.hold(journal.write(a, 1000, BigInt(round), text, buffer, 7));
  }
  assert.ok(statSync(join(at.folder, '0.segment')).size < 1000);
  const left = [...readJournal(at.folder, at.pieces(2)).writes()];
  assert.equal(left.length, 10);
  // All of them name the same bytes: the last ones.
  for (const { ino, offset, data } of left) assert.deepEqual([ino, offset, data.toString()], [a, 1000, 'round 9'.repeat(50)]);
  assert.throws(() => [...readJournal(at.folder).writes()], UserError);
});

test('a client that follows does not write over what it has not stored yet, and gives its memory back then', () => {
  using at = setUp();
  const first = new Journal(at.folder, { pieces: at.pieces(2) });
  const buffer = first.pieces?.take(PIECE, true);
  assert.ok(buffer);
  buffer.fill('old');
  first.hold(first.write(a, 0, 1n, buffer.subarray(0, 3), buffer, 0));
  const second = new Journal(at.folder, { pieces: at.pieces(2) });
  const other = second.pieces?.take(PIECE, true);
  assert.ok(other);
  other.fill('new');
  const left = readJournal(at.folder, second.pieces);
  assert.deepEqual(
    [...left.writes()].map(({ data }) => data.toString()),
    ['old'],
  );
  left.forget();
  assert.equal(buffer[0], 0, 'the pages are gone, which who still has them sees as zeros');
  assert.equal(other.toString('latin1', 0, 3), 'new');
});

interface Slice {
  readonly segments: Set<Segment>;
  first: { readonly index: number; readonly position: number } | undefined;
  readonly writes: { readonly at: number; readonly data: Buffer }[];
  readonly buffer: Buffer;
  readonly lent: boolean;
  /** Takes no more, its block may have been given back. */
  frozen: boolean;
  given: boolean;
}

const inos = fc.constantFrom(a, b);
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      ino: inos,
      at: fc.nat(50),
      slice: fc.nat(2),
      text: fc.string({ minLength: 1, maxLength: 40 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('upload' as const), ino: inos }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('commit' as const), ino: inos, cached: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const), ino: inos }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), ino: inos }) },
);

/**
 * Two files whose slices take writes and are committed in the order in which they were made, as the writer does it. The block of a slice lies in a
 * piece, if there is one, and is given back when it is uploaded or later: before its slice is committed, at once then, or when the
 * cache drops it. The client may die after each copy and after each record.
 */
test('whenever a client dies, its records and pieces give the bytes that were acknowledged, whatever else the pieces were used for', () => {
  let reused = 0;
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 100, size: 'max' }),
      fc.constantFrom(100, 300, 1000),
      fc.integer({ min: 1, max: 5 }),
      (steps, segmentBytes, most) => {
        using at = setUp();
        const pieces = at.pieces(most);
        const journal = new Journal(at.folder, { segmentBytes, pieces });
        const files = new Map(
          [a, b].map((ino) => [ino, { acknowledged: Buffer.alloc(FILE), committed: Buffer.alloc(FILE), pending: [] as Slice[] }]),
        );
        const cached: Slice[] = [];
        const seen = new Set<Buffer>();
        const give = (slice: Slice): void => {
          if (slice.lent && !slice.given) pieces.give(slice.buffer);
          slice.given = true;
        };
        const commit = (ino: Ino, keep: boolean): void => {
          const file = files.get(ino);
          const slice = file?.pending.shift();
          if (!file || !slice) return;
          for (const each of slice.writes) each.data.copy(file.committed, each.at);
          if (keep) cached.push(slice);
          else give(slice);
          const [next] = file.pending;
          if (!next) journal.clean(ino);
          else if (next.first) journal.over(ino, next.first.index, next.first.position);
          for (const segment of slice.segments) journal.release(segment);
        };
        /** A client that follows finds this; `torn` is a write that was not acknowledged, of which anything may be there. */
        const check = (torn?: { readonly ino: Ino; readonly at: number; readonly data: Buffer }): void => {
          const after = new Map([...files].map(([ino, { committed }]) => [ino, Buffer.from(committed)]));
          const left = readJournal(at.folder, at.pieces(most));
          for (const { ino, offset, data } of left.writes()) data.copy(after.get(ino) ?? Buffer.alloc(0), offset);
          for (const [ino, { acknowledged }] of files) {
            const found = after.get(ino) ?? Buffer.alloc(0);
            if (torn?.ino === ino) acknowledged.copy(found, torn.at, torn.at, torn.at + torn.data.length);
            assert.deepEqual(found, acknowledged);
          }
        };
        for (const each of steps) {
          const file = files.get(each.ino);
          if (!file) continue;
          if (each.kind === 'commit') commit(each.ino, each.cached);
          else if (each.kind === 'forget') {
            const slice = cached.shift();
            if (slice) give(slice);
          } else if (each.kind === 'upload') {
            const slice = file.pending.find(({ frozen }) => !frozen);
            if (slice) {
              slice.frozen = true;
              give(slice);
            }
          } else if (each.kind === 'truncate') {
            while (file.pending.length > 0) commit(each.ino, false);
            file.acknowledged.fill(0);
            file.committed.fill(0);
          } else {
            const data = Buffer.from(each.text);
            // Into a slice that is open, unless a newer one has the same bytes; else into a new one.
            const open = file.pending.length - 1 - each.slice;
            const hidden = file.pending
              .slice(Math.max(0, open + 1))
              .some((slice) =>
                slice.writes.some((write) => write.at < each.at + data.length && each.at < write.at + write.data.length),
              );
            let slice = hidden ? undefined : file.pending[open];
            if (!slice || slice.frozen) {
              const lent = pieces.take(PIECE, true);
              if (lent && seen.has(lent)) reused++;
              if (lent) seen.add(lent);
              const buffer = lent ?? Buffer.alloc(PIECE);
              buffer.fill(0xee);
              slice = {
                segments: new Set(),
                first: undefined,
                writes: [],
                buffer,
                lent: lent !== undefined,
                frozen: false,
                given: false,
              };
              file.pending.push(slice);
              check();
            }
            data.copy(slice.buffer, each.at);
            check({ ino: each.ino, at: each.at, data });
            const segment = journal.write(each.ino, each.at, 1n, data, slice.buffer, each.at);
            slice.first ??= { index: segment.index, position: journal.position };
            slice.writes.push({ at: each.at, data });
            if (!slice.segments.has(segment)) {
              slice.segments.add(segment);
              journal.hold(segment);
            }
            data.copy(file.acknowledged, each.at);
          }
          check();
        }
        while (cached.length > 0) give(cached.shift() ?? assert.fail());
        for (const ino of files.keys()) while (files.get(ino)?.pending.length) commit(ino, false);
        assert.equal(pieces.heldBytes, 0, 'nothing is kept for what is committed');
        assert.equal(pieces.lingeringBytes, 0);
        journal.close();
        assert.equal(statSync(`/proc/self/fd/${at.fd}`).size, FROM);
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(reused > 100, `pieces were used again ${reused} times`);
});
