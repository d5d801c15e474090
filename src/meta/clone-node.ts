/**
 * What the copy of one node is made of, for clone.ts: attributes, extended attributes, the target of a link, and lists of slices that
 * each get a reference more. A copy rests on the source's node and on each of its lists: compaction changes these alone.
 * Source: the JuiceFS format, clone.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { isMinimalRule, modeOfRule, ruleWithMode } from './acl-rule.ts';
import type { Check, EntryValue, Read, Write } from './engine.ts';
import { inGroup, MAY_EXECUTE, MAY_READ, requireAccess } from './permissions.ts';
import { decodeSlices, SLICE_RECORD } from './records.ts';
import { type As, type Attr, CHUNK_SIZE, type CloneOptions, type Context, NodeFlag, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

/** Lists of slices read at once. */
const CHUNKS_PER_READ = 64;
/** Beyond so many chunks (64 GiB) a file's lists are searched for instead of tried one by one. */
const CHUNKS_TO_TRY = 1024;
/** Redis takes some 8000 arguments in one command of a script. */
const MAX_RECORDS = 4000;
const SET_ID = 0o6000;
const NEVER = { length: 0, space: 0, inodes: 0 };

type CopyOptions = Pick<CloneOptions, 'preserve' | 'umask'>;

/** A node to be made: what its commit rests on, and its writes but for its name. */
export interface Copy {
  /** What it is a copy of. */
  readonly source: Ino;
  readonly ino: Ino;
  readonly attr: Attr;
  readonly checks: readonly Check[];
  readonly writes: readonly Write[];
}

/** Attributes of a copy, where access control lists have no say. */
function clonedAttr(
  ctx: Context,
  source: Attr,
  now: { readonly sec: number; readonly nsec: number },
  { preserve, umask }: CopyOptions,
): Attr {
  const directory = source.type === NodeType.Directory;
  const flags = source.flags & ~(NodeFlag.Immutable | NodeFlag.Append);
  const same = { ...source, flags, nlink: directory ? 2 : 1 };
  if (preserve && ctx.uid === 0) return same;
  const uid = preserve && source.uid === ctx.uid ? source.uid : ctx.uid;
  const gid = preserve && inGroup(ctx, source.gid) ? source.gid : ctx.gid;
  const foreign = uid !== source.uid || gid !== source.gid;
  const kept = foreign && !directory ? source.mode & ~SET_ID : source.mode;
  if (preserve) return { ...same, uid, gid, mode: kept };
  const { sec, nsec } = now;
  return {
    ...same,
    uid,
    gid,
    mode: source.type === NodeType.Symlink ? source.mode : kept & ~umask,
    atime: sec,
    atimensec: nsec,
    mtime: sec,
    mtimensec: nsec,
    ctime: sec,
    ctimensec: nsec,
  };
}

/** The list of access that goes with another mode. */
async function withAcl(volume: Volume, attr: Attr, source: Attr): Promise<Attr> {
  if (attr.accessAcl === 0 || ((attr.mode ^ source.mode) & 0o777) === 0) return attr;
  const rule = ruleWithMode(await volume.acls.rule(attr.accessAcl), attr.mode);
  const mode = (attr.mode & 0o7000) | modeOfRule(rule);
  return isMinimalRule(rule) ? { ...attr, accessAcl: 0, mode } : { ...attr, accessAcl: await volume.acls.idOf(rule), mode };
}

/** Reads nodes with all that belongs to them, and plans their copies; undefined for those that are gone. */
export async function planCopies(
  volume: Volume,
  as: As,
  sources: readonly EntryValue[],
  parent: Ino,
  options: CopyOptions,
): Promise<readonly (Copy | undefined)[]> {
  const { engine } = volume;
  const reads = sources.flatMap(({ ino, type }): readonly Read[] => [
    { kind: 'node', ino },
    { kind: 'xattrNames', ino },
    type === NodeType.Symlink ? { kind: 'symlink', ino } : { kind: 'chunk', ino, index: 0 },
  ]);
  const values = await engine.read(reads);
  return Promise.all(
    sources.map(async ({ ino }, at) => {
      const [attr, names, data] = values.slice(3 * at, 3 * at + 3) as [Attr | undefined, readonly string[], Buffer | undefined];
      return attr && planCopy(volume, as, { ino, attr, names, data }, parent, options);
    }),
  );
}

