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

test('replaying the journal gives the bytes that were acknowledged, whatever was committed meanwhile', async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('write' as const), at: fc.nat(50), text: fc.string({ minLength: 1, maxLength: 20 }) }),
    fc.record({ kind: fc.constant('commit' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), (steps) =>
      inFolder((folder) => {
        const journal = new Journal(folder);
        const acknowledged = Buffer.alloc(200);
        const committed = Buffer.alloc(200);
        let held: ReturnType<Journal['write']>[] = [];
        for (const each of steps) {
          if (each.kind === 'write') {
            const data = Buffer.from(each.text);
            const segment = journal.write(a, each.at, 1n, data);
            journal.hold(segment);
            held.push(segment);
            data.copy(acknowledged, each.at);
          } else {
            acknowledged.copy(committed);
            for (const segment of held) journal.release(segment);
            held = [];
            journal.clean(a);
          }
        }
        for (const { offset, data } of readJournal(folder).writes()) data.copy(committed, offset);
        assert.deepEqual(committed, acknowledged);
      }),
    ),
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
