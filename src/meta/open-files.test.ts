import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino } from '../lib/int64.ts';
import { OpenFiles } from './open-files.ts';
import { plainFile } from './testing/sample.ts';
import { type Attr, type Piece } from './types.ts';

const file = ino(7);
const attr: Attr = { ...plainFile, atime: 1, mtime: 1, ctime: 1, length: 10 };
const pieces: readonly Piece[] = [{ pos: 0, id: 1, size: 10, off: 0, len: 10 }];

function opened(): OpenFiles {
  const files = new OpenFiles();
  files.open(file);
  files.note(file, attr);
  for (const index of [0, 1]) files.keep(file, index, files.version(file), pieces, 1);
  return files;
}

test('views of chunks stay while times and length stand, and go when others have changed the file', () => {
  const files = opened();
  files.note(file, { ...attr, mode: 0o600, atime: 9 });
  assert.equal(files.chunk(file, 0), pieces);
  for (const changed of [{ mtimensec: 1 }, { mtime: 2 }, { ctime: 2 }, { ctimensec: 1 }, { length: 11 }]) {
    const other = opened();
    other.note(file, { ...attr, ...changed });
    assert.equal(other.chunk(file, 0), undefined);
  }
});

test('an own write drops the chunk it changed and no other, unless others have written as well', () => {
  const after = { ...attr, mtime: 5, length: 20 };
  const files = opened();
  files.changed(file, attr, after, 0);
  assert.equal(files.chunk(file, 0), undefined);
  assert.equal(files.chunk(file, 1), pieces);
  files.note(file, after);
  assert.equal(files.chunk(file, 1), pieces);
  const raced = opened();
  raced.changed(file, { ...attr, mtime: 4 }, after, 0);
  assert.equal(raced.chunk(file, 1), undefined);
});

test('records that we added are laid over the view, if the list has become longer by just those', () => {
  const after = { ...attr, mtime: 5 };
  const added = [{ pos: 4, id: 2, size: 8, off: 1, len: 3 }];
  const write = (files: OpenFiles, before: Attr, listed: number): readonly Piece[] | undefined => {
    files.changed(file, before, after);
    files.appended(file, 0, added, listed);
    return files.chunk(file, 0);
  };
  const files = opened();
  const version = files.version(file);
  assert.deepEqual(write(files, attr, 2), [
    { pos: 0, id: 1, size: 10, off: 0, len: 4 },
    { pos: 4, id: 2, size: 8, off: 1, len: 3 },
    { pos: 7, id: 1, size: 10, off: 7, len: 3 },
  ]);
  files.keep(file, 0, version, pieces, 1);
  assert.equal(files.chunk(file, 0)?.length, 3, 'what was read before the write is not kept');
  assert.equal(files.chunk(file, 1), pieces);
  assert.equal(write(files, after, 3)?.length, 3, 'and again');
  for (const listed of [0, 1, 3]) assert.equal(write(opened(), attr, listed), undefined, `the list has ${listed} records`);
  assert.equal(write(opened(), { ...attr, mtime: 4 }, 2), undefined, 'others have written');
});

test('a view that was read before the chunk changed is not kept', () => {
  const files = opened();
  const version = files.version(file);
  files.invalidate(file, 0);
  files.keep(file, 0, version, pieces, 1);
  assert.equal(files.chunk(file, 0), undefined);
});

test('views outlive the last close for the next open, and are not given out in between', () => {
  const files = opened();
  assert.equal(files.close(file), false);
  assert.equal(files.chunk(file, 0), undefined);
  assert.equal(files.isOpen(file), false);
  files.open(file);
  files.note(file, attr);
  assert.equal(files.chunk(file, 0), pieces);
});

test('only the last close of a file whose last name is gone deletes it', () => {
  const files = opened();
  files.open(file);
  assert.equal(files.removed(file), true);
  assert.equal(files.close(file), false);
  assert.equal(files.close(file), true);
  assert.equal(files.close(file), false);
  assert.equal(files.removed(file), false);
});

test('what is remembered of files that are closed is bounded', () => {
  const files = new OpenFiles();
  for (let id = 1; id <= 20_000; id++) {
    files.open(ino(id));
    files.note(ino(id), attr);
    files.keep(ino(id), 0, files.version(ino(id)), pieces, 1);
    files.close(ino(id));
  }
  let kept = 0;
  for (let id = 1; id <= 20_000; id++) {
    files.open(ino(id));
    if (files.chunk(ino(id), 0)) kept++;
  }
  assert.equal(kept, 10_000);
});
