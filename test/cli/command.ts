/** Runs the command line as a person or a script does, and reads what it says. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { clearMounts } from '../mounted.ts';
import { removeFolder } from '../remove-folder.ts';
export { until } from '../until.ts';

export const bin = resolve(import.meta.dirname, '../../bin/juicepod');
/** A command that has not ended by then is stuck, milliseconds. */
const STUCK_MS = 60_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Told the process once it is started. */
  readonly onStart?: (child: ChildProcess) => void;
  /** A program and its arguments to run it with, such as setpriv. */
  readonly wrap?: readonly string[];
}

/** Runs juicepod to its end, in a process group of its own as a shell would. Rejects where it is stuck. */
export function run(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((done, fail) => {
    const [program = bin, ...rest] = [...(options.wrap ?? []), bin, ...args];
    const child = spawn(program, rest, {
      env: { ...process.env, ...options.env },
      ...(options.cwd ? { cwd: options.cwd } : {}),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    const stuck = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      fail(new Error(`juicepod ${args.join(' ')} did not end:\n${stdout}\n${stderr}`));
    }, STUCK_MS);
    child.once('error', fail);
    child.once('close', (code) => {
      clearTimeout(stuck);
      done({ code, stdout, stderr });
    });
    options.onStart?.(child);
  });
}

/** Runs it and checks that it succeeds; answers its standard output. */
export async function succeeds(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(args, options);
  assert.equal(code, 0, `juicepod ${args.join(' ')}\n${stdout}\n${stderr}`);
  return stdout;
}

/**
 * Runs it and checks that it fails as it should: not 0, nothing on standard output, one sentence on standard error (and at most
 * one more line, what to do), no trace of a stack. Answers standard error.
 */
export async function refuses(args: readonly string[], wanted: RegExp, options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(args, options);
  const told = `juicepod ${args.join(' ')} ended with ${code}:\n${stdout}\n${stderr}`;
  assert.ok(code !== 0 && code !== null, told);
  assert.equal(stdout, '', told);
  assert.match(stderr, wanted, told);
  assert.ok(stderr.trimEnd().split('\n').length <= 2, told);
  assert.doesNotMatch(stderr, /^ +at /m, told);
  return stderr;
}

/** The same with `--output json`: one line of JSON on standard error. */
export async function refusesInJson(args: readonly string[], code: string, options: RunOptions = {}): Promise<void> {
  const stderr = await refuses([...args, '--output', 'json'], /./, options);
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
  assert.equal(error.code, code, stderr);
  assert.ok(error.message.length > 0);
}

/** A scratch folder for one test; whatever was mounted below it is gone afterwards, and so is the folder. */
export async function inScratch(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-cli-'));
  try {
    await body(folder);
  } finally {
    await clearMounts(folder);
    removeFolder(folder);
  }
}

/** Command lines of all processes, arguments apart by spaces; those that end meanwhile are left out. */
export function commandLines(): { readonly pid: number; readonly text: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [{ pid: Number(pid), text: readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') }];
      } catch {
        return [];
      }
    });
}
