/** Trees of a volume for tests: made at random, and looked at as a whole. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import { ruleToXattr } from '../../src/meta/acl-rule.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { decodeSlices } from '../../src/meta/records.ts';
import { statOf } from '../../src/meta/stats.ts';
import { type Attr, CHUNK_SIZE, type Meta, NodeType } from '../../src/meta/types.ts';
import { ROOT_USER } from '../meta/volume.ts';

const KIB = 1024;

export type Plan =
  | { readonly kind: 'directory'; readonly mode: number; readonly children: readonly (readonly [string, Plan])[] }
  | {
      readonly kind: 'file';
      readonly mode: number;
      readonly uid: number;
      readonly writes: readonly { readonly chunk: number; readonly pos: number; readonly size: number }[];
      readonly length: number | undefined;
      readonly xattr: string | undefined;
      readonly acl: boolean;
    }
  | { readonly kind: 'symlink'; readonly target: string }
  | { readonly kind: 'pipe'; readonly mode: number }
  /** Another name of the file made before. */
  | { readonly kind: 'link' };

const name = fc.constantFrom('a', 'b', 'c', '\u00ff\u00fe', 'two\nlines', 'x'.repeat(255), '.hidden', '-r');
const mode = fc.constantFrom(0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o600);

const leaf: fc.Arbitrary<Plan> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('file' as const),
      mode,
      uid: fc.constantFrom(0, 1000, 1001),
      writes: fc.array(
        fc.record({
          chunk: fc.constantFrom(0, 0, 0, 1, 3),
          pos: fc.nat(5).map((at) => at * 4 * KIB),
          size: fc.integer({ min: 1, max: 6 }).map((count) => count * 4 * KIB),
        }),
        { maxLength: 5 },
      ),
      length: fc.option(
        fc.nat(20).map((count) => count * 3000),
        { nil: undefined },
      ),
      xattr: fc.option(fc.constantFrom('', 'value', '\u0000\u00ff'), { nil: undefined }),
      acl: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('symlink' as const), target: fc.constantFrom('a', '/abs/\u00ff') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pipe' as const), mode }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'link' as const }) },
);

export const { tree: planned } = fc.letrec<{ tree: Plan; node: Plan }>((tie) => ({
  node: fc.oneof({ depthSize: 'small', maxDepth: 4 }, leaf, tie('tree')),
  tree: fc.record({
    kind: fc.constant('directory' as const),
    mode,
    children: fc.uniqueArray(fc.tuple(name, tie('node')), { selector: ([each]) => each, maxLength: 6 }),
  }),
}));

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Makes it under a name of a directory; answers its inode. */
export async function make(meta: Meta, parent: Ino, text: string, plan: Plan): Promise<Ino> {
  let lastFile: Ino | undefined;
  const visit = async (above: Ino, label: string, each: Plan): Promise<Ino> => {
    switch (each.kind) {
      case 'directory': {
        const { ino } = await meta.mkdir(ROOT_USER, above, bytes(label), each.mode, 0);
        for (const [child, below] of each.children) await visit(ino, child, below);
        return ino;
      }
      case 'symlink':
        return (await meta.symlink(ROOT_USER, above, bytes(label), bytes(each.target))).ino;
      case 'pipe':
        return (await meta.mknod(ROOT_USER, above, bytes(label), NodeType.Fifo, each.mode, 0, 0)).ino;
      case 'link':
        if (lastFile === undefined) return ROOT_INO;
        await meta.link(ROOT_USER, lastFile, above, bytes(label));
        return lastFile;
      case 'file': {
        const { ino } = await meta.mknod(ROOT_USER, above, bytes(label), NodeType.File, each.mode, 0, 0);
        // What is cut off in other chunks stays there when the file is removed (until gc looks for it), as in JuiceFS.
        for (const { chunk, pos, size } of each.writes.filter((write) => write.chunk === 0 || each.length === undefined))
          await meta.writeSlice(ROOT_USER, ino, chunk, pos, { id: await meta.newSliceId(), size }, 1_700_000_000_000_000_000n);
        if (each.length !== undefined) await meta.truncate(ROOT_USER, ino, each.length);
        if (each.xattr !== undefined) await meta.setxattr(ROOT_USER, ino, 'user.note', bytes(each.xattr), {});
        const rule = { owner: 7, group: 5, mask: 5, other: 0, users: [{ id: 1000, permissions: 4 }], groups: [] };
        if (each.acl) await meta.setxattr(ROOT_USER, ino, 'system.posix_acl_access', ruleToXattr(rule), {});
        await meta.setattr(ROOT_USER, ino, { uid: each.uid, gid: each.uid });
        lastFile = ino;
        return ino;
      }
    }
  };
  return visit(parent, text, plan);
}

