import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freeBuffer } from './free-buffer.ts';

test('a buffer that was given back is empty, and its memory is gone without a collection', () => {
  const before = process.memoryUsage().arrayBuffers;
  const buffer = Buffer.allocUnsafeSlow(64 << 20);
  const view = buffer.subarray(1);
  freeBuffer(buffer);
  assert.equal(buffer.length, 0);
  assert.equal(view.length, 0);
  assert.ok(process.memoryUsage().arrayBuffers < before + (32 << 20));
});

test('what lies in a buffer that others use stays', () => {
  const whole = Buffer.alloc(16, 'x');
  freeBuffer(whole.subarray(4, 8));
  assert.equal(whole.toString(), 'x'.repeat(16));
});
