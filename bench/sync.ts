/**
 * Hydration of sync mode beside rclone, the AWS command line and a local copy, from one S3 server (versitygw) on this machine: 10 000 files
 * of 1 to 16 KiB in 100 directories, and one file of 2 GiB. Ours reads a JuiceFS volume (metadata in Redis), from the start of
 * the process until the application may start, as the bundle that the image carries; the others copy the same tree, one object a file, out of a
 * plain bucket. Each copies in turn, round for round, and medians are printed, with the ratios of the others' times to
 * ours (1.0 or more is the goal). Small trees are removed after all rounds: ext4 is slow to make files where many were just removed.
 *
 *   node bench/sync.ts [--rounds 3] [--files 10000] [--size MiB] [--only small|large] [--aws-rounds 1] [--no-keep-alive] [--cpu-prof FOLDER]
 *
 * rclone is RCLONE_BIN, else that of the PATH, else installed with apt-get; the AWS command line is AWS_BIN, else `aws` of the PATH. What
 * cannot be had is left out, and the table says so. The server keeps connections alive, as every S3 service does (versitygw does so only
 * when it is told to).
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { bundle } from '../image/bundle.ts';
import { type S3Server, startRedis, startS3 } from '../test/servers.ts';
import { ensureDebian, onPath, ToolMissing } from '../test/tools.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    files: { type: 'string', default: '10000' },
    size: { type: 'string', default: '2048' },
    only: { type: 'string', default: 'small|large' },
    'aws-rounds': { type: 'string', default: '1' },
    'no-keep-alive': { type: 'boolean', default: false },
    'cpu-prof': { type: 'string' },
  },
});
const root = resolve(import.meta.dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'juicepod-bench-sync-'));
const MIB = 2 ** 20;

const run = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string =>
  execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  });

/** A program that the environment or the PATH names. */
function find(variable: string, name: string): string | undefined {
  const named = process.env[variable];
  if (named !== undefined && !existsSync(named)) throw new Error(`${variable} names ${named}, which is not there`);
  return named ?? onPath(name);
}

function findRclone(): string | undefined {
  const found = find('RCLONE_BIN', 'rclone');
  if (found !== undefined) return found;
  try {
    ensureDebian('rclone');
  } catch (error) {
    if (!(error instanceof ToolMissing)) console.log(`rclone cannot be installed: ${String(error).slice(0, 200)}`);
  }
  return onPath('rclone');
}

const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;

/** Random enough for no layer to compress it, cheap enough to make gigabytes of. */
function noise(bytes: number, seed: number): Buffer {
  const data = Buffer.allocUnsafe(bytes);
  let state = seed | 1;
  for (let at = 0; at + 4 <= bytes; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    data.writeInt32LE(state, at);
  }
  return data;
}

function fill(folder: string, what: 'small' | 'large'): void {
  if (what === 'large') {
    const block = noise(4 * MIB, 7);
    const path = join(folder, 'large');
    for (let done = 0; done < Number(options.size); done += 4) {
      block.writeInt32LE(done, 0);
      writeFileSync(path, block, { flag: 'a' });
    }
    return;
  }
  for (let file = 0; file < Number(options.files); file++) {
    const directory = join(folder, `d${String(file % 100).padStart(2, '0')}`);
    if (file < 100) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `f${file}`), noise(1024 + ((file * 7919) % (15 * 1024)), file));
  }
}

