import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { escapeBytes, parseEntry, timeOfEntry, timeText, unescapeBytes } from './changelog-text.ts';

test('bytes are escaped as the official client escapes them, and are the same again', () => {
  assert.equal(escapeBytes(Buffer.from('a b/~')), 'a b/~');
  assert.equal(escapeBytes(Buffer.from('a,b%c(d)e"f\\g\n\x7f\u00e4')), 'a%2Cb%25c%28d%29e%22f%5Cg%0A%7F%C3%A4');
  assert.equal(escapeBytes(Buffer.alloc(0)), '');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const text = escapeBytes(Buffer.from(bytes));
      assert.match(text, /^[\x20-\x7e]*$/);
      assert.doesNotMatch(text, /[,()"\\]/);
      assert.deepEqual(unescapeBytes(text), Buffer.from(bytes));
    }),
  );
  assert.throws(() => unescapeBytes('a%4'), { code: 'LogEntry' });
});

test('an entry is read as it was written', () => {
  const entry = parseEntry('1794000000.000000012|CREATE(1,a%2Cb,0,7,3,511,0,to%2Fx y,linux,false):12|(3,45)');
  assert.deepEqual(entry, {
    sec: 1_794_000_000,
    nsec: 12,
    operation: 'CREATE',
    args: ['1', 'a%2Cb', '0', '7', '3', '511', '0', 'to%2Fx y', 'linux', 'false'],
    result: '12',
    session: 3,
    number: 45,
  });
  const bare = parseEntry('5.100000000|INIT_ENABLE_DIRSTATS()|(0,1)');
  assert.deepEqual([bare?.operation, bare?.args, bare?.result], ['INIT_ENABLE_DIRSTATS', [], undefined]);
  assert.equal(parseEntry('5.1|UNLINKBATCH(1,a,b,0,true):7,8|(2,3)')?.result, '7,8');
  for (const wrong of ['', 'x', '1.2|A(1)', '1.2|A(1|(1,2)', '|A()|(1,2)']) assert.equal(parseEntry(wrong), undefined, wrong);
});

test('the time of an entry is to the nanosecond, and of text that has none there is none', () => {
  assert.equal(timeText(7, 5), '7.000000005|');
  assert.equal(timeOfEntry(`${timeText(7, 5)}A()|(0,1)`), 7_000_000_005n);
  assert.equal(timeOfEntry('7|A()|(0,1)'), 7_000_000_000n);
  assert.equal(timeOfEntry('A()'), undefined);
});
