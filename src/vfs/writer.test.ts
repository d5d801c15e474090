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
        write(data, offset) {
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

const put = (writer: FileWriter, offset: number, text: string): void => writer.write(offset, Buffer.from(text), 1n);

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
