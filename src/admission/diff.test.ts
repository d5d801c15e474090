import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { unifiedDiff } from './diff.ts';

/** Applies the hunks to the old text, as `patch` would; asserts that each line it keeps or removes is there. */
function patch(before: string, diff: string): string {
  const old = before.replace(/\n$/, '').split('\n');
  const output: string[] = [];
  let at = 0;
  for (const line of diff.split('\n').slice(2, -1)) {
    const start = /^@@ -(\d+),/.exec(line);
    if (start) {
      const to = Number(start[1]) - 1;
      output.push(...old.slice(at, to));
      at = to;
    } else if (line.startsWith('+')) output.push(line.slice(1));
    else {
      assert.equal(old[at++], line.slice(1));
      if (line.startsWith(' ')) output.push(line.slice(1));
    }
  }
  return [...output, ...old.slice(at)].join('\n');
}

test('a diff shows what was added with three lines around it', () => {
  const before = 'a\nb\nc\nd\ne\nf\ng\nh\n';
  assert.equal(
    unifiedDiff(before, before.replace('e\n', 'e\nnew\n'), ['old', 'new']),
    '--- old\n+++ new\n@@ -3,6 +3,7 @@\n c\n d\n e\n+new\n f\n g\n h\n',
  );
  assert.equal(unifiedDiff(before, before, ['old', 'new']), '');
});

test('applying a diff to the old text gives the new one, and it is no longer than needed', () => {
  const lines = fc.array(fc.constantFrom('a', 'b', 'c', 'd', ''), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(lines, lines, (one, other) => {
      const [before, after] = [one.join('\n'), other.join('\n')];
      const diff = unifiedDiff(`${before}\n`, `${after}\n`, ['a', 'b']);
      assert.equal(diff === '' ? before : patch(`${before}\n`, diff), after);
      const changes = diff
        .split('\n')
        .slice(2)
        .filter((line) => /^[+-]/.test(line)).length;
      assert.ok(changes <= one.length + other.length);
    }),
    { numRuns: 2000 },
  );
});

test('texts of very many different lines are compared in time', () => {
  const many = (prefix: string): string => Array.from({ length: 20_000 }, (_, index) => `${prefix}${index}`).join('\n');
  assert.equal(patch(many('a'), unifiedDiff(many('a'), many('b'), ['a', 'b'])), many('b'));
});
