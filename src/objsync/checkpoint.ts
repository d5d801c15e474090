/**
 * How far a run has come, kept in a file of the destination, so that a run of the same options that was interrupted goes on from there and
 * need not list and compare all again. The name is the official client's (JuiceFS 1.4.1, pkg/sync/checkpoint.go), of places and options;
 * what is in it is ours. It is written every so often and where a run ends early, and removed when one has done everything.
 *
 * What it tells is true when it is written: what it counts as done was done before. Bound: some MiB (progress.ts).
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { ProgressState } from './progress.ts';
import type { Side } from './side.ts';

const NAME = '.juicefs-sync-checkpoint';
const VERSION = 1;
/** How long the last save may take, milliseconds. */
const LAST_SAVE_MS = 30_000;

export interface CheckpointOptions {
  readonly destination: Side;
  /** Places and all that decides what is copied. */
  readonly identity: unknown;
  /** Between two saves, milliseconds. */
  readonly intervalMs: number;
  readonly clock: Clock;
  /** It could not be written, or read. */
  readonly onProblem: (problem: string) => void;
}

export interface Saved {
  /** When, milliseconds since the epoch. */
  readonly at: number;
  /** Objects that were handled until then, by all runs. */
  readonly handled: number;
  readonly progress: ProgressState;
}

export class Checkpoint {
  /** Its name in the destination. */
  readonly key: string;
  readonly #options: CheckpointOptions;
  readonly #identity: string;
  readonly #ending = new AbortController();
  #saving: Promise<void> = Promise.resolve();

  constructor(options: CheckpointOptions) {
    this.#options = options;
    this.#identity = createHash('sha256').update(JSON.stringify(options.identity)).digest('hex');
    this.key = `${NAME}.${this.#identity.slice(0, 32)}.json`;
  }

  /** What an earlier run has left. Undefined where there is nothing, or it cannot be used, which is told. Throws what a place throws. */
  async load(signal: AbortSignal): Promise<Saved | undefined> {
    const { destination, onProblem } = this.#options;
    const found = await destination.head(this.key, true, signal);
    if (!found || found.isDirectory) return undefined;
    try {
      const text = (await destination.read(found, 0, found.size, signal)).toString('utf8');
      const { version, identity, ...saved } = JSON.parse(text) as Saved & { version: unknown; identity: unknown };
      if (version === VERSION && identity === this.#identity && Array.isArray(saved.progress.walks)) return saved;
      onProblem('the checkpoint in DST is of another version; the copy begins anew');
    } catch (error) {
      signal.throwIfAborted();
      onProblem(`the checkpoint in DST cannot be used, the copy begins anew: ${messageOf(error)}`);
    }
    return undefined;
  }

  /** Saves every so often until the end; `state` says how far it is. */
  start(state: () => Omit<Saved, 'at'>): void {
    const { signal } = this.#ending;
    const { clock, intervalMs } = this.#options;
    const saving = async (): Promise<void> => {
      while (!signal.aborted) {
        await clock.sleep(intervalMs, signal).catch(() => undefined);
        if (!signal.aborted) await this.#save(state(), signal);
      }
    };
    this.#saving = saving();
  }

  /** Ends: `state` is where the run has come to, and undefined where everything is done. Never fails. */
  async end(state: Omit<Saved, 'at'> | undefined): Promise<void> {
    this.#ending.abort();
    await this.#saving;
    const last = AbortSignal.timeout(LAST_SAVE_MS);
    await (state ? this.#save(state, last) : this.remove(last));
  }

  /** Never fails. */
  async remove(signal: AbortSignal): Promise<void> {
    const { destination, onProblem } = this.#options;
    await destination
      .remove(this.key, signal)
      .catch((error: unknown) => onProblem(`the checkpoint in DST cannot be removed: ${messageOf(error)}`));
  }

  async #save(state: Omit<Saved, 'at'>, signal: AbortSignal): Promise<void> {
    const { clock, destination, onProblem } = this.#options;
    const text = JSON.stringify({ version: VERSION, identity: this.#identity, at: clock.now(), ...state });
    try {
      await destination.put(this.key, Buffer.from(text), signal);
    } catch (error) {
      if (!this.#ending.signal.aborted || signal !== this.#ending.signal)
        onProblem(`the checkpoint cannot be written to DST: ${messageOf(error)}`);
    }
  }
}
