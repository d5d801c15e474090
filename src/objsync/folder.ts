/**
 * A folder of this machine as a side. The place is a path that keys are put behind, as JuiceFS has it: with `/` at its end a
 * directory, without it everything whose path begins so.
 *
 * A file is written under a name beside its own (`.jfs.<name>.tmp.<number>`) and gets its own when it is whole. Names that are being
 * written so are not listed. Special files and the virtual files of a mount are passed over. A link that leads to a directory above
 * itself is not followed.
 */
import { constants } from 'node:fs';
import {
  type FileHandle,
  lchown,
  chmod,
  lstat,
  lutimes,
  mkdir,
  open,
  opendir,
  readlink,
  rename,
  rmdir,
  stat,
  symlink,
  unlink,
} from 'node:fs/promises';
import { type Random, systemRandom } from '../lib/random.ts';
import { writeFully } from '../lib/write-fully.ts';
import { temporaryName } from '../object/temporary-name.ts';
import type { Name } from './ordered.ts';
import {
  bytesOf,
  type Entry,
  type FileSide,
  Gone,
  keyOf,
  type ListOptions,
  PART_BYTES,
  type PartWriter,
  type Permissions,
  type Side,
  writeWhole,
} from './side.ts';
import { type Directory, levelOf, type Tree, walk } from './walk.ts';

/** Numbers of the virtual files in the root of a mount begin here. Source: JuiceFS pkg/vfs/internal.go. */
const VIRTUAL_INODES = 0x7fff_ffff_0000_0000;

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const isMissing = (error: unknown): boolean => codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';

export interface FolderOptions {
  /** Files are written in their place: what is there is lost where that ends early. @default false */
  readonly inPlace?: boolean;
  readonly random?: Random;
}

export class Folder implements Side, Tree, FileSide {
  readonly description: string;
  readonly files = this;
  /** Bytes as Latin-1. */
  readonly #root: string;
  readonly #options: FolderOptions;
  /** Paths that are being written. */
  readonly #writing = new Set<string>();

  /** `path` is absolute. */
  constructor(path: string, options: FolderOptions = {}) {
    this.#root = keyOf(path);
    this.#options = options;
    this.description = `file://${path}`;
  }

