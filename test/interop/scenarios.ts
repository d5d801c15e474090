/**
 * What two clients of one volume do beside each other, as exchanges between a side that begins and another: each scenario states what
 * either must see after the other has closed.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createCipheriv, createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { below, checksum, describeFile, describeTree, getXattr, listXattrs, type Path, removeXattr, setXattr } from './tree.ts';

const exec = promisify(execFile);
const MIB = 1 << 20;

/** The scenario that leaves many slices in one block. */
export const PATCHED = 'overwrites, holes and truncations of each other';
const SIZES = 'files of all sizes, links, special files, modes, owners and times';
const APPENDS = 'appends in turn';

/** The scenarios that go through blocks. What the others do is told by the database alone, however blocks are kept. */
export const ofBlocks: ReadonlySet<string> = new Set([SIZES, PATCHED, APPENDS]);

/** Bytes that differ everywhere and do not compress. */
export function incompressible(length: number, seed: number): Buffer {
  const key = createHash('sha256').update(String(seed)).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Bytes that differ everywhere and compress by about half. */
export function compressible(length: number, seed: number): Buffer {
  const buffer = Buffer.alloc(length);
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  for (let at = 0; at + 4 <= length; at += 8) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    buffer.writeUInt32LE(state, at);
  }
  if (length > 0) buffer[length - 1] = seed & 0xff;
  return buffer;
}

async function writeAt(path: Path, data: Buffer, position: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(data, 0, data.length, position);
  } finally {
    await file.close();
  }
}

/** The two sides of an exchange: the same directory of the volume, as the one that writes and the one that reads see it. */
export interface Sides {
  readonly writer: string;
  readonly reader: string;
  /** Contents of files, by length and seed. */
  readonly bytes: (length: number, seed: number) => Buffer;
  /** The largest number of a user or device that the volume can hold. @default 2^32 - 1 */
  readonly largest?: number;
}

/** What is written through one side is there on the other, with every fact that a user can see. */
export async function sameTrees({ writer, reader }: Pick<Sides, 'writer' | 'reader'>): Promise<void> {
  const [seen, made] = await Promise.all([reader, writer].map((side) => describeTree(side, { exact: true, xattrs: true })));
  assert.deepEqual(seen, made);
}

