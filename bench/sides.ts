/**
 * What is measured side by side: our client, the official one (where JUICEFS_BIN names it) and a folder of the local disk. Both
 * clients over one Redis and one object store, with volumes of the same form, their caches on the same disk.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { startRedis, startS3 } from '../test/servers.ts';
import { juicefs } from '../test/tools.ts';

export const root = resolve(import.meta.dirname, '..');

export interface Side {
  readonly name: 'juicepod' | 'juicefs' | 'disk';
  readonly folder: string;
  mount(freshCache: boolean): Promise<void>;
  unmount(): Promise<void>;
  /** Resident memory of all its processes, KiB. */
  memory(): number;
}

/** What a volume's blocks are: words joined by +, of `plain`, `aes`, `chacha`, `lz4`, `zstd`. */
export type Form = string;

/** How a volume of that form is made, the same for both clients. `key` is a file with a private key. */
export function formOptions(form: Form, key: string): string[] {
  return form.split('+').flatMap((word) => {
    if (word === 'plain') return [];
    if (word === 'aes') return ['--encrypt-rsa-key', key, '--encrypt-algo', 'aes256gcm-rsa'];
    if (word === 'chacha') return ['--encrypt-rsa-key', key, '--encrypt-algo', 'chacha20-rsa'];
    if (word === 'lz4' || word === 'zstd') return ['--compress', word];
    throw new Error(`form of a volume: wanted plain, or some of aes, chacha, lz4, zstd joined by +; found ${form}`);
  });
}

/** Runs a command to its end; its output. */
export const run = (command: string, args: readonly string[]): string =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });

/** The kernel forgets pages, names and attributes that it can read again. */
export function dropCaches(): void {
  run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

export const wait = (milliseconds: number): Promise<void> => new Promise((done) => void setTimeout(done, milliseconds));

function resident(pid: number): number {
  const processes = run('ps', ['-e', '-o', 'pid=,ppid=,rss='])
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = (parent: number): number =>
    processes.filter(([, of]) => of === parent).reduce((sum, [child = 0, , rss = 0]) => sum + rss + below(child), 0);
  return below(pid) + (processes.find(([each]) => each === pid)?.[2] ?? 0);
}

function mounted(name: 'juicepod' | 'juicefs', command: string, url: string, work: string, extra: readonly string[]): Side {
  const folder = join(work, `mnt-${name}`);
  const cache = join(work, `cache-${name}`);
  const log = join(work, `${name}.log`);
  mkdirSync(folder, { recursive: true });
  let child: ChildProcess | undefined;
  let ended: Promise<unknown> = Promise.resolve();
  return {
    name,
    folder,
    async mount(freshCache) {
      if (freshCache) rmSync(cache, { recursive: true, force: true });
      const args = ['mount', url, folder, '--cache-dir', cache, '--no-bgjob', ...extra];
      child = spawn('sh', ['-c', `exec "$@" >> "$0" 2>&1`, log, command, ...args], { stdio: 'ignore', detached: true });
      const started = child;
      ended = new Promise((done) => started.once('exit', done));
      for (let attempt = 0; !existsSync(join(folder, '.stats')); attempt++) {
        if (child.exitCode !== null || attempt > 4000)
          throw new Error(`${name} did not mount: see ${log}\n${run('tail', ['-n', '20', log])}`);
        await wait(5);
      }
    },
    async unmount() {
      if (!child) return;
      try {
        run('umount', [folder]);
      } catch {
        try {
          run('umount', ['-l', folder]);
        } catch {
          // It has gone by itself.
        }
      }
      const { pid } = child;
      // A client that waits for a server which is gone, and whatever it has started.
      const timer = setTimeout(() => pid && process.kill(-pid, 'SIGKILL'), 60_000);
      await ended;
      clearTimeout(timer);
      child = undefined;
    },
    memory: () => resident(child?.pid ?? 0),
  };
}

/** The sides with what they stand on. */
export interface Sides extends AsyncDisposable {
  readonly all: readonly Side[];
}

/**
 * Starts servers and makes the volumes; nothing is mounted yet. Disposing unmounts and ends all, and says on standard error what did not end well.
 *
 * @param work an empty folder, on the disk that is measured
 * @param store `s3` for a server of its own, `file` for a folder
 * @param extra options of `mount` for both clients
 */
export async function startSides(work: string, store: string, form: Form, extra: readonly string[] = []): Promise<Sides> {
  if (store !== 's3' && store !== 'file') throw new Error(`--store: wanted s3 or file, found ${store}`);
  const key = join(work, 'key.pem');
  const options = formOptions(form, key);
  mkdirSync(work, { recursive: true });
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  await using servers = new AsyncDisposableStack();
  const redis = servers.use(await startRedis());
  let storage = ['--storage', 'file', '--bucket', join(work, 'store/')];
  if (store === 's3') {
    const s3 = servers.use(await startS3());
    s3.createBucket('bench');
    const keys = ['--access-key', s3.accessKey, '--secret-key', s3.secretKey];
    storage = ['--storage', 's3', '--bucket', `${s3.endpoint}/bench`, ...keys];
  }
  const disk = join(work, 'disk');
  mkdirSync(disk);
  const ours = join(root, 'bin/juicepod');
  const format = [...storage, ...options, '--trash-days', '0'];
  run(ours, ['format', redis.url(1), 'bench-ours', ...format]);
  const all: Side[] = [mounted('juicepod', ours, redis.url(1), work, extra)];
  const peer = juicefs();
  if (peer) {
    run(peer, ['format', redis.url(2), 'bench-theirs', ...format]);
    all.push(mounted('juicefs', peer, redis.url(2), work, ['--no-usage-report', ...extra]));
  }
  const nothing = async (): Promise<void> => {};
  all.push({ name: 'disk', folder: disk, mount: nothing, unmount: nothing, memory: () => 0 });
  const kept = servers.move();
  return {
    all,
    async [Symbol.asyncDispose]() {
      for (const side of all) await side.unmount().catch((error: unknown) => console.error(error));
      await kept.disposeAsync();
    },
  };
}

/** Says where a benchmark of both clients has only one. */
export const withoutPeer = 'The official client is not measured: JUICEFS_BIN does not name it.';