/** Starts the sidecar and waits until the application may start; answers the seconds that took. */
async function hydrate(
  config: string,
  folder: string,
): Promise<{ readonly seconds: number; end(): Promise<number | null>; readonly tree: string }> {
  const tree = join(folder, '0', 'tree');
  const ready = join(folder, 'ready');
  const plan = join(folder, 'plan.json');
  mkdirSync(tree, { recursive: true });
  const mount = { id: '0', volume: 'bench/volume', config, target: tree, mode: 'sync', sync: { flushSeconds: 600 } };
  writeFileSync(plan, JSON.stringify({ version: 1, mounts: [mount] }));
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [
      ...(options['cpu-prof'] === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', options['cpu-prof']]),
      '--disable-warning=ExperimentalWarning',
      join(work, 'bundle', 'main.js'),
      'sync-sidecar',
      '--plan',
      plan,
      '--ready',
      ready,
      '--termination',
      join(folder, 'termination'),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let output = '';
  child.stderr.on('data', (data: Buffer) => (output += data.toString()));
  const exit = new Promise<number | null>((done) => child.once('exit', done));
  while (!existsSync(ready)) {
    if (child.exitCode !== null) throw new Error(`the sidecar ended: ${output}`);
    await new Promise((done) => setTimeout(done, 5));
  }
  const seconds = (performance.now() - started) / 1000;
  return {
    seconds,
    tree,
    async end() {
      child.kill('SIGTERM');
      const code = await exit;
      if (code !== 0) throw new Error(`the sidecar ended with ${code}: ${output}`);
      return code;
    },
  };
}

function settle(): void {
  run('sync', []);
}

interface Peer {
  readonly name: string;
  readonly program: string;
  readonly rounds: number;
  copy(s3: S3Server, target: string): void;
}

function peers(): readonly Peer[] {
  const found: Peer[] = [];
  const rclone = findRclone();
  if (rclone !== undefined)
    found.push({
      name: 'rclone copy, 16 transfers',
      program: run(rclone, ['version']).split('\n')[0] ?? '',
      rounds: Number(options.rounds),
      copy: (s3, target) =>
        void run(rclone, ['copy', '--transfers', '16', ':s3:plain', target], {
          RCLONE_S3_PROVIDER: 'Other',
          RCLONE_S3_ENDPOINT: s3.endpoint,
          RCLONE_S3_ACCESS_KEY_ID: s3.accessKey,
          RCLONE_S3_SECRET_ACCESS_KEY: s3.secretKey,
          RCLONE_S3_REGION: 'us-east-1',
          RCLONE_S3_FORCE_PATH_STYLE: 'true',
          RCLONE_CONFIG: join(work, 'none.conf'),
          // Its library takes a bundle of the environment for an error where the endpoint is plain HTTP.
          AWS_CA_BUNDLE: undefined,
        }),
    });
  const aws = find('AWS_BIN', 'aws');
  if (aws !== undefined)
    found.push({
      name: 'aws s3 sync',
      program: run(aws, ['--version']).trim(),
      rounds: Number(options['aws-rounds']),
      copy: (s3, target) =>
        void run(aws, ['--endpoint-url', s3.endpoint, 's3', 'sync', '--only-show-errors', 's3://plain', target], {
          AWS_ACCESS_KEY_ID: s3.accessKey,
          AWS_SECRET_ACCESS_KEY: s3.secretKey,
          AWS_DEFAULT_REGION: 'us-east-1',
          AWS_CONFIG_FILE: join(work, 'none.conf'),
          AWS_CA_BUNDLE: undefined,
        }),
    });
  return found;
}

async function measure(what: 'small' | 'large', others: readonly Peer[]): Promise<void> {
  await using redis = await startRedis();
  await using s3 = await startS3();
  for (const bucket of ['plain', 'juicefs']) s3.createBucket(bucket);
  const plain = join(s3.folder, 'plain');
  const source = join(work, `source-${what}`);
  mkdirSync(source);
  fill(source, what);
  run('cp', ['-a', `${source}/.`, plain]);
  const url = redis.url(1);
  const keys = { ACCESS_KEY: s3.accessKey, SECRET_KEY: s3.secretKey };
  const juicepod = join(root, 'bin/juicepod');
  run(juicepod, ['format', url, 'volume', '--storage', 's3', '--bucket', `${s3.endpoint}/juicefs`, '--trash-days', '0'], keys);
  const { Setting } = JSON.parse(run(juicepod, ['status', url, '--output', 'json'])) as { Setting: { UUID: string } };
  const config = join(work, 'volume.json');
  writeFileSync(config, JSON.stringify({ name: 'volume', uuid: Setting.UUID, metaUrl: url }));

  // The volume gets its content as a pod would give it: written into an empty one, and sent at the end.
  const first = join(work, 'first');
  const writer = await hydrate(config, first);
  const began = performance.now();
  run('cp', ['-a', `${source}/.`, writer.tree]);
  await writer.end();
  const sent = (performance.now() - began) / 1000;
  rmSync(first, { recursive: true, force: true });

  const ours: number[] = [];
  const copies: number[] = [];
  const theirs = others.map((): number[] => []);
  const folders: string[] = [];
  const keep = (folder: string): void => {
    if (what === 'small') folders.push(folder);
    else rmSync(folder, { recursive: true, force: true });
  };
  const timed = (name: string, round: number, times: number[], copy: (target: string) => void): void => {
    const target = join(work, `${name}-${round}`);
    mkdirSync(target, { recursive: true });
    settle();
    const started = performance.now();
    copy(target);
    times.push((performance.now() - started) / 1000);
    if (round === 0) run('diff', ['-r', source, target]);
    keep(target);
  };
  for (let round = 0; round < Number(options.rounds); round++) {
    settle();
    const folder = join(work, `ours-${round}`);
    const pod = await hydrate(config, folder);
    ours.push(pod.seconds);
    await pod.end();
    if (round === 0) run('diff', ['-r', source, pod.tree]);
    keep(folder);
    for (const [at, peer] of others.entries())
      if (round < peer.rounds) timed(`peer-${at}`, round, theirs[at] ?? [], (target) => peer.copy(s3, target));
    timed('copy', round, copies, (target) => void run('cp', ['-a', `${source}/.`, target]));
  }
  for (const folder of [...folders, source]) rmSync(folder, { recursive: true, force: true });
  const title = what === 'small' ? `${options.files} files of 1–16 KiB` : `one file of ${options.size} MiB`;
  const seconds = (list: readonly number[]): string => `${median(list).toFixed(2)} s`;
  const cells = theirs.flatMap((list) => [seconds(list), (median(list) / median(ours)).toFixed(2)]);
  console.log(`| ${[title, seconds(ours), ...cells, seconds(copies), `${sent.toFixed(2)} s`].join(' | ')} |`);
}

try {
  if (!options['no-keep-alive']) process.env['VGW_KEEP_ALIVE'] = 'true';
  const others = peers();
  for (const { name, program, rounds } of others) console.log(`${name}: ${program}, ${rounds} rounds`);
  console.log(`${others.length < 2 ? 'rclone or aws was not found. ' : ''}Load: ${loadavg()[0]?.toFixed(1)}\n`);
  await bundle(join(work, 'bundle'));
  const heads = ['hydration of', 'ours', ...others.flatMap(({ name }) => [name, 'its time / ours']), 'local copy'];
  const line = (cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);
  line([...heads, 'written and sent by a pod']);
  line([...heads, ''].map(() => '---'));
  for (const what of ['small', 'large'] as const) if (options.only.split('|').includes(what)) await measure(what, others);
  console.log(`\nLoad: ${loadavg()[0]?.toFixed(1)}`);
} finally {
  rmSync(work, { recursive: true, force: true });
}
