import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { tar } from './tar.ts';

test('tar unpacks what was packed, files of any length', () => {
  const files = new Map([0, 1, 511, 512, 513, 5000].map((length) => [`folder/file-${length}`, Buffer.alloc(length, 'x')]));
  const archive = tar(files, 1_700_000_000);
  assert.equal(archive.length % 512, 0);
  const listed = execFileSync('tar', ['-tf', '-'], { input: archive }).toString().trimEnd().split('\n');
  assert.deepEqual(listed, [...files.keys()]);
  for (const [name, data] of files) assert.ok(execFileSync('tar', ['-xOf', '-', name], { input: archive }).equals(data), name);
  assert.throws(() => tar(new Map([['x'.repeat(101), Buffer.alloc(0)]]), 0), RangeError);
});
