/**
 * One mount in sync mode, from the empty directory to the last write-back: hydrate, then follow the pod's changes by events
 * and both sides' by comparison, then, told to end, send what is left within the time there is. docs/sync.md says what it guarantees.
 */
import { mkdirSync } from 'node:fs';
import type { PlanMount } from '../api/plan.ts';
import type { OpenVolume } from '../client/volume.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { Base, ROOT_ROW } from './base.ts';
import { Changes } from './changes.ts';
import { Contents } from './content.ts';
import { Hydration, stateFolder } from './hydrate.ts';
import { Inotify } from './inotify.ts';
import { shown } from './names.ts';
import type { Seen } from './print.ts';
import { Reconciler, type RoundOptions } from './reconcile.ts';
import { Rounds } from './rounds.ts';
import { selectionOf } from './selection.ts';
import { Status } from './status.ts';
import { Transfer } from './transfer.ts';
import { Tree } from './tree.ts';
import { VolumeSide } from './volume-side.ts';

/** Events of so long are handled together. */
const GATHER_MS = 100;
/** A file that was deferred is looked at again after this. */
const AGAIN_MS = 1000;
/** Where no event tells who is writing, a file younger than this may be in the making. */
const YOUNG_MS = 1000;
/** What fails in the last write-back is tried again after these, ms: a store that is restarted loses nothing. */
const FLUSH_PAUSES = [1000, 2000, 4000];
/** The pause before a comparison of everything is at least so many times as long as the last one took. */
const REST = 5;

export interface MountSyncOptions {
  readonly plan: Pick<PlanMount, 'id' | 'volume' | 'target' | 'readOnly' | 'sync'>;
  readonly volume: Pick<OpenVolume, 'name' | 'uuid' | 'parts'>;
  /** Names conflicts, and our directory in the volume. */
  readonly pod: string;
  readonly log: Logger;
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default systemRandom */
  readonly random?: Random;
  /** Follow the pod by events. Without, only comparisons find changes. @default true */
  readonly events?: boolean;
}

export class MountSync implements AsyncDisposable {
  readonly #options: MountSyncOptions;
  readonly #clock: Clock;
  readonly #base: Base;
  readonly #tree: Tree;
  readonly #volume: VolumeSide;
  readonly #contents: Contents;
  readonly #reconciler: Reconciler;
  readonly #rounds: Rounds;
  readonly status: Status;
  #events: Inotify | undefined;
  #wake: (() => void) | undefined;
  /** The comparison now running also looks at what is new in the meantime. */
  #urgent: RoundOptions | undefined;

  constructor(options: MountSyncOptions) {
    const { plan, volume, pod, log } = options;
    const clock = options.clock ?? systemClock;
    const { meta, chunks, root } = volume.parts;
    this.#options = options;
    this.#clock = clock;
    const state = stateFolder(plan.target);
    for (const folder of [state, plan.target]) mkdirSync(folder, { recursive: true });
    this.#base = new Base(`${state}/base`);
    // The base speaks of one directory of one volume; of another it says nothing.
    const subject = `${volume.uuid}:${root}`;
    if ((this.#base.state('subject') ?? subject) !== subject)
      throw new Error(`the files in ${plan.target} were hydrated from another volume or directory`);
    this.status = new Status(state, plan.volume, clock, log);
    this.#tree = new Tree(plan.target, state, this.#base, pod);
    this.#volume = new VolumeSide(meta, root, this.#session(options.random ?? systemRandom), pod);
    this.#contents = new Contents(meta, chunks, clock);
    const changes = new Changes(this.#tree, this.#volume, this.#contents, clock);
    const transfer = new Transfer({
      base: this.#base,
      tree: this.#tree,
      volume: this.#volume,
      contents: this.#contents,
      clock,
      share: plan.sync?.share ?? 'none',
      lost: this.status,
      progress: (bytes) => this.status.bytes(bytes),
    });
    this.#reconciler = new Reconciler({
      base: this.#base,
      tree: this.#tree,
      volume: this.#volume,
      contents: this.#contents,
      changes,
      transfer,
      selection: selectionOf(plan.sync?.include, plan.sync?.exclude),
      journal: this.status,
      clock,
      busy: (path, local) => this.#busy(path, local),
    });
    this.#rounds = new Rounds({
      base: this.#base,
      tree: this.#tree,
      volume: this.#volume,
      reconciler: this.#reconciler,
      entering: (path) => void this.#events?.add(path),
      between: () => this.#hurry(),
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
    this.#base[Symbol.dispose]();
    return Promise.resolve();
  }

  /** Names this sidecar's directory in the volume; the same after a restart. */
  #session(random: Random): string {
    let session = this.#base.state('session');
    if (session === undefined) {
      session = `${this.#options.pod.slice(0, 200)}-${random.uuid().slice(0, 8)}`;
      this.#base.setState('session', session);
    }
    return session;
  }

