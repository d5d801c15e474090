/**
 * What counting costs: the time that metrics add to an operation, beside what the operation costs a program on a mount. The bare
 * handlers do nothing, so the difference is all that is added; each is measured several times in turn, the fastest round counts. Most of it
 * is reading the clock twice (some 70 ns each); the arrays of counters and histograms are 40 ns.
 */
import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { FileSystem, FuseRequest, Reply } from '../src/fuse/types.ts';
import { systemClock } from '../src/lib/clock.ts';
import type { Ino } from '../src/lib/int64.ts';
import { AccessLog } from '../src/vfs/accesslog.ts';
import { observed, OperationStats } from '../src/vfs/observed.ts';
import { cannotMount, freshVolume } from '../test/mounted.ts';

const OPERATIONS = 1_000_000;
const ROUNDS = 7;
const WALL_OPERATIONS = 20_000;

if (cannotMount) {
  process.stdout.write(`not run: ${cannotMount}\n`);
  process.exit(77);
}

const request = { uid: 0, gid: 0, pid: 1 } as FuseRequest;
const reply = { code: 0, bytes: 4096, attr() {}, data() {}, written() {} } as unknown as Reply;
const block = Buffer.alloc(4096);
const bare = {
  getattr: (_request: FuseRequest, r: Reply): void => r.attr({} as never, 1),
  write: (_request: FuseRequest, r: Reply): void => r.written(4096),
} as unknown as FileSystem;
const counted = observed(bare, new OperationStats(), new AccessLog(systemClock));
const ino = 2 as Ino;

const calls = {
  getattr: (fs: FileSystem) => fs.getattr(request, reply, ino, undefined),
  write: (fs: FileSystem) => fs.write(request, reply, ino, 1, 0, block, false),
} as const;
type Operation = keyof typeof calls;

/** Nanoseconds of an operation. */
function nanoseconds(operation: Operation, fs: FileSystem): number {
  const call = calls[operation];
  const begin = performance.now();
  for (let count = 0; count < OPERATIONS; count++) void call(fs);
  return ((performance.now() - begin) * 1e6) / OPERATIONS;
}

/** What counting adds, nanoseconds. */
function added(operation: Operation): number {
  const best = { bare: Infinity, counted: Infinity };
  for (let round = 0; round < ROUNDS; round++) {
    best.bare = Math.min(best.bare, nanoseconds(operation, bare));
    best.counted = Math.min(best.counted, nanoseconds(operation, counted));
  }
  return best.counted - best.bare;
}

/** Nanoseconds that a program waits for an operation that goes to the client each time. */
function wall(work: () => void): number {
  const begin = performance.now();
  for (let count = 0; count < WALL_OPERATIONS; count++) work();
  return ((performance.now() - begin) * 1e6) / WALL_OPERATIONS;
}

await using mounted = await freshVolume('sqlite', {
  mount: ['--attr-cache', '0', '--entry-cache', '0', '--dir-entry-cache', '0'],
});
const path = join(mounted.folder, 'file');
const fd = openSync(path, 'w+');
writeSync(fd, block);
const program: Readonly<Record<Operation, () => void>> = {
  getattr: () => void statSync(path),
  write: () => void writeSync(fd, block, 0, 4096, 0),
};
const waits = Object.fromEntries(Object.entries(program).map(([name, work]) => [name, wall(work)])) as Record<Operation, number>;
closeSync(fd);
process.stdout.write(
  `${'operation'.padEnd(10)} ${'counting'.padStart(10)} ${'a program waits'.padStart(16)} ${'part'.padStart(8)}\n`,
);
for (const operation of ['getattr', 'write'] as const) {
  const cost = added(operation);
  process.stdout.write(
    `${operation.padEnd(10)} ${`${cost.toFixed(0)} ns`.padStart(10)} ${`${(waits[operation] / 1000).toFixed(1)} µs`.padStart(16)} ${`${((cost / waits[operation]) * 100).toFixed(2)} %`.padStart(8)}\n`,
  );
}
