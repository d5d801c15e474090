/**
 * Makes files whole in the cache directory (src/chunk/whole-folder.ts) out of their blocks, behind the programs: one at a time, with one block
 * of memory, and only what lies in the cache already. A file is taken in the state that its attributes tell, before it is copied and after.
 *
 * Bounds: `MAX_WANTED` files wait for it; of what whole files consist of, as much is remembered as of twice the files that there are.
 */
import type { ChunkStore } from '../chunk/types.ts';
import type { WholeFolder } from '../chunk/whole-folder.ts';
import { crc32c } from '../lib/crc32c.ts';
import { messageOf } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import { type Attr, type Meta, NodeType } from '../meta/types.ts';
import { contentOf, copyRanges, isCached, type Range, stateOf } from './content.ts';

/** Smaller files are not worth a file of their own: the kernel's page cache holds them. */
export const SMALLEST = 4 * 1024 * 1024;
const MAX_WANTED = 1024;

export interface WholeDependencies {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly folder: WholeFolder;
  readonly logger: Logger;
}

export class WholeMaker {
  readonly #with: WholeDependencies;
  readonly #wanted = new Set<Ino>();
  /** What files in the folder consist of, as far as known. */
  readonly #contents = new Map<Ino, readonly Range[]>();
  readonly #closing = new AbortController();
  #working: Promise<void> | undefined;

  constructor(dependencies: WholeDependencies) {
    this.#with = dependencies;
  }

  /** Asks for a file to be made whole, or for what an earlier client left of it to be verified. */
  want(ino: Ino): void {
    if (this.#closing.signal.aborted || this.#wanted.size >= MAX_WANTED) return;
    this.#wanted.add(ino);
    this.#working ??= this.#work().finally(() => (this.#working = undefined));
  }

  /** What the whole file of an inode consists of, where that is known. */
  content(ino: Ino): readonly Range[] | undefined {
    return this.#contents.get(ino);
  }

  /** Notes what it consists of now; undefined: nobody knows. */
  consists(ino: Ino, content: readonly Range[] | undefined): void {
    if (!content) return void this.#contents.delete(ino);
    this.#contents.set(ino, content);
    const { folder } = this.#with;
    if (this.#contents.size > 2 * folder.count + MAX_WANTED)
      for (const known of this.#contents.keys()) if (!folder.get(known)) this.#contents.delete(known);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#wanted.clear();
    await this.#working;
  }

  async #work(): Promise<void> {
    const { logger } = this.#with;
    for (const ino of this.#wanted) {
      this.#wanted.delete(ino);
      try {
        await this.#make(ino);
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        logger.debug('a file could not be made whole in the cache', { ino, error: messageOf(error) });
      }
    }
  }

  async #make(ino: Ino): Promise<void> {
    const { chunks, folder, meta } = this.#with;
    const { signal } = this.#closing;
    const attr = await attributesOf(meta, ino);
    if (attr?.type !== NodeType.File || attr.length < SMALLEST || attr.length > folder.maxBytes) return;
    const state = stateOf(attr);
    if (folder.find(ino, state)) return;
    const content = await contentIn(meta, ino, attr);
    if (!content) return;
    if (await folder.verify(ino, state, signal)) return this.consists(ino, content);
    if (!isCached(chunks, content)) return;
    const made = await folder.make(ino, attr.length, async (write) => {
      let crc = 0;
      const take = async (bytes: Buffer, at: number, hole: boolean): Promise<void> => {
        crc = crc32c(bytes, crc);
        if (!hole) await write(bytes, at);
      };
      await copyRanges(chunks, content, take, signal);
      return { key: state, crc };
    });
    if (made) this.consists(ino, content);
  }
}

/** Fresh attributes; undefined where the inode is gone. */
export async function attributesOf(meta: Meta, ino: Ino): Promise<Attr | undefined> {
  const [attr] = await meta.attributes([ino]);
  return attr;
}

/** What the file consists of in the state of these attributes; undefined where it has another one by now. */
export async function contentIn(meta: Meta, ino: Ino, attr: Attr): Promise<readonly Range[] | undefined> {
  const content = await contentOf(meta, ino, attr.length);
  const now = await attributesOf(meta, ino);
  return now && stateOf(now) === stateOf(attr) ? content : undefined;
}
