import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  type AclRule,
  completedRule,
  decodeRule,
  encodeRule,
  inheritedRule,
  isEmptyRule,
  isMinimalRule,
  modeOfRule,
  ruleFromXattr,
  ruleGrants,
  ruleToXattr,
  ruleWithMode,
  UNSET,
} from './acl-rule.ts';

const bits = fc.nat(7);
const ids = [1000, 1001, 4_294_967_294];
const named = fc
  .uniqueArray(fc.constantFrom(...ids), { maxLength: 3 })
  .chain((chosen) => fc.tuple(...chosen.map((id) => bits.map((permissions) => ({ id, permissions })))));
const anyRule: fc.Arbitrary<AclRule> = fc
  .tuple(bits, bits, fc.option(bits, { nil: UNSET }), bits, named, named)
  .map(([owner, group, mask, other, users, groups]) => ({
    owner,
    group,
    mask: mask === UNSET && users.length + groups.length > 0 ? 7 : mask,
    other,
    users,
    groups,
  }));

test('stored rules and values of extended attributes read back as they were', () => {
  fc.assert(
    fc.property(anyRule, (rule) => {
      assert.deepEqual(decodeRule(encodeRule(rule)), rule);
      assert.deepEqual(ruleFromXattr(ruleToXattr(rule)), rule);
    }),
  );
});

test('rules are those of the official client', () => {
  // As juicefs 1.4.1 wrote them (test/golden/redis-full, acl).
  const stored = Buffer.from('000600040005000400000002000003e80006000003e9000400000001000000640007', 'hex');
  const rule: AclRule = {
    owner: 6,
    group: 4,
    mask: 5,
    other: 4,
    users: [
      { id: 1000, permissions: 6 },
      { id: 1001, permissions: 4 },
    ],
    groups: [{ id: 100, permissions: 7 }],
  };
  assert.deepEqual(decodeRule(stored), rule);
  assert.deepEqual(encodeRule(rule), stored);
  const minimal = Buffer.from('00070005ffff00000000000000000000', 'hex');
  assert.ok(isMinimalRule(decodeRule(minimal)));
  assert.deepEqual(encodeRule(decodeRule(minimal)), minimal);
  assert.throws(() => decodeRule(stored.subarray(0, 20)), RangeError);
});

test('what is no access control list is refused', () => {
  const good = ruleToXattr({ owner: 6, group: 4, mask: 5, other: 4, users: [{ id: 1, permissions: 4 }], groups: [] });
  const changed = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(good);
    bytes[at] = value;
    return bytes;
  };
  const wrong = [
    Buffer.alloc(0),
    good.subarray(0, good.length - 1),
    changed(0, 3),
    changed(6, 8),
    changed(4, 0x40),
    Buffer.concat([good, good.subarray(4, 12)]),
    good.subarray(0, good.length - 16),
  ];
  for (const value of wrong) assert.throws(() => ruleFromXattr(value), { code: 'EINVAL' }, value.toString('hex'));
  const empty = Buffer.from([2, 0, 0, 0]);
  assert.ok(isEmptyRule(ruleFromXattr(empty)));
});

test('a mode and a rule follow each other: the group of the mode is the mask, where there is one', () => {
  fc.assert(
    fc.property(anyRule, fc.nat(0o777), (rule, mode) => {
      const changed = ruleWithMode(rule, mode);
      assert.equal(modeOfRule(changed), mode);
      assert.deepEqual([changed.users, changed.groups], [rule.users, rule.groups]);
      if (rule.mask !== UNSET) assert.equal(changed.group, rule.group, 'what the group itself may is left alone');
      const inherited = inheritedRule(rule.mask === UNSET ? { ...rule, mask: 7 } : rule, mode);
      assert.equal(modeOfRule(inherited) & ~mode, 0, 'nothing that was not asked for');
      assert.equal(modeOfRule(inherited) & ~modeOfRule({ ...rule, mask: rule.mask === UNSET ? 7 : rule.mask }), 0);
      const open = { ...rule, owner: UNSET, group: UNSET, other: UNSET };
      const { owner, group, other } = completedRule(open, mode);
      assert.equal((owner << 6) | (group << 3) | other, mode);
    }),
  );
});

test('the owner, a named user, any of the groups, or the others decide, in this order', () => {
  const rule: AclRule = {
    owner: 6,
    group: 4,
    mask: 5,
    other: 1,
    users: [{ id: 1001, permissions: 6 }],
    groups: [
      { id: 2001, permissions: 3 },
      { id: 2002, permissions: 4 },
    ],
  };
  const node = { uid: 1000, gid: 2000 };
  const granted = (uid: number, ...gids: number[]): string =>
    [4, 2, 1].map((wanted, at) => (ruleGrants(rule, { uid, gids }, node, wanted) ? 'rwx'[at] : '-')).join('');
  assert.equal(granted(1000, 2001), 'rw-', 'the owner is not masked, and nothing else counts for him');
  assert.equal(granted(1001, 2001), 'r--', 'a named user is masked');
  assert.equal(granted(1002, 2000), 'r--');
  assert.equal(granted(1002, 2001), '--x');
  assert.equal(granted(1002, 7, 2001, 2002), 'r-x', 'each group for itself');
  assert.equal(ruleGrants(rule, { uid: 1002, gids: [2001, 2002] }, node, 5), false, 'no group grants both');
  assert.equal(granted(1002, 7), '--x', 'the others');
});
