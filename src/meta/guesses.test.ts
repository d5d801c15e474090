import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO } from '../lib/int64.ts';
import { Guesses } from './guesses.ts';
import { NodeType } from './types.ts';

test('names are told apart by their bytes and their directory', () => {
  const guesses = new Guesses();
  const value = { type: NodeType.File, ino: ino(5) };
  guesses.setEntry(ROOT_INO, Buffer.from([0xc3, 0xa9]), value);
  assert.equal(guesses.entry(ROOT_INO, Buffer.from('é')), value);
  assert.equal(guesses.entry(ROOT_INO, Buffer.from([0xe9])), undefined);
  assert.equal(guesses.entry(ino(2), Buffer.from('é')), undefined);
  guesses.setEntry(ROOT_INO, Buffer.from('é'), undefined);
  assert.equal(guesses.entry(ROOT_INO, Buffer.from('é')), undefined);
});

test('what is used stays, what is not used is forgotten, and the number kept is bounded', () => {
  const guesses = new Guesses();
  const value = { type: NodeType.File, ino: ino(5) };
  const name = (id: number): Buffer => Buffer.from(`name${id}`);
  for (let id = 0; id < 100_000; id++) {
    guesses.setEntry(ROOT_INO, name(id), value);
    assert.equal(guesses.entry(ROOT_INO, name(0)), value);
  }
  let kept = 0;
  for (let id = 0; id < 100_000; id++) if (guesses.entry(ROOT_INO, name(id))) kept++;
  assert.ok(kept >= 16_000 && kept <= 33_000, String(kept));
});