export const scenarios: Readonly<Record<string, (sides: Sides) => Promise<void>>> = {
  async [SIZES](sides) {
    const { writer, reader, bytes, largest = 2 ** 32 - 1 } = sides;
    await mkdir(`${writer}/a/b/c`, { recursive: true });
    const sizes = [0, 1, 4095, 4096, 4097, 131_071, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 7];
    for (const size of sizes) {
      await writeFile(`${writer}/a/b/of-${size}`, bytes(size, size));
      assert.equal((await readFile(`${reader}/a/b/of-${size}`)).equals(bytes(size, size)), true, `${size} bytes`);
    }
    await link(`${writer}/a/b/of-4097`, `${writer}/a/second name`);
    await link(`${reader}/a/second name`, `${reader}/a/third name`);
    assert.equal((await lstat(`${writer}/a/b/of-4097`)).nlink, 3);
    await unlink(`${reader}/a/second name`);
    await symlink('../nowhere/at all', `${writer}/a/link`);
    await symlink(Buffer.alloc(4000, 'long/'), `${writer}/a/long link`);
    assert.equal((await readlink(`${reader}/a/long link`)).length, 4000);
    await exec('mknod', [`${writer}/a/fifo`, 'p']);
    await exec('mknod', [`${writer}/a/char`, 'c', '1', '3']);
    await exec('mknod', [`${writer}/a/block`, 'b', '259', largest > 2 ** 31 ? '1048575' : '524287']);
    await writeFile(`${writer}/a/secret`, 's', { mode: 0o400 });
    await chown(`${writer}/a/secret`, 12_345, largest - 1000);
    await chmod(`${writer}/a/secret`, 0o6711);
    await chmod(`${writer}/a/b/c`, 0o3770);
    await utimes(`${writer}/a/secret`, 1.5, 1_000_000_000.25);
    await utimes(`${writer}/a/b`, 2_000_000_000, 4_102_444_800);
    await sameTrees(sides);
  },

  async 'names of every kind'(sides) {
    const { writer, reader, bytes } = sides;
    const names = [
      Buffer.alloc(255, 'n'),
      Buffer.from('\u{1f600}'.repeat(63)),
      Buffer.from([0x66, 0xff, 0xfe, 0x80, 0xc3]),
      Buffer.from('line\nfeed\ttab\rreturn'),
      Buffer.from(' -rf * "quoted" \'single\' \\back'),
      Buffer.from('...'),
      Buffer.from([1, 2, 3, 0x7f]),
      Buffer.from('e\u0301 and \u00e9'),
      Buffer.from('%2F%00'),
      Buffer.from('{braces}:[d1]'),
    ];
    for (const [at, name] of names.entries()) {
      await mkdir(below(writer, name));
      await writeFile(below(below(writer, name), name), bytes(10 + at, at));
      await symlink(name, below(writer, `to ${at}`));
    }
    const found = await readdir(reader, { encoding: 'buffer' });
    for (const [at, name] of names.entries()) {
      assert.ok(
        found.some((each) => each.equals(name)),
        `name ${at} is listed`,
      );
      assert.deepEqual(await readFile(below(below(reader, name), name)), bytes(10 + at, at));
      assert.deepEqual(await readFile(below(below(reader, `to ${at}`), name)), bytes(10 + at, at));
    }
    await assert.rejects(writeFile(below(reader, Buffer.alloc(256, 'n')), ''), { code: 'ENAMETOOLONG' });
    await sameTrees(sides);
    for (const name of names) await rm(below(reader, name), { recursive: true });
    for (const [at] of names.entries()) await unlink(below(writer, `to ${at}`));
    assert.deepEqual(await readdir(writer), []);
  },

  async 'extended attributes'(sides) {
    const { writer, reader, bytes } = sides;
    await writeFile(`${writer}/file`, 'x');
    await mkdir(`${writer}/dir`);
    for (const each of ['file', 'dir']) {
      await setXattr(`${writer}/${each}`, 'user.short', Buffer.from([0, 1, 255]));
      await setXattr(`${writer}/${each}`, 'user.empty', Buffer.of());
      await setXattr(`${writer}/${each}`, 'user.\u00e9 with spaces', bytes(20_000, 5));
      await setXattr(`${writer}/${each}`, 'trusted.one', Buffer.from('t'));
      assert.deepEqual(await getXattr(`${reader}/${each}`, 'user.short'), Buffer.from([0, 1, 255]));
      assert.deepEqual(await getXattr(`${reader}/${each}`, 'user.\u00e9 with spaces'), bytes(20_000, 5));
      await setXattr(`${reader}/${each}`, 'user.short', Buffer.from('changed'));
      await removeXattr(`${reader}/${each}`, 'trusted.one');
      assert.deepEqual(await getXattr(`${writer}/${each}`, 'user.short'), Buffer.from('changed'));
      assert.equal((await listXattrs(`${writer}/${each}`)).includes('trusted.one'), false);
    }
    await sameTrees(sides);
  },

  async [PATCHED](sides) {
    const { writer, reader, bytes } = sides;
    const [path, other] = [`${writer}/patched`, `${reader}/patched`];
    let expected = bytes(6 * MIB, 1);
    await writeFile(path, expected);
    const patch = async (file: string, data: Buffer, at: number): Promise<void> => {
      await writeAt(file, data, at);
      if (expected.length < at + data.length) expected = Buffer.concat([expected], at + data.length);
      data.copy(expected, at);
    };
    const cut = async (file: string, length: number): Promise<void> => {
      await truncate(file, length);
      expected = Buffer.concat([expected.subarray(0, length)], length);
    };
    const punch = async (file: string, at: number, length: number): Promise<void> => {
      await exec('fallocate', ['--punch-hole', '--offset', String(at), '--length', String(length), file]);
      expected.fill(0, at, Math.min(at + length, expected.length));
    };
    const steps: (() => Promise<void>)[] = [
      () => patch(other, bytes(1000, 2), 500),
      () => patch(path, bytes(5000, 3), 4 * MIB - 2500),
      () => patch(other, bytes(1, 4), 6 * MIB - 1),
      () => cut(path, 5 * MIB + 3),
      () => patch(other, bytes(70_000, 5), 9 * MIB),
      () => punch(path, MIB, 2 * MIB + 11),
      () => cut(other, 9 * MIB + 10),
      () => cut(other, 12 * MIB),
      () => punch(other, 4 * MIB - 10, 20),
      () => patch(path, bytes(3 * MIB, 6), 3 * MIB + 17),
      () => cut(path, 0),
      () => patch(other, bytes(300, 7), 40_000),
    ];
    for (const [at, step] of steps.entries()) {
      await step();
      for (const file of [path, other]) assert.ok((await readFile(file)).equals(expected), `${file} after step ${at}`);
    }
    await sameTrees(sides);
  },

  async [APPENDS](sides) {
    const { writer, reader, bytes } = sides;
    const parts: Buffer[] = [];
    for (let turn = 0; turn < 12; turn++) {
      const part = bytes(turn % 5 === 4 ? MIB + 13 : 100 + turn, turn);
      parts.push(part);
      await writeFile(`${turn % 2 === 0 ? writer : reader}/log`, part, { flag: 'a' });
    }
    assert.ok((await readFile(`${writer}/log`)).equals(Buffer.concat(parts)));
    await sameTrees(sides);
  },

  async 'a file that one has open is renamed by the other, and written on'(sides) {
    const { writer, reader } = sides;
    await mkdir(`${writer}/from`);
    await mkdir(`${writer}/to`);
    await writeFile(`${writer}/to/taken`, 'replaced');
    const file = await open(`${writer}/from/file`, 'wx+');
    try {
      await file.writeFile('before;');
      await file.sync();
      assert.equal(await readFile(`${reader}/from/file`, 'utf8'), 'before;');
      await rename(`${reader}/from/file`, `${reader}/to/taken`);
      await file.writeFile('after');
      await file.chmod(0o640);
    } finally {
      await file.close();
    }
    assert.equal(await readFile(`${reader}/to/taken`, 'utf8'), 'before;after');
    assert.deepEqual(await readdir(`${writer}/from`), []);
    await rmdir(`${writer}/from`);
    await assert.rejects(lstat(`${reader}/from`), { code: 'ENOENT' });
    await sameTrees(sides);
  },

  async 'a name replaced by the other side is the new file at the next opening'(sides) {
    const { writer, reader, bytes } = sides;
    for (let turn = 0; turn < 6; turn++) {
      await writeFile(`${writer}/new`, bytes(5000 + turn, turn));
      await rename(`${writer}/new`, `${writer}/current`);
      assert.ok((await readFile(`${reader}/current`)).equals(bytes(5000 + turn, turn)), `turn ${turn}`);
    }
    await sameTrees(sides);
  },

  async 'directories made, filled, moved and removed by turns'(sides) {
    const { writer, reader } = sides;
    await mkdir(`${writer}/d/e`, { recursive: true });
    await writeFile(`${reader}/d/e/f`, 'f');
    await assert.rejects(rmdir(`${writer}/d/e`), { code: 'ENOTEMPTY' });
    await rename(`${writer}/d`, `${writer}/moved`);
    await assert.rejects(readFile(`${reader}/d/e/f`), { code: 'ENOENT' });
    await rename(`${reader}/moved/e`, `${reader}/e`);
    await assert.rejects(mkdir(`${writer}/e`), { code: 'EEXIST' });
    await assert.rejects(rename(`${reader}/moved`, `${reader}/e`), { code: 'ENOTEMPTY' });
    await rmdir(`${writer}/moved`);
    for (let at = 0; at < 90; at++) await writeFile(`${at % 2 === 0 ? writer : reader}/e/${at}`, '');
    assert.deepEqual((await readdir(`${reader}/e`)).length, 91);
    assert.deepEqual((await readdir(`${writer}/e`)).toSorted(), (await readdir(`${reader}/e`)).toSorted());
    await sameTrees(sides);
    for (let at = 0; at < 90; at += 3) await unlink(`${reader}/e/${at}`);
    await sameTrees(sides);
  },
};

/** More than one chunk of 64 MiB, with holes and an overwrite over the border between two. */
export async function largeFile({ writer, reader }: Pick<Sides, 'writer' | 'reader'>): Promise<void> {
  const path = `${writer}/large`;
  const file = await open(path, 'w');
  try {
    for (let at = 0; at < 18; at++) await file.write(compressible(4 * MIB, at), 0, 4 * MIB, at * 4 * MIB);
    await file.write(compressible(MIB, 99), 0, MIB, 200 * MIB);
  } finally {
    await file.close();
  }
  assert.equal(await checksum(`${reader}/large`), await checksum(path));
  await writeAt(`${reader}/large`, compressible(MIB, 77), 64 * MIB - 1000);
  assert.equal(await checksum(path), await checksum(`${reader}/large`));
  assert.deepEqual(await describeFile(path, { exact: true }), await describeFile(`${reader}/large`, { exact: true }));
  await unlink(path);
}
