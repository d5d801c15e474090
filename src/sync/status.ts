/**
 * What the sidecar tells of a mount: `status.json` beside the base (replaced in one step, at most once a second), log lines, and the sentences for the
 * termination message, which Kubernetes shows in the pod's status and events.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { syncReports } from '../api/group.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { shown } from './names.ts';
import type { Journal } from './reconcile.ts';

export type Phase = 'measuring' | 'hydrating' | 'running' | 'flushing' | 'ended' | 'failed';

/** Names shown in the status, the newest. */
const MAX_SHOWN = 20;
/** Failures, and names left alone, that are remembered. */
const MAX_FAILURES = 1000;
const WRITE_MS = 1000;
const LOG_MS = 5000;

/** In sentences. */
const MAX_LISTED = 5;
const MAX_PATH = 100;
const MAX_REASON = 300;

/** The end of a path tells more than its beginning. */
const short = (path: string): string => (path.length > MAX_PATH ? `…${path.slice(1 - MAX_PATH)}` : path);

const listed = (paths: readonly string[]): string =>
  `${paths.slice(0, MAX_LISTED).map(short).join(', ')}${paths.length > MAX_LISTED ? ', …' : ''}`;

export class Status implements Journal {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #title: string;
  #phase: Phase = 'measuring';
  #total = { files: 0, directories: 0, bytes: 0 };
  #hydrated = { files: 0, bytes: 0 };
  readonly #done = { push: 0, pull: 0, 'push-meta': 0, 'pull-meta': 0, 'delete-remote': 0, 'delete-local': 0, rename: 0 };
  #sentBytes = 0;
  #conflicts = 0;
  readonly #conflictNames: string[] = [];
  readonly #failures = new Map<string, string>();
  readonly #skipped = new Set<string>();
  #owners = 0;
  #acls = 0;
  #waiting = 0;
  #problem: string | undefined;
  #written = -Infinity;
  #logged = -Infinity;
  #timer: (() => void) | undefined;

  constructor(folder: string, title: string, clock: Clock, log: Logger) {
    this.#file = join(folder, 'status.json');
    this.#title = title;
    this.#clock = clock;
    this.#log = log;
  }

  get conflicts(): number {
    return this.#conflicts;
  }

  get failures(): ReadonlyMap<string, string> {
    return this.#failures;
  }

  set phase(phase: Phase) {
    this.#phase = phase;
    this.#log.info(`sync: ${phase}`, this.#figures());
    this.#write();
  }

  /** Files that are not in the volume yet. */
  set waiting(count: number) {
    this.#waiting = count;
    this.#changed();
  }

  set problem(text: string | undefined) {
    this.#problem = text;
    this.#write();
  }

  walked(files: number, directories: number, bytes: number): void {
    this.#total = { files, directories, bytes };
    this.#changed();
  }

