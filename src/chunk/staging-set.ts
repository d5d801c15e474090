/** What is staged in several cache directories: each block in the one that it belongs to (disks.ts). See staging.ts. */
import type { DiskCaches } from './disks.ts';
import type { Block } from './pool.ts';
import type { StagedAmount, Staging } from './staging.ts';

export class StagingSet {
  readonly #disks: DiskCaches;
  readonly #stagings: readonly Staging[];
  /** Resolves when it is known what earlier clients have left. Never rejects. */
  readonly ready: Promise<void>;

  constructor(disks: DiskCaches, stagings: readonly Staging[]) {
    this.#disks = disks;
    this.#stagings = stagings;
    this.ready = Promise.all(stagings.map(({ ready }) => ready)).then(() => undefined);
  }

  get staged(): StagedAmount {
    return total(this.#stagings.map(({ staged }) => staged));
  }

  /** Figures by JuiceFS's names. */
  stats(): Readonly<Record<string, number>> {
    const sums: Record<string, number> = {};
    for (const staging of this.#stagings)
      for (const [name, value] of Object.entries(staging.stats())) sums[name] = (sums[name] ?? 0) + value;
    return sums;
  }

  /** Stages the block. False where it has to be uploaded by the caller. Never rejects; the block stays the caller's. */
  async stage(number: number, block: Block): Promise<boolean> {
    await this.#disks.ready;
    const owner = this.#disks.ownerOf(number, block.length);
    const staging = this.#stagings.find(({ disk }) => disk === owner);
    return staging !== undefined && staging.stage(number, block);
  }

  /**
   * The slice of the block is gone: drops it. Undefined where it is not staged here; else resolves when its file is gone, with
   * whether there may be an object. Never rejects.
   */
  remove(number: number, length: number): Promise<boolean> | undefined {
    const removals = this.#stagings.flatMap((staging) => staging.remove(number, length) ?? []);
    if (removals.length === 0) return undefined;
    return Promise.all(removals).then((results) => results.includes(true));
  }

  /**
   * Uploads everything without delay, and stages nothing from now on. Resolves when nothing is left, or the signal aborts, with
   * what is left then.
   */
  async drain(signal: AbortSignal): Promise<StagedAmount> {
    return total(await Promise.all(this.#stagings.map((staging) => staging.drain(signal))));
  }

  /** Ends uploads that are under way; what is staged stays so, for the next client. */
  async close(): Promise<void> {
    await Promise.all(this.#stagings.map((staging) => staging.close()));
  }
}

const total = (amounts: readonly StagedAmount[]): StagedAmount => ({
  blocks: amounts.reduce((sum, { blocks }) => sum + blocks, 0),
  bytes: amounts.reduce((sum, { bytes }) => sum + bytes, 0),
});
