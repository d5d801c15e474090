/** What is known of one node for people: its paths, and who has locked it. Source: the JuiceFS format, control protocol (info). */
import { FsError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO, TRASH_INO } from '../lib/int64.ts';
import { decodeRanges } from './lock-ranges.ts';
import { type Attr, type NodeLocks, NodeType } from './types.ts';
import type { Volume } from './volume.ts';

/** Names read at once. */
const BATCH = 4096;
/** Deeper paths are not told; a loop in a damaged tree ends. */
const MAX_DEPTH = 4096;
const TRASH_PATH = Buffer.from('/.trash');
const SLASH = Buffer.from('/');

async function nodeOf(volume: Volume, ino: Ino): Promise<Attr | undefined> {
  return (await volume.engine.read([{ kind: 'node', ino }]))[0];
}

/** Directories that hold a name of the node. */
export async function parentsOf(volume: Volume, ino: Ino, attr: Attr): Promise<readonly Ino[]> {
  if (attr.parent !== 0) return [attr.parent];
  const [parents] = await volume.engine.read([{ kind: 'parents', ino }]);
  return [...parents.keys()];
}

async function namesIn(volume: Volume, directory: Ino, ino: Ino): Promise<readonly Buffer[]> {
  const names: Buffer[] = [];
  for await (const batch of volume.engine.scanEntries(directory, BATCH))
    for (const entry of batch)
      if (entry.ino === ino && !names.some((name) => name.equals(entry.name))) names.push(Buffer.from(entry.name));
  return names;
}

/** The path of a directory from `root` on; undefined where it does not lie there. */
async function directoryPath(volume: Volume, directory: Ino, root: Ino): Promise<Buffer | undefined> {
  const parts: Buffer[] = [];
  for (let ino = directory; ino !== root;) {
    if (ino === TRASH_INO && root === ROOT_INO) return Buffer.concat([TRASH_PATH, ...parts]);
    const attr = ino === ROOT_INO || parts.length > MAX_DEPTH ? undefined : await nodeOf(volume, ino);
    if (attr?.type !== NodeType.Directory) return undefined;
    const [name] = await namesIn(volume, attr.parent, ino);
    if (!name) return undefined;
    parts.unshift(SLASH, name);
    ino = attr.parent;
  }
  return Buffer.concat(parts);
}

/** Every path of a node, from `root` on, which is `/`; those elsewhere are left out. Looks through each directory on the way. */
export async function pathsOf(volume: Volume, ino: Ino, root: Ino): Promise<readonly Buffer[]> {
  if (ino === root) return [SLASH];
  if (ino === TRASH_INO) return root === ROOT_INO ? [TRASH_PATH] : [];
  const attr = await nodeOf(volume, ino);
  if (!attr) throw new FsError('ENOENT');
  const paths: Buffer[] = [];
  for (const parent of await parentsOf(volume, ino, attr)) {
    const above = await directoryPath(volume, parent, root);
    if (!above) continue;
    for (const name of await namesIn(volume, parent, ino)) paths.push(Buffer.concat([above, SLASH, name]));
  }
  return paths;
}

/** True where a name of the node lies at or below the directory `top`. */
export async function liesBelow(volume: Volume, ino: Ino, top: Ino): Promise<boolean> {
  let level: readonly Ino[] = [ino];
  for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
    if (level.includes(top)) return true;
    const attrs = await volume.engine.nodes(level);
    const next = new Set<Ino>();
    for (const [at, attr] of attrs.entries()) {
      const each = level[at] as Ino;
      if (!attr || each === ROOT_INO) continue;
      for (const parent of await parentsOf(volume, each, attr)) if (!isTrash(parent)) next.add(parent);
    }
    level = [...next];
  }
  return false;
}

/** The locks of all sessions in a file. */
export async function locksOf(volume: Volume, ino: Ino): Promise<NodeLocks> {
  const [whole, ranges] = await volume.engine.read([
    { kind: 'locks', of: 'flock', ino },
    { kind: 'locks', of: 'posix', ino },
  ]);
  return {
    whole: whole.map(({ sid, owner, value }) => ({ sid, owner, type: value.toString('latin1') })),
    ranges: ranges.flatMap(({ sid, owner, value }) => decodeRanges(value).map((lock) => ({ sid, owner, lock }))),
  };
}
