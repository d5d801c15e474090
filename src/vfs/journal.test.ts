import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { Ino } from '../lib/int64.ts';
import { Journal, readJournal } from './journal.ts';

const a = 5 as Ino;
const b = 6 as Ino;

async function inFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-journal-'));
  try {
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('writes that were not committed are read back in order, with their times', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder);
    journal.hold(journal.write(a, 0, 1n, Buffer.from('one')));
    journal.hold(journal.write(b, 10, 2n, Buffer.from('two')));
    journal.hold(journal.write(a, 3, 3n, Buffer.from('three')));
    const left = [...readJournal(folder).writes()].map(({ ino, offset, timeNs, data }) => [ino, offset, timeNs, data.toString()]);
    assert.deepEqual(left, [
      [a, 0, 1n, 'one'],
      [b, 10, 2n, 'two'],
      [a, 3, 3n, 'three'],
    ]);
  });
});

test('what was committed before a clean mark is not written again', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder);
    journal.hold(journal.write(a, 0, 1n, Buffer.from('old')));
    journal.hold(journal.write(b, 0, 1n, Buffer.from('kept')));
    journal.clean(a);
    journal.hold(journal.write(a, 0, 2n, Buffer.from('new')));
    assert.deepEqual(
      [...readJournal(folder).writes()].map(({ data }) => data.toString()),
      ['kept', 'new'],
    );
  });
});

test('a record that the dying process left unfinished is left out', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder);
    journal.hold(journal.write(a, 0, 1n, Buffer.from('whole')));
    const header = Buffer.alloc(32);
    header.writeUInt32LE(100, 0);
    header.writeUInt32LE(0x4a504a31, 4);
    appendFileSync(join(folder, '0.segment'), Buffer.concat([header, Buffer.from('torn')]));
    assert.deepEqual(
      [...readJournal(folder).writes()].map(({ data }) => data.toString()),
      ['whole'],
    );
  });
});

test('a segment is removed when its last write is committed, so the folder stays small', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder);
    const data = Buffer.alloc(1024 * 1024, 1);
    for (let round = 0; round < 200; round++) {
      const segment = journal.write(a, round, 1n, data);
      journal.hold(segment);
      journal.release(segment);
    }
    assert.ok(readdirSync(folder).length <= 2, `${readdirSync(folder).length} segments are left`);
    journal.close();
    assert.equal(existsSync(folder), false);
  });
});

test('a mark outlives its segment where an older segment still holds writes of the file', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder, { segmentBytes: 100 });
    const put = (ino: Ino, text: string): ReturnType<Journal['write']> => {
      const segment = journal.write(ino, 0, 1n, Buffer.from(text));
      journal.hold(segment);
      return segment;
    };
    const first = put(a, 'a, long over'.padEnd(50));
    put(b, 'b, not committed'.padEnd(50));
    journal.clean(a);
    journal.release(first);
    // More segments come and go.
    for (let round = 0; round < 10; round++) {
      const segment = put(a, `a, round ${round}`.padEnd(100));
      journal.clean(a);
      journal.release(segment);
    }
    assert.deepEqual(
      [...readJournal(folder).writes()].map(({ data }) => data.toString().trim()),
      ['b, not committed'],
    );
    assert.ok(readdirSync(folder).length <= 3, `${readdirSync(folder).length} segments are left`);
  });
});

test('a segment stays while an older one would bring back what was written before', async () => {
  await inFolder((folder) => {
    const journal = new Journal(folder, { segmentBytes: 100 });
    const put = (at: number, text: string): ReturnType<Journal['write']> => journal.write(a, at, 1n, Buffer.from(text));
    // Two slices take turns: the first one's bytes begin before the second one's, and go on behind them in the next segment.
    const old = put(0, 'old');
    const second = put(100, 'second');
    const position = journal.position;
    put(0, 'OLD');
    const newer = put(0, 'new');
    assert.ok(newer.index > second.index);
    journal.hold(old);
    journal.hold(second);
    journal.hold(newer);
    put(200, 'x'.repeat(100));
    journal.over(a, second.index, position);
    journal.release(old);
    journal.release(newer);
    const committed = Buffer.from('new');
    for (const { offset, data } of readJournal(folder).writes()) if (offset === 0) data.copy(committed);
    assert.equal(committed.toString(), 'new');
  });
});

/**
 * Two files whose slices take writes and are committed in the order in which they were made, as the writer does it; the journal
 * learns where the oldest open slice begins.
 */
