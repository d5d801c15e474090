/** Journals that other versions wrote. The golden ones are those of the writers of their time (test/golden/README.md). */
import assert from 'node:assert/strict';
import { closeSync, cpSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { checkForm } from './journal-version.ts';
import { Journal, readJournal } from './journal.ts';
import { Pieces } from './pieces.ts';

const golden = resolve(import.meta.dirname, '../../test/golden');

/** With what the holder had kept (form 3: the file `held`, of which the first 64 bytes are somebody else's). */
function copyOf(form: 1 | 2 | 3): Disposable & { readonly path: string; readonly pieces: Pieces | undefined } {
  const path = mkdtempSync(join(tmpdir(), 'juicepod-journal-'));
  cpSync(join(golden, `journal-${form}`), path, { recursive: true });
  const fd = form < 3 ? undefined : openSync(join(path, 'held'), 'r+');
  return {
    path,
    pieces: fd === undefined ? undefined : new Pieces({ fd, from: 64 }, { maxBytes: 8192 }),
    [Symbol.dispose]() {
      if (fd !== undefined) closeSync(fd);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

const left = (folder: string, pieces?: Pieces): unknown[] =>
  [...readJournal(folder, pieces).writes()].map(({ ino, offset, timeNs, data }) => [ino, offset, timeNs, data.toString()]);

const expected = [
  [6, 4096, 2n, 'first of six'],
  [5, 7, 1700000000123456789n, 'new of five'],
  [6, 4100, 4n, 'x'.repeat(700)],
  [5, 3, 5n, 'in the next segment'],
];

for (const form of [1, 2, 3] as const)
  test(`what a client that wrote form ${form} of the journal had not stored is written again, but for what it never acknowledged`, () => {
    using folder = copyOf(form);
    checkForm(folder.path);
    assert.deepEqual(left(folder.path, folder.pieces), expected);
    // As the client that follows does: its own writes come behind.
    const journal = new Journal(folder.path);
    journal.hold(journal.write(7 as Ino, 1, 9n, Buffer.from('of today')));
    assert.deepEqual(left(folder.path, folder.pieces), [...expected, [7, 1, 9n, 'of today']]);
    readJournal(folder.path, folder.pieces).forget();
    assert.deepEqual(left(folder.path), []);
  });

test('a journal whose bytes nobody has kept is refused, and stays', () => {
  using folder = copyOf(3);
  assert.throws(() => left(folder.path), refused('holder', folder.path));
  folder.pieces?.forget();
  using other = copyOf(3);
  assert.equal(left(other.path, other.pieces).length, 4);
});

const refused =
  (...texts: readonly (string | RegExp)[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof UserError);
    for (const text of texts) assert.match(`${error.message} ${error.hint ?? ''}`, new RegExp(text));
    return true;
  };

test('a journal of a later version is refused, with the version that reads it and the place where it lies, and stays', () => {
  using folder = copyOf(2);
  writeFileSync(join(folder.path, 'version'), 'juicepod-journal 4 (juicepod 7.8.9)\n');
  assert.throws(() => checkForm(folder.path), refused('form 4', 'Juicepod 7\\.8\\.9', folder.path));
  assert.equal(left(folder.path).length, 4, 'nothing was taken away');
});

test('a segment that begins otherwise is refused, and one that nobody has written yet is not', () => {
  using folder = copyOf(2);
  writeFileSync(join(folder.path, '8.segment'), '');
  checkForm(folder.path);
  const head = Buffer.from(readFileSync(join(folder.path, '0.segment')));
  head.writeUInt32LE(1, 4);
  writeFileSync(join(folder.path, '9.segment'), head);
  assert.throws(() => checkForm(folder.path), refused('9\\.segment', folder.path));
  assert.throws(() => left(folder.path), refused(folder.path));
});

test('a journal says its form and who wrote it', () => {
  using folder = copyOf(1);
  const journal = new Journal(folder.path);
  assert.match(readFileSync(join(folder.path, 'version'), 'utf8'), /^juicepod-journal 3 \(juicepod \d[\w.+-]*\)\n$/);
  checkForm(join(folder.path, 'missing'));
  journal.close();
});
