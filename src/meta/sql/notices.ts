/**
 * Announcements of released locks on a server that can carry them (PostgreSQL: LISTEN and NOTIFY): a connection of its own, made
 * when the first program waits for a lock and closed when none has waited for a while. It promises nothing: without it who waits
 * finds out a little later by looking.
 *
 * Bounds: one connection beside the pool's; one entry per file that is waited for.
 */
import type { Clock } from '../../lib/clock.ts';
import type { Driver, Listening } from './session.ts';

/** How long listening may take to begin before who waits goes on without, ms. */
const PATIENCE_MS = 1000;
/** How long the connection stays though nobody waits, ms. */
const IDLE_MS = 30_000;
/** First and longest pause before a lost connection is made anew, ms. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/** The subject that concerns everybody who waits. */
export const EVERYBODY = '';

export class ServerNotices {
  readonly #clock: Clock;
  readonly #watchers = new Map<string, Set<() => void>>();
  #listen: NonNullable<Driver['listen']>;
  /** The connection that there is, or is being made. */
  #listening: Promise<Listening | undefined> | undefined;
  #pause = FIRST_PAUSE_MS;
  #cancelIdle: (() => void) | undefined;
  #cancelRetry: (() => void) | undefined;
  #closed = false;

  constructor(listen: NonNullable<Driver['listen']>, clock: Clock) {
    this.#listen = listen;
    this.#clock = clock;
  }

  /** Goes on with other credentials. */
  adopt(listen: NonNullable<Driver['listen']>): void {
    this.#listen = listen;
    if (!this.#listening) return;
    this.#disconnect();
    void this.#connect();
  }

  /** Calls back on every announcement of the subject from when it resolves until the answer is called. Never rejects. */
  async watch(subject: string, woken: () => void): Promise<() => void> {
    const watchers = this.#watchers.get(subject) ?? new Set();
    this.#watchers.set(subject, watchers.add(woken));
    this.#cancelIdle?.();
    const timer = new AbortController();
    await Promise.race([this.#connect(), this.#clock.sleep(PATIENCE_MS, timer.signal).catch(() => {})]);
    timer.abort();
    return () => this.#unwatch(subject, watchers, woken);
  }

  #unwatch(subject: string, watchers: Set<() => void>, woken: () => void): void {
    watchers.delete(woken);
    if (watchers.size > 0 || this.#watchers.get(subject) !== watchers) return;
    this.#watchers.delete(subject);
    if (this.#watchers.size === 0) this.#cancelIdle = this.#clock.timer(IDLE_MS, () => this.#disconnect());
  }

  #connect(): Promise<unknown> {
    if (this.#closed) return Promise.resolve();
    if (this.#listening) return this.#listening;
    this.#cancelRetry?.();
    const lost = (): void => {
      if (this.#listening === listening) this.#retry();
    };
    const listening: Promise<Listening | undefined> = this.#listen((subject) => this.#hear(subject), lost).then(
      (made) => {
        if (this.#listening !== listening) {
          made.end();
          return undefined;
        }
        this.#pause = FIRST_PAUSE_MS;
        // What was announced before is lost: everybody looks.
        this.#hear(EVERYBODY);
        return made;
      },
      () => {
        lost();
        return undefined;
      },
    );
    this.#listening = listening;
    return listening;
  }

  #retry(): void {
    this.#listening = undefined;
    if (this.#closed || this.#watchers.size === 0) return;
    this.#cancelRetry = this.#clock.timer(this.#pause, () => void this.#connect());
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #hear(subject: string): void {
    const heard = subject === EVERYBODY ? [...this.#watchers.values()] : [this.#watchers.get(subject) ?? []];
    for (const watchers of heard) for (const woken of watchers) woken();
  }

  #disconnect(): void {
    this.#cancelRetry?.();
    const ending = this.#listening;
    this.#listening = undefined;
    void ending?.then((made) => made?.end());
  }

  close(): void {
    this.#closed = true;
    this.#cancelIdle?.();
    this.#disconnect();
  }
}
