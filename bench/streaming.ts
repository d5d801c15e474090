/**
 * Very large directories: how much a client grows while one is listed through a mount, and how soon the first names are there; how much
 * each command grows that walks over all names: fsck, gc, quota, dump, load, summary, warmup --check, rmr, and the cleaning of the trash.
 *
 *   node bench/streaming.ts redis|sqlite|postgres|mysql [--names 5000000] [--only REGEX] [--seconds 7200] [--work FOLDER]
 *
 * It starts a database of its own, and makes the names directly there (streaming-fill.ts). Each step is done with a directory of 1000 names first
 * and then with the large one; growth is the difference of the peaks of all processes (VmHWM; of a mount with few names, since its start). Removing that takes
 * longer than `--seconds` is interrupted, and run again. What the trash is cleaned of are as many names, made anew. Goals: 32 MiB, and first names within 50 ms.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { TRASH_INO } from '../src/lib/int64.ts';
import { openEngine } from '../src/meta/open.ts';
import { clearMounts, juicepod, type Mounted, startMount } from '../test/mounted.ts';
import { type EngineName, startDatabase } from '../test/servers.ts';
import { root, wait } from './sides.ts';
import { type Directory, fill, intoTrash, PREFIX } from './streaming-fill.ts';
import type { Listing } from './streaming-list.ts';

const GOAL_MIB = 32;
const POLL_MS = 25;
/** Of what only looks. */
const LONGEST_MS = 60 * 60_000;
const FEW = 1000;
/** Names removed while the directory is listed. */
const REMOVED = 200;

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    names: { type: 'string', default: '5000000' },
    only: { type: 'string', default: '' },
    seconds: { type: 'string', default: '7200' },
    work: { type: 'string' },
  },
});
const engine = positionals[0] as EngineName;
if (!['redis', 'sqlite', 'postgres', 'mysql'].includes(engine) || !/^\d+$/.test(values.names))
  throw new Error('usage: node bench/streaming.ts redis|sqlite|postgres|mysql [--names N] [--only REGEX] [--seconds N]');
const only = new RegExp(values.only);
const limit = Number(values.seconds) * 1000;

/** A number of KiB in /proc/PID/status; 0 where the process has ended. */
function statusOf(pid: number, field: 'VmHWM' | 'VmRSS' | 'RssAnon'): number {
  try {
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** A process and all below it. */
function tree(pid: number): number[] {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]);
      parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
    } catch {
      // It has ended meanwhile.
    }
  }
  const below = (each: number): number[] => [each, ...(parents.get(each) ?? []).flatMap(below)];
  return below(pid);
}

const ended = (child: ChildProcess): Promise<number | null> => new Promise((done) => void child.once('exit', done));

interface Ran {
  readonly seconds: number;
  /** KiB. */
  readonly peak: number;
  readonly interrupted: boolean;
  readonly code: number | null;
  readonly output: string;
}

/** Runs a command of ours; one that removes and takes too long is interrupted. `keep` its output. */
async function run(work: string, args: readonly string[], keep = true): Promise<Ran> {
  const longest = args.includes('rmr') || args.includes('--delete') ? limit : LONGEST_MS;
  const file = join(work, 'output');
  const output = openSync(keep ? file : '/dev/null', 'w');
  const errors = openSync(join(work, 'errors'), 'w');
  const begin = performance.now();
  const child = spawn(join(root, 'bin/juicepod'), args, { stdio: ['ignore', output, errors] });
  closeSync(output);
  closeSync(errors);
  let peak = 0;
  let interrupted = false;
  const look = setInterval(() => {
    peak = Math.max(peak, statusOf(child.pid ?? 0, 'VmHWM'));
    if (interrupted || performance.now() - begin < longest) return;
    interrupted = true;
    child.kill('SIGINT');
  }, POLL_MS);
  const code = await ended(child);
  clearInterval(look);
  const text = (keep ? readFileSync(file, 'utf8') : '') + readFileSync(join(work, 'errors'), 'utf8');
  return { seconds: (performance.now() - begin) / 1000, peak, interrupted, code, output: text };
}

