/**
 * Who asks for a volume and goes without it: pods that slipped past the webhook, and workloads whose pods are refused. Kept in
 * memory, found anew after a start. Bound: an entry for each such pod or workload, which has at most 16 volumes.
 */
import { AnnotationError, parseVolumes } from '../../api/annotation.ts';
import { annotations } from '../../api/group.ts';
import { mapOf } from '../../lib/json.ts';

export interface Unserved {
  /** For people: `pod team-a/app`, `Deployment team-a/train`. */
  readonly who: string;
  /** Namespace of its pods. */
  readonly namespace: string;
  /** It has pods, and they run without the volume; false: it gets none. */
  readonly runs: boolean;
  /** What is wrong: one word, or the sentence of the refusal. */
  readonly why: string;
  /** Keys of the volumes, `namespace/name`. */
  readonly volumes: readonly string[];
}

/** The volumes that a pod, or the template of one, asks for; none where the annotation cannot be read. */
export function askedBy(metadata: unknown, namespace: string): readonly string[] {
  const text = mapOf(mapOf(metadata)['annotations'])[annotations.volumes];
  if (typeof text !== 'string') return [];
  try {
    return [...new Set(parseVolumes(text).map((request) => `${request.namespace ?? namespace}/${request.name}`))];
  } catch (error) {
    if (error instanceof AnnotationError) return [];
    throw error;
  }
}

export class Ledger {
  readonly #entries = new Map<string, Unserved>();
  readonly #byVolume = new Map<string, Set<string>>();
  readonly #listeners: ((volume: string) => void)[] = [];

  /** Called with the key of each volume for which something has changed. */
  onChange(listener: (volume: string) => void): void {
    this.#listeners.push(listener);
  }

  /** Notes an entry under a key of the caller's; undefined takes it away. */
  set(key: string, entry: Unserved | undefined): void {
    const before = this.#entries.get(key);
    if (before === entry) return;
    for (const volume of before?.volumes ?? []) {
      const keys = this.#byVolume.get(volume);
      keys?.delete(key);
      if (keys?.size === 0) this.#byVolume.delete(volume);
    }
    if (entry) this.#entries.set(key, entry);
    else this.#entries.delete(key);
    for (const volume of entry?.volumes ?? []) {
      const keys = this.#byVolume.get(volume) ?? new Set();
      this.#byVolume.set(volume, keys.add(key));
    }
    for (const volume of new Set([...(before?.volumes ?? []), ...(entry?.volumes ?? [])]))
      for (const listener of this.#listeners) listener(volume);
  }

  get(key: string): Unserved | undefined {
    return this.#entries.get(key);
  }

  values(): Iterable<Unserved> {
    return this.#entries.values();
  }

  /** Who goes without a volume, by name. */
  of(volume: string): readonly Unserved[] {
    return [...(this.#byVolume.get(volume) ?? [])]
      .map((key) => this.#entries.get(key))
      .filter((entry) => entry !== undefined)
      .toSorted((a, b) => (a.who < b.who ? -1 : 1));
  }
}
