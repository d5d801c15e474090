/**
 * What a slice holds of a file when it was not written in one piece: ranges of the file, each somewhere in the slice. Newer bytes
 * hide older ones. Ranges are kept in the order of the file and never overlap; neighbours that lie in one piece in the slice
 * are one range.
 *
 * So scattered writes go into the store together, one object for a thousand of them, and the metadata gets a record for each
 * range. Nothing between them is written: what another client writes there at the same time stays.
 */
import { CHUNK_SIZE, type SlicePart } from '../meta/types.ts';

interface Range {
  /** In the file. */
  begin: number;
  end: number;
  /** In the slice. */
  off: number;
}

export class Pack {
  readonly #ranges: Range[] = [];

  /** One range, `length` bytes of the file from `begin` on, at the start of the slice. */
  static of(begin: number, length: number): Pack {
    const pack = new Pack();
    pack.put(begin, begin + length, 0);
    return pack;
  }

  /** How many ranges there are. */
  get size(): number {
    return this.#ranges.length;
  }

  /** Index of the first range that ends after `offset`. */
  #after(offset: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ranges[middle]?.end ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  overlaps(begin: number, end: number): boolean {
    const range = this.#ranges[this.#after(begin)];
    return range !== undefined && range.begin < end;
  }

  /** Where `[begin, end)` lies in the slice, if it is part of one range. */
  whereIs(begin: number, end: number): number | undefined {
    const range = this.#ranges[this.#after(begin)];
    return range && range.begin <= begin && end <= range.end ? range.off + begin - range.begin : undefined;
  }

  /** Whether a range ends at `offset` of the file, and not at the end of the slice, `length`: the write after it goes elsewhere. */
  continues(offset: number, length: number): boolean {
    const range = this.#ranges[this.#after(offset - 1)];
    return range?.end === offset && range.off + range.end - range.begin !== length;
  }

  /** Takes note that `[begin, end)` of the file lies at `off` of the slice; what lay there of older ranges is hidden. */
  put(begin: number, end: number, off: number): void {
    const first = this.#after(begin);
    let last = first;
    const kept: Range[] = [];
    for (let range = this.#ranges[last]; range && range.begin < end; range = this.#ranges[++last]) {
      if (range.begin < begin) kept.push({ begin: range.begin, end: begin, off: range.off });
      if (range.end > end) kept.push({ begin: end, end: range.end, off: range.off + end - range.begin });
    }
    const before = kept[0]?.end === begin ? kept[0] : this.#ranges[first - 1];
    if (before && before.end === begin && before.off + before.end - before.begin === off) {
      before.end = end;
      this.#ranges.splice(first, last - first, ...kept);
      return;
    }
    kept.splice(kept[0] && kept[0].end <= begin ? 1 : 0, 0, { begin, end, off });
    this.#ranges.splice(first, last - first, ...kept);
  }

  /** The ranges as metadata names them, cut at the ends of chunks. */
  parts(): readonly SlicePart[] {
    const parts: SlicePart[] = [];
    for (const { begin, end, off } of this.#ranges)
      for (let at = begin; at < end;) {
        const index = Math.floor(at / CHUNK_SIZE);
        const pos = at - index * CHUNK_SIZE;
        const len = Math.min(end - at, CHUNK_SIZE - pos);
        parts.push({ index, pos, off: off + at - begin, len });
        at += len;
      }
    return parts;
  }
}
