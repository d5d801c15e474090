/**
 * The memory of the fake API server: objects, one resource version for all, the history that watches read, and who watches.
 *
 * Stored objects are never changed in place. Each write is one version; compaction forgets history up to a version, and a
 * watch or continue token older than that is Gone.
 */
import type { KubeObject } from '../types.ts';

export interface HistoryEvent {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** "group/plural" */
  readonly kind: string;
  readonly object: KubeObject;
  readonly previous: KubeObject | undefined;
}

/** What one watch receives, and how it is broken. */
export interface Watcher {
  readonly kind: string;
  push(event: HistoryEvent): void;
  bookmark(version: number): void;
  /** 'reset' breaks the stream inside a line, 'end' closes it, 'mute' leaves it open and silent, 'gone' sends ERROR 410. */
  end(how: 'reset' | 'end' | 'mute' | 'gone'): void;
}

export class Storage {
  readonly #kinds = new Map<string, Map<string, KubeObject>>();
  readonly #history: HistoryEvent[] = [];
  readonly watchers = new Set<Watcher>();
  version = 1000;
  compacted = 0;

  #kind(kind: string): Map<string, KubeObject> {
    let objects = this.#kinds.get(kind);
    if (!objects) this.#kinds.set(kind, (objects = new Map()));
    return objects;
  }

  get(kind: string, key: string): KubeObject | undefined {
    return this.#kind(kind).get(key);
  }

  /** All objects of a kind, by key as etcd orders them. */
  list(kind: string): readonly KubeObject[] {
    return [...this.#kind(kind)].toSorted(([left], [right]) => (left < right ? -1 : 1)).map(([, object]) => object);
  }

  *all(): IterableIterator<readonly [kind: string, key: string, object: KubeObject]> {
    for (const [kind, objects] of this.#kinds) for (const [key, object] of objects) yield [kind, key, object];
  }

  /** Writes the next version of an object, or its end; answers it as stored. */
  write(kind: string, key: string, object: KubeObject, type: HistoryEvent['type']): KubeObject {
    const version = ++this.version;
    const stored: KubeObject = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const previous = this.#kind(kind).get(key);
    if (type === 'DELETED') this.#kind(kind).delete(key);
    else this.#kind(kind).set(key, stored);
    const event: HistoryEvent = { version, type, kind, object: stored, previous };
    this.#history.push(event);
    for (const watcher of this.watchers) if (watcher.kind === kind) watcher.push(event);
    return stored;
  }

  /** Versions up to this one are forgotten. */
  compact(version: number = this.version): void {
    this.compacted = Math.max(this.compacted, Math.min(version, this.version));
    const keep = this.#history.findIndex((event) => event.version > this.compacted);
    this.#history.splice(0, keep < 0 ? this.#history.length : keep);
  }

  /** As after the restore of a backup: versions start again from a smaller one, and history is gone. Objects stay. */
  restore(version: number): void {
    this.version = version;
    this.compacted = 0;
    this.#history.length = 0;
  }

  /** History after a version. */
  since(kind: string, version: number): readonly HistoryEvent[] {
    return this.#history.filter((event) => event.kind === kind && event.version > version);
  }
}
