/**
 * A tree of files as facts that can be compared: what a user can tell of it through system calls. And the calls for extended
 * attributes, which Node does not have.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import koffi from 'koffi';

const libc = koffi.load(null);
type Call = { async(...args: unknown[]): void };
const lgetxattr = libc.func('long lgetxattr(const void *path, const void *name, void *value, size_t size)') as unknown as Call;
const lsetxattr = libc.func(
  'int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)',
) as unknown as Call;
const llistxattr = libc.func('long llistxattr(const void *path, void *list, size_t size)') as unknown as Call;
const lremovexattr = libc.func('int lremovexattr(const void *path, const void *name)') as unknown as Call;

/** Off the main thread: a mount that hangs must not hang the test's own timers. */
function call(name: string, func: Call, ...args: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    func.async(...args, (error: Error | null, result: number | bigint) => {
      if (error) reject(error);
      else if (Number(result) < 0) reject(new Error(`${name} failed`));
      else resolve(Number(result));
    });
  });
}

export type Path = Buffer | string;
const terminated = (path: Path): Buffer => Buffer.concat([Buffer.from(path), Buffer.of(0)]);

export async function getXattr(path: Path, name: string): Promise<Buffer> {
  const value = Buffer.alloc(65_536);
  return value.subarray(0, await call('getxattr', lgetxattr, terminated(path), terminated(name), value, value.length));
}

export async function setXattr(path: Path, name: string, value: Buffer): Promise<void> {
  await call('setxattr', lsetxattr, terminated(path), terminated(name), value, value.length, 0);
}

export async function removeXattr(path: Path, name: string): Promise<void> {
  await call('removexattr', lremovexattr, terminated(path), terminated(name));
}

export async function listXattrs(path: Path): Promise<string[]> {
  const list = Buffer.alloc(65_536);
  const length = await call('listxattr', llistxattr, terminated(path), list, list.length);
  return list.toString('utf8', 0, length).split('\0').filter(Boolean).toSorted();
}

/** A path below another, both in bytes. */
export const below = (folder: Path, name: Path): Buffer =>
  Buffer.concat([Buffer.from(folder), Buffer.from('/'), Buffer.from(name)]);

/** SHA-256 of a file's bytes, read in MiBs. */
export async function checksum(path: Path): Promise<string> {
  const hash = createHash('sha256');
  const file = await open(path);
  try {
    const buffer = Buffer.allocUnsafe(1 << 20);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}

export interface TreeOptions {
  /** Inode numbers, times and space too: for two views of one volume. @default false */
  readonly exact?: boolean;
  /** @default false */
  readonly xattrs?: boolean;
}

const KINDS: readonly (readonly [keyof BigIntStats, string])[] = [
  ['isFile', 'file'],
  ['isDirectory', 'directory'],
  ['isSymbolicLink', 'symlink'],
  ['isFIFO', 'fifo'],
  ['isSocket', 'socket'],
  ['isCharacterDevice', 'character device'],
  ['isBlockDevice', 'block device'],
];

function kindOf(stat: BigIntStats): string {
  for (const [method, kind] of KINDS) if ((stat[method] as () => boolean)()) return kind;
  return 'unknown';
}

/** Facts of one file, in text: two files are the same where these are. */
export async function describeFile(path: Path, options: TreeOptions = {}): Promise<string[]> {
  const stat = await lstat(path, { bigint: true });
  const kind = kindOf(stat);
  const facts = [kind, `mode ${(stat.mode & 0o7777n).toString(8)}`, `owner ${stat.uid}:${stat.gid}`];
  if (kind === 'file') facts.push(`size ${stat.size}`, `links ${stat.nlink}`, await checksum(path));
  if (kind === 'directory') facts.push(`links ${stat.nlink}`);
  if (kind === 'symlink') facts.push(`to ${(await readlink(path, { encoding: 'buffer' })).toString('latin1')}`);
  if (kind.endsWith('device')) facts.push(`number ${stat.rdev}`);
  if (options.exact)
    facts.push(`inode ${stat.ino}`, `size ${stat.size}`, `space ${stat.blocks}`, `m ${stat.mtimeNs}`, `c ${stat.ctimeNs}`);
  // The kernel asks for no user attributes on anything but files and directories.
  if (options.xattrs && (kind === 'file' || kind === 'directory'))
    for (const name of await listXattrs(path)) facts.push(`${name}=${(await getXattr(path, name)).toString('hex')}`);
  return facts;
}

/** Everything below a folder, by path (bytes as latin1), sorted by name. */
export async function describeTree(folder: Path, options: TreeOptions = {}): Promise<Map<string, readonly string[]>> {
  const tree = new Map<string, readonly string[]>();
  const visit = async (path: Buffer, shown: string): Promise<void> => {
    const entries = await readdir(path, { encoding: 'buffer', withFileTypes: true });
    for (const entry of entries.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
      const name = `${shown}${entry.name.toString('latin1')}`;
      // Virtual files of a mount.
      if (shown === '' && ['.accesslog', '.config', '.stats', '.control', '.trash'].includes(name)) continue;
      const child = below(path, entry.name);
      tree.set(name, await describeFile(child, options));
      if (entry.isDirectory()) await visit(child, `${name}/`);
    }
  };
  await visit(Buffer.from(folder), '');
  return tree;
}
