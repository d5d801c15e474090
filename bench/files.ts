/**
 * Calls on many small files, timed: run as a process of its own by bench/client.ts, `files.ts OPERATION FOLDER COUNT`. Prints
 * operations per second. Waits for a line on stdin first, so that several start together.
 */
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { readSync } from 'node:fs';
import { join } from 'node:path';

const [operation = '', folder = '', countText = '0'] = process.argv.slice(2);
const count = Number(countText);
const name = (index: number): string => join(folder, `file-${index}`);
const small = Buffer.alloc(16 * 1024, 7);
const large = Buffer.alloc(1024 * 1024, 7);

const operations: Readonly<Record<string, () => number>> = {
  create: () => each((index) => closeSync(openSync(name(index), 'w'))),
  stat: () => each((index) => void statSync(name(index))),
  open: () => each((index) => closeSync(openSync(name(index), 'r'))),
  rename: () => each((index) => renameSync(name(index), `${name(index)}.new`)),
  unlink: () => each((index) => unlinkSync(`${name(index)}.new`)),
  link: () => each((index) => linkSync(name(index), `${name(index)}.link`)),
  readdir: () => {
    let names = 0;
    for (let round = 0; round < 5; round++) names += readdirSync(folder, { withFileTypes: true }).length;
    return names;
  },
  create16k: () => each((index) => writeFileSync(name(index), small)),
  create1m: () => each((index) => writeFileSync(`${name(index)}.large`, large)),
  read16k: () => each((index) => void readFileSync(name(index))),
};

function each(call: (index: number) => void): number {
  for (let index = 0; index < count; index++) call(index);
  return count;
}

const run = operations[operation];
if (!run) throw new Error(`no such operation: ${operation}; there are ${Object.keys(operations).join(', ')}`);
mkdirSync(folder, { recursive: true });
process.stdout.write('ready\n');
readSync(0, Buffer.alloc(1), 0, 1, null);
const begin = process.hrtime.bigint();
const done = run();
const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
process.stdout.write(`${JSON.stringify({ done, seconds })}\n`);
