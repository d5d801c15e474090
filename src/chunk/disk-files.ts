/** What is done to a cache directory and to the files in it, in one place, so that tests can have it fail as disks do. */
import { close, fstat, fstatSync, open as openFile, read } from 'node:fs';
import { link, mkdir, open, opendir, readFile, rename, rmdir, stat, statfs, unlink, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { openIfCached, readIfCached } from './nowait.ts';

/** What a file system says of itself. */
export interface Space {
  /** Its kind: statfs(2), f_type. */
  readonly type: number;
  /** Bytes of a block, and how many blocks there are, and are free for us. */
  readonly bsize: number;
  readonly blocks: number;
  readonly bavail: number;
  /** Inodes; 0 where it does not count them. */
  readonly files: number;
  readonly ffree: number;
}

/** Each fails with the system's error. */
export interface BlockFiles {
  /** Writes a new file, replacing one that is there. */
  write(path: string, parts: readonly Uint8Array[], mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Refuses one that is not empty. */
  rmdir(path: string): Promise<void>;
  /** For reading; the second one only if that needs no waiting (nowait.ts). */
  open(path: string): Promise<number>;
  openNow(path: string): number | undefined;
  /** Bytes of an open file; the second one for files that were opened without waiting. */
  size(descriptor: number): Promise<number>;
  sizeNow(descriptor: number): number;
  /**
   * Up to `length` bytes from `position` to `at` of the target; says how many. `own`: where this fails, the caller never uses the target's
   * memory again, nor does anybody else. @default false
   */
  read(descriptor: number, target: Buffer, at: number, length: number, position: number, own?: boolean): Promise<number>;
  /** Fills the target if that needs no waiting (nowait.ts). */
  readNow(descriptor: number, target: Buffer, position: number, likely: boolean): boolean;
  /** Never rejects. */
  close(descriptor: number): Promise<void>;
  /** All of a small file. */
  text(path: string): Promise<string>;
  /** A small file that is not there yet: EEXIST. */
  create(path: string, text: string, mode: number): Promise<void>;
  /** With those above it that are missing. */
  mkdir(path: string, mode: number): Promise<void>;
  stat(
    path: string,
  ): Promise<{ readonly dev: number; readonly nlink: number; readonly atimeMs: number; readonly mtimeMs: number }>;
  /** What is in a directory, a few hundred names at a time. */
  list(path: string): Promise<AsyncIterable<{ readonly name: string; isDirectory(): boolean; isFile(): boolean }>>;
  space(path: string): Promise<Space>;
}

const openAsync = promisify(openFile);
const readAsync = promisify(read);
const fstatAsync = promisify(fstat);
const NAMES_AT_ONCE = 512;

export const blockFiles: BlockFiles = {
  async write(path, parts, mode) {
    const file = await open(path, 'w', mode);
    try {
      const total = parts.reduce((sum, part) => sum + part.length, 0);
      const { bytesWritten } = await file.writev(parts);
      if (bytesWritten !== total) throw Object.assign(new Error(`wrote ${bytesWritten} of ${total} bytes`), { code: 'ENOSPC' });
    } finally {
      await file.close();
    }
  },
  rename,
  link,
  unlink,
  rmdir,
  open: (path) => openAsync(path, 'r'),
  openNow: openIfCached,
  size: async (descriptor) => (await fstatAsync(descriptor)).size,
  sizeNow: (descriptor) => fstatSync(descriptor).size,
  async read(descriptor, target, at, length, position) {
    return (await readAsync(descriptor, target, at, length, position)).bytesRead;
  },
  readNow: readIfCached,
  close: (descriptor) => new Promise((resolve) => close(descriptor, () => resolve())),
  text: (path) => readFile(path, 'utf8'),
  create: (path, text, mode) => writeFile(path, text, { flag: 'wx', mode }),
  async mkdir(path, mode) {
    await mkdir(path, { recursive: true, mode });
  },
  stat,
  list: (path) => opendir(path, { bufferSize: NAMES_AT_ONCE }),
  space: statfs,
};
