/**
 * Commits on a server, exactly once. Each connection counts its transactions in a row of its own (`jfs_juicepod_commit`), within them.
 * Where it is lost under the statements that commit, another one looks there: only a transaction that was not committed is begun
 * anew, and the row is then spoilt. For what was lost may still be on its way to the server, and be carried out there later: it finds
 * another count than it must have (at once), or held the row when it was looked at (in two round trips).
 */
import type { Clock } from '../../lib/clock.ts';
import type { Random } from '../../lib/random.ts';
import type { CommitResult, Transaction } from '../engine.ts';
import { fileKey } from '../lock-waits.ts';
import { atOnce } from './at-once.ts';
import { failureOf } from './checks.ts';
import type { Pool } from './pool.ts';
import { numberAt } from './rows.ts';
import type { Answer, Driver, Session, Statement } from './session.ts';
import { countersOf, readingOf, type Texts, writingOf } from './transaction.ts';

/** How long after its last transaction the count of a connection is certainly still there, ms: far less than it is kept. */
const COUNT_CERTAIN = 3_600_000;

export const BEGIN: Statement = { text: 'BEGIN', values: [] };
export const COMMIT: Statement = { text: 'COMMIT', values: [] };
const ROLLBACK: Statement = { text: 'ROLLBACK', values: [] };

/** The connection is as it was before; where that fails it is closed. */
export async function rollBack(session: Session): Promise<void> {
  if (session.broken) return;
  try {
    await session.run([ROLLBACK]);
  } catch {
    session.end();
  }
}

/** The transaction of a connection that was lost before it answered. */
interface Lost {
  readonly session: number;
  readonly number: number;
}

/** The outcome of an attempt; with `lost` only if that was carried out. */
interface Attempted {
  readonly result: CommitResult;
  readonly lost?: Lost;
}

export class Committer {
  readonly #driver: Driver;
  readonly #pool: Pool;
  readonly #texts: Texts;
  readonly #clock: Clock;
  readonly #random: Random;
  /** The number that stands for a connection in the table of commits. */
  readonly #names = new WeakMap<Session, number>();
  /** The last transaction of a connection that was carried out, and when. */
  readonly #last = new WeakMap<Session, { readonly number: number; readonly at: number }>();

  constructor(driver: Driver, pool: Pool, texts: Texts, { clock, random }: { readonly clock: Clock; readonly random: Random }) {
    this.#driver = driver;
    this.#pool = pool;
    this.#texts = texts;
    this.#clock = clock;
    this.#random = random;
  }

  /** As the engine seam has it. */
  async commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    for (;;) {
      const { result, lost } = await this.#pool.repeat((session) => this.#attempt(session, transaction), signal);
      if (!lost || (await this.#wasCommitted(lost))) return result;
    }
  }

  /** The number that the next transaction of a connection gets; undefined where that is not certain. */
  #nextCommit(session: Session): number | undefined {
    const last = this.#last.get(session);
    if (!last) return 1;
    return this.#clock.monotonic() - last.at < COUNT_CERTAIN ? last.number + 1 : undefined;
  }

