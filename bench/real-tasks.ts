/**
 * The tasks of bench/real-work.ts, each some steps in a folder. A step is a process that can be ended; a check answers what is
 * there afterwards, in a few characters, which must be the same on each side.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot, onPath, ToolMissing } from '../test/tools.ts';
import { dropCaches, root, run, type Side } from './sides.ts';
import { sourceArchive, treeSum } from './trees.ts';

export interface Step {
  readonly name: string;
  /** Not timed: brings the side into the state that the step is about. */
  readonly before?: (side: Side) => Promise<void>;
  /** Answers seconds; undefined where it cannot be done on this side. */
  readonly run: (folder: string, limit: number, signal: AbortSignal) => Promise<number | undefined>;
}

export interface Task {
  readonly name: string;
  /** Makes what all sides need, and says what that is. Throws ToolMissing where it cannot be had. */
  readonly prepare: () => Promise<string> | string;
  readonly steps: readonly Step[];
  /** What is there after the steps so far, and before those after `checkAfter`. */
  readonly check?: (folder: string) => Promise<string> | string;
  /** Steps before the check. @default all */
  readonly checkAfter?: number;
}

export interface Size {
  /** Files of the source tree; undefined for a whole kernel. */
  readonly files: number | undefined;
  readonly samples: number;
  readonly threads: number;
  readonly checkpointMiB: number;
  readonly rows: number;
  /** A bare repository to clone; the one of this checkout where none is named. */
  readonly repository: string | undefined;
}

/** A step that took longer than it may. */
export class TooLong extends Error {
  override readonly name = 'TooLong';
}

/**
 * Runs a command to its end, with all that it starts ended after `limit` seconds or by the signal.
 *
 * @returns what it printed and the seconds from its start to its end
 * @throws TooLong; the signal's reason; an Error with the end of its output where it fails otherwise than with status 77
 */
