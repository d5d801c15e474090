/**
 * Directories that are to be removed, each after all that lies in it: the list shows a directory before its contents, so it is kept
 * until the list has left it and what was begun before is done. Bound: the depth of the tree, and 1000 that were left.
 */
import type { Entry } from './side.ts';

const MOST = 1000;

/** Keys of directories: those in which the list is, and those that it has left. */
export interface RemovalState {
  readonly open: readonly string[];
  readonly left: readonly string[];
}

const directoryOf = (key: string): Entry => ({ key, size: 0, mtimeMs: 0, isDirectory: true, isLink: false });

export class Removals {
  readonly #open: Entry[];
  readonly #left: Entry[];
  readonly #settle: () => Promise<void>;
  readonly #remove: (directory: Entry) => Promise<void>;

  /** `settle` waits for what was begun; where `remove` fails, its directory stays among those to be removed. */
  constructor(settle: () => Promise<void>, remove: (directory: Entry) => Promise<void>, { open, left }: RemovalState) {
    this.#settle = settle;
    this.#remove = remove;
    this.#open = open.map(directoryOf);
    this.#left = left.map(directoryOf);
  }

  /** For a run that goes on from here. */
  state(): RemovalState {
    return { open: this.#open.map(({ key }) => key), left: this.#left.map(({ key }) => key) };
  }

  add(directory: Entry): void {
    // What a run before this one had come to is listed again.
    if (this.#open.at(-1)?.key !== directory.key) this.#open.push(directory);
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
    await this.#settle();
    for (let next = this.#left[0]; next; next = this.#left[0]) {
      await this.#remove(next);
      this.#left.shift();
    }
  }
}