  #noteCommit(session: Session, answer: Answer | undefined): void {
    this.#last.set(session, { number: numberAt(answer?.rows[0] ?? [], 0), at: this.#clock.monotonic() });
  }

  /** In one round trip. Undefined: it has to be two, and nothing is done yet. */
  async #attemptAtOnce(session: Session, transaction: Transaction): Promise<Attempted | undefined> {
    const number = this.#nextCommit(session);
    const plan = number === undefined ? undefined : atOnce(this.#texts, transaction);
    if (number === undefined || !plan) return undefined;
    const { reading, guards, writing, assumed } = plan;
    const first = [BEGIN, this.#countCommit(session), this.#sameCount(session, number)];
    const read = first.length + reading.statements.length;
    const statements = [...first, ...reading.statements, ...guards, ...writing.statements, COMMIT];
    const { answers, error } = await session.runUntilError(statements);
    if (error === undefined) {
      this.#noteCommit(session, answers[1]);
      this.#announce(session, transaction.writes);
      return { result: { ok: true, results: writing.resultsOf(answers.slice(read + guards.length)) } };
    }
    const fault = this.#driver.faultOf(error);
    if (fault === 'lost') {
      session.end();
      return { result: { ok: true, results: assumed }, lost: { session: this.#names.get(session) ?? 0, number } };
    }
    if (fault !== 'guarded') throw error;
    // The connection's next user waits for it, not this call.
    void rollBack(session);
    // Its count is not what we believed, and nothing was read.
    if (answers.length < read) return undefined;
    const failure = failureOf(reading.decide(answers.slice(first.length, read)).checked);
    return failure && { result: failure };
  }

  async #attempt(session: Session, transaction: Transaction): Promise<Attempted> {
    const { writes } = transaction;
    const reading = readingOf(this.#texts, transaction);
    try {
      const done = await this.#attemptAtOnce(session, transaction);
      if (done) return done;
      const counters = countersOf(this.#texts, writes);
      // What the counters are is known before they are changed, should the answer to that be lost.
      const proof = writes.length > 0 ? [this.#countCommit(session), ...counters.statements] : [];
      const first = [BEGIN, ...proof];
      const answers = await session.run([...first, ...reading.statements]);
      const { checked, absent } = reading.decide(answers.slice(first.length));
      const failure = failureOf(checked);
      if (failure || writes.length === 0) {
        // The connection's next user waits for it, not this call.
        void rollBack(session);
        return { result: failure ?? { ok: true, results: [] } };
      }
      const number = numberAt(answers[1]?.rows[0] ?? [], 0);
      const assumed = counters.assume(answers.slice(2, first.length), absent);
      const writing = writingOf(this.#texts, writes, absent);
      try {
        const written = await session.run([...writing.statements, COMMIT]);
        this.#noteCommit(session, answers[1]);
        this.#announce(session, writes);
        return { result: { ok: true, results: writing.resultsOf(written) } };
      } catch (error) {
        if (this.#driver.faultOf(error) !== 'lost') throw error;
        session.end();
        return { result: { ok: true, results: assumed }, lost: { session: this.#names.get(session) ?? 0, number } };
      }
    } catch (error) {
      await rollBack(session);
      throw error;
    }
  }

  /**
   * Tells of released locks after the commit, not in it: announcing transactions commit one by one (PostgreSQL holds a lock of the
   * whole server for them), which is short for one that writes nothing. The connection's next user waits for it, not this call.
   */
  #announce(session: Session, writes: Transaction['writes']): void {
    const { announce } = this.#driver;
    if (!announce) return;
    const subjects = new Set(writes.flatMap((write) => (write.kind === 'announceLocks' ? [fileKey(write)] : [])));
    if (subjects.size > 0) session.run([...subjects].map(announce)).catch(() => {});
  }

  #seconds(): number {
    return Math.floor(this.#clock.now() / 1000);
  }

  #countCommit(session: Session): Statement {
    let name = this.#names.get(session);
    if (name === undefined) this.#names.set(session, (name = this.#random.bytes(6).readUIntBE(0, 6)));
    return { text: this.#texts.sql.countCommit, values: [name, this.#seconds()] };
  }

  /** Fails where the count of a connection is another: it was given up, and somebody has looked. */
  #sameCount(session: Session, number: number): Statement {
    return { text: this.#texts.sql.sameCommit, values: [this.#names.get(session) ?? 0, number] };
  }

  /** What became of the transaction with this number of a connection that was lost. */
  async #wasCommitted({ session, number }: Lost): Promise<boolean> {
    const look: Statement = { text: this.#texts.sql.wasCommitted, values: [session, this.#seconds(), number] };
    const [answer] = await this.#pool.repeat((other) => other.run([look]));
    return answer?.rows[0]?.[0] === 1;
  }
}
