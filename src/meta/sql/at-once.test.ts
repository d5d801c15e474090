import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO } from '../../lib/int64.ts';
import type { Check, NodeScope } from '../engine.ts';
import { type Attr, NodeType } from '../types.ts';
import { atOnce, guardOf } from './at-once.ts';
import { sameNode } from './checks.ts';
import { postgresDialect } from './dialect.ts';
import { textsOf } from './transaction.ts';

const texts = textsOf(postgresDialect('jfs_'));
const attr: Attr = {
  flags: 1,
  type: NodeType.File,
  mode: 0o644,
  uid: 3,
  gid: 4,
  atime: 5,
  atimensec: 6_001,
  mtime: 7,
  mtimensec: 8_002,
  ctime: 9,
  ctimensec: 10_003,
  nlink: 11,
  length: 12,
  rdev: 13,
  parent: ROOT_INO,
  accessAcl: 14,
  defaultAcl: 15,
  tier: 2,
};
const node = (expect: Attr | undefined, scope: NodeScope = 'all'): Check => ({ kind: 'node', ino: ino(20), expect, scope });
const name = Buffer.from('a');

test('a guard asks for each part of a node that its check rests on, and for no other', () => {
  for (const scope of ['all', 'access', 'exists'] as const)
    for (const field of Object.keys(attr) as (keyof Attr)[]) {
      const other = { ...attr, [field]: field === 'parent' ? ino(99) : attr[field] + 1 };
      const [one, two] = [attr, other].map((expect) => guardOf(texts.sql, node(expect, scope)));
      assert.equal(one?.text, two?.text);
      assert.equal(
        JSON.stringify(one?.values) === JSON.stringify(two?.values),
        sameNode(attr, other, scope),
        `${scope} ${field}`,
      );
    }
});

test('a guard has a parameter for each of its values', () => {
  const checks: readonly Check[] = [
    node(attr),
    node(attr, 'access'),
    node(attr, 'exists'),
    node(undefined),
    { kind: 'entry', parent: ROOT_INO, name, expect: undefined },
    { kind: 'entry', parent: ROOT_INO, name, expect: { ino: ino(20), type: NodeType.File } },
  ];
  const guards = checks.map((check) => guardOf(texts.sql, check));
  for (const guard of guards) {
    const used = new Set(Array.from(guard?.text.matchAll(/\?(\d+)/g) ?? [], ([, number]) => Number(number)));
    assert.deepEqual(
      [...used].toSorted((a, b) => a - b),
      guard?.values.map((_, index) => index + 1),
    );
  }
  assert.equal(new Set(guards.map((guard) => guard?.text)).size, checks.length);
});

test('what rests on something else, and counters, are not carried out at once', () => {
  const removal = { kind: 'removeNode', ino: ino(20) } as const;
  assert.ok(atOnce(texts, { checks: [node(attr)], writes: [removal] }));
  assert.equal(atOnce(texts, { checks: [node(attr)], writes: [] }), undefined);
  assert.equal(atOnce(texts, { checks: [{ kind: 'emptyDirectory', ino: ino(20) }], writes: [removal] }), undefined);
  const count = { kind: 'addCounter', name: 'usedSpace', delta: 1 } as const;
  assert.equal(atOnce(texts, { checks: [], writes: [removal, count] }), undefined);
});
