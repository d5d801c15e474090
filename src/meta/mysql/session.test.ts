import assert from 'node:assert/strict';
import { test } from 'node:test';
import { render } from './session.ts';

test('values are written into a statement so that nothing of them is a part of it', () => {
  const text = 'SELECT ?1, ?2, ?1';
  const rendered = (...values: Parameters<typeof render>[0]['values']): string => render({ text, values });
  assert.equal(rendered(1, -5n), 'SELECT 1, -5, 1');
  assert.equal(rendered(null, 9_223_372_032_828_243_968n), 'SELECT NULL, 9223372032828243968, NULL');
  assert.equal(rendered(Buffer.from(`\0'"\\ü`), Buffer.alloc(0)), `SELECT X'0027225cc3bc', X'', X'0027225cc3bc'`);
  assert.equal(rendered(`it's \\ "?2" ?9`, 'ü'), `SELECT 'it\\'s \\\\ \\"?2\\" ?9', 'ü', 'it\\'s \\\\ \\"?2\\" ?9'`);
  assert.equal(rendered([1, 2n], '$&'), `SELECT 1, 2, '$&', 1, 2`);
});

test('what is no whole number, and a value that is missing, are refused', () => {
  assert.throws(() => render({ text: '?1', values: [1.5] }), RangeError);
  assert.throws(() => render({ text: '?1', values: [Number.NaN] }), RangeError);
  assert.throws(() => render({ text: '?1 ?2', values: [1] }), /not given all of its values/);
});
