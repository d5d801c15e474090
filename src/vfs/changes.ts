/**
 * What this client has changed lately, in order. Attributes are fetched from the database while data is committed behind them:
 * an answer that was asked for before a commit and told after it would make the file look shorter than it is, and the kernel,
 * which believes it, would cut its pages and append in the wrong place. So whoever asks takes the `moment` first, and hands it
 * in with the answer.
 *
 * Bounded: the last `LIMIT` files, and nodes, are remembered. Only an answer that was asked for so many changes ago could
 * slip through.
 */
import type { Ino } from '../lib/int64.ts';
import type { Attr } from '../meta/types.ts';

const LIMIT = 10_000;

export class Changes {
  readonly #data = new Map<Ino, { readonly at: number; readonly attr: Attr }>();
  readonly #nodes = new Map<Ino, number>();
  #moment = 0;
  /** Hears of each name that was changed. */
  onName: ((parent: Ino, name: Buffer) => void) | undefined;

  /** Grows with every change. */
  get moment(): number {
    return this.#moment;
  }

  /** The file's data was changed (commit, truncate, fallocate), with these attributes for an answer. */
  data(ino: Ino, attr: Attr): void {
    keep(this.#data, ino, { at: ++this.#moment, attr });
  }

  /** Something else of a node was changed: its attributes, or the names in a directory. */
  node(ino: Ino): void {
    keep(this.#nodes, ino, ++this.#moment);
  }

  /** A name in a directory was made, removed or replaced. */
  name(parent: Ino, name: Buffer): void {
    this.node(parent);
    this.onName?.(parent, name);
  }

  /** Attributes asked for at `moment`, with what was done to the data since. */
  current(ino: Ino, attr: Attr, moment: number): Attr {
    const change = this.#data.get(ino);
    if (!change || change.at <= moment) return attr;
    const { length, mtime, mtimensec, ctime, ctimensec } = change.attr;
    return { ...attr, length, mtime, mtimensec, ctime, ctimensec };
  }

  /** True where anything of the node was changed after `moment`. */
  since(ino: Ino, moment: number): boolean {
    return (this.#nodes.get(ino) ?? 0) > moment || (this.#data.get(ino)?.at ?? 0) > moment;
  }
}

function keep<V>(map: Map<Ino, V>, ino: Ino, value: V): void {
  if (!map.delete(ino) && map.size >= LIMIT) for (const oldest of map.keys()) if (map.delete(oldest)) break;
  map.set(ino, value);
}
