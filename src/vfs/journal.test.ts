import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type Clock, systemClock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import { Journal, readJournal } from './journal.ts';

const a = 5 as Ino;
const b = 6 as Ino;

/** The segments and spares. */
const namesIn = (folder: string): string[] => readdirSync(folder).filter((name) => name !== 'version');

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

/** The file that the newest segment lies in, as it was before its last record: cut so long that the record is not whole. */
function tear(folder: string, bytes: number): void {
  const [newest] = namesIn(folder)
    .filter((name) => name.endsWith('.segment'))
    .toSorted((x, y) => Number.parseInt(y, 10) - Number.parseInt(x, 10));
  assert.ok(newest);
  const path = join(folder, newest);
  truncateSync(path, statSync(path).size - bytes);
}

test('a record that the dying process left unfinished is left out', async () => {
  for (const missing of [1, 8, 9, 30, 50])
    await inFolder((folder) => {
      const journal = new Journal(folder);
      journal.hold(journal.write(a, 0, 1n, Buffer.from('whole')));
      journal.hold(journal.write(a, 5, 1n, Buffer.alloc(40, 'torn')));
      tear(folder, missing);
      assert.deepEqual(
        [...readJournal(folder).writes()].map(({ data }) => data.toString()),
        ['whole'],
        `${missing} bytes are missing`,
      );
    });
});

/** Writes `texts` into one segment each, all of them committed, so that the next segment lies in a file that held the last. */
function used(folder: string, texts: readonly string[]): Journal {
  const journal = new Journal(folder, { segmentBytes: 100 });
  for (const text of texts) {
    const segment = journal.write(a, 0, 1n, Buffer.from(text));
    journal.hold(segment);
    // A second segment, since the open one stays where it is small.
    const next = journal.write(b, 0, 1n, Buffer.alloc(100, text));
    journal.hold(next);
    journal.clean(a);
    journal.clean(b);
    journal.release(segment);
    journal.release(next);
  }
  return journal;
}

test('what lies behind the last record of a file that is used again is not repeated', async () => {
  await inFolder((folder) => {
    const journal = used(folder, ['x'.repeat(300), 'y'.repeat(300)]);
    assert.ok(namesIn(folder).some((name) => name.endsWith('.spare')));
    journal.hold(journal.write(b, 7, 1n, Buffer.from('new')));
    assert.ok(namesIn(folder).some((name) => name.endsWith('.segment') && statSync(join(folder, name)).size > 300));
    assert.deepEqual(
      [...readJournal(folder).writes()].map(({ ino, offset, data }) => [ino, offset, data.toString()]),
      [[b, 7, 'new']],
    );
  });
});

test('data of a file that looks like a record is none, and a torn write over old data is none either', async () => {
  await inFolder((folder) => {
    // A record as it stands in the file, taken over as data, so that it comes to lie where the next record would begin.
    const journal = new Journal(folder, { segmentBytes: 100 });
    journal.hold(journal.write(a, 0, 1n, Buffer.alloc(50, 'forged')));
    const [name = ''] = namesIn(folder);
    const record = readFileSync(join(folder, name)).subarray(16);
    const many = Buffer.concat([Buffer.alloc(5), ...Array.from({ length: 20 }, () => record)]);
    const again = used(folder, []);
    again.hold(again.write(a, 0, 1n, many));
    const path = join(folder, '1.segment');
    const before = readFileSync(path);
    // The file of a later use: head and first record of the new use over the bytes of the old.
    for (let length = 1; length < 200; length++) {
      const later = join(folder, 'later');
      mkdirSync(later);
      const fresh = new Journal(later);
      fresh.hold(fresh.write(b, 1, 1n, Buffer.alloc(length, 1)));
      const file = readFileSync(join(later, '0.segment'));
      writeFileSync(join(later, '0.segment'), Buffer.concat([file, before.subarray(file.length)]));
      assert.equal([...readJournal(later).writes()].length, 1);
      for (const missing of [8, 9, 20]) {
        if (missing > length + 8) continue;
        const torn = file.length - missing;
        writeFileSync(join(later, '0.segment'), Buffer.concat([file.subarray(0, torn), before.subarray(torn)]));
        assert.equal([...readJournal(later).writes()].length, 0);
      }
      rmSync(later, { recursive: true });
    }
  });
});

test('an old mark behind the last record is none', async () => {
  await inFolder((folder) => {
    const old = new Journal(folder);
    old.hold(old.write(a, 0, 1n, Buffer.from('old')));
    old.clean(a);
    const path = join(folder, '0.segment');
    const mark = readFileSync(path).subarray(-40);
    // As if it were of a later segment than all.
    mark.writeUInt32LE(1000, 16);
    const journal = new Journal(folder);
    journal.hold(journal.write(a, 0, 1n, Buffer.from('new')));
    const later = join(folder, '1.segment');
    writeFileSync(later, Buffer.concat([readFileSync(later), mark]));
    assert.deepEqual(
      [...readJournal(folder).writes()].map(({ data }) => data.toString()),
      ['new'],
    );
  });
});

test('files kept for later writes are bounded, and go when none is wanted, and with the journal', async () => {
  await inFolder((folder) => {
    let fire: (() => void) | undefined;
    const clock: Clock = {
      ...systemClock,
      timer: (_ms, callback) => {
        fire = () => {
          fire = undefined;
          callback();
        };
        return () => (fire = undefined);
      },
    };
    const bytes = (): number => namesIn(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    const spares = (): number => namesIn(folder).filter((name) => name.endsWith('.spare')).length;
    const journal = new Journal(folder, { segmentBytes: 10_000, keepBytes: 50_000, clock });
    const held = Array.from({ length: 30 }, (_, at) => {
      const segment = journal.write(a, at, 1n, Buffer.alloc(10_000));
      journal.hold(segment);
      return segment;
    });
    journal.clean(a);
    for (const segment of held) journal.release(segment);
    assert.ok(spares() > 0);
    assert.ok(bytes() <= 50_000, `${bytes()} bytes are kept`);
    // One was used meanwhile, then none.
    const segments = [0, 1].map((at) => journal.write(a, at, 1n, Buffer.alloc(10_000)));
    fire?.();
    assert.ok(spares() > 0);
    fire?.();
    assert.equal(spares(), 0);
    for (const segment of segments) journal.hold(segment);
    journal.close();
    assert.equal(fire, undefined);
    assert.equal(existsSync(folder), false);
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
    assert.ok(namesIn(folder).length <= 2, `${namesIn(folder).length} segments are left`);
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
    assert.ok(namesIn(folder).length <= 3, `${namesIn(folder).length} segments are left`);
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
