/**
 * Real work beside the official client and the local disk, over one Redis and one store: npm ci, tar, git, a loader of training samples,
 * a checkpoint, SQLite. Seconds and ratios; what is there afterwards is compared between the sides.
 *
 *   node bench/real-work.ts [--quick] [--only PATTERN] [--form aes+lz4] [--json FILE] …
 *
 * Needs root, and the official client named by JUICEFS_BIN; without it only ours and the disk are shown.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureDebian, ToolMissing } from '../test/tools.ts';
import { inOwnGroup } from './own-group.ts';
import { type Step, type Task, tasksOf, TooLong } from './real-tasks.ts';
import { formOptions, type Side, startSides, withoutPeer } from './sides.ts';
import { median, type Row, show, summarize, table, words } from './table.ts';

const usage = `node bench/real-work.ts [options]
  --quick             a few minutes: smaller trees and files, no npm ci
  --only PATTERN      tasks whose name the regular expression finds: npm ci, tar, git, loader, checkpoint, sqlite
  --rounds N          how often each is done on each side (1)
  --form FORM         what the volumes are: plain, aes, chacha, lz4, zstd, or some of them joined by + (plain)
  --store s3|file     where the blocks are (s3)
  --files N           files of the source tree (all of a kernel source: 79 000)
  --samples N         files of 100 KiB (8000); --threads N that read them (16)
  --checkpoint MiB    size of the checkpoint (2048)
  --rows N            rows of the SQLite tables (20000)
  --repository PATH   what is cloned (this checkout's repository)
  --limit N           seconds that a step may take; then it is ended and the task's other steps are left out on that side (900)
  --json FILE         every single number, as well`;

const { values: given } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    form: { type: 'string', default: 'plain' },
    store: { type: 'string', default: 's3' },
    files: { type: 'string' },
    samples: { type: 'string' },
    threads: { type: 'string', default: '16' },
    checkpoint: { type: 'string' },
    rows: { type: 'string' },
    repository: { type: 'string' },
    limit: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function number(name: string, text: string | undefined, usual: number): number {
  const value = text === undefined ? usual : Number(text);
  if (!Number.isInteger(value) || value <= 0) throw new Error(`${name}: wanted a whole number above 0, found ${text}`);
  return value;
}

const { quick } = given;
const size = {
  files: given.files === undefined && !quick ? undefined : number('--files', given.files, 3000),
  samples: number('--samples', given.samples, quick ? 800 : 8000),
  threads: number('--threads', given.threads, 16),
  checkpointMiB: number('--checkpoint', given.checkpoint, quick ? 256 : 2048),
  rows: number('--rows', given.rows, quick ? 5000 : 20_000),
  repository: given.repository,
};
const limit = number('--limit', given.limit, quick ? 120 : 900);
const rounds = number('--rounds', given.rounds, 1);
const only = new RegExp(given.only ?? (quick ? '^(?!npm)' : '.'));

/** What one task gave: seconds by step and side, and what went wrong. */
class Result {
  readonly seconds = new Map<string, Record<string, number[]>>();
  readonly notes: string[] = [];
  readonly sums = new Map<string, string>();

  add(step: string, side: string, seconds: number): void {
    const row = this.seconds.get(step) ?? {};
    this.seconds.set(step, row);
    (row[side] ??= []).push(seconds);
  }
}

async function oneStep(step: Step, side: Side, folder: string, result: Result, interrupted: AbortSignal): Promise<boolean> {
  interrupted.throwIfAborted();
  await step.before?.(side);
  try {
    const seconds = await step.run(folder, limit, interrupted);
    if (seconds === undefined) result.notes.push(`${step.name}: cannot be done on ${side.name}`);
    else result.add(step.name, side.name, seconds);
    console.log(`${step.name.padEnd(34)} ${side.name.padEnd(9)} ${show(seconds)} s`);
    return true;
  } catch (error) {
    if (!(error instanceof TooLong)) throw error;
    result.notes.push(`${step.name} on ${side.name}: ${error.message}`);
    console.log(`${step.name.padEnd(34)} ${side.name.padEnd(9)} ${error.message}`);
    return false;
  }
}

async function onOneSide(task: Task, side: Side, round: number, result: Result, interrupted: AbortSignal): Promise<void> {
  const folder = join(side.folder, `${task.name.replaceAll(' ', '-')}-${round}`);
  mkdirSync(folder);
  const checkAfter = task.checkAfter ?? task.steps.length;
  for (const [index, step] of task.steps.entries()) {
    if (!(await oneStep(step, side, folder, result, interrupted))) return;
    if (task.check && index + 1 === checkAfter) result.sums.set(`${side.name}, round ${round}`, await task.check(folder));
  }
  rmSync(folder, { recursive: true, force: true });
}

async function main(interrupted: AbortSignal): Promise<void> {
  formOptions(given.form, '');
  ensureDebian('redis-server');
  const work = mkdtempSync(join(tmpdir(), 'juicepod-work-'));
  const rows: Row[] = [];
  const notes: string[] = [];
  const wrong: string[] = [];
  const begin = performance.now();
  try {
    await using sides = await startSides(join(work, 'sides'), given.store, given.form);
    if (!sides.all.some(({ name }) => name === 'juicefs')) console.log(withoutPeer);
    for (const side of sides.all) await side.mount(true);
    for (const task of tasksOf(size, work).filter(({ name }) => only.test(name))) {
      try {
        console.log(`\n## ${task.name}: ${await task.prepare()}\n`);
      } catch (error) {
        if (!(error instanceof ToolMissing)) throw error;
        notes.push(`not done: ${error.message}`);
        continue;
      }
      const result = new Result();
      for (let round = 0; round < rounds; round++)
        for (const side of round % 2 === 0 ? sides.all : sides.all.toReversed())
          await onOneSide(task, side, round, result, interrupted);
      for (const [name, values] of result.seconds) rows.push({ name, unit: 's', better: 'less', values });
      notes.push(...result.notes);
      const sums = new Set(result.sums.values());
      if (sums.size > 1) wrong.push(`${task.name}: ${[...result.sums].map((pair) => pair.join(': ')).join('; ')}`);
      else for (const sum of sums) notes.push(`${task.name}: the same after ${[...result.sums.keys()].join('; ')}: ${sum}`);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const minutes = (performance.now() - begin) / 60_000;
  console.log(`\nOne run of ${minutes.toFixed(1)} minutes, ${given.store} store, blocks ${given.form}, medians of ${rounds}:\n`);
  console.log(`${table(rows)}\n\n${words(summarize(rows))}`);
  for (const note of notes) console.log(`- ${note}`);
  if (given.json) {
    const medians = rows.map((row) => ({
      ...row,
      medians: Object.fromEntries(Object.entries(row.values).map(([name, values]) => [name, median(values)])),
    }));
    const all = {
      settings: { ...size, limit, rounds, form: given.form, store: given.store },
      minutes,
      rows: medians,
      notes,
      wrong,
    };
    writeFileSync(given.json, `${JSON.stringify({ ...all, ...summarize(rows) }, undefined, 2)}\n`);
  }
  if (wrong.length > 0) throw new Error(`What is there afterwards is not the same on all sides. ${wrong.join('\n')}`);
}

if (given.help) console.log(usage);
else await inOwnGroup(main);
