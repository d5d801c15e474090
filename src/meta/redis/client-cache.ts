/**
 * Names and attributes as the server had them when it was asked, until somebody changes them: what `client-cache` of the
 * metadata URL asks for. Who hears of changes (tracking.ts) calls `changed`; without somebody who hears of them, nothing is kept.
 *
 * A read and the news of a change come over different connections, so the news may be there first. Therefore a read takes a
 * ticket before it is sent; what changed since then is not kept.
 *
 * Bounds: `size` nodes and `size` names, the least recently used go first (of names, a directory at a time): some 0.6 KiB each
 * at most. Changes are noted only while reads are out, MAX_NOTED of them; then the reads that are out are not kept.
 */
import type { Clock } from '../../lib/clock.ts';
import type { EntryValue } from '../engine.ts';
import type { Attr } from '../types.ts';

const MAX_NOTED = 10_000;

interface Kept<T> {
  readonly value: T;
  readonly until: number;
}

export interface ClientCacheOptions {
  readonly clock: Clock;
  /** Nodes, and names, at most. */
  readonly size: number;
  /** How long anything is kept at most, ms. */
  readonly expire: number;
}

/** A ticket of somebody who may not keep anything. */
export const NO_TICKET = 0;

export class ClientCache {
  readonly #options: ClientCacheOptions;
  readonly #nodes = new Map<string, Kept<Attr>>();
  readonly #directories = new Map<string, Map<string, Kept<EntryValue | null>>>();
  #names = 0;
  readonly #noted = new Map<string, number>();
  #sequence = 0;
  /** Tickets up to this one are void. */
  #floor = 0;
  #out = 0;
  #listening = false;

  constructor(options: ClientCacheOptions) {
    this.#options = options;
  }

  /** Whether somebody hears of changes now. Each time that begins or ends, everything is forgotten. */
  listen(listening: boolean): void {
    this.#listening = listening;
    this.clear();
  }

  /** Forgets everything, and what is being read. */
  clear(): void {
    this.#nodes.clear();
    this.#directories.clear();
    this.#noted.clear();
    this.#names = 0;
    this.#floor = this.#sequence;
  }

  /** The attributes under this key, where they are known. */
  node(key: string): Attr | undefined {
    const kept = this.#nodes.get(key);
    if (!kept) return undefined;
    this.#nodes.delete(key);
    if (kept.until < this.#options.clock.monotonic()) return undefined;
    this.#nodes.set(key, kept);
    return kept.value;
  }

  /** The entry of a name in the directory under this key, `null` where there is none; undefined where that is not known. */
  entry(key: string, name: Buffer): EntryValue | null | undefined {
    const directory = this.#directories.get(key);
    const kept = directory?.get(name.toString('latin1'));
    if (!directory || !kept || kept.until < this.#options.clock.monotonic()) return undefined;
    this.#directories.delete(key);
    this.#directories.set(key, directory);
    return kept.value;
  }

  /** Before a read is sent; `end` must follow. */
  begin(): number {
    if (!this.#listening) return NO_TICKET;
    this.#out++;
    return ++this.#sequence;
  }

  /** After what was read has been kept, or not. */
  end(ticket: number): void {
    if (ticket !== NO_TICKET && --this.#out === 0) this.#noted.clear();
  }

  keepNode(ticket: number, key: string, attr: Attr): void {
    if (!this.#mayKeep(ticket, key)) return;
    this.#nodes.delete(key);
    if (this.#nodes.size >= this.#options.size) for (const [oldest] of this.#nodes) if (this.#nodes.delete(oldest)) break;
    this.#nodes.set(key, { value: attr, until: this.#until() });
  }

  keepEntry(ticket: number, key: string, name: Buffer, value: EntryValue | null): void {
    if (!this.#mayKeep(ticket, key)) return;
    if (this.#names >= this.#options.size) for (const [oldest] of this.#directories) if (this.#forget(oldest)) break;
    const directory = this.#directories.get(key) ?? new Map<string, Kept<EntryValue | null>>();
    this.#directories.set(key, directory);
    this.#names -= directory.size;
    directory.set(name.toString('latin1'), { value, until: this.#until() });
    this.#names += directory.size;
  }

  /** What is under this key is, or may be, another one by now. */
  changed(key: string): void {
    this.#nodes.delete(key);
    this.#forget(key);
    if (this.#out === 0) return;
    if (this.#noted.size >= MAX_NOTED) {
      this.#noted.clear();
      this.#floor = this.#sequence;
    }
    this.#noted.set(key, ++this.#sequence);
  }

  #forget(key: string): boolean {
    this.#names -= this.#directories.get(key)?.size ?? 0;
    return this.#directories.delete(key);
  }

  #mayKeep(ticket: number, key: string): boolean {
    return this.#listening && ticket > this.#floor && (this.#noted.get(key) ?? 0) < ticket;
  }

  #until(): number {
    return this.#options.clock.monotonic() + this.#options.expire;
  }
}
