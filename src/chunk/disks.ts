/**
 * The block cache on disk: one or several directories, each block in the one that a consistent hash of its key says (hash-ring.ts), as
 * with JuiceFS. Size and number of blocks are split evenly. A directory that fails has no share until it works again; what the others
 * took over meanwhile, and what lies in another directory than it should (another client's, or of another set), is found all the same,
 * for each directory knows what it has.
 */
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { lanesOf } from './bounded-files.ts';
import { DiskCache } from './disk.ts';
import { DiskFigures } from './disk-figures.ts';
import { blockFiles } from './disk-files.ts';
import { FreeSpaces } from './free-space.ts';
import { HashRing } from './hash-ring.ts';
import { blockKey, type BlockGeometry } from './key.ts';
import type { DiskCacheSettings } from './options.ts';
import type { Block } from './pool.ts';

export interface DiskCachesOptions extends DiskCacheSettings {
  /** Blocks go below the child of each directory that has this name. */
  readonly uuid: string;
  readonly geometry: BlockGeometry;
  readonly hashPrefix: boolean;
  /** Bytes of blocks waiting to be written; more are not cached. @default 64 MiB */
  readonly maxPendingBytes?: number;
  /** Cached blocks kept open. @default 256 */
  readonly maxOpenFiles?: number;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
}

const MOST_PENDING = 64 * 2 ** 20;

/** The directories, in the order of their names. */
export const foldersOf = ({ folder }: Pick<DiskCacheSettings, 'folder'>): readonly string[] =>
  typeof folder === 'string' ? [folder] : [...new Set(folder)].toSorted();

export class DiskCaches {
  /** One for each directory. */
  readonly disks: readonly DiskCache[];
  readonly figures = new DiskFigures();
  readonly #options: DiskCachesOptions;
  readonly #ready: Promise<void>;
  /** The only one, where there is only one. */
  readonly #only: DiskCache | undefined;
  /** Those that are written to, and the ring of their ids; made anew when one comes or goes. */
  #shares: { readonly disks: readonly DiskCache[]; readonly ring: HashRing } | undefined;
  #isReady = false;
  #earlyBytes = 0;

