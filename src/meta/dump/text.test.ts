/** Escaping: every byte string comes back, and what is escaped is what the official client escapes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { Ino } from '../../lib/int64.ts';
import { TRASH_INO } from '../../lib/int64.ts';
import { attrText, escapeBytes, missingAttr, parseAttr, unescapeBytes } from './text.ts';
import { NodeType } from '../types.ts';

test('any bytes come back from their escaped form, which stands in a JSON string as it is', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (array) => {
      const bytes = Buffer.from(array);
      const text = escapeBytes(bytes);
      assert.equal(JSON.parse(`"${text}"`), text);
      assert.deepEqual(unescapeBytes(text), bytes);
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (name) => {
      const bytes = Buffer.from(name);
      assert.deepEqual(unescapeBytes(escapeBytes(bytes)), bytes);
    }),
    { numRuns: 2000 },
  );
});

test('what is escaped is what the official client escapes', () => {
  const cases: readonly (readonly [string | Buffer, string])[] = [
    ['plain-name.txt', 'plain-name.txt'],
    ['a b\nc', 'a%20b%0Ac'],
    ['100% "quoted" \\', '100%25%20%22quoted%22%20%5C'],
    ['süß \u{1f600}', 'süß%20\u{1f600}'],
    [Buffer.from('ff61fe', 'hex'), '%FFa%FE'],
    // A surrogate and an overlong slash are no characters.
    [Buffer.from('eda080c0af', 'hex'), '%ED%A0%80%C0%AF'],
    ['\u{7f}', '\u{7f}'],
    ['\u{fffd}', '\u{fffd}'],
  ];
  for (const [bytes, text] of cases) assert.equal(escapeBytes(Buffer.from(bytes)), text);
});

test('a percent sign that begins no escape stands for itself', () => {
  assert.equal(unescapeBytes('100%').toString(), '100%');
  assert.equal(unescapeBytes('%zz%4').toString(), '%zz%4');
  assert.equal(unescapeBytes('%2f').toString(), '%2f');
});

test('inodes of the trash are read to the last digit', () => {
  const ino = (TRASH_INO + 3) as Ino;
  const text = attrText(ino, missingAttr(NodeType.Directory));
  assert.match(text, /^\{"inode":9223372032828243971,/);
  assert.equal(parseAttr(text).ino, ino);
});
