/**
 * Objects as files under a directory, laid out as JuiceFS's `file` storage does (pkg/object/file.go): the path is the
 * directory plus the key; a put writes the sibling `.jfs.<name>.tmp.<number>` and renames it, so that a reader sees a
 * whole object or none. Modes are 0666 and 0777 less the umask. Nothing is fsynced, as there.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { messageOf } from '../lib/errors.ts';
import { systemRandom, type Random } from '../lib/random.ts';
import { type GetOptions, ObjectError, type ObjectErrorCode, type ObjectInfo, type ObjectStore } from './store.ts';
import { isTemporaryName, temporaryName } from './temporary-name.ts';

const codes: Readonly<Record<string, ObjectErrorCode>> = {
  ENOENT: 'NotFound',
  ENOTDIR: 'NotFound',
  EACCES: 'AccessDenied',
  EPERM: 'AccessDenied',
  EROFS: 'AccessDenied',
  ENOSPC: 'NoSpace',
  EDQUOT: 'NoSpace',
  ENAMETOOLONG: 'Invalid',
  EINVAL: 'Invalid',
  EISDIR: 'Invalid',
};

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

/** `mkdir -p`. Node's own says ENOENT for a read-only file system, and never ends where /proc refuses. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' && dirname(path) !== path) {
      await makeFolder(dirname(path));
      await mkdir(path).catch((again: unknown) => {
        if (codeOf(again) !== 'EEXIST') throw again;
      });
    } else if (codeOf(error) !== 'EEXIST' || !(await stat(path)).isDirectory()) throw error;
  }
}

export interface FileStoreOptions {
  readonly random?: Random;
}

export class FileObjectStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #random: Random;

  /** `root` is an absolute directory; the volume's bucket text. */
  constructor(root: string, options: FileStoreOptions = {}) {
    if (!root.startsWith('/'))
      throw new ObjectError(
        'Invalid',
        `the bucket of a file storage must be an absolute directory, found ${JSON.stringify(root)}`,
      );
    this.#root = root.endsWith('/') ? root : `${root}/`;
    this.description = `file://${this.#root}`;
    this.#random = options.random ?? systemRandom;
  }

  async create(): Promise<void> {
    await this.#attempt('make the directory', '', async () => {
      try {
        await makeFolder(this.#root);
      } catch (error) {
        // A directory that cannot be made is not an object that is missing.
        if (codes[codeOf(error)] !== 'NotFound') throw error;
        throw new ObjectError('Invalid', `could not make the directory ${this.#root}: ${messageOf(error)}`, { cause: error });
      }
    });
  }

  async put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    await this.#attempt('write', key, async () => {
      const path = this.#path(key);
      const temporary = join(dirname(path), temporaryName(path.slice(path.lastIndexOf('/') + 1), this.#random));
      const options = { flush: false, ...(signal ? { signal } : {}) };
      try {
        try {
          await writeFile(temporary, body, options);
        } catch (error) {
          if (codeOf(error) !== 'ENOENT') throw error;
          await makeFolder(dirname(path));
          await writeFile(temporary, body, options);
        }
        await rename(temporary, path);
      } catch (error) {
        await unlink(temporary).catch(() => undefined);
        throw error;
      }
    });
  }

  get(key: string, options: GetOptions = {}): Promise<Buffer> {
    const { offset = 0, length, into, signal } = options;
    return this.#attempt('read', key, async () => {
      signal?.throwIfAborted();
      const file = await open(this.#path(key), constants.O_RDONLY);
      try {
        const info = await file.stat();
        if (!info.isFile()) throw new ObjectError('NotFound', `there is no object ${key}: its path is not a file`);
        const wanted = Math.max(0, Math.min(length ?? Infinity, info.size - offset));
        if (into && into.length < wanted)
          throw new ObjectError('Invalid', `object ${key} gives ${wanted} bytes, the buffer has ${into.length}`);
        const target = into?.subarray(0, wanted) ?? Buffer.allocUnsafeSlow(wanted);
        let done = 0;
        while (done < wanted) {
          signal?.throwIfAborted();
          const { bytesRead } = await file.read(target, done, wanted - done, offset + done);
          if (bytesRead === 0)
            throw new ObjectError('Corrupt', `object ${key} became shorter while it was read`, { retryable: true });
          done += bytesRead;
        }
        return target;
      } finally {
        await file.close();
      }
    });
  }

  head(key: string): Promise<ObjectInfo | undefined> {
    return this.#attempt('look up', key, async () => {
      try {
        const info = await stat(this.#path(key));
        return info.isFile() ? { key, size: info.size, modified: Math.floor(info.mtimeMs) } : undefined;
      } catch (error) {
        if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined;
        throw error;
      }
    });
  }

  delete(key: string): Promise<void> {
    return this.#attempt('delete', key, async () => {
      try {
        await unlink(this.#path(key));
      } catch (error) {
        if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'ENOTDIR') throw error;
      }
    });
  }

  list(prefix: string, options: { readonly after?: string; readonly signal?: AbortSignal } = {}): AsyncIterable<ObjectInfo> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    return this.#walk(folder, prefix, options.after ?? '', options.signal);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  /** One directory at a time is in memory, per level. A directory sorts as its name with `/`, which is key order. */
  async *#walk(folder: string, prefix: string, after: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo> {
    signal?.throwIfAborted();
    const names = await this.#attempt('list', folder, async () => {
      try {
        const entries = await readdir(join(this.#root, folder), { withFileTypes: true });
        return entries
          .filter((entry) => (entry.isFile() || entry.isDirectory()) && !isTemporaryName(entry.name))
          .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
      } catch (error) {
        if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return [];
        throw error;
      }
    });
    names.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
    for (const name of names) {
      const key = folder + name;
      if (name.endsWith('/')) {
        // Below this directory lie the keys from `key` on; skip it where none can match.
        if (!key.startsWith(prefix) && !prefix.startsWith(key)) continue;
        if (key < after && !after.startsWith(key)) continue;
        yield* this.#walk(key, prefix, after, signal);
      } else if (key.startsWith(prefix) && key > after) {
        const info = await this.head(key);
        if (info) yield info;
      }
    }
  }

  #path(key: string): string {
    if (key === '' || key.includes('\0') || key.split('/').some((part) => part === '' || part === '.' || part === '..'))
      throw new ObjectError('Invalid', `${JSON.stringify(key)} cannot be the key of an object in a directory`);
    return this.#root + key;
  }

  async #attempt<T>(what: string, key: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof ObjectError || (error instanceof Error && error.name === 'AbortError')) throw error;
      const code = codes[codeOf(error)] ?? 'Unavailable';
      const where = `${this.#root}${key}`;
      const sentence = code === 'NotFound' ? `there is no object ${where}` : `could not ${what} ${where}: ${messageOf(error)}`;
      throw new ObjectError(code, sentence, { cause: error });
    }
  }
}