  bytes(count: number): void {
    if (this.#phase === 'hydrating' || this.#phase === 'measuring') this.#hydrated.bytes += count;
    else this.#sentBytes += count;
    this.#changed();
  }

  file(): void {
    this.#hydrated.files++;
    this.#changed();
  }

  owner(_path: Buffer): void {
    if (this.#owners++ === 0)
      this.#log.warn('owners cannot be kept: the sidecar runs without the right to give files away', { volume: this.#title });
  }

  acl(path: Buffer): void {
    if (this.#acls++ < MAX_SHOWN)
      this.#log.warn('its access control list does not come along; the volume keeps it', {
        volume: this.#title,
        path: shown(path),
      });
  }

  skipped(path: Buffer): void {
    const name = shown(path);
    // Each comparison meets them again.
    if (this.#skipped.has(name) || this.#skipped.size >= MAX_FAILURES) return;
    this.#skipped.add(name);
    if (this.#skipped.size <= MAX_SHOWN)
      this.#log.warn('left alone: neither file, directory nor symbolic link', { volume: this.#title, path: name });
  }

  done(action: keyof Status['counts'], path: Buffer): void {
    this.#done[action]++;
    this.#failures.delete(shown(path));
    this.#changed();
  }

  get counts(): Readonly<
    Record<'push' | 'pull' | 'push-meta' | 'pull-meta' | 'delete-remote' | 'delete-local' | 'rename', number>
  > {
    return this.#done;
  }

  conflict(path: Buffer, aside: Buffer): void {
    this.#conflicts++;
    this.#conflictNames.push(shown(aside));
    if (this.#conflictNames.length > MAX_SHOWN) this.#conflictNames.shift();
    this.#log.warn('both sides changed a file; the volume keeps its own, the pod’s is kept beside it', {
      volume: this.#title,
      path: shown(path),
      kept: shown(aside),
    });
    this.#changed();
  }

  failed(path: Buffer, message: string): void {
    const name = shown(path);
    if (this.#failures.get(name) !== message)
      this.#log.warn('could not be synchronised; it is tried again', { volume: this.#title, path: name, error: message });
    if (this.#failures.size < MAX_FAILURES) this.#failures.set(name, message);
    this.#changed();
  }

  /** Failures are found again by the next comparison of everything. */
  forgetFailures(): void {
    this.#failures.clear();
  }

  /** What was not written back, by name. */
  unsent(paths: readonly string[]): string {
    const [first] = this.#failures;
    return `${this.#title}: ${paths.length} changes were not written back (${listed(paths)})${
      first ? `; ${short(first[0])}: ${first[1].slice(0, MAX_REASON)}` : ''
    }; they are on the pod's disk and are sent when this container starts again in the same pod`;
  }

  /** Lines for the termination message, of which the operator makes events; `unsent` are paths that are not in the volume. */
  reports(unsent: readonly string[]): readonly string[] {
    return [
      ...(unsent.length > 0 ? [`${syncReports.notFlushed}: ${this.unsent(unsent)}`] : []),
      ...(this.#conflicts > 0
        ? [
            `${syncReports.conflictKept}: ${this.#title}: ${this.#conflicts} times both sides had changed a file; the volume's keeps the name, the pod's is beside it (${listed(this.#conflictNames)})`,
          ]
        : []),
    ].map((line) => line.replaceAll('\n', ' '));
  }

  #figures(): Readonly<Record<string, unknown>> {
    return {
      volume: this.#title,
      files: this.#hydrated.files,
      ofFiles: this.#total.files,
      bytes: this.#hydrated.bytes,
      ofBytes: this.#total.bytes,
    };
  }

  #changed(): void {
    const now = this.#clock.monotonic();
    if (this.#phase === 'hydrating' && now - this.#logged >= LOG_MS) {
      this.#logged = now;
      this.#log.info('sync: hydrating', this.#figures());
    }
    if (now - this.#written >= WRITE_MS) return this.#write();
    this.#timer ??= this.#clock.timer(WRITE_MS, () => this.#write());
  }

  #write(): void {
    this.#timer?.();
    this.#timer = undefined;
    this.#written = this.#clock.monotonic();
    const text = JSON.stringify(
      {
        volume: this.#title,
        phase: this.#phase,
        time: new Date(this.#clock.now()).toISOString(),
        total: this.#total,
        hydrated: this.#hydrated,
        done: this.#done,
        transferredBytes: this.#sentBytes,
        waiting: this.#waiting,
        conflicts: this.#conflicts,
        lastConflicts: this.#conflictNames,
        failures: Object.fromEntries([...this.#failures].slice(0, MAX_SHOWN)),
        failed: this.#failures.size,
        skipped: this.#skipped.size,
        ownersNotKept: this.#owners,
        accessControlLists: this.#acls,
        ...(this.#problem === undefined ? {} : { problem: this.#problem }),
      },
      undefined,
      1,
    );
    try {
      writeFileSync(`${this.#file}.new`, `${text}\n`);
      renameSync(`${this.#file}.new`, this.#file);
    } catch (error) {
      this.#log.warn('the status cannot be written', { error: messageOf(error) });
    }
  }
}
