/**
 * Memory of a client under streams, beside the official one: many processes that write and read a file each, in sequence. The highest
 * resident memory of all processes of the mount, and what is left of it some time after the work.
 *
 *   node bench/memory.ts [--streams 16] [--size MiB] [--buffer MiB] [--json FILE]
 *
 * Needs root and fio; the official client is named by JUICEFS_BIN. What is allowed is the buffer (`--buffer-size`) and 128 MiB.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian } from '../test/tools.ts';
import { inOwnGroup } from './own-group.ts';
import { dropCaches, type Side, startSides, wait, withoutPeer } from './sides.ts';

const { values: given } = parseArgs({
  options: {
    streams: { type: 'string', default: '16' },
    size: { type: 'string', default: '1024' },
    buffer: { type: 'string', default: '300' },
    store: { type: 'string', default: 's3' },
    only: { type: 'string', default: '.' },
    json: { type: 'string' },
  },
});
const streams = Number(given.streams);
const share = Math.ceil(Number(given.size) / streams);
/** Beside the buffer: what the processes of a mount hold without any data. */
const BESIDE_MIB = 128;
const LOOK_MS = 100;
/** A mount gives memory back when it has seen itself wait for ten seconds. */
const SETTLED_MS = 20_000;

/** Runs fio beside looks at the memory of `side`; the highest, MiB. */
async function peak(side: Side, args: readonly string[]): Promise<number> {
  const usual = [
    '--name=streams',
    `--directory=${side.folder}`,
    '--ioengine=psync',
    '--bs=1M',
    '--filename_format=stream-$jobnum',
  ];
  const child = spawn('fio', [...usual, `--size=${share}M`, `--numjobs=${streams}`, '--group_reporting', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const end = new Promise<number | null>((done) => void child.once('close', done));
  let most = 0;
  const looking = setInterval(() => (most = Math.max(most, side.memory() / 1024)), LOOK_MS);
  const code = await end;
  clearInterval(looking);
  if (code !== 0) throw new Error(`fio ${args.join(' ')} in ${side.folder} failed`);
  return Math.round(most);
}

async function again(side: Side): Promise<void> {
  await side.unmount();
  dropCaches();
  await side.mount(true);
}

/** The phases, in an order in which each finds what it needs. */
const phases: readonly { readonly name: string; readonly run: (side: Side) => Promise<number> }[] = [
  { name: 'written', run: (side) => peak(side, ['--rw=write', '--end_fsync=1']) },
  {
    name: 'after writing',
    async run(side) {
      await wait(SETTLED_MS);
      return Math.round(side.memory() / 1024);
    },
  },
  {
    name: 'read, cold',
    async run(side) {
      await again(side);
      return await peak(side, ['--rw=read']);
    },
  },
  {
    name: 'read, disk cache',
    async run(side) {
      dropCaches();
      return await peak(side, ['--rw=read']);
    },
  },
  {
    name: 'after reading',
    async run(side) {
      await wait(SETTLED_MS);
      return Math.round(side.memory() / 1024);
    },
  },
];

async function main(interrupted: AbortSignal): Promise<void> {
  ensureDebian('fio', 'redis-server');
  const work = mkdtempSync(join(tmpdir(), 'juicepod-memory-'));
  try {
    await using sides = await startSides(work, given.store, 'plain', ['--buffer-size', given.buffer]);
    const clients = sides.all.filter(({ name }) => name !== 'disk' && new RegExp(given.only).test(name));
    if (!sides.all.some(({ name }) => name === 'juicefs')) console.log(withoutPeer);
    const found: Record<string, Record<string, number>> = {};
    for (const side of clients) {
      await side.mount(true);
      for (const { name, run } of phases) {
        interrupted.throwIfAborted();
        (found[name] ??= {})[side.name] = await run(side);
        console.log(`${side.name.padEnd(9)} ${name.padEnd(18)} ${found[name][side.name]} MiB`);
      }
      await side.unmount();
    }
    console.log(`\n${streams} streams of ${share} MiB; allowed: ${Number(given.buffer) + BESIDE_MIB} MiB`);
    if (given.json) writeFileSync(given.json, `${JSON.stringify({ streams, share, buffer: Number(given.buffer), found })}\n`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

await inOwnGroup(main);
