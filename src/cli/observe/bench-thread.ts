/** A thread of `juicepod bench`: plain calls one after the other, as a program makes them; counts in memory that it shares. */
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../../lib/errors.ts';
import { systemRandom } from '../../lib/random.ts';

export interface BenchOrder {
  readonly test: 'write' | 'read' | 'stat';
  readonly folder: string;
  /** Of the files, and of the thread among its like. */
  readonly name: string;
  readonly thread: number;
  readonly files: number;
  readonly blocks: number;
  readonly blockBytes: number;
  /** [0] counts what is done (blocks, or files), [1] is not 0 where it is to end. */
  readonly shared: SharedArrayBuffer;
}

export type BenchAnswer = { readonly failure?: string };

function perform({ test, folder, name, thread, files, blocks, blockBytes, shared }: BenchOrder): void {
  const state = new Int32Array(shared);
  const buffer = Buffer.allocUnsafe(blockBytes);
  if (test === 'write') systemRandom.bytes(blockBytes).copy(buffer);
  for (let file = 0; file < files; file++) {
    const path = join(folder, `${name}.${thread}.${file}`);
    if (test === 'stat') {
      if (Atomics.load(state, 1) !== 0) return;
      statSync(path);
      Atomics.add(state, 0, 1);
      continue;
    }
    const fd = openSync(path, test === 'write' ? 'w' : 'r', 0o644);
    try {
      for (let block = 0; block < blocks; block++) {
        if (Atomics.load(state, 1) !== 0) return;
        for (let done = 0; done < blockBytes;) {
          const moved =
            test === 'write'
              ? writeSync(fd, buffer, done, blockBytes - done)
              : readSync(fd, buffer, done, blockBytes - done, null);
          if (moved === 0) throw new Error(`${path} is shorter than it was written`);
          done += moved;
        }
        Atomics.add(state, 0, 1);
      }
    } finally {
      closeSync(fd);
    }
  }
}

parentPort?.on('message', (order: BenchOrder) => {
  const answer: { failure?: string } = {};
  try {
    perform(order);
  } catch (error) {
    answer.failure = messageOf(error);
  }
  parentPort?.postMessage(answer satisfies BenchAnswer, []);
});
