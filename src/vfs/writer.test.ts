import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ChunkStore, SliceWriter } from '../chunk/types.ts';
import { systemClock } from '../lib/clock.ts';
import { errno, FsError } from '../lib/errors.ts';
import { ino } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import { type Attr, CHUNK_SIZE, type Meta } from '../meta/types.ts';
import { Journal, readJournal } from './journal.ts';
import { FileWriter, tellFailure } from './writer.ts';

const file = ino(5);

interface Commit {
  readonly at: number;
  readonly text: string;
}

/** A writer over slices in memory: uploads end when the test lets them, commits are listed in the order they came. */
function setUp(journal?: Journal) {
  const commits: Commit[] = [];
  const slices: { id: number; bytes: Buffer; done: PromiseWithResolvers<void> }[] = [];
  let aborted = 0;
  const chunks = {
    newSlice(): SliceWriter {
      const slice = { id: 0, bytes: Buffer.alloc(0), done: Promise.withResolvers<void>() };
      slices.push(slice);
      return {
        get length() {
          return slice.bytes.length;
        },
        uploaded: 0,
        peek: () => slice.bytes,
        write(data, offset, taken) {
          taken?.(data, 0, 0, data.length);
          slice.bytes = Buffer.concat([slice.bytes.subarray(0, offset), data, slice.bytes.subarray(offset + data.length)]);
        },
        setId: (id) => (slice.id = id),
        flushFull: () => {},
        finish: () => slice.done.promise,
        abort: () => aborted++,
      };
    },
  } as Partial<ChunkStore> as ChunkStore;
  let id = 0;
  let commitError: Error | undefined;
  const room: string[] = [];
  const meta = {
    newSliceId: async () => ++id,
    room: () => ({
      extend: (length) => {
        room.push(`until ${length}`);
        return undefined;
      },
      settle: () => {},
      end: () => void room.push('given back'),
    }),
    async writeSlice(_context, _ino, index, position, slice, _mtime, asked) {
      assert.ok(asked, 'a commit never asks for room again');
      await Promise.resolve();
      if (commitError) throw commitError;
      const bytes = slices.find((each) => each.id === slice.id)?.bytes ?? Buffer.alloc(0);
      commits.push({ at: index * CHUNK_SIZE + position, text: bytes.toString() });
      return {} as Attr;
    },
    async writeParts(_context, _ino, slice, parts, _mtime, asked) {
      assert.ok(asked, 'a commit never asks for room again');
      await Promise.resolve();
      const bytes = slices.find((each) => each.id === slice.id)?.bytes ?? Buffer.alloc(0);
      assert.equal(slice.size, bytes.length);
      for (const { index, pos, off, len } of parts)
        commits.push({ at: index * CHUNK_SIZE + pos, text: bytes.subarray(off, off + len).toString() });
      return {} as Attr;
    },
  } as Partial<Meta> as Meta;
  const writer = new FileWriter(file, {
    meta,
    chunks,
    clock: systemClock,
    journal,
    logger: nullLogger,
    committed: () => {},
    failed: () => {},
  });
  return {
    writer,
    commits,
    room,
    slices,
    aborted: () => aborted,
    failCommits: (error: Error) => void (commitError = error),
    store: (index: number) => slices[index]?.done.resolve(),
    storeAll: () => {
      for (const each of slices) each.done.resolve();
    },
  };
}

const put = (writer: FileWriter, offset: number, text: string): boolean => writer.write(offset, Buffer.from(text), 1n);

test('appended data goes into one slice, and what overlaps a newer slice goes into another', async () => {
  const { writer, commits, storeAll } = setUp();
  put(writer, 0, 'ab');
  put(writer, 2, 'cd');
  put(writer, 100, 'far');
  put(writer, 99, 'xx');
  const flushed = writer.flush();
  storeAll();
  await flushed;
  assert.deepEqual(commits, [
    { at: 0, text: 'abcd' },
    { at: 100, text: 'far' },
    { at: 99, text: 'xx' },
  ]);
});

