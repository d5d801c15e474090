import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type Ino, ino, ROOT_INO, TRASH_INO, VIRTUAL_INO } from '../lib/int64.ts';
import type { FuseAttr } from './types.ts';
import {
  putAttrOut,
  putEntry,
  putLock,
  putNegativeEntry,
  putOpened,
  putStatFs,
  readLock,
  readName,
  readOffset,
  readSetAttr,
  Words,
} from './wire.ts';

// The decoders here are written from the kernel's header on their own, with BigInt, so that a slip of the encoder shows.
const u64 = fc.maxSafeNat();
const u32 = fc.nat({ max: 0xffff_ffff });
const seconds = fc.integer({ min: -(2 ** 40), max: 2 ** 40 });
const inode: fc.Arbitrary<Ino> = fc.oneof(
  u64.map(ino),
  fc.constantFrom(ROOT_INO, VIRTUAL_INO, TRASH_INO, ino(-1)),
  fc.integer({ min: -(2 ** 32), max: -1 }).map(ino),
);
const attributes: fc.Arbitrary<FuseAttr> = fc.record({
  ino: inode,
  size: u64,
  blocks: u64,
  atime: seconds,
  mtime: seconds,
  ctime: seconds,
  atimensec: u32,
  mtimensec: u32,
  ctimensec: u32,
  mode: u32,
  nlink: u32,
  uid: u32,
  gid: u32,
  rdev: u32,
  blksize: u32,
});

const asInode = (value: Ino): bigint => (value < 0 ? BigInt(value) + (1n << 63n) : BigInt(value));
const lifetime = (value: number): bigint => BigInt(Math.round(value * 1000)) * 1_000_000n;

function readAttr(bytes: Buffer, at: number): Record<string, bigint | number> {
  const names = ['atimensec', 'mtimensec', 'ctimensec', 'mode', 'nlink', 'uid', 'gid', 'rdev', 'blksize', 'flags'];
  return {
    ino: bytes.readBigUInt64LE(at),
    size: bytes.readBigUInt64LE(at + 8),
    blocks: bytes.readBigUInt64LE(at + 16),
    atime: bytes.readBigInt64LE(at + 24),
    mtime: bytes.readBigInt64LE(at + 32),
    ctime: bytes.readBigInt64LE(at + 40),
    ...Object.fromEntries(names.map((name, index) => [name, bytes.readUInt32LE(at + 48 + 4 * index)])),
  };
}

function expected(attr: FuseAttr): Record<string, bigint | number> {
  const { ino: number, size, blocks, atime, mtime, ctime, ...rest } = attr;
  const wide = { size: BigInt(size), blocks: BigInt(blocks), atime: BigInt(atime), mtime: BigInt(mtime), ctime: BigInt(ctime) };
  return { ino: asInode(number), ...wide, ...rest, flags: 0 };
}

/** Words full of ones, so that a field that is not written shows. */
function dirty(words: number): { readonly words: Uint32Array; readonly bytes: Buffer } {
  const array = new Uint32Array(words).fill(0xffff_ffff);
  return { words: array, bytes: Buffer.from(array.buffer) };
}

test('an entry is laid out as struct fuse_entry_out', () => {
  const times = fc.integer({ min: 0, max: 10_000_000 }).map((ms) => ms / 1000);
  fc.assert(
    fc.property(attributes, u64, times, times, (attr, generation, entryTimeout, attrTimeout) => {
      const { words, bytes } = dirty(Words.entry + 2);
      putEntry(words, 1, { attr, generation, entryTimeout, attrTimeout });
      assert.equal(bytes.readBigUInt64LE(4), asInode(attr.ino));
      assert.equal(bytes.readBigUInt64LE(12), BigInt(generation));
      assert.equal(bytes.readBigUInt64LE(20) * 1_000_000_000n + BigInt(bytes.readUInt32LE(36)), lifetime(entryTimeout));
      assert.equal(bytes.readBigUInt64LE(28) * 1_000_000_000n + BigInt(bytes.readUInt32LE(40)), lifetime(attrTimeout));
      assert.deepEqual(readAttr(bytes, 44), expected(attr));
      assert.equal(words[0], 0xffff_ffff);
      assert.equal(words[1 + 128 / 4], 0xffff_ffff);
    }),
  );
});

test('attributes are laid out as struct fuse_attr_out', () => {
  fc.assert(
    fc.property(attributes, fc.nat(), (attr, timeout) => {
      const { words, bytes } = dirty(Words.attrOut + 1);
      putAttrOut(words, 0, attr, timeout);
      assert.equal(bytes.readBigUInt64LE(0), BigInt(timeout));
      assert.equal(bytes.readBigUInt64LE(8), 0n);
      assert.deepEqual(readAttr(bytes, 16), expected(attr));
      assert.equal(words[104 / 4], 0xffff_ffff);
    }),
  );
});

test('a negative entry is node 0 with a lifetime', () => {
  const { words, bytes } = dirty(Words.entry);
  putNegativeEntry(words, 0, 2.5);
  assert.equal(bytes.readBigUInt64LE(16), 2n);
  assert.equal(bytes.readUInt32LE(32), 500_000_000);
  bytes.fill(0, 16, 24);
  bytes.fill(0, 32, 36);
  assert.ok(bytes.every((byte) => byte === 0));
});

