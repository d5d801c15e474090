import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { lines } from './lines.ts';

async function* chunks(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const at = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted((left, right) => left - right);
  let start = 0;
  for (const end of at) {
    yield await Promise.resolve(bytes.subarray(start, end));
    start = end;
  }
}

async function collect(stream: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const line of stream) found.push(line);
  return found;
}

test('lines are the same however the stream is cut, within characters too; a last half line is dropped', async () => {
  const text = fc.string({ unit: 'binary', maxLength: 20 }).map((each) => `x${each.replaceAll('\n', '')}`);
  await fc.assert(
    fc.asyncProperty(fc.array(text), fc.string({ maxLength: 5 }), fc.array(fc.nat(400)), async (wanted, rest, cuts) => {
      const bytes = Buffer.from(`${wanted.map((each) => `${each}\n`).join('')}${rest.replaceAll('\n', '')}`);
      const decoded = wanted.map((each) => Buffer.from(each).toString());
      assert.deepEqual(await collect(lines(chunks(bytes, cuts))), decoded);
    }),
  );
});

test('empty lines are passed over', async () => {
  assert.deepEqual(await collect(lines(chunks(Buffer.from('\n\na\n \r\nb\n'), []))), ['a', 'b']);
});

test('a line over the limit is refused, whole or in pieces, and one of the limit is not', async () => {
  const bytes = Buffer.from(`${'x'.repeat(100)}\n`);
  await assert.rejects(collect(lines(chunks(bytes, []), 99)), RangeError);
  await assert.rejects(collect(lines(chunks(bytes, [10, 20, 50]), 99)), RangeError);
  assert.equal((await collect(lines(chunks(bytes, [10, 50]), 100))).length, 1);
});