  async *list(prefix: string, options: ListOptions): AsyncGenerator<Entry> {
    const top = await this.#top(prefix, options);
    if (!top) return;
    yield* top;
    yield* walk(this, this.#directory(prefix), prefix, options);
  }

  async *level(prefix: string, options: ListOptions): AsyncGenerator<Entry> {
    const top = await this.#top(prefix, options);
    if (!top) return;
    yield* top;
    yield* levelOf(this, this.#directory(prefix), options);
  }

  /** The directory that a prefix names; undefined where there is none, empty where it names none, or one before the beginning. */
  async #top(prefix: string, { start, followLinks, signal }: ListOptions): Promise<readonly Entry[] | undefined> {
    if (!(this.#root + prefix).endsWith('/')) return [];
    const top = await this.head(prefix, followLinks, signal);
    return top?.isDirectory ? (prefix >= start ? [top] : []) : undefined;
  }

  /** The directory that holds what begins with a prefix. */
  #directory(prefix: string): Directory {
    const path = this.#root + prefix;
    return { key: prefix, path: path.slice(0, path.lastIndexOf('/') + 1) };
  }

  directoryOf({ key }: Entry): Directory {
    return { key, path: this.#root + key };
  }

  async *names({ path }: Directory, { followLinks }: ListOptions): AsyncGenerator<Name> {
    let listing;
    try {
      listing = await opendir(bytesOf(path), { encoding: 'latin1' as BufferEncoding, bufferSize: 256 });
    } catch (error) {
      if (isMissing(error)) return;
      throw error;
    }
    for await (const found of listing) {
      const at = path + found.name;
      if (this.#writing.has(at) || !at.startsWith(this.#root)) continue;
      const key = at.slice(this.#root.length);
      const isDirectory = found.isDirectory() || (followLinks && found.isSymbolicLink() && (await this.#isDirectory(at)));
      if (isDirectory) yield { key: `${key}/` };
      else if (found.isFile() || found.isSymbolicLink()) yield { key };
    }
  }

  async #isDirectory(path: string): Promise<boolean> {
    try {
      return (await stat(bytesOf(path))).isDirectory();
    } catch {
      return false;
    }
  }

  look(names: readonly Name[], { followLinks, signal }: ListOptions): Promise<readonly (Entry | undefined)[]> {
    return Promise.all(names.map(({ key }) => this.head(key, followLinks, signal)));
  }

  async identityOf({ path }: Directory): Promise<string | undefined> {
    try {
      const { dev, ino } = await stat(bytesOf(path));
      return `${dev}:${ino}`;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async head(key: string, followLinks: boolean, signal: AbortSignal): Promise<Entry | undefined> {
    signal.throwIfAborted();
    const path = this.#path(key).replace(/(.)\/+$/, '$1');
    let found;
    let isLink = false;
    try {
      found = await lstat(bytesOf(path));
      if (found.isSymbolicLink() && (key === '' || key.endsWith('/'))) found = await stat(bytesOf(path));
      else if (found.isSymbolicLink() && followLinks) {
        try {
          found = await stat(bytesOf(path));
        } catch (error) {
          // It leads nowhere: the copy will say so.
          if (!isMissing(error) && codeOf(error) !== 'ELOOP') throw error;
          isLink = true;
        }
      } else isLink = found.isSymbolicLink();
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
    const isDirectory = found.isDirectory();
    if ((!isLink && !isDirectory && !found.isFile()) || found.ino >= VIRTUAL_INODES) return undefined;
    return {
      key,
      size: isDirectory ? 0 : found.size,
      mtimeMs: found.mtimeMs,
      isDirectory,
      isLink,
      permissions: { mode: found.mode & 0o7777, uid: found.uid, gid: found.gid },
    };
  }

  async read({ key }: Entry, offset: number, length: number, signal: AbortSignal): Promise<Buffer> {
    let file: FileHandle;
    try {
      file = await open(bytesOf(this.#path(key)), constants.O_RDONLY);
    } catch (error) {
      if (isMissing(error) || codeOf(error) === 'ELOOP') throw new Gone('it is not there any more', { cause: error });
      throw error;
    }
    try {
      const body = Buffer.allocUnsafeSlow(length);
      let done = 0;
      while (done < length) {
        signal.throwIfAborted();
        const { bytesRead } = await file.read(body, done, length - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return body.subarray(0, done);
    } finally {
      await file.close();
    }
  }

  partBytes(): number {
    return PART_BYTES;
  }

  async put(key: string, body: Buffer, signal: AbortSignal): Promise<void> {
    const path = this.#path(key);
    if (path.endsWith('/')) return this.#makeFolder(path);
    await writeWhole(await this.begin(key, body.length, signal), body);
  }

  async begin(key: string, _size: number, signal: AbortSignal): Promise<PartWriter> {
    const path = this.#path(key);
    const cut = path.lastIndexOf('/') + 1;
    const name = temporaryName(path.slice(cut), this.#options.random ?? systemRandom);
    const target = this.#options.inPlace ? path : path.slice(0, cut) + name;
    if (target !== path) this.#writing.add(target);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC;
    let file: FileHandle;
    try {
      file = await open(bytesOf(target), flags, 0o666).catch(async (error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error;
        await this.#makeFolder(path.slice(0, cut));
        return open(bytesOf(target), flags, 0o666);
      });
    } catch (error) {
      this.#writing.delete(target);
      throw error;
    }
    let closed = false;
    const close = async (): Promise<void> => {
      if (closed) return;
      closed = true;
      await file.close();
    };
    return {
      async part(number, body) {
        signal.throwIfAborted();
        await writeFully(file, body, number * PART_BYTES);
      },
      finish: async () => {
        await close();
        if (target !== path) await rename(bytesOf(target), bytesOf(path));
        this.#writing.delete(target);
      },
      abort: async () => {
        await close().catch(() => {});
        if (target !== path) await unlink(bytesOf(target)).catch(() => {});
        this.#writing.delete(target);
      },
    };
  }

  /** `mkdir -p`. */
  async #makeFolder(path: string): Promise<void> {
    const bare = path.replace(/\/+$/, '') || '/';
    try {
      await mkdir(bytesOf(bare), 0o777);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') {
        await this.#makeFolder(bare.slice(0, bare.lastIndexOf('/') + 1));
        return this.#makeFolder(bare);
      }
      if (codeOf(error) !== 'EEXIST' || !(await stat(bytesOf(bare))).isDirectory()) throw error;
    }
  }

  async remove(key: string): Promise<boolean> {
    const path = this.#path(key);
    try {
      if (path.endsWith('/')) await rmdir(bytesOf(path.slice(0, -1)));
      else await unlink(bytesOf(path));
    } catch (error) {
      if (codeOf(error) === 'ENOTEMPTY' || codeOf(error) === 'EEXIST') return false;
      // Shown as the directory that it leads to.
      if (codeOf(error) === 'ENOTDIR' && path.endsWith('/')) await unlink(bytesOf(path.slice(0, -1)));
      else if (!isMissing(error)) throw error;
    }
    return true;
  }

  async setTime(key: string, mtimeMs: number): Promise<void> {
    const seconds = mtimeMs / 1000;
    await lutimes(bytesOf(this.#path(key)), seconds, seconds);
  }

  async setPermissions(key: string, { mode, uid, gid }: Permissions): Promise<void> {
    const path = bytesOf(this.#path(key));
    // The mode after the owner, for a change of it clears the set-user-id bit.
    await lchown(path, uid, gid);
    await chmod(path, mode);
  }

  readLink({ key }: Entry): Promise<Buffer> {
    return readlink(bytesOf(this.#path(key)), 'buffer');
  }

  async makeLink(key: string, target: Buffer): Promise<void> {
    const path = this.#path(key);
    const make = (): Promise<void> => symlink(target, bytesOf(path));
    try {
      await make();
    } catch (error) {
      if (codeOf(error) === 'ENOENT') await this.#makeFolder(path.slice(0, path.lastIndexOf('/') + 1));
      else if (codeOf(error) === 'EEXIST') await unlink(bytesOf(path));
      else throw error;
      await make();
    }
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  /** A key cannot lead out of the root: object stores may hold keys such as `../x`. */
  #path(key: string): string {
    if (
      key.includes('\0') ||
      key.split('/').some((part) => part === '..' || part === '.') ||
      key.includes('//') ||
      (key.startsWith('/') && this.#root.endsWith('/'))
    )
      throw new Error('such a key cannot be the path of a file');
    return this.#root + key;
  }
}
