import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { generateTree, treeSum } from './trees.ts';

test('a generated tree has as many files as asked for, and is the same in each run', () => {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-trees-'));
  try {
    generateTree(join(work, 'a'), 1234);
    generateTree(join(work, 'b'), 1234);
    assert.match(treeSum(join(work, 'a')), /^1234 files /);
    assert.equal(treeSum(join(work, 'a')), treeSum(join(work, 'b')));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});

test('the sum of a tree tells contents, permissions, names and targets of links, but not times nor what is left out', () => {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-trees-'));
  try {
    generateTree(join(work, 'tree'), 1100);
    const files = readdirSync(work, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory());
    const paths = files.map((entry) => join(entry.parentPath, entry.name));
    const link = paths[files.findIndex((entry) => entry.isSymbolicLink())] ?? '';
    const file = paths[files.findIndex((entry) => entry.isFile())] ?? '';
    let before = treeSum(work);
    const changed = (change: () => void): boolean => {
      change();
      const after = treeSum(work);
      const different = after !== before;
      before = after;
      return different;
    };
    const target = readlinkSync(link);
    assert.equal(
      changed(() => appendFileSync(file, 'x')),
      true,
    );
    assert.equal(
      changed(() => chmodSync(file, 0o600)),
      true,
    );
    assert.equal(
      changed(() => renameSync(file, `${file}.new`)),
      true,
    );
    assert.equal(
      changed(() => (rmSync(link), symlinkSync(`${target}x`, link))),
      true,
    );
    assert.equal(
      changed(() => utimesSync(`${file}.new`, 1, 1)),
      false,
    );
    assert.notEqual(treeSum(work, ['part-0']), before);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
