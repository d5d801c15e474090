/**
 * A set of slice ids: one bit for each, in pages that are made when they are needed. Ids are given out in order, so this is an eighth of a
 * byte for each slice that the volume ever had, at most (12 MiB for a hundred million).
 */
const PAGE_BITS = 1 << 18;

export class SeenIds {
  readonly #pages = new Map<number, Uint8Array>();

  /** Takes an id in. True where it was not there yet. */
  add(id: number): boolean {
    const number = Math.floor(id / PAGE_BITS);
    let page = this.#pages.get(number);
    if (!page) this.#pages.set(number, (page = new Uint8Array(PAGE_BITS / 8)));
    const bit = id % PAGE_BITS;
    const mask = 1 << (bit & 7);
    const byte = page[bit >> 3] ?? 0;
    page[bit >> 3] = byte | mask;
    return (byte & mask) === 0;
  }
}