interface Known {
  readonly ino: Ino;
  readonly attr: Attr;
  /** Of its extended attributes. */
  readonly names: readonly string[];
  /** Of a symbolic link its target, of a file its first list of slices. */
  readonly data: Buffer | undefined;
}

async function planCopy(volume: Volume, as: As, known: Known, parent: Ino, options: CopyOptions): Promise<Copy> {
  const { ino: source, attr: before, names, data } = known;
  const plain = await as(async (ctx) => {
    requireAccess(ctx, before, before.type === NodeType.Directory ? MAY_READ | MAY_EXECUTE : MAY_READ);
    return clonedAttr(ctx, before, volume.now(), options);
  });
  const attr = { ...(await withAcl(volume, plain, before)), parent };
  const ino = await volume.newInode();
  const writes: Write[] = [{ kind: 'putNode', ino, attr }];
  const checks: Check[] = [];
  const values =
    names.length > 0 ? await volume.engine.read(names.map((name) => ({ kind: 'xattr', ino: source, name }) as const)) : [];
  for (const [at, name] of names.entries()) {
    const value = values[at];
    if (value) writes.push({ kind: 'putXattr', ino, name, value });
  }
  if (attr.type === NodeType.Directory) writes.push({ kind: 'putDirStat', ino, value: NEVER });
  else checks.push({ kind: 'node', ino: source, expect: before, scope: 'all' });
  if (attr.type === NodeType.Symlink) {
    if (!data) throw new FsError('ENOENT');
    writes.push({ kind: 'putSymlink', ino, target: data });
  }
  if (attr.type === NodeType.File) {
    const references = new Map<number, { readonly size: number; delta: number }>();
    for await (const [index, records] of lists(volume.engine, source, before.length, data ?? Buffer.alloc(0))) {
      checks.push({ kind: 'chunkPrefix', ino: source, index, records, whole: true });
      for (let from = 0; from < records.length; from += MAX_RECORDS * SLICE_RECORD)
        writes.push({
          kind: 'appendSlices',
          ino,
          index,
          records: records.subarray(from, from + MAX_RECORDS * SLICE_RECORD),
          onlyExisting: false,
        });
      for (const { id, size } of decodeSlices(records)) {
        if (id === 0) continue;
        const seen = references.get(id);
        if (seen) seen.delta++;
        else references.set(id, { size, delta: 1 });
      }
    }
    for (const [id, { size, delta }] of references) writes.push({ kind: 'addSliceRef', id, size, delta });
  }
  return { source, ino, attr, checks, writes };
}

/** The lists of slices of a file that are not empty; the first one is at hand. */
async function* lists(
  engine: Volume['engine'],
  source: Ino,
  length: number,
  first: Buffer,
): AsyncIterable<readonly [number, Buffer]> {
  if (first.length > 0) yield [0, first];
  const count = Math.ceil(length / CHUNK_SIZE);
  const read = async (indexes: readonly number[]): Promise<(readonly [number, Buffer])[]> => {
    const lists = await engine.read(indexes.map((index) => ({ kind: 'chunk', ino: source, index }) as const));
    return indexes.map((index, at) => [index, lists[at] ?? Buffer.alloc(0)] as const).filter(([, list]) => list.length > 0);
  };
  if (count <= CHUNKS_TO_TRY) {
    for (let from = 1; from < count; from += CHUNKS_PER_READ)
      yield* await read(Array.from({ length: Math.min(CHUNKS_PER_READ, count - from) }, (_, at) => from + at));
    return;
  }
  for await (const index of engine.scanChunks(source)) if (index > 0 && index < count) yield* await read([index]);
}
