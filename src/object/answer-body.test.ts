import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerBody } from './answer-body.ts';
import { ObjectError } from './store.ts';

const MIB = 1024 * 1024;

test('a HEAD may announce an object of any length; of a GET no more is taken than may come', () => {
  const asked = { origin: 'http://store', maxBody: 64 * MIB };
  assert.equal(new AnswerBody({ ...asked, method: 'HEAD' }, 200, 5 * 1024 * MIB).bytes.length, 0);
  assert.throws(
    () => new AnswerBody({ ...asked, method: 'GET' }, 200, 65 * MIB),
    (error) => error instanceof ObjectError && error.code === 'Invalid',
  );
});
