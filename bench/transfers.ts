/**
 * What training programs do with files, timed, for bench/real-work.ts: a process of its own, so that it can be ended. Prints the seconds.
 *
 *   transfers.ts checkpoint-write FILE MiB            one stream of 16 MiB each, synced, then renamed into place
 *   transfers.ts checkpoint-read FILE MiB             read back in one stream and compared
 *   transfers.ts samples-write FOLDER COUNT           files of 100 KiB in directories of 256
 *   transfers.ts samples-read FOLDER COUNT THREADS    each file once, in a random order shared out among threads, compared
 *   transfers.ts inserts FILE JOURNAL ROWS            SQLite with full syncing: single rows, then a thousand to a transaction; status 77
 *                                                     where the file cannot have that journal
 */
import { createCipheriv } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const MIB = 1024 * 1024;
const STRIDE = 16 * MIB;
const SAMPLE = 100 * 1024;

/** The same random bytes in each run. */
const noise = (bytes: number): Buffer =>
  createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16)).update(Buffer.alloc(bytes));

/** Part `index` of a checkpoint: noise, each MiB marked with its place. */
function part(base: Buffer, index: number): Buffer {
  for (let offset = 0; offset < base.length; offset += MIB) base.writeUInt32LE(index * 16 + offset / MIB, offset);
  return base;
}

function checkpointWrite(file: string, mib: number): void {
  const base = noise(STRIDE);
  const handle = openSync(`${file}.tmp`, 'w');
  for (let index = 0; index * 16 < mib; index++) {
    const data = part(base, index);
    for (let done = 0; done < data.length;) done += writeSync(handle, data, done);
  }
  fsyncSync(handle);
  closeSync(handle);
  renameSync(`${file}.tmp`, file);
}

function checkpointRead(file: string, mib: number): void {
  const base = noise(STRIDE);
  const data = Buffer.alloc(STRIDE);
  const handle = openSync(file, 'r');
  for (let index = 0; index * 16 < mib; index++) {
    fill(handle, data, `part ${index} of ${file}`);
    if (!data.equals(part(base, index))) throw new Error(`part ${index} of ${file} is not what was written`);
  }
  if (readSync(handle, data) !== 0) throw new Error(`${file} is longer than what was written`);
  closeSync(handle);
}

function fill(handle: number, data: Buffer, what: string): void {
  for (let done = 0; done < data.length;) {
    const count = readSync(handle, data, done, data.length - done, null);
    if (count === 0) throw new Error(`${what} ends after ${done} bytes`);
    done += count;
  }
}

const sampleName = (folder: string, index: number): string => join(folder, `d${index >> 8}`, `sample-${index}.bin`);
const sample = (base: Buffer, index: number): Buffer =>
  base.subarray((index * 7919) % (base.length - SAMPLE)).subarray(0, SAMPLE);

function samplesWrite(folder: string, count: number): void {
  const base = noise(4 * MIB);
  for (let index = 0; index < count; index++) {
    if (index % 256 === 0) mkdirSync(dirname(sampleName(folder, index)), { recursive: true });
    writeFileSync(sampleName(folder, index), sample(base, index));
  }
}

interface Share {
  readonly folder: string;
  readonly indexes: readonly number[];
}

function readShare({ folder, indexes }: Share): void {
  const base = noise(4 * MIB);
  const data = Buffer.alloc(SAMPLE);
  for (const index of indexes) {
    const name = sampleName(folder, index);
    const handle = openSync(name, 'r');
    fill(handle, data, name);
    closeSync(handle);
    if (!data.equals(sample(base, index))) throw new Error(`${name} is not what was written`);
  }
}

/** Starts the threads, then times from the moment that all of them are ready. */
async function samplesRead(folder: string, count: number, threads: number): Promise<number> {
  // Another order in each run: a read-ahead by names shall not guess it.
  const order = Array.from({ length: count }, (_, index) => ({ index, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ index }) => index);
  const workers = Array.from({ length: threads }, (_, thread) => {
    const indexes = order.filter((_index, place) => place % threads === thread);
    return new Worker(import.meta.filename, { workerData: { folder, indexes } satisfies Share });
  });
  await Promise.all(workers.map((worker) => new Promise((done) => worker.once('message', done))));
  const begin = performance.now();
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((done, fail) => {
          worker.once('error', fail);
          worker.once('exit', () => done());
          worker.postMessage('go', []);
        }),
    ),
  );
  return (performance.now() - begin) / 1000;
}

function inserts(file: string, journal: string, rows: number): void {
  const database = new DatabaseSync(file);
  const { journal_mode: found } = database.prepare(`PRAGMA journal_mode=${journal}`).get() as { journal_mode: string };
  if (found !== journal) {
    console.error(`SQLite keeps ${found} as the journal of ${file}, not ${journal}`);
    process.exit(77);
  }
  database.exec('PRAGMA synchronous=FULL; CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, value BLOB)');
  const insert = database.prepare('INSERT INTO entry (name, value) VALUES (?, ?)');
  const base = noise(MIB);
  const single = Math.ceil(rows / 50);
  for (let index = 0; index < rows; index++) {
    const inside = index - single;
    if (inside >= 0 && inside % 1000 === 0) database.exec('BEGIN');
    insert.run(`entry ${index}`, base.subarray((index * 97) % (MIB - 200)).subarray(0, 200));
    if (inside >= 0 && (inside % 1000 === 999 || index === rows - 1)) database.exec('COMMIT');
  }
  database.exec('CREATE INDEX entry_name ON entry (name)');
  const { total } = database.prepare('SELECT count(*) AS total FROM entry').get() as { total: number };
  const { integrity_check: sound } = database.prepare('PRAGMA integrity_check').get() as { integrity_check: string };
  database.close();
  if (total !== rows || sound !== 'ok') throw new Error(`${file}: ${total} rows of ${rows}, integrity ${sound}`);
}

async function main([operation, path = '', first = '', second = '']: readonly string[]): Promise<void> {
  const begin = performance.now();
  let seconds: number | undefined;
  if (operation === 'checkpoint-write') checkpointWrite(path, Number(first));
  else if (operation === 'checkpoint-read') checkpointRead(path, Number(first));
  else if (operation === 'samples-write') samplesWrite(path, Number(first));
  else if (operation === 'samples-read') seconds = await samplesRead(path, Number(first), Number(second));
  else if (operation === 'inserts') inserts(path, first, Number(second));
  else throw new Error(`no such operation: ${operation}`);
  console.log(seconds ?? (performance.now() - begin) / 1000);
}

if (isMainThread) await main(process.argv.slice(2));
else {
  const share = workerData as Share;
  parentPort?.once('message', () => readShare(share));
  parentPort?.postMessage('ready', []);
}
