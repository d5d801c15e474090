/**
 * `npm test`: every check of the project, in stages; `npm test -- STAGE …` runs some. Set-up (programs the tests run beside the
 * project) is done first, with progress, and kept in a cache. What cannot be had here is named at the end as skipped.
 */
import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { prepareCluster } from './cluster/with-cluster.ts';
import { prepareAll } from './prepare.ts';
import { ToolMissing } from './tools.ts';

const root = resolve(import.meta.dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'juicepod-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

interface Stage {
  readonly name: string;
  readonly title: string;
  readonly run: () => Promise<boolean>;
}

const counts = { passed: 0, failed: 0 };
const skipped = new Map<string, string[]>();

/** Runs a program to its end with its output shown; true where it succeeded. */
function command(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
    child.once('error', (error) => {
      console.error(`${program}: ${error.message}`);
      done(false);
    });
    child.once('exit', (code) => done(code === 0));
  });
}

/** Runs test files; `wrap` is a program to run them within. */
async function tests(files: readonly string[], wrap: readonly string[] = [], concurrency = 2): Promise<boolean> {
  if (files.length === 0) return true;
  const results = join(scratch, `${Math.random().toString(36).slice(2)}.jsonl`);
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-concurrency=${concurrency}`,
    '--test-timeout=900000',
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${join(root, 'test/reporter.ts')}`,
    `--test-reporter-destination=${results}`,
    ...files,
  ];
  const [program, ...rest] = [...wrap, process.execPath, ...args];
  const ok = await command(program ?? process.execPath, rest);
  let lines: string[] = [];
  try {
    lines = readFileSync(results, 'utf8').split('\n').filter(Boolean);
  } catch {
    // The runner did not get so far; its exit status says so.
  }
  for (const line of lines) {
    const { name, ok: passed, skip } = JSON.parse(line) as { name: string; ok: boolean; skip?: string | boolean };
    if (skip) skipped.set(String(skip), [...(skipped.get(String(skip)) ?? []), name]);
    else if (passed) counts.passed++;
    else counts.failed++;
  }
  return ok;
}

/** The scenarios of pods with volumes, beside a cluster that lives as long as they run. */
async function scenarios(): Promise<boolean> {
  try {
    await prepareCluster();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    skipped.set(error.message, ['pods with volumes on a real cluster']);
    return true;
  }
  const harness = join(root, 'test/cluster/with-cluster.ts');
  const wrap = [process.execPath, '--disable-warning=ExperimentalWarning', harness, '--'];
  return await tests([join(root, 'test/cluster/scenarios/all.scenario.ts')], wrap, 1);
}

const bin = (name: string): string => join(root, 'node_modules/.bin', name);
const find = (pattern: string): string[] => globSync(pattern, { cwd: root }).toSorted();

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
  { name: 'unit', title: 'Unit tests', run: () => tests(find('src/**/*.test.ts')) },
  {
    name: 'system',
    title: 'Tests with real servers and real mounts',
    run: () => tests(find('test/**/*.test.ts').filter((file) => !file.startsWith('test/cluster/'))),
  },
  {
    name: 'cluster',
    title: 'A real Kubernetes node',
    run: async () => {
      const harness = await tests(find('test/cluster/**/*.test.ts'), [], 1);
      return (await scenarios()) && harness;
    },
  },
];

const wanted = process.argv.slice(2);
if (wanted.includes('--help') || wanted.some((name) => !stages.some((stage) => stage.name === name))) {
  console.log(
    `npm test [-- STAGE ...]\n\nStages, in order:\n${stages.map(({ name, title }) => `  ${name.padEnd(9)} ${title}\n`).join('')}`,
  );
  process.exit(wanted.includes('--help') ? 0 : 2);
}

const begin = performance.now();
const broken: string[] = [];
for (const { name, title, run } of stages) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const from = performance.now();
  console.log(`\n── ${title} (${name})`);
  let ok: boolean;
  try {
    ok = await run();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    ok = false;
  }
  if (!ok) broken.push(name);
  console.log(`── ${name}: ${ok ? 'ok' : 'FAILED'}, ${Math.round((performance.now() - from) / 1000)} s`);
  // A tree that does not pass the static checks is not worth the minutes that follow.
  if (!ok && name === 'static') break;
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
