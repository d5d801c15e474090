/**
 * The connections of one engine to its server, and the patience of its calls.
 *
 * Bounds: at most `maxConnections` connections (16 unless the metadata URL says otherwise), made when they are needed; one
 * that was idle for `idleTime` is closed. As many calls wait for a connection as there are callers. While the server is
 * away calls wait, up to `patience`, and go on when it is back; nothing of an outage is remembered. A call that met another
 * transaction is repeated at once, then after a pause that is drawn at random and grows, at most CONFLICTS times. So
 * everything given to `repeat` must be safe to repeat.
 *
 * Credentials: those in use can be replaced (`adopt`); connections that were made with earlier ones go when they are given back.
 * Where the server does not take them any more, and somebody can bring others, calls wait for these.
 */
import type { Clock } from '../../lib/clock.ts';
import { FsError, messageOf, UserError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { Random } from '../../lib/random.ts';
import type { Driver, Fault, Session } from './session.ts';

export interface PoolOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How long a call waits for a server that is away, ms. */
  readonly patience: number;
  readonly maxConnections: number;
  /** ms */
  readonly idleTime: number;
  /**
   * Called when the server refuses credentials that it took before. Who gives it can bring other ones (`adopt`): calls wait for
   * that, at most REFUSED_PATIENCE_MS.
   */
  readonly onRefused?: () => void;
}

/** See REFUSED_PATIENCE_MS of the Redis connection. */
const REFUSED_PATIENCE_MS = 120_000;

/** How often a call is repeated because of other transactions. */
const CONFLICTS = 50;
const FIRST_PAUSE = 20;
const LONGEST_PAUSE = 1000;

interface Idle {
  readonly session: Session;
  readonly since: number;
}

export class Pool {
  #driver: Driver;
  readonly #options: PoolOptions;
  /** The last one that was used is taken first, so that those not needed grow old. */
  readonly #idle: Idle[] = [];
  readonly #busy = new Set<Session>();
  readonly #waiting: (() => void)[] = [];
  #connecting = 0;
  /** There was a connection once. */
  #opened = false;
  /** Connections made with credentials that were replaced since. */
  readonly #outdated = new WeakSet<Session>();
  /** Refusals of credentials that were taken before. */
  readonly #refusals = new WeakSet<object>();
  #problem: string | undefined;
  #refused = false;
  #closed = false;

  constructor(driver: Driver, options: PoolOptions) {
    this.#driver = driver;
    this.#options = options;
  }

  /** Waits for the first connection. Throws UserError where there is none within `patience`, or where we are refused. */
  async open(patience = this.#options.patience): Promise<void> {
    const { description, product } = this.#driver;
    try {
      await this.#insist(async () => {}, undefined, patience);
    } catch (cause) {
      this.close();
      if (cause instanceof UserError) throw cause;
      const message = this.#explain(cause);
      switch (this.#driver.faultOf(cause)) {
        case 'refused':
          throw new UserError('MetaRefused', `${product} at ${description} refuses us: ${message}`, {
            cause,
            hint: 'Check user, password and database of the metadata URL (or META_PASSWORD). The database must have been created.',
          });
        case 'lost':
          throw new UserError('MetaUnreachable', `${product} at ${description} does not answer: ${message}`, {
            cause,
            retryable: true,
            hint: 'Check that the server is running and can be reached from here, and the metadata URL.',
          });
        default:
          throw new UserError('MetaUnreachable', `${product} at ${description} cannot be used: ${message}`, { cause });
      }
    }
  }

  /** Goes on with what connects in another way to the same database, which was proved. */
  adopt(driver: Driver): void {
    this.#driver = driver;
    for (const { session } of this.#idle.splice(0)) session.end();
    for (const session of this.#busy) this.#outdated.add(session);
  }

  /** Does `work` on a connection, again where that is gone or another transaction was in the way. Throws FsError. */
  async repeat<T>(work: (session: Session) => Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      return await this.#insist(work, signal);
    } catch (error) {
      throw this.#translate(error);
    }
  }

  async #insist<T>(
    work: (session: Session) => Promise<T>,
    signal: AbortSignal | undefined,
    patience = this.#options.patience,
  ): Promise<T> {
    const { clock, random } = this.#options;
    const begun = clock.monotonic();
    let pause = FIRST_PAUSE;
    for (let conflicts = 0; ;) {
      signal?.throwIfAborted();
      let error: unknown;
      try {
        const result = await this.#once(work, signal);
        this.#note(undefined);
        return result;
      } catch (thrown) {
        error = thrown;
      }
      const fault = this.#faultOf(error);
      const awaited = fault === 'refused' && this.#isAwaited(error);
      const left = begun + (awaited ? Math.max(patience, REFUSED_PATIENCE_MS) : patience) - clock.monotonic();
      if (this.#closed || left <= 0 || (fault !== 'lost' && fault !== 'conflict' && !awaited)) throw error;
      if (fault === 'conflict') {
        if (++conflicts > CONFLICTS) throw error;
        await clock.sleep(random.float() * Math.min(conflicts * conflicts, 200), signal);
        continue;
      }
      this.#note(this.#explain(error));
      await clock.sleep(Math.min(pause, left), signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }

  #faultOf(error: unknown): Fault {
    return error instanceof FsError || error instanceof UserError ? 'other' : this.#driver.faultOf(error);
  }

  /** True for a refusal that other credentials, which somebody may bring, would end. */
  #isAwaited(error: unknown): boolean {
    const { onRefused } = this.#options;
    if (!onRefused || typeof error !== 'object' || error === null || !this.#refusals.has(error)) return false;
    onRefused();
    this.#noteRefusal(error);
    return true;
  }

  /** That credentials are waited for is told once, whatever was told of an outage before. */
  #noteRefusal(error: object): void {
    if (this.#refused) return;
    this.#refused = true;
    const server = this.#driver.description;
    const problem = messageOf(error);
    this.#problem = problem;
    this.#options.logger.warn(`${this.#driver.product} refuses credentials that it took before; waiting for others`, {
      server,
      problem,
    });
  }

