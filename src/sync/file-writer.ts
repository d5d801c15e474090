/**
 * Makes batches of small files, in a thread of its own: on a busy disk it is making a file that waits, and meanwhile others can be
 * fetched. (By the thread pool, each call is a hand-over: measured, they cost as much again as the calls.)
 *
 * The bytes of a batch lie in one buffer, which goes to the thread and comes back. The thread begins with the first batch that is
 * not the only one: for a handful of files it would cost more than it saves. Bound: the callers' batches.
 */
import { Worker } from 'node:worker_threads';
import { type FileToWrite, type FileWritten, writeFiles } from './write-files.ts';

export interface Batch {
  readonly data: ArrayBuffer;
  readonly files: readonly FileToWrite[];
}

export interface BatchAnswer {
  readonly data: ArrayBuffer;
  readonly written?: readonly FileWritten[];
  readonly failure?: { readonly message: string; readonly code: string | undefined };
}

interface Waiting {
  readonly resolve: (answer: BatchAnswer) => void;
  readonly reject: (error: Error) => void;
}

export class FileWriter implements AsyncDisposable {
  readonly #threaded: boolean;
  #worker: Worker | undefined;
  /** First come, first answered. */
  readonly #waiting: Waiting[] = [];
  #broken: Error | undefined;

  /** `threaded` false: in the caller's thread. */
  constructor(threaded: boolean) {
    this.#threaded = threaded;
  }

  /** Makes the files; answers the buffer, to be used again, and what became of each. Fails as `node:fs` does; then some may be there. */
  async write(batch: Batch): Promise<{ readonly data: ArrayBuffer; readonly written: readonly FileWritten[] }> {
    if (!this.#threaded) return { data: batch.data, written: writeFiles(new Uint8Array(batch.data), batch.files) };
    if (this.#broken) throw this.#broken;
    const worker = (this.#worker ??= this.#start());
    const { data, written, failure } = await new Promise<BatchAnswer>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      worker.postMessage(batch, [batch.data]);
    });
    if (failure) throw Object.assign(new Error(failure.message), { code: failure.code });
    return { data, written: written ?? [] };
  }

  #start(): Worker {
    const worker = new Worker(new URL('./write-files-thread.ts', import.meta.url));
    worker.on('message', (answer: BatchAnswer) => this.#waiting.shift()?.resolve(answer));
    const fail = (error: Error): void => {
      this.#broken = error;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    };
    worker.on('error', fail);
    worker.on('exit', () => fail(new Error('the thread that makes files has ended')));
    return worker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }
}
