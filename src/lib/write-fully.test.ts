import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeFully } from './write-fully.ts';

test('what the system takes in pieces is written whole, and at its place', async () => {
  const there = Buffer.alloc(40, 0xff);
  const file = {
    // Takes seven bytes at most.
    write: async (data: Uint8Array, from: number, length: number, position: number) => {
      const bytesWritten = Math.min(7, length);
      there.set(data.subarray(from, from + bytesWritten), position);
      return { bytesWritten, buffer: data };
    },
  } as unknown as Parameters<typeof writeFully>[0];
  const data = Buffer.from(Array.from({ length: 30 }, (_, at) => at));
  await writeFully(file, data, 3);
  assert.deepEqual([...there], [255, 255, 255, ...data, ...Array.from({ length: 7 }, () => 255)]);
  await writeFully(file, data, 0, 20, 9);
  assert.deepEqual([...there.subarray(0, 10)], [...data.subarray(20, 29), 6]);
});
