/**
 * A store that another one takes the place of while it is used: other keys, another address. Requests that are under way end
 * with the store they began with, later ones go to the new one; the old one is closed when nobody uses it any more.
 *
 * A refusal (403) gives the owner a chance to switch; where it did, the call is made once more. Belongs below retry.ts, which
 * would repeat an expired token with the same keys.
 */
import { ObjectError, type ObjectInfo, type ObjectStore, type PartLimits, type Upload } from './store.ts';

interface Used {
  readonly store: ObjectStore;
  /** Calls under way. */
  calls: number;
  /** A call succeeded: these keys were right once. */
  worked: boolean;
}

export interface Refusal {
  readonly error: ObjectError;
  /** The keys in use have worked before. */
  readonly worked: boolean;
}

export class SwitchableStore implements ObjectStore {
  #now: Used;
  readonly #refused: ((refusal: Refusal, signal: AbortSignal | undefined) => Promise<void>) | undefined;

  /** `refused` is waited for when a call was denied; it may call `switchTo`. It must not throw. */
  constructor(store: ObjectStore, refused?: (refusal: Refusal, signal: AbortSignal | undefined) => Promise<void>) {
    this.#now = { store, calls: 0, worked: false };
    this.#refused = refused;
  }

  get description(): string {
    return this.#now.store.description;
  }

  /** Goes on with another store, which has shown that it works. */
  switchTo(store: ObjectStore): void {
    const before = this.#now;
    this.#now = { store, calls: 0, worked: true };
    this.#closeUnused(before);
  }

  #closeUnused(used: Used): void {
    if (used !== this.#now && used.calls === 0) used.store.close().catch(() => {});
  }

  async #once<T>(used: Used, action: (store: ObjectStore) => Promise<T>): Promise<T> {
    used.calls++;
    try {
      const result = await action(used.store);
      used.worked = true;
      return result;
    } finally {
      used.calls--;
      this.#closeUnused(used);
    }
  }

  /** Whether there is another store to try after this error. */
  async #another(used: Used, error: unknown, signal: AbortSignal | undefined): Promise<boolean> {
    if (!(error instanceof ObjectError) || error.code !== 'AccessDenied') return false;
    if (used === this.#now) await this.#refused?.({ error, worked: used.worked }, signal);
    return used !== this.#now;
  }

  async #run<T>(action: (store: ObjectStore) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const used = this.#now;
    try {
      return await this.#once(used, action);
    } catch (error) {
      if (!(await this.#another(used, error, signal))) throw error;
      return this.#once(this.#now, action);
    }
  }

  create(signal?: AbortSignal): Promise<void> {
    return this.#run((store) => store.create(signal), signal);
  }

  put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    return this.#run((store) => store.put(key, body, signal), signal);
  }

  get(key: string, options: Parameters<ObjectStore['get']>[1] = {}): Promise<Buffer> {
    return this.#run((store) => store.get(key, options), options.signal);
  }

  head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    return this.#run((store) => store.head(key, signal), signal);
  }

  delete(key: string, signal?: AbortSignal): Promise<void> {
    return this.#run((store) => store.delete(key, signal), signal);
  }

  get partLimits(): PartLimits | undefined {
    return this.#now.store.partLimits;
  }

  /** An upload ends with the store that it began with: what was sent there is not elsewhere. */
  get upload(): ((key: string, signal?: AbortSignal) => Promise<Upload>) | undefined {
    if (!this.#now.store.upload) return undefined;
    return async (key, begin) => {
      let used = this.#now;
      const upload = await this.#run((store) => {
        used = this.#now;
        if (!store.upload) throw new ObjectError('Invalid', `${store.description} takes no objects in parts`);
        return store.upload(key, begin);
      }, begin);
      used.calls++;
      let over = false;
      const end = (): void => {
        if (over) return;
        over = true;
        used.calls--;
        this.#closeUnused(used);
      };
      return {
        part: (number, body, signal) => upload.part(number, body, signal),
        complete: (signal) => upload.complete(signal).then(end),
        abort: () => upload.abort().finally(end),
      };
    };
  }

  async *list(
    prefix: string,
    options: { readonly after?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<ObjectInfo> {
    let { after } = options;
    for (let attempt = 0; ; attempt++) {
      const used = this.#now;
      used.calls++;
      try {
        for await (const info of used.store.list(prefix, { ...options, ...(after === undefined ? {} : { after }) })) {
          after = info.key;
          yield info;
        }
        return;
      } catch (error) {
        if (attempt > 0 || !(await this.#another(used, error, options.signal))) throw error;
      } finally {
        used.calls--;
        this.#closeUnused(used);
      }
    }
  }

  close(): Promise<void> {
    return this.#now.store.close();
  }
}