test('writes that are scattered in a file go into the store as one', async () => {
  const { writer, commits, slices, storeAll, aborted } = setUp();
  assert.equal(writer.admit(3 * CHUNK_SIZE, 3 * CHUNK_SIZE), undefined);
  for (let at = 20; at > 0; at--) put(writer, at * 1000, `<${at}>`);
  put(writer, CHUNK_SIZE - 2, 'abcd');
  put(writer, 5000, '(5)');
  put(writer, 7001, '.');
  put(writer, 2 * CHUNK_SIZE, 'a stream');
  put(writer, 2 * CHUNK_SIZE + 8, ', which goes on');
  const flushed = writer.flush();
  storeAll();
  await flushed;
  const expected = Array.from({ length: 20 }, (_, index): Commit => {
    const at = index + 1;
    return { at: at * 1000, text: at === 5 ? '(5)' : at === 7 ? '<.>' : `<${at}>` };
  });
  assert.deepEqual(commits, [
    ...expected,
    { at: CHUNK_SIZE - 2, text: 'ab' },
    { at: CHUNK_SIZE, text: 'cd' },
    { at: 2 * CHUNK_SIZE, text: 'a stream, which goes on' },
  ]);
  assert.equal(slices.length - aborted(), 1);
});

test('what is written beyond the end of the file, or overlaps something in between, is committed in its own turn', async () => {
  const { writer, commits, storeAll } = setUp();
  assert.equal(writer.admit(100, 100), undefined);
  put(writer, 10, 'a');
  put(writer, 30, 'b');
  put(writer, 200, 'beyond');
  put(writer, 195, 'across');
  put(writer, 50, 'c');
  put(writer, 29, 'xxx');
  put(writer, 70, 'd');
  put(writer, 90, 'e');
  const flushed = writer.flush();
  storeAll();
  await flushed;
  assert.deepEqual(commits, [
    { at: 10, text: 'a' },
    { at: 29, text: 'xxx' },
    { at: 50, text: 'c' },
    { at: 70, text: 'd' },
    { at: 90, text: 'e' },
    { at: 200, text: 'beyond' },
    { at: 195, text: 'across' },
  ]);
});

test('a small slice does not go before a large one that it overlaps', async () => {
  const { writer, commits, storeAll } = setUp();
  assert.equal(writer.admit(1e6, 1e6), undefined);
  put(writer, 10, 'a');
  put(writer, 500_000, 'L'.repeat(70_000));
  put(writer, 499_999, 'xyz');
  put(writer, 600_000, 'b');
  const flushed = writer.flush();
  storeAll();
  await flushed;
  assert.deepEqual(
    commits.map(({ at, text }) => [at, text.slice(0, 3)]),
    [
      [10, 'a'],
      [600_000, 'b'],
      [500_000, 'LLL'],
      [499_999, 'xyz'],
    ],
  );
});

test('slices are committed in the order they were made, whichever is stored first', async () => {
  const { writer, commits, slices, store } = setUp();
  put(writer, 0, 'one');
  put(writer, CHUNK_SIZE + 5, 'two');
  put(writer, 2 * CHUNK_SIZE, 'three');
  const flushed = writer.flush();
  store(2);
  store(1);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(commits, [], 'the first is not stored yet');
  assert.equal(slices.length, 3);
  assert.ok(writer.overlaps(CHUNK_SIZE, 10), 'a reader must wait for it');
  store(0);
  await flushed;
  assert.deepEqual(
    commits.map(({ text }) => text),
    ['one', 'two', 'three'],
  );
  assert.equal(writer.dirty, false);
  assert.equal(writer.local, undefined);
});

test('a flush waits for what was written before it, not for what comes later', async () => {
  const { writer, commits, store } = setUp();
  put(writer, 0, 'before');
  const flushed = writer.flush();
  put(writer, 0, 'after.');
  store(0);
  await flushed;
  assert.deepEqual(commits, [{ at: 0, text: 'before' }]);
  assert.equal(writer.dirty, true);
  assert.deepEqual(writer.local?.length, 6);
});

