/**
 * `npm test`: every check of the project, in stages; `npm test -- STAGE …` runs some. Set-up (programs the tests run beside the
 * project) is done first, with progress, and kept in a cache. What cannot be had here is named at the end as skipped.
 *
 * The node of Kubernetes mostly waits (for the kubelet, for pods to end), the tests with real servers mostly compute: they run side by
 * side, and what the node's say is shown when they are done.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, globSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { prepareCluster } from './cluster/with-cluster.ts';
import { prepareAll } from './prepare.ts';
import { ToolMissing } from './tools.ts';

const root = resolve(import.meta.dirname, '..');
// Each test file is a process, and so is much of what they start: the code of all is compiled once.
process.env['NODE_COMPILE_CACHE'] ||= join(root, 'node_modules/.cache/juicepod');
const scratch = mkdtempSync(join(tmpdir(), 'juicepod-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

interface Stage {
  readonly name: string;
  readonly title: string;
  /** Runs beside the stage before it. */
  readonly beside?: boolean;
  /** True where all is well; what its programs say goes to the descriptor `output`. */
  readonly run: (output: number) => Promise<boolean>;
}

const counts = { passed: 0, failed: 0 };
const skipped = new Map<string, string[]>();
/** How long each file of tests took, seconds. */
const durations = new Map<string, number>();
/** What is under way when a run has taken this long is named, and fails: who waits for the run would only see that it did not end. */
const MOST_MINUTES = 80;
/** Seconds that one test or suite may take; a file of tests may take three times that. */
const MOST_SECONDS = { unit: 300, system: 400, cluster: 900 };
/** Files that are named at the end, the longest first. */
const MOST_NAMED = 12;

const running = new Set<ChildProcess>();
let late = false;

/** Runs a program to its end with its output shown, or written to a descriptor; true where it succeeded. */
function command(program: string, args: readonly string[], output = 1): Promise<boolean> {
  if (late) return Promise.resolve(false);
  return new Promise((done) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', output, output === 1 ? 2 : output] });
    running.add(child);
    child.once('error', (error) => {
      running.delete(child);
      console.error(`${program}: ${error.message}`);
      done(false);
    });
    child.once('exit', (code) => {
      running.delete(child);
      done(code === 0);
    });
  });
}

/** Ends what is under way, which then says what it was at. */
function end(why: string): void {
  late = true;
  console.error(`\n${why}`);
  for (const child of running) child.kill('SIGTERM');
}
setTimeout(() => end(`This has taken ${MOST_MINUTES} minutes: what is still under way is ended.`), MOST_MINUTES * 60_000).unref();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => end(`${signal}: what is under way is ended.`));

interface Run {
  readonly output?: number;
  /** A program to run the tests within. */
  readonly wrap?: readonly string[];
  /** Test files at the same time. */
  readonly concurrency?: number;
  /** For one test or suite. */
  readonly seconds: number;
}

/** Runs test files, begun in this order, and counts what they say. */
async function tests(files: readonly string[], { output = 1, wrap = [], concurrency = 2, seconds }: Run): Promise<boolean> {
  if (files.length === 0) return true;
  const results = join(scratch, `${Math.random().toString(36).slice(2)}.jsonl`);
  const args = [
    '--disable-warning=ExperimentalWarning',
    join(root, 'test/in-order.ts'),
    results,
    String(concurrency),
    String(seconds),
    ...files,
  ];
  const [program, ...rest] = [...wrap, process.execPath, ...args];
  const ok = await command(program ?? process.execPath, rest, output);
  let lines: string[] = [];
  try {
    lines = readFileSync(results, 'utf8').split('\n').filter(Boolean);
  } catch {
    // The runner did not get so far; its exit status says so.
  }
  for (const line of lines) {
    const result = JSON.parse(line) as { name: string; ok: boolean; skip?: string | boolean } | { file: string; seconds: number };
    if ('file' in result) {
      durations.set(relative(root, result.file), result.seconds);
      continue;
    }
    const { name, ok: passed, skip } = result;
    if (skip) skipped.set(String(skip), [...(skipped.get(String(skip)) ?? []), name]);
    else if (passed) counts.passed++;
    else counts.failed++;
  }
  return ok;
}

/** The scenarios of pods with volumes, beside a cluster that lives as long as they run. */
async function scenarios(output: number): Promise<boolean> {
  try {
    await prepareCluster();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    skipped.set(error.message, ['pods with volumes on a real cluster']);
    return true;
  }
  const harness = join(root, 'test/cluster/with-cluster.ts');
  const wrap = [process.execPath, '--disable-warning=ExperimentalWarning', harness, '--'];
  return await tests([join(root, 'test/cluster/scenarios/all.scenario.ts')], {
    output,
    wrap,
    concurrency: 1,
    seconds: MOST_SECONDS.cluster,
  });
}

const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const find = (pattern: string): string[] => globSync(pattern, { cwd: root }).toSorted();

/** Test files that take minutes; begun first, so that none is left alone at the end. Their order is that of how long they take. */
const LONG = [
  'test/interop/mount.test.ts',
  'test/interop/maintenance.test.ts',
  'test/posix/pjdfstest-c.test.ts',
  'test/posix/pjdfstest.test.ts',
  'test/interop/random.test.ts',
  'test/meta/model.test.ts',
  'test/interop/quotas.test.ts',
  'test/meta/quota-model.test.ts',
  'test/interop/matrix.test.ts',
  'test/consistency/two-mounts.test.ts',
  'test/locks/mounts.test.ts',
  'test/packaging/rights.test.ts',
];
/** Real servers and mounts are waited for more than half of the time. */
const SYSTEM_CONCURRENCY = availableParallelism() + 2;