  get hydrated(): boolean {
    return this.#base.state('hydrated') === 'yes';
  }

  /** Brings the files. Throws UserError `TooLarge` where they do not fit. */
  async hydrate(signal?: AbortSignal): Promise<void> {
    const { plan, volume } = this.#options;
    if (this.hydrated) return;
    this.status.phase = 'hydrating';
    const session = this.#session(this.#options.random ?? systemRandom);
    await new Hydration(
      {
        base: this.#base,
        root: plan.target,
        volume: this.#volume,
        contents: this.#contents,
        selection: selectionOf(plan.sync?.include, plan.sync?.exclude),
        title: plan.volume,
        limitMiB: plan.sync?.limitMiB,
        share: plan.sync?.share ?? 'none',
        report: this.status,
      },
      signal,
    ).run();
    this.#base.setState('session', session);
    this.#base.setState('subject', `${volume.uuid}:${volume.parts.root}`);
  }

  #busy(path: Buffer, local: Seen): boolean {
    const writer = (this.#options.plan.sync?.writerSeconds ?? 60) * 1000;
    if (this.#events) {
      const since = this.#events.writingSince(path);
      if (since !== undefined) return performance.now() - since < writer;
      if (!this.#events.exhausted) return false;
    }
    const age = this.#clock.now() - Number(local.print.mtimeNs / 1_000_000n);
    return age >= 0 && age < YOUNG_MS;
  }

  /** Between two directories of a long comparison: what events told of is not kept waiting. */
  async #hurry(): Promise<void> {
    if (!this.#urgent || !this.#events?.pending) return;
    const { paths, lost } = this.#events.take();
    // What was lost is found by the comparison after this one.
    if (lost) this.#again = true;
    await this.#rounds.only(paths, this.#urgent);
  }

  #again = false;

  /**
   * Follows both sides until `signal` is aborted. A mount that is read-only only waits. Failures of single names are told in the status and
   * tried again; those of a whole round (database away) too.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { plan, log } = this.#options;
    if (plan.readOnly) {
      this.status.phase = 'running';
      return new Promise((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    if (this.#options.events !== false)
      try {
        this.#events = new Inotify(this.#tree.root, () => this.#wake?.());
      } catch (error) {
        log.warn('no events from the kernel: changes are found by comparison alone', { error: messageOf(error) });
      }
    this.status.phase = 'running';
    const scan = (plan.sync?.scanSeconds ?? 60) * 1000;
    const writer = (plan.sync?.writerSeconds ?? 60) * 1000;
    // The first comparison looks at the pod alone, which also sets the watches.
    let next = this.#clock.monotonic();
    let first = true;
    let pause = 0;
    while (!signal.aborted) {
      try {
        const now = this.#clock.monotonic();
        if (now >= next || this.#again) {
          this.#again = false;
          const options = { force: false, signal };
          this.#urgent = options;
          if (!first) this.status.forgetFailures();
          await this.#rounds.compare({ ...options, both: !first && scan > 0 });
          this.#urgent = undefined;
          const took = this.#clock.monotonic() - now;
          next = this.#clock.monotonic() + (first && scan > 0 ? Math.min(scan, 1000) : Math.max(scan || 60_000, took * REST));
          if (first && this.#events?.exhausted)
            log.warn('the user may have no more inotify watches: some changes are found by comparison alone', {
              volume: plan.volume,
              watched: this.#events.watches,
            });
          first = false;
          if (this.#tree.tend(this.#clock.now()).length > 0) this.#again = true;
        }
        if (this.#events?.pending) {
          const { paths, lost } = this.#events.take();
          if (lost) this.#again = true;
          await this.#rounds.names(paths, { force: false, signal });
        }
        const long = this.#events?.longWriters(writer) ?? [];
        if (long.length > 0) await this.#rounds.names(long, { force: true, signal });
        pause = 0;
      } catch (error) {
        this.#urgent = undefined;
        if (signal.aborted) break;
        pause = Math.min(30_000, Math.max(1000, pause * 2));
        // What the round had still to do is found by comparison.
        this.#again = true;
        log.warn('synchronising was interrupted; it goes on soon', { volume: plan.volume, error: messageOf(error) });
      }
      const deferred = this.#reconciler.deferred;
      this.#reconciler.deferred = [];
      this.status.waiting = deferred.length;
      await this.#rest(
        Math.max(pause, this.#again ? 0 : Math.min(Math.max(0, next - this.#clock.monotonic()), AGAIN_MS)),
        signal,
      );
      const { pending } = this.#events ?? { pending: false };
      if (deferred.length > 0) {
        if (this.#events) this.#events.again(deferred);
        else this.#again = true;
      }
      if (pending) await this.#clock.sleep(GATHER_MS, signal).catch(() => {});
    }
  }

  /** Waits, but not longer than until an event. */
  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#events?.pending || signal.aborted) return;
    const waking = new AbortController();
    const woken = new Promise<void>((resolve) => (this.#wake = resolve));
    const stop = (): void => waking.abort();
    signal.addEventListener('abort', stop, { once: true });
    await Promise.race([woken, this.#clock.sleep(ms, waking.signal).catch(() => {})]);
    signal.removeEventListener('abort', stop);
    waking.abort();
    this.#wake = undefined;
  }

  /** One comparison of both sides, nothing left waiting for later. */
  async compare(signal?: AbortSignal, force = true): Promise<void> {
    await this.#rounds.compare({ both: true, force, ...(signal ? { signal } : {}) });
  }

  /** Looks after files that gave way; see Tree. */
  tend(last: boolean): number {
    return this.#tree.tend(this.#clock.now(), last).length;
  }

  /**
   * The last write-back: everything that changed in the pod, also what is open. Answers the paths that are not in the volume when the
   * signal's time is over, or failed; empty: all is there.
   */
  async flush(signal: AbortSignal): Promise<readonly string[]> {
    const { plan, log } = this.#options;
    if (plan.readOnly || !this.hydrated) return [];
    this.status.phase = 'flushing';
    this.#events?.[Symbol.dispose]();
    this.#events = undefined;
    const left: string[] = [];
    const over = Promise.withResolvers<never>();
    over.promise.catch(() => {});
    const end = (): void => over.reject(signal.reason as Error);
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) end();
    try {
      for (let attempt = 0; ; attempt++) {
        const last = attempt === FLUSH_PAUSES.length;
        this.status.forgetFailures();
        let failed = false;
        try {
          // A store that does not answer is not waited for.
          await Promise.race([this.#rounds.compare({ both: false, force: true, signal }), over.promise]);
          const deferred = this.#reconciler.deferred;
          this.#reconciler.deferred = [];
          failed = this.status.failures.size > 0;
          if (this.#tree.tend(this.#clock.now(), true).length === 0 && deferred.length === 0 && !failed) break;
          if (last) left.push(...deferred.map(shown));
        } catch (error) {
          if (last || signal.aborted) throw error;
          failed = true;
          log.warn('the last write-back was interrupted; it goes on soon', { volume: plan.volume, error: messageOf(error) });
        }
        if (last) break;
        if (failed) await this.#clock.sleep(FLUSH_PAUSES[attempt] ?? 0, signal);
      }
    } catch (error) {
      if (!signal.aborted) log.error('the last write-back failed', { volume: plan.volume, error: messageOf(error) });
      left.push(...this.#unsent());
      if (left.length === 0) left.push('what changed last');
    } finally {
      signal.removeEventListener('abort', end);
    }
    const unsent = [...new Set([...left, ...this.status.failures.keys()])];
    this.status.waiting = unsent.length;
    this.status.problem = unsent.length > 0 ? this.status.unsent(unsent) : undefined;
    if (!signal.aborted) await this.#volume.sweep(Math.floor(this.#clock.now() / 1000)).catch(() => {});
    if (unsent.length === 0) this.#base.forgetSent();
    this.status.phase = unsent.length > 0 ? 'failed' : 'ended';
    return unsent;
  }

  /** What differs from the base now, by figures alone; at most 1000 names. */
  #unsent(): readonly string[] {
    const found: string[] = [];
    this.#rounds.differing((path) => found.push(shown(path)) < 1000);
    return found;
  }

  /** Cleans up what an earlier life of this sidecar left in the volume. */
  async sweep(): Promise<void> {
    if (!this.#options.plan.readOnly) await this.#volume.sweep(Math.floor(this.#clock.now() / 1000));
  }

  /** For tests: rows of the base below the root. */
  get known(): number {
    return this.#base.children(ROOT_ROW, undefined, 100_000).length;
  }
}