test('a write that crosses a chunk is two slices', async () => {
  const { writer, commits, storeAll } = setUp();
  put(writer, CHUNK_SIZE - 2, 'abcd');
  const flushed = writer.flush();
  storeAll();
  await flushed;
  assert.deepEqual(commits, [
    { at: CHUNK_SIZE - 2, text: 'ab' },
    { at: CHUNK_SIZE, text: 'cd' },
  ]);
});

test('a failure is told to each handle of its time, and its errno is what an application can make something of', async () => {
  for (const [error, told, abortions] of [
    [new FsError('ENOSPC'), errno.ENOSPC, 1],
    [new FsError('EDQUOT'), errno.EDQUOT, 1],
    [new FsError('ENOENT'), errno.EBADF, 1],
    // Perhaps committed: its blocks stay.
    [new FsError('EIO'), errno.EIO, 0],
  ] as const) {
    const { writer, failCommits, storeAll, aborted } = setUp();
    const handle = { failuresSeen: 0 };
    failCommits(error);
    put(writer, 0, 'lost');
    const flushed = writer.flush();
    storeAll();
    await flushed;
    const isTold = (thrown: unknown): boolean => thrown instanceof FsError && thrown.errno === told;
    assert.throws(() => tellFailure(writer, handle, false), isTold);
    assert.throws(() => tellFailure(writer, handle), isTold);
    tellFailure(writer, handle);
    tellFailure(writer, { failuresSeen: writer.failures });
    assert.equal(aborted(), abortions);
  }
});

test('a committed write is not repeated though the last one to be committed was not in the journal', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-writer-'));
  try {
    const { writer, commits, storeAll } = setUp(new Journal(folder));
    put(writer, 0, 'old');
    void writer.flush();
    writer.repeat(0, Buffer.from('new'), 2n);
    const flushed = writer.flush();
    storeAll();
    await flushed;
    assert.deepEqual(
      commits.map(({ text }) => text),
      ['old', 'new'],
    );
    assert.deepEqual([...readJournal(folder).writes()], []);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('room that was set aside is given back when the last slice is stored, or could not be', async () => {
  for (const error of [undefined, new FsError('EIO')]) {
    const { writer, room, store, failCommits, commits } = setUp();
    if (error) failCommits(error);
    assert.equal(writer.admit(3, 0), undefined);
    put(writer, 0, 'one');
    put(writer, CHUNK_SIZE, 'two');
    const flushed = writer.flush();
    store(0);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(commits.length, error ? 0 : 1);
    writer.close();
    assert.deepEqual(room, ['until 3'], 'one is still to be stored');
    store(1);
    await flushed;
    assert.deepEqual(room, ['until 3', 'given back']);
    writer.close();
    assert.equal(room.length, 3);
  }
});

test('where the journal is pressed slices end sooner, at whole blocks, and it holds less', async () => {
  const MIB = 1024 * 1024;
  const written = async (keepBytes: number): Promise<readonly (readonly [at: number, length: number])[]> => {
    const folder = mkdtempSync(join(tmpdir(), 'juicepod-writer-'));
    try {
      const { writer, commits, storeAll } = setUp(new Journal(folder, { segmentBytes: 2 * MIB, keepBytes }));
      const piece = Buffer.alloc(0.75 * MIB, 'x');
      for (let at = 0; at < 36 * MIB; at += piece.length) writer.write(at, piece, 1n);
      storeAll();
      const flushed = writer.flush();
      storeAll();
      await flushed;
      return commits.map(({ at, text }) => [at / MIB, text.length / MIB]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  assert.deepEqual(await written(8 * MIB), [
    [0, 16],
    [16, 16],
    [32, 4],
  ]);
  assert.deepEqual(await written(200 * MIB), [[0, 36]]);
});
