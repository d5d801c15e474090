/**
 * Servers of file systems for the tests, each a process of its own with a mount of its own, and a way out of every hang:
 * whoever waits for a mount is given an error when the test ends, since the session is aborted and the mount taken away.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { abortSession, isFuse, unmount } from '../../src/fuse/mount.ts';
import { parseMountInfo } from '../../src/fuse/mountinfo.ts';
import type { ServerConfig } from './server.ts';

export type Event = Readonly<Record<string, unknown>> & { readonly event: string };

/** Why mounts cannot be tested here, or undefined. */
export function whyNoFuse(): string | undefined {
  if (!existsSync('/dev/fuse')) return 'no /dev/fuse on this machine';
  if (process.getuid?.() !== 0) return 'mounting wants root';
  return undefined;
}

/** A temporary folder that goes away with the test, whatever is mounted in it. */
export function scratch(): AsyncDisposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'juicepod-fuse-'));
  return {
    path,
    async [Symbol.asyncDispose]() {
      await abortBelow(path);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/** Aborts every FUSE session mounted at or below a path and unmounts it; nothing waits for it afterwards. */
export async function abortBelow(path: string): Promise<void> {
  for (const entry of parseMountInfo(readFileSync('/proc/self/mountinfo', 'latin1')).toReversed()) {
    if (entry.target !== path && !entry.target.startsWith(`${path}/`)) continue;
    if (isFuse(entry)) await abortSession(entry.target);
    await unmount(entry.target);
  }
}

export class ServerProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly events: Event[] = [];
  readonly ended: Promise<number | null>;
  #errors = '';
  #waiting: (() => void)[] = [];

  constructor(script: string, args: readonly string[], options: { readonly uid?: number; readonly gid?: number } = {}) {
    this.child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, script), ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...options,
    });
    const { stdout, stderr } = this.child;
    if (stdout)
      createInterface({ input: stdout }).on('line', (line) => {
        this.events.push(JSON.parse(line) as Event);
        this.#wake();
      });
    stderr?.on('data', (data: Buffer) => (this.#errors = (this.#errors + data.toString()).slice(-4000)));
    this.ended = new Promise((resolve) =>
      this.child.once('exit', (code) => {
        resolve(code);
        setTimeout(() => this.#wake(), 50);
      }),
    );
    const kill = (): void => void this.child.kill('SIGKILL');
    process.once('exit', kill);
    void this.ended.then(() => process.off('exit', kill));
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  get output(): string {
    return this.#errors;
  }

  /** The next event of a kind, from those not waited for yet. */
  async next(kind: string, ms = 15_000): Promise<Event> {
    const until = Date.now() + ms;
    for (;;) {
      const index = this.events.findIndex(({ event }) => event === kind);
      if (index >= 0) return this.events.splice(index, 1)[0] as Event;
      if (Date.now() > until || this.child.exitCode !== null)
        throw new Error(`no "${kind}" came from the server (exit code ${this.child.exitCode}): ${this.#errors}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push(resolve);
      const timer = setTimeout(resolve, 1000);
      await promise;
      clearTimeout(timer);
    }
  }

  say(line: string): void {
    this.child.stdin?.write(`${line}\n`);
  }

  async stats(): Promise<Event> {
    this.say('stats');
    return this.next('stats');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Starts a server and waits until its mount answers. */
export async function serve(
  config: ServerConfig,
  options: { readonly uid?: number; readonly gid?: number } = {},
): Promise<ServerProcess> {
  const server = new ServerProcess('server.ts', [JSON.stringify(config)], options);
  try {
    await server.next('serving');
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

const execute = promisify(execFile);

/** Runs a program that touches a mount: it is killed after a while, and so is what it started. */
export async function run(command: string, args: readonly string[], ms = 20_000): Promise<string> {
  const { stdout } = await execute(command, args, { timeout: ms, killSignal: 'SIGKILL', maxBuffer: 1 << 26 });
  return stdout;
}

/** The same in a shell. */
export const shell = (script: string, ms?: number): Promise<string> => run('sh', ['-ec', script], ms);

/** Waits until something holds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  for (const end = Date.now() + ms; ;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
