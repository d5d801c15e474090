/**
 * Which of several cache directories a block goes to: a consistent hash, so that a directory that comes or goes moves its own share
 * only. The very ring of JuiceFS, so that directories that one client has filled serve the other: murmur3 of the block's key on a ring of
 * 100 points a directory, `<n><id>` each, whose number is then adjusted in five rounds until the shares are about equal. A
 * directory's id is what its `.lock` holds. Source: JuiceFS, pkg/chunk/disk_cache.go (newCacheManager, getStore), and the module
 * github.com/davies/groupcache/consistenthash it uses.
 */

const POINTS = 100;
const ROUNDS = 5;
const PACE = 0.75;
const CIRCLE = 2 ** 32;

const rotated = (value: number, by: number): number => (value << by) | (value >>> (32 - by));

/** MurmurHash3 x86, 32 bits, seed 0, of a text's bytes. Source: Austin Appleby's MurmurHash3.cpp. */
export function murmur3(text: string): number {
  const bytes = Buffer.from(text);
  const whole = bytes.length & ~3;
  let hash = 0;
  const scrambled = (word: number): number => Math.imul(rotated(Math.imul(word, 0xcc9e2d51), 15), 0x1b873593);
  for (let at = 0; at < whole; at += 4)
    hash = (Math.imul(rotated(hash ^ scrambled(bytes.readInt32LE(at)), 13), 5) + 0xe6546b64) | 0;
  let rest = 0;
  for (let at = bytes.length - 1; at >= whole; at--) rest = (rest << 8) | (bytes[at] ?? 0);
  if (whole < bytes.length) hash ^= scrambled(rest);
  hash ^= bytes.length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Of the ids given; 0.5 KiB each, some microseconds a look-up. */
export class HashRing {
  readonly #ids: readonly string[];
  #hashes: Uint32Array = new Uint32Array();
  #owners: Uint16Array = new Uint16Array();

  /** Ids that are all different; empty ones are as good as others. */
  constructor(ids: readonly string[]) {
    this.#ids = ids;
    let points: readonly number[] = ids.map(() => POINTS);
    this.#place(points);
    if (ids.length <= 1) return;
    for (let round = 0; round < ROUNDS; round++) {
      points = this.#adjusted(points);
      this.#place(points);
    }
  }

  /** The place of the id that owns the key; undefined where there are none. */
  owner(key: string): number | undefined {
    if (this.#ids.length <= 1) return this.#ids.length === 1 ? 0 : undefined;
    const hash = murmur3(key);
    let [from, to] = [0, this.#hashes.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((this.#hashes[middle] ?? 0) >= hash) to = middle;
      else from = middle + 1;
    }
    return this.#owners[from === this.#hashes.length ? 0 : from];
  }

  #place(points: readonly number[]): void {
    const placed: (readonly [hash: number, owner: number])[] = [];
    for (const [owner, id] of this.#ids.entries())
      for (let n = 0; n < (points[owner] ?? 0); n++) placed.push([murmur3(`${n}${id}`), owner]);
    placed.sort(([one], [other]) => one - other);
    this.#hashes = Uint32Array.from(placed, ([hash]) => hash);
    this.#owners = Uint16Array.from(placed, ([, owner]) => owner);
  }

  /** How many points each is to have next. That one point more counts as none is the original's. */
  #adjusted(points: readonly number[]): number[] {
    const shares = new Map<number, number>();
    let before = (this.#hashes.at(-1) ?? 0) - CIRCLE;
    for (const [at, hash] of this.#hashes.entries()) {
      const owner = this.#owners[at] ?? 0;
      shares.set(owner, (shares.get(owner) ?? 0) + hash - before);
      before = hash;
    }
    const wanted = 1 / this.#ids.length;
    return points.map((count, at) => {
      const share = shares.get(at);
      if (share === undefined) return count;
      const more = Math.trunc(((count * (wanted - share / CIRCLE)) / wanted) * PACE);
      return more === 1 ? count : count + more;
    });
  }
}
