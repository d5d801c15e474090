import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wrapped } from './report.ts';

test('a line is broken between words for a terminal, and stays whole for whoever searches', () => {
  const line = '✗ Reason: what was found is told here, at /a/path/that/is/longer/than/the/screen and so on';
  const screen = { isTTY: true, columns: 24 };
  assert.equal(
    wrapped(line, '  ', screen),
    '✗ Reason: what was found\n  is told here, at\n  /a/path/that/is/longer/than/the/screen\n  and so on\n',
  );
  assert.equal(wrapped(line, '  ', { isTTY: false, columns: 24 }), `${line}\n`);
  assert.equal(wrapped('short', '  ', screen), 'short\n');
});