test('an open file is laid out as struct fuse_open_out, with the flags of the kernel', () => {
  const flags = ['directIo', 'keepCache', 'nonSeekable', 'cacheDir', undefined, 'noFlush', 'parallelDirectWrites'];
  fc.assert(
    fc.property(u64, fc.subarray(flags.filter((name) => name !== undefined)), fc.nat({ max: 9 }), (handle, chosen, backing) => {
      const { words, bytes } = dirty(Words.open);
      const bound = backing === 0 ? {} : { backing };
      putOpened(words, 0, { handle, ...bound, ...Object.fromEntries(chosen.map((name) => [name, true])) });
      assert.equal(bytes.readBigUInt64LE(0), BigInt(handle));
      assert.equal(
        bytes.readUInt32LE(8),
        chosen.reduce((sum, name) => sum + (1 << flags.indexOf(name)), backing === 0 ? 0 : 1 << 7),
      );
      assert.equal(bytes.readUInt32LE(12), backing);
    }),
  );
});

test('file system totals are laid out as struct fuse_statfs_out', () => {
  const { words, bytes } = dirty(Words.statfs);
  putStatFs(words, 0, { blocks: 2 ** 50, bfree: 2, bavail: 3, files: 4, ffree: 5, bsize: 4096, namelen: 255 });
  assert.deepEqual(
    [0, 8, 16, 24, 32].map((at) => bytes.readBigUInt64LE(at)),
    [1n << 50n, 2n, 3n, 4n, 5n],
  );
  assert.deepEqual(
    [40, 44, 48].map((at) => bytes.readUInt32LE(at)),
    [4096, 255, 4096],
  );
  assert.ok(bytes.subarray(52).every((byte) => byte === 0));
});

test('a lock comes back as it was written', () => {
  const range = fc.bigInt({ min: 0n, max: (1n << 63n) - 1n });
  fc.assert(
    fc.property(range, range, fc.nat({ max: 2 }), u32, (start, end, type, pid) => {
      const { words, bytes } = dirty(Words.lock);
      putLock(words, 0, { start, end, type, pid });
      assert.deepEqual(readLock(bytes, 0), { start, end, type, pid });
    }),
  );
});

test('SETATTR gives what its mask names, and nothing else', () => {
  const bits = { mode: 0, uid: 1, gid: 2, size: 3, atime: 4, mtime: 5, handle: 6, killSuidGid: 11 };
  type Name = keyof typeof bits;
  fc.assert(
    fc.property(
      fc.subarray(Object.keys(bits) as Name[]),
      fc.record({ mode: u32, uid: u32, gid: u32, size: u64, handle: u64, sec: seconds, nsec: u32, now: fc.boolean() }),
      (chosen, value) => {
        const bytes = Buffer.alloc(90, 0xff);
        const valid = chosen.reduce((sum, name) => sum | (1 << bits[name]), value.now ? (1 << 7) | (1 << 8) : 0);
        bytes.writeUInt32LE(valid, 2);
        bytes.writeBigUInt64LE(BigInt(value.handle), 2 + 8);
        bytes.writeBigUInt64LE(BigInt(value.size), 2 + 16);
        bytes.writeBigInt64LE(BigInt(value.sec), 2 + 32);
        bytes.writeBigInt64LE(BigInt(value.sec) + 1n, 2 + 40);
        bytes.writeUInt32LE(value.nsec, 2 + 56);
        bytes.writeUInt32LE(value.nsec, 2 + 60);
        bytes.writeUInt32LE(value.mode, 2 + 68);
        bytes.writeUInt32LE(value.uid, 2 + 76);
        bytes.writeUInt32LE(value.gid, 2 + 80);
        const { mode, uid, gid, size, handle, sec, nsec, now } = value;
        const all = {
          mode,
          uid,
          gid,
          size,
          handle,
          killSuidGid: true,
          atime: now ? 'now' : { sec, nsec },
          mtime: now ? 'now' : { sec: sec + 1, nsec },
        };
        assert.deepEqual(readSetAttr(bytes, 2), Object.fromEntries(chosen.map((name) => [name, all[name]])));
      },
    ),
  );
});

test('offsets up to 2^53 are exact, larger ones are EFBIG', () => {
  const bytes = Buffer.alloc(8);
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
      bytes.writeBigUInt64LE(value, 0);
      if (value < 1n << 53n) assert.equal(BigInt(readOffset(bytes, 0)), value);
      else assert.throws(() => readOffset(bytes, 0), { code: 'EFBIG' });
    }),
  );
});

test('names are copies, and one that is not ended inside the request is refused', () => {
  const bytes = Buffer.from('xxname\0other\0tail\0');
  const name = readName(bytes, 2, bytes.length);
  bytes.fill(0x79, 2, 6);
  assert.equal(name.toString(), 'name');
  assert.equal(readName(bytes, 7, bytes.length).toString(), 'other');
  assert.throws(() => readName(bytes, 13, 17), { code: 'EINVAL' });
});