test('repeating what the journal holds gives the bytes that were acknowledged, whatever was committed meanwhile', async () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        ino: fc.constantFrom(a, b),
        at: fc.nat(50),
        slice: fc.nat(2),
        text: fc.string({ minLength: 1, maxLength: 40 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('commit' as const), ino: fc.constantFrom(a, b) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), ino: fc.constantFrom(a, b) }) },
  );
  interface Slice {
    readonly segments: Set<ReturnType<Journal['write']>>;
    readonly index: number;
    readonly position: number;
    readonly writes: { readonly at: number; readonly data: Buffer }[];
  }
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), fc.constantFrom(100, 300, 1000), (steps, segmentBytes) =>
      inFolder((folder) => {
        const journal = new Journal(folder, { segmentBytes });
        const files = new Map(
          [a, b].map((ino) => [ino, { acknowledged: Buffer.alloc(200), committed: Buffer.alloc(200), pending: [] as Slice[] }]),
        );
        const commit = (ino: Ino): void => {
          const file = files.get(ino);
          const slice = file?.pending.shift();
          if (!file || !slice) return;
          for (const { at, data } of slice.writes) data.copy(file.committed, at);
          const [next] = file.pending;
          if (next) journal.over(ino, next.index, next.position);
          else journal.clean(ino);
          for (const segment of slice.segments) journal.release(segment);
        };
        for (const each of steps) {
          const file = files.get(each.ino);
          if (!file) continue;
          if (each.kind === 'commit') commit(each.ino);
          else if (each.kind === 'truncate') {
            while (file.pending.length > 0) commit(each.ino);
            file.acknowledged.fill(0);
            file.committed.fill(0);
          } else {
            const data = Buffer.from(each.text);
            const segment = journal.write(each.ino, each.at, 1n, data);
            // Into a slice that is open, unless a newer one has the same bytes; else into a new one.
            const open = file.pending.length - 1 - each.slice;
            const hidden = file.pending
              .slice(Math.max(0, open + 1))
              .some((slice) =>
                slice.writes.some((write) => write.at < each.at + data.length && each.at < write.at + write.data.length),
              );
            let slice = hidden ? undefined : file.pending[open];
            if (!slice) {
              slice = { segments: new Set(), index: segment.index, position: journal.position, writes: [] };
              file.pending.push(slice);
            }
            slice.writes.push({ at: each.at, data });
            if (!slice.segments.has(segment)) {
              slice.segments.add(segment);
              journal.hold(segment);
            }
            data.copy(file.acknowledged, each.at);
          }
          const after = new Map([...files].map(([ino, { committed }]) => [ino, Buffer.from(committed)]));
          for (const { ino, offset, data } of readJournal(folder).writes()) data.copy(after.get(ino) ?? Buffer.alloc(0), offset);
          for (const [ino, { acknowledged }] of files) assert.deepEqual(after.get(ino), acknowledged);
        }
      }),
    ),
    { numRuns: 200 },
  );
});

test('whatever the order in which files are written and committed, the journal makes up for what is missing', async () => {
  await inFolder((folder) =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('write', 'write', 'commit'), fc.nat(3), fc.nat(60)), { maxLength: 60, size: 'max' }),
        (steps) => {
          rmSync(folder, { recursive: true, force: true });
          const journal = new Journal(folder, { segmentBytes: 200 });
          const files = [0, 1, 2, 3].map((file) => ({
            ino: (10 + file) as Ino,
            acknowledged: Buffer.alloc(64),
            committed: Buffer.alloc(64),
            held: new Set<ReturnType<Journal['write']>>(),
          }));
          let time = 0;
          for (const [what, which, at] of steps) {
            const file = files[which];
            assert.ok(file);
            if (what === 'write') {
              const data = Buffer.alloc(1 + (time % 4), ++time);
              const segment = journal.write(file.ino, at, BigInt(time), data);
              if (!file.held.has(segment)) journal.hold(segment);
              file.held.add(segment);
              data.copy(file.acknowledged, at);
            } else if (file.held.size > 0) {
              file.acknowledged.copy(file.committed);
              for (const segment of file.held) journal.release(segment);
              file.held.clear();
              journal.clean(file.ino);
              // What comes after a commit may be by others, and is not to be undone.
              file.committed.fill(++time % 256);
              file.committed.copy(file.acknowledged);
            }
          }
          for (const { ino, offset, data } of readJournal(folder).writes())
            data.copy(files.find((file) => file.ino === ino)?.committed ?? Buffer.alloc(0), offset);
          for (const { acknowledged, committed } of files) assert.deepEqual(committed, acknowledged);
        },
      ),
      { numRuns: 500 },
    ),
  );
});
