/**
 * The names of one directory in key order, whatever order they come in, without having all of them in memory: of a directory with
 * more than `run` names, sorted runs go to a temporary file (which has no name there any more) and are merged from it.
 *
 * Bounds: `run` names, and 32 KiB for each run: some 10 MiB for five million names. On disk: the names and 10 bytes each.
 */
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Ino, ino } from '../lib/int64.ts';
import { systemRandom } from '../lib/random.ts';
import { byKey } from './side.ts';

export interface Name {
  readonly key: string;
  readonly ref?: Ino;
}

const RUN = 50_000;
const BATCH = 1024;
const BUFFER = 32 * 1024;
/** Of a record: the length of the key before it, the reference behind it. */
const LENGTH = 2;
const REF = 8;
const MAX_KEY = 16 * 1024;

export async function* ordered(names: AsyncIterable<Name>, run: number = RUN): AsyncGenerator<readonly Name[]> {
  let kept: Name[] = [];
  let spill: Spill | undefined;
  try {
    for await (const name of names) {
      if (kept.push(name) < run) continue;
      spill ??= new Spill();
      kept.sort(byKey);
      spill.add(kept);
      kept = [];
    }
    kept.sort(byKey);
    if (!spill) {
      if (kept.length > 0) yield kept;
      return;
    }
    spill.add(kept);
    kept = [];
    yield* spill.merged();
  } finally {
    spill?.close();
  }
}

/** Sorted runs in a file. */
class Spill {
  readonly #fd: number;
  readonly #runs: { readonly from: number; readonly to: number }[] = [];
  #end = 0;

  constructor() {
    const path = join(tmpdir(), `juicepod-names-${process.pid}-${systemRandom.bytes(8).toString('hex')}`);
    this.#fd = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
  }

  add(names: readonly Name[]): void {
    const from = this.#end;
    const buffer = Buffer.allocUnsafeSlow(BUFFER);
    let filled = 0;
    const flush = (): void => {
      for (let done = 0; done < filled;) done += writeSync(this.#fd, buffer, done, filled - done, this.#end + done);
      this.#end += filled;
      filled = 0;
    };
    for (const { key, ref } of names) {
      if (key.length > MAX_KEY) throw new Error(`a path of ${key.length} bytes is longer than can be copied`);
      if (filled + LENGTH + key.length + REF > BUFFER) flush();
      filled = buffer.writeUInt16LE(key.length, filled);
      filled += buffer.write(key, filled, 'latin1');
      filled = buffer.writeDoubleLE(ref ?? -1, filled);
    }
    flush();
    this.#runs.push({ from, to: this.#end });
  }

  *merged(): Generator<readonly Name[]> {
    const heap = new Heap();
    for (const { from, to } of this.#runs) heap.add(this.#read(from, to));
    let batch: Name[] = [];
    for (let name = heap.take(); name; name = heap.take()) {
      if (batch.push(name) < BATCH) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }

  *#read(from: number, to: number): Generator<Name> {
    const buffer = Buffer.allocUnsafeSlow(BUFFER);
    let filled = 0;
    let at = 0;
    for (let position = from; ;) {
      const size = filled - at < LENGTH ? Infinity : LENGTH + buffer.readUInt16LE(at) + REF;
      if (filled - at < size) {
        if (position === to) return;
        buffer.copyWithin(0, at, filled);
        filled -= at;
        at = 0;
        const count = readSync(this.#fd, buffer, filled, Math.min(BUFFER - filled, to - position), position);
        if (count === 0) throw new Error('the temporary file of names became shorter');
        filled += count;
        position += count;
        continue;
      }
      const key = buffer.toString('latin1', at + LENGTH, at + size - REF);
      const ref = buffer.readDoubleLE(at + size - REF);
      at += size;
      yield ref < 0 ? { key } : { key, ref: ino(ref) };
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Runs by their first name, the least on top. */
class Heap {
  readonly #runs: { name: Name; readonly rest: Generator<Name> }[] = [];

  add(run: Generator<Name>): void {
    const { value } = run.next();
    if (!value) return;
    this.#runs.push({ name: value as Name, rest: run });
    for (
      let at = this.#runs.length - 1, above = (at - 1) >> 1;
      at > 0 && this.#swap(at, above);
      at = above, above = (at - 1) >> 1
    );
  }

  /** The least name of all; undefined where there are none any more. */
  take(): Name | undefined {
    const top = this.#runs[0];
    if (!top) return undefined;
    const { name } = top;
    const { value } = top.rest.next();
    if (value) top.name = value as Name;
    else {
      const last = this.#runs.pop()!;
      if (this.#runs.length === 0) return name;
      this.#runs[0] = last;
    }
    for (let at = 0; ;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      if (left >= this.#runs.length) break;
      const least = right < this.#runs.length && this.#runs[right]!.name.key < this.#runs[left]!.name.key ? right : left;
      if (!this.#swap(least, at)) break;
      at = least;
    }
    return name;
  }

  /** Swaps two where the lower one is less. */
  #swap(lower: number, upper: number): boolean {
    const [low, up] = [this.#runs[lower]!, this.#runs[upper]!];
    if (low.name.key >= up.name.key) return false;
    this.#runs[lower] = up;
    this.#runs[upper] = low;
    return true;
  }
}
