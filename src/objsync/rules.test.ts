import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keyOf } from './side.ts';
import { type Rule, rulesOf } from './rules.ts';

const rule = (text: string): Rule => ({ include: text.startsWith('+'), pattern: text.slice(2) });

/** What of these keys is left. */
function left(rules: readonly string[], keys: readonly string[], fullPath = false): string[] {
  const { includes } = rulesOf(rules.map(rule), fullPath);
  return keys.filter((key) => includes(keyOf(key)));
}

const keys = ['a1/b1', 'a1/b2', 'a2/b1', 'a2/b2', 'aaa/b1', 'b1', 'b2'];

// The first four are the examples of the official client's help and manual.
for (const [rules, expected] of [
  [['- a?/b*'], ['aaa/b1', 'b1', 'b2']],
  [
    ['+ a1/b1', '- a[1-9]/b*'],
    ['a1/b1', 'aaa/b1', 'b1', 'b2'],
  ],
  [['+ a1/b1', '- a*', '+ b2', '- b?'], ['b2']],
  [['- a1/'], ['a2/b1', 'a2/b2', 'aaa/b1', 'b1', 'b2']],
  [['- /b1'], ['a1/b1', 'a1/b2', 'a2/b1', 'a2/b2', 'aaa/b1', 'b2']],
  [['- b1'], ['a1/b2', 'a2/b2', 'b2']],
  [['+ b1', '- *'], ['b1']],
  [
    ['+ */', '+ b1', '- *'],
    ['a1/b1', 'a2/b1', 'aaa/b1', 'b1'],
  ],
  [
    ['+ a1/***', '- *'],
    ['a1/b1', 'a1/b2'],
  ],
  [['- **1'], ['a2/b2', 'b2']],
  [['- /a1/**'], ['a2/b1', 'a2/b2', 'aaa/b1', 'b1', 'b2']],
  [['- [^a]?'], []],
  [['+ b1', '+ b2'], keys],
] as const)
  test(`of ${keys.join(' ')}, ${rules.join(', ')} leaves ${expected.join(' ') || 'nothing'}`, () => {
    assert.deepEqual(left(rules, keys), [...expected]);
  });

test('with whole paths, a directory that is excluded does not exclude what lies in it', () => {
  assert.deepEqual(left(['- a1'], keys, true), keys);
  assert.deepEqual(left(['- a1/*'], keys, true), ['a2/b1', 'a2/b2', 'aaa/b1', 'b1', 'b2']);
  assert.deepEqual(left(['+ /a1/b1', '- /a1/**', '- b?'], keys, true), ['a1/b1']);
});

test('a question mark is one character, however many bytes it has; other special characters are themselves', () => {
  assert.deepEqual(left(['- ?.txt'], ['ü.txt', 'uu.txt', 'x.txt']), ['uu.txt']);
  assert.deepEqual(left(['- a.b+(c)'], ['a.b+(c)', 'axb+(c)']), ['axb+(c)']);
  assert.deepEqual(left(['- a\\*'], ['a*', 'ab']), ['ab']);
  assert.deepEqual(left(['- x[a-c0-9]y'], ['xby', 'x5y', 'xdy']), ['xdy']);
});

test('what is no pattern is refused by name', () => {
  for (const pattern of ['', 'a[', 'a[b', 'x\\', '[]a]', '[a-]'])
    assert.throws(() => rulesOf([{ include: false, pattern }]), { code: 'InvalidPattern' }, pattern);
});
