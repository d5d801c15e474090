/**
 * The official client as a user runs it: commands and mounts. Its log is read too, since its checks report most of what they find
 * there and succeed all the same.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cannotMount, clearMounts, fuseMounts } from '../mounted.ts';
import { juicefs } from '../tools.ts';

const exec = promisify(execFile);
const binary = juicefs();

/** Why tests beside the official client cannot run, or false. */
export const cannotInteroperate: string | false = binary ? cannotMount : 'JUICEFS_BIN names no official client';

/** What it remarks on any volume of these tests, sound or not. */
const USUAL =
  /Set storage tier: not supported|latency to database is too high|AOF is not enabled|CAP_SYS_RESOURCE|is already |Metadata backup is disabled|cannot detect|Secret key is removed/;

export interface Ran {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the official client to its end. Rejects with what it said where it fails. */
export async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  assert.ok(binary);
  try {
    const { stdout, stderr } = await exec(binary, ['--no-agent', ...args], {
      env: { ...process.env, ...env },
      timeout: 120_000,
      maxBuffer: 1 << 26,
    });
    // Of MySQL its library tells on standard output what it does.
    return { stdout: stdout.replaceAll(/^\[xorm\].*\n/gm, ''), stderr };
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string };
    throw new Error(`juicefs ${args[0]} failed: ${stdout ?? ''}${stderr?.slice(-3000) ?? ''}`, { cause: error });
  }
}

/** Like `run`, and nothing may have been remarked upon. */
export async function runClean(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const ran = await run(args, env);
  const remarks = ran.stderr.split('\n').filter((line) => /<(WARNING|ERROR|FATAL)>/.test(line) && !USUAL.test(line));
  assert.deepEqual(remarks, [], `juicefs ${args[0]}`);
  return ran;
}

async function usage(url: string): Promise<unknown> {
  const { stdout } = await run(['status', url]);
  const { UsedSpace, UsedInodes } = (JSON.parse(stdout) as { Stat: Record<string, number> }).Stat;
  assert.equal(typeof UsedInodes, 'number');
  return { UsedSpace, UsedInodes };
}

/**
 * The official check, of blocks, then of the whole tree with its link counts and directory statistics: nothing to remark. And its
 * repair, which counts the volume's usage anew without a word, finds it as it was. For a volume that nobody has mounted.
 */
export async function fsck(url: string): Promise<void> {
  await runClean(['fsck', url]);
  // On MySQL it takes a change of a directory's statistics that sums up to nought for a missing record, and counts anew what others
  // have made and not yet written, who then write it (doUpdateDirStat of 1.4.1): so this is mended before it is looked at.
  if (url.startsWith('mysql:')) await run(['fsck', url, '--path', '/', '--repair', '-r', '--sync-dir-stat']);
  await runClean(['fsck', url, '--path', '/', '-r', '--sync-dir-stat']);
  // Its repair of directory statistics goes on in a transaction that PostgreSQL has ended, and fails on any volume there (1.4.1).
  if (url.startsWith('postgres:')) return;
  const before = await usage(url);
  await runClean(['fsck', url, '--path', '/', '--repair', '-r', '--sync-dir-stat']);
  assert.deepEqual(await usage(url), before, 'usage as it was and as it was counted anew');
}

export interface Collected {
  readonly scanned: number;
  readonly valid: number;
  readonly pending: number;
  readonly compacted: number;
  readonly leaked: number;
  readonly delfiles: number;
  readonly skipped: number;
}

/** What the official garbage collection counts, objects written just now included. */
export async function gc(url: string, ...options: readonly string[]): Promise<Collected> {
  const { stderr } = await run(['gc', url, ...options], { JFS_GC_SKIPPEDTIME: '0' });
  const line =
    /scanned (\d+) objects, (\d+) valid, (\d+) pending delete .*?, (\d+) compacted .*?, (\d+) leaked .*?, (\d+) delfiles .*?, (\d+) skipped/.exec(
      stderr,
    );
  assert.ok(line, stderr);
  const [scanned = 0, valid = 0, pending = 0, compacted = 0, leaked = 0, delfiles = 0, skipped = 0] = line.slice(1).map(Number);
  return { scanned, valid, pending, compacted, leaked, delfiles, skipped };
}

export interface OfficialMount extends AsyncDisposable {
  readonly folder: string;
  readonly log: string;
  unmount(): Promise<void>;
}

/** Mounts with the official client and waits until the mount answers. */
export async function mountOfficial(url: string, folder: string, options: readonly string[]): Promise<OfficialMount> {
  assert.ok(binary);
  mkdirSync(folder, { recursive: true });
  const log = join(dirname(folder), 'official.log');
  const args = ['--no-agent', 'mount', url, folder, '--no-usage-report', '--backup-meta', '0', '--no-syslog'];
  const child: ChildProcess = spawn(
    'sh',
    ['-c', `exec "$@" >> "$0" 2>&1`, log, binary, ...args, '--metrics', '127.0.0.1:0', ...options],
    { stdio: 'ignore' },
  );
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  for (let attempt = 0; fuseMounts(folder).length === 0 || !existsSync(join(folder, '.stats')); attempt++) {
    if (child.exitCode !== null || attempt > 1500) {
      await clearMounts(folder);
      child.kill('SIGKILL');
      throw new Error(`juicefs mount did not come up (exit ${child.exitCode}):\n${readFileSync(log, 'utf8').slice(-3000)}`);
    }
    await new Promise((done) => setTimeout(done, 20));
  }
  const unmount = async (): Promise<void> => {
    if (fuseMounts(folder).length > 0)
      await exec('umount', [folder], { timeout: 20_000 }).catch(() => exec('umount', ['-l', folder]).catch(() => {}));
    await ended;
  };
  return {
    folder,
    log,
    unmount,
    async [Symbol.asyncDispose]() {
      const force = setTimeout(() => void clearMounts(folder).then(() => child.kill('SIGKILL')), 30_000);
      await unmount();
      clearTimeout(force);
    },
  };
}
