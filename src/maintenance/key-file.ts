/** Keys of objects, in a file: there may be many. None is made before the first key. */
import { once } from 'node:events';
import { createReadStream, createWriteStream, mkdtempSync, rmSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export class KeyFile {
  readonly #temporary: string;
  #folder: string | undefined;
  #stream: WriteStream | undefined;
  count = 0;

  constructor(temporary: string) {
    this.#temporary = temporary;
  }

  async add(key: string): Promise<void> {
    this.count++;
    this.#folder ??= mkdtempSync(join(this.#temporary, 'juicepod-leaked-'));
    this.#stream ??= createWriteStream(join(this.#folder, 'keys'));
    // A key of a block holds no line feed.
    if (!this.#stream.write(`${key}\n`)) await once(this.#stream, 'drain');
  }

  async *keys(): AsyncIterable<string> {
    if (!this.#folder) return;
    await this.#end();
    yield* createInterface({ input: createReadStream(join(this.#folder, 'keys')), crlfDelay: Infinity });
  }

  async #end(): Promise<void> {
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream) await new Promise<void>((done, fail) => stream.once('error', fail).end(done));
  }

  async close(): Promise<void> {
    await this.#end().catch(() => {});
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
