/**
 * One watch of the fake API server: events as lines of JSON, in chunks that break lines anywhere.
 *
 * A consumer that is too slow is cut off: beyond `MAX_PENDING` chunks the stream is reset, as the real server closes it.
 */
import type { KubeObject } from '../types.ts';
import type { Selector } from './fake-selectors.ts';
import type { HistoryEvent, Watcher } from './fake-storage.ts';

const MAX_PENDING = 1000;

export interface WatchSettings {
  readonly kind: string;
  readonly apiVersion: string;
  readonly kindName: string;
  readonly select: Selector;
  /** What is sent of an object (metadata only, or all). */
  readonly project: (object: KubeObject) => unknown;
  readonly onClose: () => void;
}

/** What a broken connection looks like to undici. */
export function connectionReset(): Error {
  return Object.assign(new Error('other side closed'), { code: 'ECONNRESET' });
}

export class FakeWatch implements Watcher, AsyncIterable<Uint8Array> {
  readonly kind: string;
  readonly #settings: WatchSettings;
  readonly #pending: Buffer[] = [];
  #sent = 0;
  #wake: (() => void) | undefined;
  #state: 'open' | 'mute' | 'ended' | 'reset' = 'open';

  constructor(settings: WatchSettings) {
    this.kind = settings.kind;
    this.#settings = settings;
  }

  #send(type: string, object: unknown): void {
    if (this.#state !== 'open') return;
    const line = Buffer.from(`${JSON.stringify({ type, object })}\n`);
    // Two chunks per line, so that readers meet lines that are not whole.
    const middle = 1 + ((line.length * 31 + this.#sent++) % (line.length - 1));
    this.#pending.push(line.subarray(0, middle), line.subarray(middle));
    this.#notify();
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  push(event: HistoryEvent): void {
    const { select, project } = this.#settings;
    const now = event.type !== 'DELETED' && select(event.object);
    const before = event.previous !== undefined && select(event.previous);
    if (now) this.#send(before ? 'MODIFIED' : 'ADDED', project(event.object));
    else if (before) this.#send('DELETED', project(event.object));
    if (this.#pending.length > MAX_PENDING) this.end('reset');
  }

  /** An object that is there when the watch starts. */
  initial(object: KubeObject): void {
    if (this.#settings.select(object)) this.#send('ADDED', this.#settings.project(object));
  }

  bookmark(version: number, annotations?: Readonly<Record<string, string>>): void {
    const { apiVersion, kindName } = this.#settings;
    this.#send('BOOKMARK', {
      apiVersion,
      kind: kindName,
      metadata: { resourceVersion: String(version), creationTimestamp: null, ...(annotations ? { annotations } : {}) },
    });
  }

  error(code: number, reason: string, message: string): void {
    this.#send('ERROR', { apiVersion: 'v1', kind: 'Status', metadata: {}, status: 'Failure', code, reason, message });
  }

  end(how: 'reset' | 'end' | 'mute' | 'gone'): void {
    if (how === 'gone') this.error(410, 'Expired', 'too old resource version');
    if (this.#state !== 'open' && this.#state !== 'mute') return;
    this.#state = how === 'mute' ? 'mute' : how === 'reset' ? 'reset' : 'ended';
    // Half a line is what a reset leaves.
    if (how === 'reset' && this.#pending.length % 2 === 0) this.#pending.pop();
    this.#notify();
  }

  /** Ends it from the consumer's side. */
  close(): void {
    this.#state = 'ended';
    this.#pending.length = 0;
    this.#settings.onClose();
    this.#notify();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const chunk = this.#pending.shift();
        if (chunk) yield chunk;
        else if (this.#state === 'reset') throw connectionReset();
        else if (this.#state === 'ended') return;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this.close();
    }
  }
}
