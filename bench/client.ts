/**
 * The whole client beside the official one and the local disk: one Redis, one object store, one machine, one run. Every cell with
 * 1, 4 and 16 processes, measured in turns whose order alternates (ours, theirs, disk; disk, theirs, ours; …); the medians are
 * printed with our ratios, at the end their geometric mean and the cells that miss their goal.
 *
 *   node bench/client.ts [--quick] [--only PATTERN] [--forms plain,aes,chacha,lz4,zstd] [--json FILE] …
 *
 * Needs root, fio, and the official client named by JUICEFS_BIN; without it only ours and the disk are shown.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian } from '../test/tools.ts';
import { cellsOf, type Scale } from './cells.ts';
import { inOwnGroup } from './own-group.ts';
import { formOptions, run, type Side, startSides, wait, withoutPeer } from './sides.ts';
import { median, ratio, type Row, show, summarize, table, words } from './table.ts';

const usage = `node bench/client.ts [options]
  --quick             smaller files, two rounds, plain blocks only, and an end after 5.5 minutes
  --only PATTERN      cells whose name the regular expression finds, as 'read' or ', 16 processes'
  --processes LIST    how many processes at once (1,4,16)
  --forms LIST        what the volumes are: plain, aes, chacha, lz4, zstd, or some of them joined by + (all five, one after the other)
  --every             with other forms than plain, too, measure cells that move no data
  --store s3|file     where the blocks are (s3)
  --rounds N          how often each cell is measured on each side (3)
  --size MiB          what sequential cells move (512)
  --seconds N         how long a random cell runs (5)
  --files N           small files of the cells that make calls (4000)
  --minutes N         no new measurement after so long; what is left out is named
  --json FILE         every single number, as well`;

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '.' },
    processes: { type: 'string', default: '1,4,16' },
    forms: { type: 'string' },
    every: { type: 'boolean', default: false },
    store: { type: 'string', default: 's3' },
    rounds: { type: 'string' },
    size: { type: 'string' },
    seconds: { type: 'string' },
    files: { type: 'string' },
    minutes: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function number(name: string, text: string | undefined, usual: number): number {
  const value = text === undefined ? usual : Number(text);
  if (!(value > 0)) throw new Error(`${name}: wanted a number above 0, found ${text}`);
  return value;
}

const { quick } = given;
const settings = {
  store: given.store,
  rounds: number('--rounds', given.rounds, quick ? 2 : 3),
  sizeMiB: number('--size', given.size, quick ? 128 : 512),
  seconds: number('--seconds', given.seconds, quick ? 1 : 5),
  files: number('--files', given.files, quick ? 800 : 4000),
  minutes: number('--minutes', given.minutes, quick ? 5.5 : 24 * 60),
  processes: given.processes.split(',').map((each) => number('--processes', each, 1)),
  forms: (given.forms ?? (quick ? 'plain' : 'plain,aes,chacha,lz4,zstd')).split(','),
};
const only = new RegExp(given.only);
const deadline = performance.now() + settings.minutes * 60_000;

/** What has been measured of one form, and what was not before the time was up. */
interface Measured {
  readonly form: string;
  readonly rows: readonly Row[];
  readonly left: readonly string[];
}

async function starts(sides: readonly Side[]): Promise<Row[]> {
  const clients = sides.filter(({ name }) => name !== 'disk');
  const values: Record<string, number[]> = {};
  for (let round = 0; round < settings.rounds; round++) {
    for (const side of round % 2 === 0 ? clients : clients.toReversed()) {
      await side.unmount();
      const begin = performance.now();
      await side.mount(true);
      (values[side.name] ??= []).push(performance.now() - begin);
    }
  }
  // Ours gives back what its start took when it is seen to wait.
  await wait(10_000);
  const memory = Object.fromEntries(clients.map((side) => [side.name, [side.memory() / 1024]]));
  return [
    { name: 'start to a mount that answers', unit: 'ms', better: 'less', aside: true, values },
    { name: 'memory, idle', unit: 'MiB', better: 'less', aside: true, values: memory },
  ];
}

