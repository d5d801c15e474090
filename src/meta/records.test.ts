import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Arbitrary,
  array,
  assert as check,
  constant,
  integer,
  maxSafeNat,
  nat,
  oneof,
  property,
  record,
  sample,
} from 'fast-check';
import { ino, TRASH_INO } from '../lib/int64.ts';
import {
  decodeAttr,
  decodeDelayed,
  decodeEntry,
  decodeSlices,
  encodeAttr,
  encodeDelayed,
  encodeEntry,
  encodeSlices,
  encodeTimes,
  NODE_MTIME_OFFSET,
  trashName,
} from './records.ts';
import type { Attr, NodeType } from './types.ts';

const u32 = nat(0xffffffff);
const time = integer({ min: -(2 ** 40), max: 2 ** 40 });
const nsec = nat(999_999_999);
const inode = oneof(
  nat(2 ** 31).map(ino),
  nat(1000).map((n) => ino(TRASH_INO + n)),
);
const attribute: Arbitrary<Attr> = record(
  {
    flags: nat(255),
    type: integer({ min: 1, max: 7 }).map((n) => n as NodeType),
    mode: nat(0o7777),
    uid: u32,
    gid: u32,
    atime: time,
    atimensec: nsec,
    mtime: time,
    mtimensec: nsec,
    ctime: time,
    ctimensec: nsec,
    nlink: u32,
    length: maxSafeNat(),
    rdev: u32,
    parent: inode,
    accessAcl: oneof(constant(0), u32),
    defaultAcl: oneof(constant(0), u32),
    tier: oneof(constant(0), nat(3)),
  },
  { noNullPrototype: true },
);

test('a node comes back as it was, in 72 bytes and no more than its ACL ids and tier need', () => {
  check(
    property(attribute, (attr) => {
      const bytes = encodeAttr(attr);
      const acl = attr.accessAcl !== 0 || attr.defaultAcl !== 0;
      assert.equal(bytes.length, 72 + (acl ? 8 : 0) + (attr.tier === 0 ? 0 : 1));
      assert.equal(bytes.at(-1), 0);
      assert.deepEqual(decodeAttr(bytes), attr);
    }),
  );
});

test('a tier-1 file in directory 1025 ends as the official client ends it', () => {
  const [attr] = sample(attribute, 1);
  assert.ok(attr);
  const bytes = encodeAttr({ ...attr, parent: ino(1025), accessAcl: 0, defaultAcl: 0, tier: 1 });
  assert.equal(bytes.subarray(63).toString('hex'), '00000000000004010100');
});

test('a node without the spare byte is read, one that is too short is refused', () => {
  const [attr] = sample(attribute, 1);
  assert.ok(attr);
  const plain = { ...attr, accessAcl: 0, defaultAcl: 0, tier: 0 };
  assert.deepEqual(decodeAttr(encodeAttr(plain).subarray(0, 71)), plain);
  assert.throws(() => decodeAttr(Buffer.alloc(62)), RangeError);
});

test('the times of a node are where a touch writes them', () => {
  check(
    property(attribute, time, nsec, (attr, sec, ns) => {
      const bytes = encodeAttr(attr);
      encodeTimes(sec, ns).copy(bytes, NODE_MTIME_OFFSET);
      assert.deepEqual(decodeAttr(bytes), { ...attr, mtime: sec, mtimensec: ns, ctime: sec, ctimensec: ns });
    }),
  );
});

test('entries, slices and delayed slices come back as they were', () => {
  check(
    property(integer({ min: 1, max: 7 }), inode, (type, value) => {
      const entry = { type: type as NodeType, ino: value };
      assert.deepEqual(decodeEntry(encodeEntry(entry)), entry);
    }),
  );
  const slice = record({ pos: u32, id: maxSafeNat(), size: u32, off: u32, len: u32 }, { noNullPrototype: true });
  check(property(array(slice), (slices) => assert.deepEqual(decodeSlices(encodeSlices(slices)), slices)));
  const delayed = record({ id: maxSafeNat(), size: u32 }, { noNullPrototype: true });
  check(property(array(delayed), (slices) => assert.deepEqual(decodeDelayed(encodeDelayed(slices)), slices)));
});

test('records of a wrong length are refused', () => {
  assert.throws(() => decodeEntry(Buffer.alloc(8)), RangeError);
  assert.throws(() => decodeSlices(Buffer.alloc(25)), RangeError);
  assert.throws(() => decodeDelayed(Buffer.alloc(13)), RangeError);
});

test('a name in the trash says where the file was and is cut at 255 bytes', () => {
  assert.equal(trashName(ino(1), ino(7), Buffer.from('a b')).toString(), '1-7-a b');
  assert.equal(trashName(ino(1), ino(7), Buffer.alloc(255, 'x')).length, 255);
});
