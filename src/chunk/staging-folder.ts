/** The files of staged blocks: where each lies, and what is done to them. What they mean is in staging.ts. */
import type { Clock } from '../lib/clock.ts';
import { linkBlock, writeBlock } from './block-file.ts';
import { CacheFile, type ChecksumLevel } from './cache-file.ts';
import { scanCache, STAGING } from './cache-folder.ts';
import type { BlockFiles } from './disk-files.ts';
import { blockKey, type BlockGeometry } from './key.ts';
import type { Block, BufferPool } from './pool.ts';

export interface StagingFolderOptions {
  /** `<cache-dir>/<UUID>`. */
  readonly root: string;
  readonly geometry: BlockGeometry;
  readonly hashPrefix: boolean;
  readonly level: ChecksumLevel;
  /** Of files; folders can be searched by whoever may read them. */
  readonly mode: number;
  readonly pool: BufferPool;
  readonly files: BlockFiles;
}

/** A staged block that was found. */
export interface FoundStaged {
  readonly number: number;
  readonly length: number;
  /** When it was staged, wall clock, milliseconds; 0 where that was not asked for. */
  readonly since: number;
}

export class StagingFolder {
  readonly #options: StagingFolderOptions;
  readonly #files: BlockFiles;

  constructor(options: StagingFolderOptions) {
    this.#options = options;
    this.#files = options.files;
  }

  path(number: number, length: number): string {
    return this.#path(STAGING, number, length);
  }

  write(number: number, block: Block): Promise<void> {
    return writeBlock(this.path(number, block.length), block, this.#options);
  }

  /** The whole block, by either of its names, held once for the caller. Fails with the system's error, or CorruptCacheFile. */
  async read(number: number, length: number): Promise<Block> {
    const { level } = this.#options;
    const file = await CacheFile.open(this.path(number, length), length, level, this.#files).catch((error: unknown) =>
      CacheFile.open(this.#path('raw', number, length), length, level, this.#files).catch(() => {
        throw error;
      }),
    );
    const block = this.#options.pool.acquire(length);
    try {
      await file.read(0, block.data);
      return block;
    } catch (error) {
      block.release();
      throw error;
    } finally {
      file.close();
    }
  }

  /** Gives a staged block its second name, as a cached one. Never rejects: without it the block is only not cached. */
  async cache(number: number, length: number): Promise<void> {
    const to = this.#path('raw', number, length);
    await linkBlock(this.path(number, length), to, this.#options).catch(() => undefined);
  }

  /** Takes that name away. Never rejects. */
  async uncache(number: number, length: number): Promise<void> {
    await this.#files.unlink(this.#path('raw', number, length)).catch(() => undefined);
  }

  /** False where there was no such file. Fails with the system's error. */
  async remove(number: number, length: number): Promise<boolean> {
    try {
      await this.#files.unlink(this.path(number, length));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }

  /** Looks for staged blocks, those that were staged first at first; old leftovers of writes are removed. */
  async scan(clock: Clock, signal: AbortSignal, withTimes: boolean, onError: (error: unknown) => void): Promise<FoundStaged[]> {
    const { root, geometry } = this.#options;
    const found: FoundStaged[] = [];
    // What was found before something could not be read counts all the same.
    await scanCache(`${root}/${STAGING}`, { clock, signal, files: this.#files }, ({ id, index, length }) => {
      if (index < geometry.blocksPerSlice && length <= geometry.blockSize)
        found.push({ number: geometry.number(id, index), length, since: 0 });
    }).catch(onError);
    if (withTimes)
      for (const [at, block] of found.entries()) {
        const info = await this.#files.stat(this.path(block.number, block.length)).catch(() => undefined);
        if (info) found[at] = { ...block, since: info.mtimeMs };
      }
    return found.toSorted((a, b) => a.since - b.since || a.number - b.number);
  }

  #path(folder: string, number: number, length: number): string {
    const { root, geometry, hashPrefix } = this.#options;
    return `${root}/${folder}/${blockKey(geometry.id(number), geometry.index(number), length, hashPrefix)}`;
  }
}