  /** Makes the directories and begins to look for what they hold. */
  constructor(options: DiskCachesOptions) {
    this.#options = options;
    const { clock = systemClock, random = systemRandom, logger = nullLogger, files = blockFiles } = options;
    const { uuid, geometry, hashPrefix, freeRatio = 0.1, maxBytes = 100 * 2 ** 30, maxItems = 500_000 } = options;
    const { maxPendingBytes = MOST_PENDING, maxOpenFiles = 256 } = options;
    const folders = foldersOf(options);
    const share = (whole: number): number => (whole === 0 ? 0 : Math.max(1, Math.floor(whole / folders.length)));
    const spaces = new FreeSpaces({ ratio: freeRatio, spare: geometry.blockSize, clock });
    this.disks = folders.map(
      (folder) =>
        new DiskCache({
          root: join(folder, uuid),
          geometry,
          hashPrefix,
          maxBytes: Math.floor(maxBytes / folders.length),
          maxItems: share(maxItems),
          freeRatio,
          eviction: options.eviction ?? '2-random',
          expireMs: options.expireMs ?? 0,
          scanIntervalMs: options.scanIntervalMs ?? 3_600_000,
          checksum: options.checksum ?? 'extend',
          mode: options.mode ?? 0o600,
          maxPendingBytes: Math.max(geometry.blockSize, Math.floor(maxPendingBytes / folders.length)),
          maxOpenFiles: share(maxOpenFiles),
          waitMs: options.waitMs ?? 10_000,
          lanes: lanesOf(folders.length),
          spaces,
          figures: this.figures,
          onState: () => (this.#shares = undefined),
          files,
          clock,
          random,
          logger,
        }),
    );
    this.#only = this.disks.length === 1 ? this.disks[0] : undefined;
    for (const disk of this.disks) disk.start();
    this.#ready = Promise.all(this.disks.map((disk) => disk.ready)).then(() => {
      this.#isReady = true;
    });
  }

  get blocks(): number {
    return this.disks.reduce((sum, disk) => sum + disk.blocks, 0);
  }

  /** Bytes on the disks, as counted. */
  get bytes(): number {
    return this.disks.reduce((sum, disk) => sum + disk.bytes, 0);
  }

  get pendingBytes(): number {
    return this.disks.reduce((sum, disk) => sum + disk.pendingBytes, 0);
  }

  /** Directories that are not written to now. */
  get failing(): number {
    return this.disks.filter(({ state }) => state !== 'up').length;
  }

  /** Resolves when the directories have been made, or could not be. Never rejects. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** Where the block belongs; undefined where no directory is written to. Before `ready` that is not known, but for a single one. */
  ownerOf(number: number, length: number): DiskCache | undefined {
    if (this.#only) return this.#only;
    if (!this.#isReady) return undefined;
    this.#shares ??= this.#share();
    const { disks, ring } = this.#shares;
    const { geometry, hashPrefix } = this.#options;
    const owner = ring.owner(blockKey(geometry.id(number), geometry.index(number), length, hashPrefix));
    return owner === undefined ? undefined : disks[owner];
  }

  /** True where the block is likely there. */
  has(number: number): boolean {
    return this.#holder(number) !== undefined;
  }

  /** Fills `target` from `offset` of a block of `length` bytes if that needs no waiting. */
  readSync(number: number, length: number, offset: number, target: Buffer): boolean {
    return this.#holder(number)?.readSync(number, length, offset, target) === true;
  }

  /** See DiskCache.read. */
  async read(number: number, length: number, offset: number, target: Buffer, own = false): Promise<boolean> {
    if (!this.#isReady) await this.#ready;
    const disk = this.#holder(number) ?? this.ownerOf(number, length);
    return disk !== undefined && disk.read(number, length, offset, target, own);
  }

  /** Writes the block in the background; drops it where the disk is full, broken or slow. Holds the block meanwhile. */
  write(number: number, block: Block): void {
    if (!this.#only && this.has(number)) return;
    if (!this.#only && !this.#isReady) return this.#writeLater(number, block);
    const owner = this.ownerOf(number, block.length);
    if (owner) owner.write(number, block);
    else this.figures.drops++;
  }

  /** Writes the block and waits until it is there, first for room among those to be written. False where it could not be kept. */
  async keep(number: number, block: Block): Promise<boolean> {
    await this.#ready;
    const disk = this.#holder(number) ?? this.ownerOf(number, block.length);
    return disk !== undefined && disk.keep(number, block);
  }

  /** Whether the block lies there, once what is being written of it is. */
  async holds(number: number): Promise<boolean> {
    const disk = this.#holder(number);
    return disk !== undefined && disk.holds(number);
  }

  /** Where the block lies; undefined where it does not. */
  locate(number: number): string | undefined {
    return this.#holder(number)?.folder;
  }

  /** Drops the block of `length` bytes, unless it is the only copy there is. */
  evict(number: number, length: number): void {
    for (const disk of this.disks) disk.evict(number, length);
  }

  /** Forgets the block of `length` bytes and deletes its files. */
  remove(number: number, length: number): void {
    for (const disk of this.disks) disk.remove(number, length);
  }

  /** Resolves when nothing is being written, read or scanned. */
  async settled(): Promise<void> {
    await this.#ready;
    await Promise.all(this.disks.map((disk) => disk.settled()));
  }

  async close(): Promise<void> {
    await this.#ready;
    await Promise.all(this.disks.map((disk) => disk.close()));
  }

  /** It is not known yet whose it is: some milliseconds after the start. */
  #writeLater(number: number, block: Block): void {
    const { maxPendingBytes = MOST_PENDING } = this.#options;
    if (this.#earlyBytes + block.length > maxPendingBytes) {
      this.figures.drops++;
      return;
    }
    this.#earlyBytes += block.length;
    block.retain();
    void this.#ready.then(() => {
      this.#earlyBytes -= block.length;
      this.write(number, block);
      block.release();
    });
  }

  #holder(number: number): DiskCache | undefined {
    if (this.#only) return this.#only.has(number) ? this.#only : undefined;
    return this.disks.find((disk) => disk.has(number));
  }

  #share(): { readonly disks: readonly DiskCache[]; readonly ring: HashRing } {
    const disks = this.disks.filter(({ state }) => state === 'up');
    const ids = disks.map(({ id, folder }) => id ?? folder);
    // A directory that was copied has the id of the other one.
    const ring = new HashRing(ids.map((id, at) => (ids.indexOf(id) === at ? id : `${id}${disks[at]?.folder ?? ''}`)));
    return { disks, ring };
  }
}