/** Peaks of each step with few names, KiB. */
const few = new Map<string, number>();
let missed = 0;

function tell(directory: Directory, step: string, peak: number, seconds: number, note: string): void {
  if (directory.count === FEW) {
    few.set(step, peak);
    return;
  }
  const grown = (peak - (few.get(step) ?? 0)) / 1024;
  if (grown > GOAL_MIB) missed++;
  const line = [`${step.padEnd(24)} ${seconds.toFixed(1).padStart(7)} s`, `+${grown.toFixed(1)} MiB`.padStart(11)];
  process.stdout.write(`${[...line, `of ${(peak / 1024).toFixed(0)}`.padStart(6), note].join('  ')}\n`);
}

const inShort = (text: string): string => text.trim().split('\n').slice(-3).join(' | ').slice(0, 240);

async function command(work: string, directory: Directory, step: string, args: readonly string[], keep = true): Promise<void> {
  if (!only.test(step)) return;
  const { seconds, peak, interrupted, code, output } = await run(work, args, keep);
  const how = interrupted ? 'interrupted; ' : code === 0 ? '' : `exit ${code}; `;
  tell(directory, step, peak, seconds, how + (keep ? inShort(output) : ''));
}

/** Carries out `action`, and tells of the peak of all processes of the mount meanwhile. */
async function onMount(mounted: Mounted, directory: Directory, step: string, action: () => Promise<string>): Promise<void> {
  if (!only.test(step)) return;
  const pids = tree(mounted.child.pid ?? 0);
  // Of few names all that was so far: a mount that has waited a while has given back what its start took, and takes it again.
  if (directory.count !== FEW) for (const pid of pids) writeFileSync(`/proc/${pid}/clear_refs`, '5');
  const begin = performance.now();
  const note = await action();
  const seconds = (performance.now() - begin) / 1000;
  tell(
    directory,
    step,
    pids.reduce((sum, pid) => sum + statusOf(pid, 'VmHWM'), 0),
    seconds,
    note,
  );
}