function systemTests(): string[] {
  const files = find('test/**/*.test.ts').filter((file) => !file.startsWith('test/cluster/'));
  return [...LONG.filter((file) => files.includes(file)), ...files.filter((file) => !LONG.includes(file))];
}

/** What makes tests longer than they have to be every time. */
const LONGER = `Longer, from the environment:
  FSX_OPS=1000000             random operations on a file, for each engine (FSX_SEED: another course)
  POSIX_ALL=1                 the pjdfstest in C over every engine
  JUICEPOD_MODEL_RUNS=500     random courses of the metadata against its models, of dump and load, and of quotas
  JUICEPOD_RUNS=500           random courses of the file system and of sync mode (JUICEPOD_SEED: one again)
  JUICEPOD_TEST_REDIS=all     the suites of the metadata over every way in which Redis is run
`;

const stages: readonly Stage[] = [
  {
    name: 'static',
    title: 'Lint, types, format',
    run: async () =>
      (await command(bin('oxlint'), ['--type-aware', '--deny-warnings', 'src', 'test', 'bench', 'kind-e2e', 'image'])) &&
      (await command(bin('tsc'), ['--noEmit'])) &&
      (await command(bin('prettier'), ['--check', '--log-level', 'warn', 'src', 'test', 'bench', 'kind-e2e', 'image'])),
  },
  { name: 'prepare', title: 'Programs that the tests run (built once, then cached)', run: () => prepareAll() },
  { name: 'unit', title: 'Unit tests', run: () => tests(find('{src,bench}/**/*.test.ts'), { seconds: MOST_SECONDS.unit }) },
  {
    name: 'system',
    title: 'Tests with real servers and real mounts',
    run: () => tests(systemTests(), { concurrency: SYSTEM_CONCURRENCY, seconds: MOST_SECONDS.system }),
  },
  {
    name: 'cluster',
    title: 'A real Kubernetes node',
    beside: true,
    run: async (output) => {
      const harness = await tests(find('test/cluster/**/*.test.ts'), { output, concurrency: 1, seconds: MOST_SECONDS.cluster });
      return (await scenarios(output)) && harness;
    },
  },
];

const wanted = process.argv.slice(2);
if (wanted.includes('--help') || wanted.some((name) => !stages.some((stage) => stage.name === name))) {
  console.log(
    `npm test [-- STAGE ...]\n\nStages, in order:\n${stages.map(({ name, title }) => `  ${name.padEnd(9)} ${title}\n`).join('')}\n${LONGER}`,
  );
  process.exit(wanted.includes('--help') ? 0 : 2);
}

const begin = performance.now();
const broken: string[] = [];

/** Runs one stage; how it ended, in a line. */
async function perform({ name, run }: Stage, output = 1): Promise<string> {
  const from = performance.now();
  const ok = await run(output).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return false;
  });
  if (!ok) broken.push(name);
  return `── ${name}: ${ok ? 'ok' : 'FAILED'}, ${Math.round((performance.now() - from) / 1000)} s`;
}

/** A stage beside others: what it says is kept, and is shown by the function that comes back. */
function performBeside(stage: Stage): () => Promise<void> {
  const path = join(scratch, stage.name);
  const output = openSync(path, 'w');
  console.log(`── ${stage.title} (${stage.name}): meanwhile; what is said there follows`);
  const end = perform(stage, output);
  return async () => {
    const last = await end;
    closeSync(output);
    console.log(`\n── ${stage.title} (${stage.name})\n${readFileSync(path, 'utf8')}${last}`);
  };
}

const chosen = stages.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
for (const [index, stage] of chosen.entries()) {
  if (stage.beside === true && index > 0) continue;
  console.log(`\n── ${stage.title} (${stage.name})`);
  const next = chosen[index + 1];
  const show = next?.beside === true ? performBeside(next) : undefined;
  console.log(await perform(stage));
  await show?.();
  // A tree that does not pass the static checks is not worth the minutes that follow.
  if (late || (stage.name === 'static' && broken.length > 0)) break;
}

const longest = [...durations].toSorted(([, a], [, b]) => b - a).slice(0, MOST_NAMED);
if (longest.length > 0) {
  console.log('\nWhat took longest:');
  for (const [file, seconds] of longest) console.log(`  ${String(seconds).padStart(5)} s  ${file}`);
}
const skips = [...skipped.values()].reduce((sum, names) => sum + names.length, 0);
if (skips > 0) {
  console.log('\nSkipped, by reason:');
  for (const [reason, names] of skipped) console.log(`  ${reason}\n${names.map((name) => `    - ${name}\n`).join('')}`);
}
console.log(
  `\n${broken.length === 0 ? 'All stages ok' : `Failed: ${broken.join(', ')}`}, ${Math.round((performance.now() - begin) / 1000)} s`,
);
console.log(
  `${counts.passed} passed, ${counts.failed + (broken.length > 0 && counts.failed === 0 ? broken.length : 0)} failed${skips > 0 ? `, ${skips} skipped` : ''}`,
);
process.exit(broken.length === 0 ? 0 : 1);