export interface Seen {
  readonly attr: Attr;
  readonly ino: Ino;
  readonly xattrs: readonly (readonly [string, string])[];
  readonly target: string | undefined;
  /** Of a file, where its bytes lie, chunk by chunk. */
  readonly data: readonly unknown[];
  readonly children: ReadonlyMap<string, Seen>;
}

async function dataOf(meta: Meta, ino: Ino, length: number): Promise<readonly unknown[]> {
  const found: unknown[] = [];
  for (let index = 0; index * CHUNK_SIZE < length; index++) {
    const pieces = await meta.readChunk(ino, index);
    const end = Math.min(CHUNK_SIZE, length - index * CHUNK_SIZE);
    for (const { pos, id, off, len } of pieces)
      if (id !== 0 && pos < end) found.push([index, pos, id, off, Math.min(len, end - pos)]);
  }
  return found;
}

/** A tree as it is. */
export async function look(meta: Meta, ino: Ino): Promise<Seen> {
  const attr = await meta.getattr(ROOT_USER, ino);
  const names = await meta.listxattr(ROOT_USER, ino);
  const xattrs = await Promise.all(
    names.map(async (each) => [each, (await meta.getxattr(ROOT_USER, ino, each)).toString('latin1')] as const),
  );
  const children = new Map<string, Seen>();
  if (attr.type === NodeType.Directory)
    for await (const batch of meta.readdir(ROOT_USER, ino, false))
      for (const entry of batch) children.set(entry.name.toString('latin1'), await look(meta, entry.ino));
  return {
    attr,
    ino,
    xattrs: xattrs.toSorted(([a], [b]) => (a < b ? -1 : 1)),
    target: attr.type === NodeType.Symlink ? (await meta.readlink(ROOT_USER, ino)).toString('latin1') : undefined,
    data: attr.type === NodeType.File ? await dataOf(meta, ino, attr.length) : [],
    children,
  };
}

/** Every node of a tree with its path, its top first. */
export function* all(seen: Seen, path = ''): Generator<readonly [string, Seen]> {
  yield [path, seen];
  for (const [child, below] of seen.children) yield* all(below, `${path}/${child}`);
}

/** How often files refer to each slice. */
export async function references(engine: MetaEngine): Promise<ReadonlyMap<number, number>> {
  const counts = new Map<number, number>();
  for await (const { records } of engine.scanAllChunks())
    for (const { id } of decodeSlices(records)) if (id > 0) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** Directories say of themselves what is in them, by link count and by recorded statistics. */
export async function assertSound(meta: Meta, engine: MetaEngine, top: Seen): Promise<void> {
  // Written by then.
  await meta.usageBelow(top.ino, { recursive: false });
  for (const [path, { attr, ino, children }] of all(top)) {
    if (attr.type !== NodeType.Directory) continue;
    const below = [...children.values()];
    assert.equal(attr.nlink, 2 + below.filter((each) => each.attr.type === NodeType.Directory).length, `links of ${path}`);
    const [stat] = await engine.read([{ kind: 'dirStat', ino }]);
    const wanted = { length: 0, space: 0, inodes: 0 };
    for (const each of below) {
      const { length, space, inodes } = statOf(each.attr);
      wanted.length += length;
      wanted.space += space;
      wanted.inodes += inodes;
    }
    assert.deepEqual(stat && { ...stat }, wanted, `statistics of ${path}`);
  }
}
