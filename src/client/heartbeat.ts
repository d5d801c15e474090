/**
 * The heartbeat of a client, and who listens for it on one machine (in a pod the kubelet does, by a liveness probe). It tells a
 * client that lives and turns its loop from one that is stopped or runs in a circle; a client that waits for its database or
 * store turns its loop. See src/api/heartbeat.ts.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { uptime } from 'node:os';
import { BEAT_SECONDS, SILENT_LOOKS, SILENT_SECONDS } from '../api/heartbeat.ts';
import type { Clock } from '../lib/clock.ts';

/** Seconds since boot. */
export type Uptime = () => number;

/** As long as any, so that a shorter one leaves nothing of a longer behind. */
const WIDTH = 12;

/** Leaves a heartbeat in a file until it is disposed of; then the file is taken away. */
export class Heartbeat implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #clock: Clock;
  readonly #uptime: Uptime;
  #cancel: () => void = () => {};

  /** The folder must be there, and in memory: a disk that hangs would stop the client. Throws where it cannot be written to. */
  constructor(path: string, clock: Clock, since: Uptime = uptime) {
    this.#path = path;
    this.#clock = clock;
    this.#uptime = since;
    this.#fd = openSync(path, 'w', 0o600);
    this.#beat();
  }

  #beat(): void {
    writeSync(this.#fd, `${String(Math.floor(this.#uptime())).padEnd(WIDTH)}\n`, 0);
    this.#cancel = this.#clock.timer(BEAT_SECONDS * 1000, () => this.#beat());
  }

  [Symbol.dispose](): void {
    this.#cancel();
    closeSync(this.#fd);
    // A memory file of the supervisor's has no name.
    if (!this.#path.startsWith('/dev/fd/')) rmSync(this.#path, { force: true });
  }
}

export interface ListenOptions {
  /** Where the client leaves its heartbeat; empty until it has begun. */
  readonly path: string;
  readonly clock: Clock;
  /** Called once, when the client has been silent for long enough. */
  readonly onSilence: (seconds: number) => void;
  /** Pause between two looks, milliseconds. @default 10 000 */
  readonly lookMs?: number;
  /** @default SILENT_SECONDS */
  readonly silentSeconds?: number;
  readonly uptime?: Uptime;
}

const LOOK_MS = 10_000;

/** Listens for the heartbeat of a client; the returned function ends that. */
export function listen(options: ListenOptions): () => void {
  const { path, clock, onSilence, lookMs = LOOK_MS, silentSeconds = SILENT_SECONDS, uptime: since = uptime } = options;
  let silent = 0;
  let cancel: () => void;
  const look = (): void => {
    const beat = Number.parseInt(readFileSync(path, 'latin1'), 10);
    const age = since() - beat;
    // One that has not begun has nothing of anybody's in its hands.
    silent = age > silentSeconds ? silent + 1 : 0;
    if (silent >= SILENT_LOOKS) return onSilence(Math.round(age));
    cancel = clock.timer(lookMs, look);
  };
  cancel = clock.timer(lookMs, look);
  return () => cancel();
}
