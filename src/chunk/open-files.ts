/** Cached blocks that are kept open, the least recently used closed first: at most `most` of them. */
import type { CacheFile } from './cache-file.ts';

export class OpenFiles {
  readonly #most: number;
  /** Least recently used first. */
  readonly #files = new Map<number, CacheFile>();

  constructor(most: number) {
    this.#most = most;
  }

  /** The file of a block, which is used now. */
  get(number: number): CacheFile | undefined {
    const file = this.#files.get(number);
    // While there is much room the order does not matter.
    if (file && this.#files.size > this.#most / 2) {
      this.#files.delete(number);
      this.#files.set(number, file);
    }
    return file;
  }

  /** Keeps it, and answers it; or the one that is there already, and closes this one. */
  keep(number: number, file: CacheFile): CacheFile {
    const other = this.#files.get(number);
    if (other) {
      file.close();
      return other;
    }
    this.#files.set(number, file);
    if (this.#files.size > this.#most) {
      const [oldest] = this.#files.keys();
      if (oldest !== undefined) this.close(oldest);
    }
    return file;
  }

  close(number: number): void {
    const file = this.#files.get(number);
    if (!file) return;
    this.#files.delete(number);
    file.close();
  }

  closeAll(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}