  /** An outage is told once, and its end. */
  #note(problem: string | undefined): void {
    if (problem === this.#problem) return;
    const { logger } = this.#options;
    const server = this.#driver.description;
    if (problem === undefined) this.#refused = false;
    if (problem === undefined) logger.info(`${this.#driver.product} answers again`, { server });
    else if (this.#problem === undefined) logger.warn(this.#driver.product, { server, problem });
    this.#problem = problem;
  }

  async #once<T>(work: (session: Session) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const session = await this.#take(signal);
    let good = true;
    try {
      return await work(session);
    } catch (error) {
      // A server that has become a replica answers and is yet of no use.
      if (this.#faultOf(error) === 'lost') good = false;
      throw error;
    } finally {
      this.#busy.delete(session);
      const reusable = good && !session.broken && !this.#closed && !this.#outdated.has(session);
      if (reusable) this.#idle.push({ session, since: this.#options.clock.monotonic() });
      else session.end();
      this.#closeOld();
      this.#waiting.shift()?.();
    }
  }

  async #take(signal: AbortSignal | undefined): Promise<Session> {
    for (;;) {
      if (this.#closed) throw this.#closedError();
      const session = this.#idle.pop()?.session;
      if (session) {
        if (session.broken) continue;
        this.#busy.add(session);
        return session;
      }
      if (this.#busy.size + this.#connecting < this.#options.maxConnections) return this.#connect();
      await this.#turn(signal);
    }
  }

  async #connect(): Promise<Session> {
    this.#connecting++;
    const driver = this.#driver;
    try {
      const session = await driver.connect();
      if (this.#closed) {
        session.end();
        throw this.#closedError();
      }
      this.#opened = true;
      if (driver !== this.#driver) this.#outdated.add(session);
      this.#busy.add(session);
      return session;
    } catch (error) {
      if (this.#opened && typeof error === 'object' && error !== null) this.#refusals.add(error);
      this.#waiting.shift()?.();
      throw error;
    } finally {
      this.#connecting--;
    }
  }

  /** Resolves when a connection may be free. */
  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const woken = (): void => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      };
      const aborted = (): void => {
        const at = this.#waiting.indexOf(woken);
        if (at >= 0) this.#waiting.splice(at, 1);
        reject(signal?.reason instanceof Error ? signal.reason : new FsError('EINTR'));
      };
      this.#waiting.push(woken);
      signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  #closeOld(): void {
    const { clock, idleTime } = this.#options;
    const oldest = clock.monotonic() - idleTime;
    while (this.#idle.length > 1 && (this.#idle[0]?.since ?? 0) < oldest) this.#idle.shift()?.session.end();
  }

  #closedError(): FsError {
    return new FsError('EIO', `the connection to ${this.#driver.description} was closed`);
  }

  /** What the server says, and what to do about it. */
  #explain(error: unknown): string {
    const advice = this.#driver.adviceOf(error);
    return advice === undefined ? messageOf(error) : `${messageOf(error)}; ${advice}`;
  }

  #translate(error: unknown): unknown {
    if (error instanceof FsError || error instanceof UserError) return error;
    if (error instanceof Error && error.name === 'AbortError') return error;
    const { description, product } = this.#driver;
    const cause = { cause: error };
    if (this.#closed) return new FsError('EIO', `the connection to ${description} was closed`, cause);
    const message = this.#explain(error);
    if (error instanceof RangeError)
      return new FsError('EIO', `${product} at ${description} holds a value that cannot be: ${message}`, cause);
    switch (this.#driver.faultOf(error)) {
      case 'lost': {
        const seconds = Math.round(this.#options.patience / 1000);
        return new FsError('EIO', `${product} at ${description} does not answer: ${message} (waited ${seconds} s)`, {
          ...cause,
          retryable: true,
        });
      }
      case 'conflict':
        return new FsError('EIO', `${product} at ${description}: gave up because of other transactions: ${message}`, {
          ...cause,
          retryable: true,
        });
      case 'full':
        return new FsError('ENOSPC', `${product} at ${description} has no room: ${message}`, cause);
      case 'range':
        return new FsError('EOVERFLOW', `${product} at ${description} cannot hold a value: ${message}`, cause);
      case 'text':
        return new FsError('EILSEQ', `${product} at ${description} cannot hold a text: ${message}`, cause);
      default:
        return new FsError('EIO', `${product} at ${description}: ${message}`, cause);
    }
  }

  /** Ends all connections; calls still out fail. */
  close(): void {
    this.#closed = true;
    for (const { session } of this.#idle.splice(0)) session.end();
    for (const session of this.#busy) session.end();
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
