import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { crc32c, crc32cOfPieces, crc32cPieces, softCrc32c, softCrc32cPieces } from './crc32c.ts';

/** The definition, bit by bit. */
function reference(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

test('known values come out', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.equal(crc32c(Buffer.from('hello')), 2591144780);
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(0)), 0);
});

test('any bytes at any alignment agree with the definition, whole or continued', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(7), fc.nat(300), (bytes, shift, cut) => {
      const data = new Uint8Array(new ArrayBuffer(bytes.length + shift), shift);
      data.set(bytes);
      const middle = Math.min(cut, bytes.length);
      assert.equal(crc32c(data), reference(data));
      assert.equal(softCrc32c(data), reference(data));
      assert.equal(softCrc32c(data.subarray(middle), softCrc32c(data.subarray(0, middle))), reference(data));
      assert.equal(crc32c(data.subarray(middle), crc32c(data.subarray(0, middle))), reference(data));
    }),
  );
});

test('pieces have the sums they have alone, and the sum of the whole follows from them', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.constantFrom(4, 16, 32, 64), fc.nat(4), (bytes, size, shift) => {
      const data = new Uint8Array(new ArrayBuffer(bytes.length + shift), shift);
      data.set(bytes);
      const expected = Array.from({ length: Math.ceil(data.length / size) }, (_, i) =>
        reference(data.subarray(i * size, (i + 1) * size)),
      );
      const sums = crc32cPieces(data, size);
      assert.deepEqual([...sums], expected);
      assert.deepEqual([...softCrc32cPieces(data, size)], expected);
      assert.equal(crc32cOfPieces(data, size, sums), reference(data));
    }),
  );
});
