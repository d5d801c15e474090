/**
 * Directories that are to be removed, each after all that lies in it: the list shows a directory before its contents, so it is kept
 * until the list has left it and what was begun before is done. Bound: the depth of the tree, and 1000 that were left.
 */
import type { Entry } from './side.ts';

const MOST = 1000;

export class Removals {
  readonly #open: Entry[] = [];
  #left: Entry[] = [];
  readonly #settle: () => Promise<void>;
  readonly #remove: (directory: Entry) => Promise<void>;

  /** `settle` waits for what was begun; `remove` must not fail. */
  constructor(settle: () => Promise<void>, remove: (directory: Entry) => Promise<void>) {
    this.#settle = settle;
    this.#remove = remove;
  }

  add(directory: Entry): void {
    this.#open.push(directory);
  }

  /** The list has come to this key. */
  async at(key: string): Promise<void> {
    for (let top = this.#open.at(-1); top && !key.startsWith(top.key); top = this.#open.at(-1)) {
      this.#left.push(top);
      this.#open.pop();
    }
    if (this.#left.length >= MOST) await this.#clear();
  }

  /** The list has come to its end. */
  async end(): Promise<void> {
    this.#left.push(...this.#open.splice(0).toReversed());
    await this.#clear();
  }

  async #clear(): Promise<void> {
    if (this.#left.length === 0) return;
    const directories = this.#left;
    this.#left = [];
    await this.#settle();
    for (const directory of directories) await this.#remove(directory);
  }
}
