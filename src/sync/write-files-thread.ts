/** The thread of file-writer.ts: takes one order after the other, answers each. */
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../lib/errors.ts';
import type { Answer, Batch, Fill } from './file-writer.ts';
import { fillFile, writeFiles } from './write-files.ts';

parentPort?.on('message', (order: Batch | Fill) => {
  const { data } = order;
  let answer: Answer = { data };
  try {
    if ('files' in order) answer = { data, written: writeFiles(new Uint8Array(data), order.files) };
    else fillFile(order.fd, new Uint8Array(data), order.parts);
  } catch (error) {
    answer = { data, failure: { message: messageOf(error), code: (error as NodeJS.ErrnoException).code } };
  }
  parentPort?.postMessage(answer, [data]);
});