async function listed(folder: string, count: number): Promise<Listing> {
  const args = [join(root, 'bench/streaming-list.ts'), folder, String(count)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as Listing;
}

const shown = ({ firstMs, seconds, names, twice, others, missingCount }: Listing): string =>
  `first names after ${firstMs.toFixed(1)} ms, ${names} in ${seconds.toFixed(1)} s, ${missingCount} missing, ${twice} twice, ${others} others`;

/** Lists while names come and go; all that were there the whole time must be told. */
async function listedChanging(folder: string, count: number): Promise<string> {
  const removed = new Set<number>();
  const state = { over: false };
  const change = async (): Promise<void> => {
    for (let at = 0; !state.over; at++) {
      const path = join(folder, `made-${at}`);
      await writeFile(path, '');
      if (at % 2 === 0) await unlink(path);
      const number = Math.floor((removed.size * count) / REMOVED) + 1;
      if (removed.size < REMOVED && number < count && !removed.has(number)) {
        await unlink(join(folder, PREFIX + number));
        removed.add(number);
      }
      await wait(5);
    }
  };
  const changing = change();
  const found = await listed(folder, count);
  state.over = true;
  await changing;
  const lost = found.missing.filter((number) => !removed.has(number));
  for (const number of removed) await writeFile(join(folder, PREFIX + number), '');
  for (const name of await made(folder)) await rm(join(folder, name));
  return `${shown(found)}; ${lost.length === 0 ? 'none' : lost.length} of those that stayed`;
}

/** Names that listedChanging has left, by number: nobody reads the directory for them. */
async function made(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (let at = 1; ; at += 2) {
    const name = `made-${at}`;
    const { ok } = await promisify(execFile)('test', ['-e', join(folder, name)]).then(
      () => ({ ok: true }),
      () => ({ ok: false }),
    );
    if (!ok) return names;
    names.push(name);
  }
}

async function measure(work: string, url: string, directory: Directory): Promise<void> {
  const path = `/${directory.name}`;
  const step = (name: string, args: readonly string[], keep = true): Promise<void> => command(work, directory, name, args, keep);
  await step('fsck', ['fsck', url]);
  await step('fsck of the tree', ['fsck', url, '--path', '/', '--recursive', '--sync-dir-stat']);
  await step('gc', ['gc', url]);
  await juicepod(['quota', 'set', url, '--path', path, '--inodes', '100000000']);
  await step('quota check', ['quota', 'check', url, '--path', path, '--strict']);
  const [text, binary] = [join(work, 'dump.json'), join(work, 'dump.bin')];
  await step('dump', ['dump', url, text]);
  await step('dump, binary', ['dump', url, '--binary', binary]);
  for (const [name, args] of [
    ['load', [database.spareUrl, text]],
    ['load, binary', ['--binary', database.spareUrl, binary]],
  ] as const) {
    if (!only.test(name)) continue;
    await step(name, ['load', ...args]);
    const loaded = await openEngine(database.spareUrl);
    await loaded.reset();
    await loaded.close();
  }
  rmSync(text, { force: true });
  rmSync(binary, { force: true });
  await using mounted = await startMount(url, join(work, 'mnt'), work, { mount: ['--no-bgjob'] });
  const folder = join(mounted.folder, directory.name);
  const mount = (name: string, action: () => Promise<string>): Promise<void> => onMount(mounted, directory, name, action);
  await mount('list', async () => shown(await listed(folder, directory.count)));
  await mount('list twice at once', async () =>
    (await Promise.all([listed(folder, directory.count), listed(folder, directory.count)])).map(shown).join('; '),
  );
  await mount('list while it changes', () => listedChanging(folder, directory.count));
  const asked = async (args: readonly string[]): Promise<string> => {
    const { interrupted, code, output } = await run(work, args);
    return `${interrupted ? 'interrupted; ' : code === 0 ? '' : `exit ${code}; `}${inShort(output)}`;
  };
  await mount('summary --strict', () => asked(['summary', folder, '--strict', '--entries', '1']));
  // Not `warmup` itself: what that brings into the cache has its own limits.
  await mount('warmup --check', () => asked(['warmup', folder, '--check']));
  await mount('rmr', () => asked(['rmr', folder]));
  await mount('rmr, again', () => asked(['rmr', folder]));
  await mounted.unmount();
  if (!only.test('cleaning of the trash')) return;
  await intoTrash(url, directory, TRASH_INO).catch(async () => {
    const second = { ...directory, name: 'second', ino: directory.ino + 500_000_000 };
    await fill(engine, url, join(work, 'store/streaming'), second);
    await intoTrash(url, second, TRASH_INO);
  });
  await step('cleaning of the trash', ['gc', url, '--delete']);
  await step('fsck of what is left', ['fsck', url, '--path', '/', '--recursive', '--sync-dir-stat']);
}

const work = values.work ?? mkdtempSync(join(tmpdir(), 'juicepod-streaming-'));
mkdirSync(work, { recursive: true });
await using database = await startDatabase(engine, work);
try {
  const store = ['--storage', 'file', '--bucket', join(work, 'store')];
  await juicepod(['format', database.url, 'streaming', ...store, '--trash-days', '0']);
  for (const directory of [
    // Twice, for what runs for the first time is compiled first.
    { name: 'first', count: FEW, ino: 1_000_000 },
    { name: 'few', count: FEW, ino: 2_000_000 },
    { name: 'large', count: Number(values.names), ino: 10_000_000 },
  ]) {
    const begin = performance.now();
    await fill(engine, database.url, join(work, 'store/streaming'), directory);
    if (directory.count !== FEW) {
      const seconds = ((performance.now() - begin) / 1000).toFixed(0);
      process.stdout.write(`${engine}: ${directory.count} names made in ${seconds} s; growth beside ${FEW} names\n`);
    }
    await measure(work, database.url, directory);
  }
} finally {
  await clearMounts(work);
  rmSync(work, { recursive: true, force: true });
}
if (missed > 0) {
  process.stdout.write(`${missed} steps grew by more than ${GOAL_MIB} MiB\n`);
  process.exitCode = 1;
}