async function timed(
  command: string,
  args: readonly string[],
  limit: number,
  cwd: string,
  signal?: AbortSignal,
): Promise<{ code: number | null; output: string; seconds: number }> {
  const begin = performance.now();
  const env = { ...process.env, GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0' };
  const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  const keep = (data: Buffer): void => void (output = (output + data.toString()).slice(-100_000));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  let late = false;
  const end = (): void => void (child.pid && process.kill(-child.pid, 'SIGKILL'));
  const timer = setTimeout(() => {
    late = true;
    end();
  }, limit * 1000);
  signal?.addEventListener('abort', end);
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  clearTimeout(timer);
  signal?.removeEventListener('abort', end);
  signal?.throwIfAborted();
  const seconds = (performance.now() - begin) / 1000;
  if (late) throw new TooLong(`longer than ${limit} s`);
  if (code !== 0 && code !== 77) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output.slice(-2000)}`);
  return { code, output, seconds };
}

/** A step of one command, after which everything is on the disk or in the store. */
const command =
  (name: string, args: (folder: string) => readonly string[], inside = '.') =>
  async (folder: string, limit: number, signal: AbortSignal): Promise<number> => {
    const begin = performance.now();
    await timed(name, args(folder), limit, join(folder, inside), signal);
    run('sync', ['-f', folder]);
    return (performance.now() - begin) / 1000;
  };

const transfer =
  (...args: readonly string[]) =>
  async (folder: string, limit: number, signal: AbortSignal): Promise<number | undefined> => {
    const [operation = '', path = '', ...rest] = args;
    const program = [join(root, 'bench/transfers.ts'), operation, join(folder, path), ...rest];
    const node = ['--disable-warning=ExperimentalWarning', ...program];
    const { code, output } = await timed(process.execPath, node, limit, folder, signal);
    return code === 77 ? undefined : Number(output.trim().split('\n').at(-1));
  };

/** Nothing in the kernel and nothing in the client's cache. */
async function cold(side: Side): Promise<void> {
  await side.unmount();
  dropCaches();
  await side.mount(true);
}

/** Nothing in the kernel, but the client's cache as it was. */
async function warm(side: Side): Promise<void> {
  await side.unmount();
  dropCaches();
  await side.mount(false);
}

const npmFlags = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

/** Fills npm's cache with what this project's lock file names: from the registry, once. */
async function fillNpmCache(cache: string, scratch: string): Promise<void> {
  if (existsSync(join(cache, 'filled'))) return;
  const folder = join(scratch, 'fill');
  copyPackage(folder);
  try {
    await timed('npm', ['ci', '--prefer-offline', '--cache', cache, ...npmFlags], 600, folder);
  } catch (error) {
    const reason = error instanceof Error ? (error.message.trim().split('\n').at(-1) ?? '') : '';
    throw new ToolMissing(`npm ci: its cache cannot be filled (${reason}); needs npm and, once, a registry`, { cause: error });
  }
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(cache, 'filled'), { recursive: true });
}

function copyPackage(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of ['package.json', 'package-lock.json']) cpSync(join(root, name), join(folder, name));
}

/** All tasks. `scratch` is a folder on the local disk for what they need. */
export function tasksOf(size: Size, scratch: string): Task[] {
  const npmCache = join(cacheRoot, 'bench/npm');
  const bare = join(scratch, 'bare.git');
  let archive = '';
  return [
    {
      name: 'npm ci',
      prepare: async () => {
        await fillNpmCache(npmCache, scratch);
        const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: object };
        return `the ${Object.keys(packages).length - 1} packages of this project's lock file, from npm's cache`;
      },
      steps: [
        {
          name: 'npm ci',
          run: (folder, limit, signal) => {
            copyPackage(folder);
            return command('npm', () => ['ci', '--offline', '--cache', npmCache, ...npmFlags])(folder, limit, signal);
          },
        },
      ],
      check: (folder) => treeSum(join(folder, 'node_modules')),
    },
    {
      name: 'tar',
      prepare: () => {
        const found = sourceArchive(size.files);
        archive = found.path;
        return found.what;
      },
      steps: [
        // Read once before, so that the disk below does not count.
        {
          name: 'tar x',
          run: (folder, limit, signal) => command('tar', () => ['-xf', archive, '-C', folder])(folder, limit, signal),
        },
        {
          name: 'tar c of it, cold',
          before: cold,
          run: (folder, limit, signal) => command('sh', () => ['-c', 'tar -cf - . | cat > /dev/null'])(folder, limit, signal),
        },
        { name: 'find of it, cold', before: cold, run: command('find', () => ['.', '-newermt', '2100-01-01']) },
        { name: 'rm -r of it', run: command('sh', () => ['-c', 'rm -rf ./*']) },
      ],
      check: (folder) => treeSum(folder),
      checkAfter: 3,
    },
    {
      name: 'git',
      prepare: () => {
        if (!onPath('git')) throw new ToolMissing('git: not on PATH (apt-get install git)');
        const source = size.repository ?? root;
        rmSync(bare, { recursive: true, force: true });
        run('git', ['clone', '--quiet', '--bare', '--no-hardlinks', source, bare]);
        return `${run('git', ['-C', bare, 'ls-tree', '-r', '--name-only', 'HEAD']).split('\n').length - 1} files, ${run('git', ['-C', bare, 'rev-list', '--count', 'HEAD']).trim()} commits`;
      },
      steps: [
        { name: 'git clone', run: command('git', () => ['clone', '--quiet', '--no-local', bare, 'clone']) },
        { name: 'git status, cold', before: cold, run: command('git', () => ['status', '--porcelain'], 'clone') },
        { name: 'git status again', run: command('git', () => ['status', '--porcelain'], 'clone') },
        { name: 'git fsck', run: command('git', () => ['fsck', '--full', '--strict', '--no-progress'], 'clone') },
      ],
      check: (folder) => {
        const status = run('git', ['-C', join(folder, 'clone'), 'status', '--porcelain']);
        return `${treeSum(join(folder, 'clone'), ['.git'])}${status === '' ? '' : ', changed'}`;
      },
    },
    {
      name: 'loader',
      prepare: () => `${size.samples} files of 100 KiB, ${size.threads} threads`,
      steps: [
        { name: 'samples written', run: transfer('samples-write', 'samples', String(size.samples)) },
        {
          name: 'loader, first epoch (cold)',
          before: cold,
          run: transfer('samples-read', 'samples', String(size.samples), String(size.threads)),
        },
        {
          name: 'loader, next epoch (disk cache)',
          before: warm,
          run: transfer('samples-read', 'samples', String(size.samples), String(size.threads)),
        },
      ],
    },
    {
      name: 'checkpoint',
      prepare: () => `one file of ${size.checkpointMiB} MiB`,
      steps: [
        { name: 'checkpoint written', run: transfer('checkpoint-write', 'checkpoint', String(size.checkpointMiB)) },
        {
          name: 'checkpoint read, cold',
          before: cold,
          run: transfer('checkpoint-read', 'checkpoint', String(size.checkpointMiB)),
        },
      ],
    },
    {
      name: 'sqlite',
      prepare: () => `${size.rows} rows, a fiftieth of them in transactions of their own`,
      steps: ['delete', 'wal'].map((journal): Step => ({
        name: `SQLite inserts, journal ${journal}`,
        run: transfer('inserts', `${journal}.db`, journal, String(size.rows)),
      })),
    },
  ];
}
