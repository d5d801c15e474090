/**
 * A volume mounted by the command line, as a user would, for tests that look at it from outside. Whatever happens, nothing stays
 * mounted: a mount that does not go away is aborted first, so that no process hangs on it.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { type EngineName, startDatabase } from './servers.ts';
import { removeFolder } from './remove-folder.ts';

const exec = promisify(execFile);
const bin = resolve(import.meta.dirname, '../bin/juicepod');

/** Runs the command line to its end; rejects with its standard error where it fails. */
export async function juicepod(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const { stdout } = await exec(bin, args, { env: { ...process.env, ...env }, timeout: 60_000, maxBuffer: 1 << 26 });
  return stdout;
}

/** Mount points of file systems of type fuse.* at or below a folder, as the kernel lists them. */
export function fuseMounts(folder: string): { readonly target: string; readonly device: string }[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields[4] === folder || fields[4]?.startsWith(`${folder}/`))
    .filter((fields) => fields[fields.indexOf('-') + 1]?.startsWith('fuse'))
    .map((fields) => ({ target: fields[4] ?? '', device: fields[2]?.split(':')[1] ?? '' }));
}

/** Ends every FUSE mount below a folder, answering or not. */
export async function clearMounts(folder: string): Promise<void> {
  for (const { target, device } of fuseMounts(folder)) {
    const abort = `/sys/fs/fuse/connections/${device}/abort`;
    if (existsSync(abort)) writeFileSync(abort, '1');
    await exec('umount', ['-l', target]).catch(() => {});
  }
}

export interface Mounted extends AsyncDisposable {
  readonly folder: string;
  readonly metaUrl: string;
  /** The folder that holds everything of this volume: `store`, `cache`, `mount.log`. */
  readonly work: string;
  readonly child: ChildProcess;
  /** Unmounts and waits until the client has ended; answers its exit code. */
  unmount(): Promise<number | null>;
}

export interface MountOptions {
  readonly format?: readonly string[];
  readonly mount?: readonly string[];
  /** Takes a database that holds a volume already; the rest of the set-up is then the caller's. */
  readonly metaUrl?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts `juicepod mount` in the foreground and waits until the mount answers. */
export async function startMount(metaUrl: string, folder: string, work: string, options: MountOptions = {}): Promise<Mounted> {
  const log = join(work, 'mount.log');
  mkdirSync(folder, { recursive: true });
  const args = ['mount', metaUrl, folder, '--cache-dir', join(work, 'cache'), ...(options.mount ?? [])];
  const child = spawn('sh', ['-c', `exec "$@" >> "$0" 2>&1`, log, bin, ...args], {
    stdio: 'ignore',
    env: { ...process.env, ...options.env },
  });
  const ended = new Promise<number | null>((done) => child.once('exit', done));
  for (let attempt = 0; fuseMounts(folder).length === 0 || !existsSync(join(folder, '.stats')); attempt++) {
    if (child.exitCode !== null || attempt > 1500) {
      await clearMounts(work);
      throw new Error(`juicepod mount did not come up (exit ${child.exitCode}):\n${readFileSync(log, 'utf8').slice(-3000)}`);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
  const unmount = async (): Promise<number | null> => {
    if (fuseMounts(folder).length > 0) {
      await exec('umount', [folder], { timeout: 20_000 }).catch(async () => {
        await exec('umount', ['-l', folder], { timeout: 20_000 }).catch(() => {});
      });
    }
    return ended;
  };
  return {
    folder,
    metaUrl,
    work,
    child,
    unmount,
    async [Symbol.asyncDispose]() {
      const force = setTimeout(() => void clearMounts(folder).then(() => child.kill('SIGKILL')), 30_000);
      await unmount();
      clearTimeout(force);
      await clearMounts(folder);
    },
  };
}

/** The volume of a mount, mounted once more, in a folder of that name beside it. */
export const mountBeside = (mounted: Mounted, name: string, options: MountOptions = {}): Promise<Mounted> =>
  startMount(mounted.metaUrl, join(mounted.work, name), mounted.work, options);

/** A fresh volume of its own (blocks in a folder), mounted; everything of it is removed with the answer. */
export async function freshVolume(engine: EngineName, options: MountOptions = {}): Promise<Mounted> {
  const work = mkdtempSync(join(tmpdir(), `juicepod-${engine}-`));
  // Ordinary users reach the mount, too.
  chmodSync(work, 0o755);
  const database = await startDatabase(engine, work);
  const metaUrl = database.url;
  const remove = async (): Promise<void> => {
    await database[Symbol.asyncDispose]();
    removeFolder(work);
  };
  try {
    await juicepod([
      'format',
      metaUrl,
      'testvol',
      '--storage',
      'file',
      '--bucket',
      join(work, 'store'),
      ...(options.format ?? []),
    ]);
    const mounted = await startMount(metaUrl, join(work, 'mnt'), work, options);
    return {
      ...mounted,
      async [Symbol.asyncDispose]() {
        await mounted[Symbol.asyncDispose]();
        await remove();
      },
    };
  } catch (error) {
    await clearMounts(work);
    await remove();
    throw error;
  }
}

/** True where this process may mount: root with /dev/fuse. Else the reason to skip. */
export const cannotMount: string | false =
  process.getuid?.() !== 0 ? 'mounting needs root' : !existsSync('/dev/fuse') ? 'this machine has no /dev/fuse' : false;
