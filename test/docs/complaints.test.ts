/**
 * docs/complaints.md has each of its rows once, and every test that it names is there. A test is named as `FILE` "NAME", further ones of the
 * same file as "NAME"; `SUITE › NAME` for one within a suite.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROWS = 63;
const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'complaints.md'), 'utf8');

/** The cells of each row, after the head. */
function rowsOf(text: string): readonly (readonly string[])[] {
  const lines = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| |'));
  return lines.map((line) => line.slice(2, -2).split(' | '));
}

/** Every file and test that a cell names. A file without a test, or a test without a file, comes as an empty text. */
function named(cell: string): readonly (readonly [string, string])[] {
  const found: [string, string][] = [];
  let file = '';
  let unused = false;
  for (const [, path, name] of cell.matchAll(/`([^`]+\.ts)`|"([^"]+)"/g))
    if (path === undefined) {
      found.push([file, name ?? '']);
      unused = false;
    } else {
      if (unused) found.push([file, '']);
      [file, unused] = [path, true];
    }
  if (unused) found.push([file, '']);
  return found;
}

const escaped = (text: string): string => text.replaceAll(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`);

/** Names of tests and suites in a source as patterns, a group for each value; in `test/cluster/scenarios` those of scenarios. */
function titlesOf(file: string, source: string): readonly RegExp[] {
  const before = file.startsWith('test/cluster/scenarios/') ? 'name: ' : '\\b(?:test|describe|onCluster)\\(\\s*';
  const titles = new RegExp(`${before}(['"\`])((?:\\\\.|(?!\\1)[^\\\\])*)\\1`, 'g');
  return [...source.matchAll(titles)].map(([, , text = '']) => {
    const parts = text.replaceAll(/\\(['"`\\])/g, '$1').split(/\$\{[^}]*\}/);
    return new RegExp(`^${parts.map(escaped).join('(.+)')}$`);
  });
}

/** True where a source has such a test; what it has put in for a value must be a text of the source. */
function has(file: string, name: string): boolean {
  if (!existsSync(join(root, file))) return false;
  const source = readFileSync(join(root, file), 'utf8');
  const titles = titlesOf(file, source);
  return name.split(' › ').every((part) =>
    titles.some((title) => {
      const values = title.exec(part)?.slice(1);
      return values !== undefined && values.every((value) => source.includes(`'${value}'`));
    }),
  );
}

test('the table of complaints has every row once, in order, and each says where it comes from and what becomes of it', () => {
  const rows = rowsOf(page);
  assert.deepEqual(
    rows.map(([number]) => number),
    Array.from({ length: ROWS }, (_, index) => String(index + 1)),
  );
  for (const [number, complaint = '', answer = '', shown = '', ...more] of rows) {
    assert.deepEqual(more, [], `row ${number} has too many cells`);
    assert.match(complaint, /\w ?(?:PR)?#\d+/, `row ${number} does not say whose complaint it is`);
    assert.ok(answer.length > 20, `row ${number} has no answer`);
    assert.ok(named(shown).length > 0 || /\*\*Not solved\*\*|^Does not apply/.test(answer), `row ${number} shows nothing`);
  }
});

test('every test that the table of complaints names exists', () => {
  const missing = rowsOf(page).flatMap(([number, , , shown = '']) =>
    named(shown)
      .filter(([file, name]) => !has(file, name))
      .map(([file, name]) => `row ${number}: ${file} "${name}"`),
  );
  assert.deepEqual(missing, []);
});

test('a test that is not there, a file that is not, and a name without a file are noticed', () => {
  const file = 'test/docs/complaints.test.ts';
  const name = 'every test that the table of complaints names exists';
  assert.ok(has(file, name));
  assert.ok(!has(file, `${name} twice`));
  assert.ok(!has('test/docs/nowhere.test.ts', name));
  assert.ok(has('test/cli/analyze.test.ts', 'the state of the sidecar: OutOfMemory'));
  assert.ok(!has('test/cli/analyze.test.ts', 'the state of the sidecar: OutOfLuck'));
  assert.deepEqual(named(`"${name}"`), [['', name]]);
  assert.deepEqual(named(`\`${file}\`; \`a.ts\` "b" and "c"`), [
    [file, ''],
    ['a.ts', 'b'],
    ['a.ts', 'c'],
  ]);
});
