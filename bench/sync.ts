/**
 * Hydration of sync mode beside rclone and a local copy, from one S3 server (versitygw) on this machine: 10 000 files of 1 to 16 KiB in 100 directories, and
 * one file of 2 GiB. Ours reads a JuiceFS volume (metadata in Redis), from the start of the process until the application may start; rclone
 * copies the same tree, one object a file, out of a plain bucket. Every cell is measured in turn and the median is printed, with the ratio
 * of rclone's time to ours (1.0 or more is the goal).
 *
 *   node bench/sync.ts [--rounds 3] [--files 10000] [--size MiB] [--only small|large]
 *
 * rclone is installed with apt-get where it is missing and that is possible; else only ours and the copy are shown.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startRedis, startS3 } from '../test/servers.ts';
import { ensureDebian, onPath, ToolMissing } from '../test/tools.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    files: { type: 'string', default: '10000' },
    size: { type: 'string', default: '2048' },
    only: { type: 'string', default: 'small|large' },
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

function findRclone(): string | undefined {
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
      '--disable-warning=ExperimentalWarning',
      join(root, 'src/main.ts'),
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

async function measure(what: 'small' | 'large', rclone: string | undefined): Promise<void> {
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

  const times: Record<'ours' | 'rclone' | 'copy', number[]> = { ours: [], rclone: [], copy: [] };
  for (let round = 0; round < Number(options.rounds); round++) {
    const folder = join(work, `round-${round}`);
    settle();
    const pod = await hydrate(config, join(folder, 'ours'));
    times.ours.push(pod.seconds);
    await pod.end();
    if (round === 0) run('diff', ['-r', source, pod.tree]);
    rmSync(folder, { recursive: true, force: true });
    if (rclone) {
      settle();
      const target = join(folder, 'rclone');
      mkdirSync(target, { recursive: true });
      const started = performance.now();
      run(rclone, ['copy', '--transfers', '16', ':s3:plain', target], {
        RCLONE_S3_PROVIDER: 'Other',
        RCLONE_S3_ENDPOINT: s3.endpoint,
        RCLONE_S3_ACCESS_KEY_ID: s3.accessKey,
        RCLONE_S3_SECRET_ACCESS_KEY: s3.secretKey,
        RCLONE_S3_REGION: 'us-east-1',
        RCLONE_S3_FORCE_PATH_STYLE: 'true',
        RCLONE_CONFIG: join(work, 'none.conf'),
        // Its library takes a bundle of the environment for an error where the endpoint is plain HTTP.
        AWS_CA_BUNDLE: undefined,
      });
      times.rclone.push((performance.now() - started) / 1000);
      if (round === 0) run('diff', ['-r', source, target]);
      rmSync(folder, { recursive: true, force: true });
    }
    settle();
    const target = join(folder, 'copy');
    mkdirSync(target, { recursive: true });
    const started = performance.now();
    run('cp', ['-a', `${source}/.`, target]);
    times.copy.push((performance.now() - started) / 1000);
    rmSync(folder, { recursive: true, force: true });
  }
  rmSync(source, { recursive: true, force: true });
  const [ours, theirs, copy] = [median(times.ours), median(times.rclone), median(times.copy)];
  const title = what === 'small' ? `${options.files} files of 1–16 KiB` : `one file of ${options.size} MiB`;
  const show = (seconds: number): string => (Number.isNaN(seconds) ? '-' : `${seconds.toFixed(2)} s`);
  console.log(
    `| ${title} | ${show(ours)} | ${show(theirs)} | ${show(copy)} | ${Number.isNaN(theirs) ? '-' : (theirs / ours).toFixed(2)} | ${show(sent)} |`,
  );
}

try {
  const rclone = findRclone();
  console.log(`rclone: ${rclone ? run(rclone, ['version']).split('\n')[0] : 'not found'}\n`);
  console.log('| hydration of | ours | rclone copy, 16 transfers | local copy | rclone / ours | written and sent by a pod |');
  console.log('|---|---|---|---|---|---|');
  for (const what of ['small', 'large'] as const) if (options.only.split('|').includes(what)) await measure(what, rclone);
} finally {
  rmSync(work, { recursive: true, force: true });
}