async function measure(form: string, interrupted: AbortSignal): Promise<Measured> {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-bench-'));
  const rows: Row[] = [];
  const left: string[] = [];
  try {
    await using sides = await startSides(work, settings.store, form);
    if (!sides.all.some(({ name }) => name === 'juicefs')) console.log(withoutPeer);
    rows.push(...(await starts(sides.all)));
    const scale: Scale = { ...settings, compressible: /lz4|zstd/.test(form) };
    const cells = settings.processes
      .flatMap((processes) => cellsOf(processes, scale))
      .filter(({ name, data }) => only.test(name) && (data || form === 'plain' || given.every));
    for (const cell of cells) {
      const values: Record<string, number[]> = {};
      for (let round = 0; round < settings.rounds; round++) {
        if (performance.now() > deadline) break;
        for (const side of round % 2 === 0 ? sides.all : sides.all.toReversed()) {
          interrupted.throwIfAborted();
          await cell.prepare?.(side, round);
          (values[side.name] ??= []).push(await cell.measure(side, round));
        }
      }
      if (Object.keys(values).length === 0) {
        left.push(cell.name);
        continue;
      }
      const row: Row = { name: cell.name, unit: cell.unit, better: 'more', values, ...(cell.goal ? { goal: cell.goal } : {}) };
      rows.push(row);
      const medians = Object.entries(values).map(([name, numbers]) => `${name} ${show(median(numbers))}`);
      const value = show(ratio(row, 'juicepod', 'juicefs'));
      console.log(`${cell.name.padEnd(46)} ${cell.unit.padEnd(8)} ${medians.join('   ')}   ratio ${value}`);
    }
    const clients = sides.all.filter(({ name }) => name !== 'disk');
    const memory = Object.fromEntries(clients.map((side) => [side.name, [side.memory() / 1024]]));
    rows.push({ name: 'memory after the run', unit: 'MiB', better: 'less', aside: true, values: memory });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return { form, rows, left };
}

async function main(interrupted: AbortSignal): Promise<void> {
  for (const form of settings.forms) formOptions(form, '');
  ensureDebian('fio', 'redis-server');
  const begin = performance.now();
  const all: Measured[] = [];
  for (const form of settings.forms) {
    console.log(`\n## ${form}\n`);
    all.push(await measure(form, interrupted));
  }
  const minutes = (performance.now() - begin) / 60_000;
  const { store, rounds, sizeMiB } = settings;
  console.log(`\nOne run of ${minutes.toFixed(1)} minutes, ${store} store, ${sizeMiB} MiB files, medians of ${rounds} rounds.`);
  for (const { form, rows, left } of all) {
    console.log(`\n### Blocks: ${form}\n\n${table(rows)}\n\n${words(summarize(rows))}`);
    if (left.length > 0) console.log(`Not measured, for the time was up: ${left.join('; ')}`);
  }
  const together = summarize(all.flatMap(({ form, rows }) => rows.map((row) => ({ ...row, name: `${form}: ${row.name}` }))));
  if (all.length > 1) console.log(`\n### All together\n\n${words(together)}`);
  if (given.json) {
    const machine = { processors: cpus().length, memoryMiB: Math.round(totalmem() / 2 ** 20), kernel: release() };
    const peer = process.env['JUICEFS_BIN'] ? run(process.env['JUICEFS_BIN'], ['--version']).trim() : undefined;
    const forms = all.map((each) => ({ ...each, ...summarize(each.rows) }));
    writeFileSync(given.json, `${JSON.stringify({ settings, machine, peer, minutes, forms, ...together }, undefined, 2)}\n`);
  }
}

if (given.help) console.log(usage);
else await inOwnGroup(main);
