import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { codecFor } from './compress.ts';

const leading = (lead: number, stored: Buffer): Buffer => Buffer.concat([Buffer.alloc(lead, 0xff), stored]);

for (const name of ['lz4', 'zstd']) {
  const codec = codecFor(name);
  assert.ok(codec);
  test(`${name}: any block comes back, within the bound, and with its length only`, async () => {
    const block = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 3000 }),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 70_000 }))
        .map(([pattern, length]) => Buffer.alloc(length, pattern)),
    );
    await fc.assert(
      fc.asyncProperty(block, async (bytes) => {
        const data = Buffer.from(bytes);
        const stored = await codec.compress(data);
        assert.ok(stored.length <= codec.bound(data.length), `${stored.length} bytes from ${data.length}`);
        assert.ok(data.equals(await codec.decompress(leading(codec.lead, stored), data.length)));
        await assert.rejects(codec.decompress(leading(codec.lead, stored), data.length + 1));
        if (data.length > 1) await assert.rejects(codec.decompress(leading(codec.lead, stored), data.length - 1));
      }),
      { numRuns: 60 },
    );
  });

  test(`${name}: a stored block that is cut off is an error`, async () => {
    const stored = await codec.compress(Buffer.from('abcdefgh'.repeat(1000)));
    for (const length of [0, 1, Math.floor(stored.length / 2), stored.length - 1])
      await assert.rejects(codec.decompress(leading(codec.lead, stored.subarray(0, length)), 8000), `${length} bytes`);
  });
}

test('zstd frames tell their content size, which the official client needs, and have neither checksum nor dictionary', async () => {
  const codec = codecFor('zstd');
  assert.ok(codec);
  for (const [length, flag] of [
    [1, 0],
    [255, 0],
    [256, 1],
    [65_791, 1],
    [65_792, 2],
    [4 * 1024 * 1024, 2],
  ] as const) {
    const stored = await codec.compress(Buffer.alloc(length, 'ab'));
    assert.equal(stored.readUInt32LE(0), 0xfd2fb528);
    const descriptor = stored[4]!;
    assert.equal(descriptor >> 6, flag, `width of the content size of ${length} bytes`);
    assert.equal(descriptor & 0b111, 0);
    // A one-byte content size is there in a single segment only.
    if (flag === 0) assert.equal(descriptor & 0x20, 0x20);
  }
});

test('an unknown compression is refused by name', () => {
  assert.equal(codecFor('none'), undefined);
  assert.equal(codecFor(''), undefined);
  assert.throws(() => codecFor('brotli'), /"brotli" is not known; known are none, lz4 and zstd/);
});
