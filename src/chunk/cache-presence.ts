/**
 * Whether a cache directory is there: made when it is first used, known by its id and the device that it is on, tried after it failed.
 * A directory whose disk is not mounted any more is not made anew in the mount point: that would fill another disk.
 */
import { join } from 'node:path';
import { deviceAbove, LOCK, prepareCacheFolder } from './cache-folder.ts';
import type { BlockFiles } from './disk-files.ts';

const PROBE = Buffer.from('juicepod');

export class CachePresence {
  readonly #root: string;
  readonly #mode: number;
  readonly #files: BlockFiles;
  #id: string | undefined;
  #device: number | undefined;

  constructor(root: string, mode: number, files: BlockFiles) {
    this.#root = root;
    this.#mode = mode;
    this.#files = files;
  }

  /** What the `.lock` says; undefined before it could be read. */
  get id(): string | undefined {
    return this.#id;
  }

  /** The number of the file system; undefined before it is known. */
  get device(): number | undefined {
    return this.#device;
  }

  /** Makes the directory, or finds it. Fails with the system's error, also where another disk is there now. */
  async prepare(): Promise<void> {
    if (await this.#isElsewhere()) throw new Error('its disk is not mounted');
    const { id, device } = await prepareCacheFolder(this.#root, this.#mode, this.#files);
    // Says what kind of file system it is, too (bounded-files.ts).
    await this.#files.space(this.#root);
    this.#id = id;
    this.#device = device;
  }

  /** Makes it, asks how full it is, writes there and reads what was written. Fails where that does. */
  async probe(): Promise<void> {
    await this.prepare();
    const files = this.#files;
    const path = join(this.#root, 'raw', `probe.${process.pid}.tmp`);
    await files.write(path, [PROBE], this.#mode);
    try {
      const file = await files.open(path);
      try {
        const read = Buffer.alloc(PROBE.length);
        if ((await files.read(file, read, 0, read.length, 0)) !== PROBE.length || !read.equals(PROBE))
          throw new Error('what was written is not what is read');
      } finally {
        await files.close(file);
      }
    } finally {
      await files.unlink(path).catch(() => undefined);
    }
  }

  /** `removed`: somebody deleted it. `unmounted`: its disk is away. Fails with the system's error. */
  async look(): Promise<'here' | 'removed' | 'unmounted'> {
    try {
      await this.#files.stat(join(this.#root, LOCK));
      return 'here';
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return (await this.#isElsewhere()) ? 'unmounted' : 'removed';
    }
  }

  async #isElsewhere(): Promise<boolean> {
    return this.#device !== undefined && (await deviceAbove(this.#root, this.#files)) !== this.#device;
  }
}
