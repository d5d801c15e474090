/** The thread of file-writer.ts: takes one batch after the other, answers each. */
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../lib/errors.ts';
import type { Batch, BatchAnswer } from './file-writer.ts';
import { writeFiles } from './write-files.ts';

parentPort?.on('message', ({ data, files }: Batch) => {
  let answer: BatchAnswer;
  try {
    answer = { data, written: writeFiles(new Uint8Array(data), files) };
  } catch (error) {
    answer = { data, failure: { message: messageOf(error), code: (error as NodeJS.ErrnoException).code } };
  }
  parentPort?.postMessage(answer, [data]);
});
