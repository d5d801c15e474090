/** Imports go down the list of docs/architecture.md only, and never in a circle. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const root = resolve(import.meta.dirname, '..');
const src = join(root, 'src');

/** What each folder of src may import besides itself. */
const bottom = ['lib'];
const store = ['object', ...bottom];
const middle = ['meta', 'chunk', ...store];
const files = ['fuse', 'vfs', 'usage', ...middle];
const kubernetes = ['api', 'kube'];
const allowed: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  object: bottom,
  chunk: store,
  meta: store,
  fuse: middle,
  vfs: ['fuse', ...middle],
  usage: middle,
  maintenance: ['vfs', ...middle],
  api: bottom,
  kube: bottom,
  client: [...files, 'api'],
  sync: ['client', ...files, 'api'],
  objsync: ['client', ...files],
  cachegroup: files,
  gateway: files,
  mirror: [...files, ...kubernetes],
  admission: [...kubernetes, ...bottom],
  operator: [...kubernetes, ...middle],
  dashboard: [...kubernetes, ...files],
  cli: [
    'operator',
    'admission',
    'sync',
    'objsync',
    'client',
    'gateway',
    'dashboard',
    'mirror',
    'cachegroup',
    'maintenance',
    ...kubernetes,
    ...files,
  ],
  'main.ts': ['cli', ...bottom],
};

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8');
  return [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'"\n;]*?(?:from\s*)?['"](\.[^'"]+)['"]|import\(\s*['"](\.[^'"]+)['"]\s*\)|\bfrom\s+['"](\.[^'"]+)['"]/g,
    ),
  ]
    .map((match) => match[1] ?? match[2] ?? match[3])
    .filter((path): path is string => path !== undefined)
    .map((path) => resolve(dirname(file), path));
}

const graph = new Map(sources(src).map((file) => [file, importsOf(file)]));
const folderOf = (file: string): string => relative(src, file).split('/')[0] ?? '';

test('every folder of src imports only what lies below it', () => {
  const climbs: string[] = [];
  for (const [file, imports] of graph) {
    const folder = folderOf(file);
    const below = allowed[folder];
    assert.ok(below, `src/${folder} has no place in the import order: add it to docs/architecture.md and to this test`);
    for (const target of imports) {
      if (!target.startsWith(src)) {
        if (!file.endsWith('.test.ts') && !target.endsWith('package.json'))
          climbs.push(`${relative(root, file)} → ${relative(root, target)}`);
        continue;
      }
      const other = folderOf(target);
      if (other !== folder && !below.includes(other)) climbs.push(`${relative(root, file)} → ${relative(root, target)}`);
    }
  }
  assert.deepEqual(climbs, []);
});

test('no import goes in a circle', () => {
  const state = new Map<string, 'open' | 'done'>();
  const circles: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      circles.push([...path.slice(path.indexOf(file)), file].map((each) => relative(root, each)).join(' → '));
      return;
    }
    state.set(file, 'open');
    for (const target of graph.get(file) ?? []) if (graph.has(target)) visit(target, [...path, file]);
    state.set(file, 'done');
  };
  for (const file of graph.keys()) visit(file, []);
  assert.deepEqual(circles, []);
});

test('the test of the import order finds the imports of a file that is known', () => {
  const types = importsOf(join(src, 'meta', 'engine.ts'));
  assert.deepEqual(types.map((file) => relative(src, file)).toSorted(), [
    'lib/int64.ts',
    'meta/bulk.ts',
    'meta/quota.ts',
    'meta/types.ts',
  ]);
});
