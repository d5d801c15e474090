/** The files of staged blocks: where each lies, and what is done to them. What they mean is in staging.ts. */
import { stat } from 'node:fs/promises';
import type { Clock } from '../lib/clock.ts';
import { blockFiles, type BlockFiles, linkBlock, writeBlock } from './block-file.ts';
import { CacheFile, type ChecksumLevel } from './cache-file.ts';
import { scanCache, STAGING } from './cache-folder.ts';
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
  /** @default the file system */
  readonly files?: BlockFiles;
}

/** A block that was found. */
export interface FoundBlock {
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
    this.#files = options.files ?? blockFiles;
  }

  path(number: number, length: number): string {
    return this.#path(STAGING, number, length);
  }

  write(number: number, block: Block): Promise<void> {
    const { level, mode } = this.#options;
    return writeBlock(this.path(number, block.length), block, { level, mode, files: this.#files });
  }

  /** The whole block, held once for the caller. Fails with the system's error, or CorruptCacheFile. */
  async read(number: number, length: number): Promise<Block> {
    const file = await CacheFile.open(this.path(number, length), length, this.#options.level);
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
    await linkBlock(this.path(number, length), to, this.#options.mode, this.#files).catch(() => undefined);
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
  async scan(clock: Clock, signal: AbortSignal, withTimes: boolean, onError: (error: unknown) => void): Promise<FoundBlock[]> {
    const { root, geometry } = this.#options;
    const found: FoundBlock[] = [];
    // What was found before something could not be read counts all the same.
    await scanCache(`${root}/${STAGING}`, clock, signal, ({ id, index, length }) => {
      if (index < geometry.blocksPerSlice && length <= geometry.blockSize)
        found.push({ number: geometry.number(id, index), length, since: 0 });
    }).catch(onError);
    if (withTimes)
      for (const [at, block] of found.entries()) {
        const info = await stat(this.path(block.number, block.length)).catch(() => undefined);
        if (info) found[at] = { ...block, since: info.mtimeMs };
      }
    return found.toSorted((a, b) => a.since - b.since || a.number - b.number);
  }

  #path(folder: string, number: number, length: number): string {
    const { root, geometry, hashPrefix } = this.#options;
    return `${root}/${folder}/${blockKey(geometry.id(number), geometry.index(number), length, hashPrefix)}`;
  }
}
