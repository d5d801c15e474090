/**
 * The one-machine form of the hand-over: a process that holds the descriptors is the parent of the client and starts it
 * again when it crashes. Like JuiceFS's own supervisor: three failures inside ten seconds and it gives up; exit code 11 says
 * that the volume is gone, then nothing is started again. In the end everything is unmounted.
 *
 * A client that lives and has stopped turning its loop (stopped, or in a circle) is killed, and started again like one that crashed.
 */
import { spawn } from 'node:child_process';
import { closeSync, ftruncateSync } from 'node:fs';
import { memoryFile } from '../fuse/libc.ts';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import { listen, type ListenOptions } from './heartbeat.ts';
import type { Holder } from './hold.ts';

/** The client's exit code for "the volume is gone or changed". */
export const EXIT_GONE = 11;
const MOST_FAILURES = 3;
const WITHIN_MS = 10_000;
/** How long a client may take to end after SIGTERM, ms. */
const STOP_MS = 30_000;
/** The client's descriptor of the file where it leaves its heartbeat, as a path. */
export const HEARTBEAT_PATH = '/dev/fd/3';

export interface ClientExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export type NextStep =
  { readonly do: 'restart'; readonly failures: readonly number[] } | { readonly do: 'end'; readonly code: number };

/** What to do after the client ended; `failures` are the times (ms) of earlier ones. */
export function nextStep(exit: ClientExit, failures: readonly number[], now: number): NextStep {
  if (exit.code === 0) return { do: 'end', code: 0 };
  if (exit.code === EXIT_GONE) return { do: 'end', code: EXIT_GONE };
  const recent = [...failures.filter((time) => now - time < WITHIN_MS), now];
  return recent.length >= MOST_FAILURES ? { do: 'end', code: exit.code ?? 1 } : { do: 'restart', failures: recent };
}

export interface SuperviseOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Started already; it is closed in the end. */
  readonly holder: Holder;
  readonly clock: Clock;
  readonly log: Logger;
  /** Where the client's input and output go. @default 'inherit' */
  readonly stdio?: 'inherit' | 'ignore';
  /** The client's process id, each time one is started. */
  readonly onStart?: (pid: number) => void;
  /** How long a client may be silent that leaves a heartbeat at `HEARTBEAT_PATH`. */
  readonly silence?: Pick<ListenOptions, 'lookMs' | 'silentSeconds'>;
}

function runClient(options: SuperviseOptions, heartbeat: number, stop: AbortSignal): Promise<ClientExit> {
  return new Promise((resolve, reject) => {
    const { command, args, stdio = 'inherit', env = process.env, clock, log } = options;
    ftruncateSync(heartbeat);
    const child = spawn(command, args, { stdio: [stdio, stdio, stdio, heartbeat], env });
    const deafen = listen({
      ...options.silence,
      path: `/dev/fd/${heartbeat}`,
      clock,
      onSilence(seconds) {
        log.error('the client lives and does nothing any more, ending it', { seconds });
        child.kill('SIGKILL');
      },
    });
    let kill = (): void => {};
    const onStop = (): void => {
      child.kill('SIGTERM');
      kill = clock.timer(STOP_MS, () => child.kill('SIGKILL'));
    };
    child.once('error', (error) => {
      deafen();
      reject(error);
    });
    child.once('spawn', () => {
      if (child.pid !== undefined) options.onStart?.(child.pid);
      if (stop.aborted) onStop();
      else stop.addEventListener('abort', onStop, { once: true });
    });
    child.once('exit', (code, signal) => {
      kill();
      deafen();
      stop.removeEventListener('abort', onStop);
      resolve({ code, signal });
    });
  });
}

/** Runs the client until it ends for good or `stop` aborts (then it is asked to end). Unmounts. Returns the exit code. */
export async function supervise(options: SuperviseOptions, stop: AbortSignal): Promise<number> {
  const { holder, clock, log } = options;
  const heartbeat = memoryFile('juicepod-heartbeat');
  try {
    for (let failures: readonly number[] = []; ;) {
      const exit = await runClient(options, heartbeat, stop);
      if (stop.aborted) {
        if (exit.code !== 0) log.error('the client did not end in order: what it had not stored is lost', { ...exit });
        return exit.code ?? 1;
      }
      // Nothing was mounted, so nobody waits for it; the client has said why, and would say it again.
      if (exit.signal === null && exit.code !== EXIT_GONE && holder.targets.length === 0) return exit.code ?? 1;
      const next = nextStep(exit, failures, clock.monotonic());
      if (next.do === 'end') {
        if (next.code !== 0) log.error('the client ended and is not started again', { ...exit });
        return next.code;
      }
      log.warn('the client ended, starting it again', { ...exit });
      failures = next.failures;
    }
  } finally {
    closeSync(heartbeat);
    await holder.close();
  }
}
