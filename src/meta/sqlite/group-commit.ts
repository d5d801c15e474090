/**
 * Transactions that arrive together go into one SQLite transaction, so that one sync of the disk serves them all. Each is
 * still all or nothing and sees those before it: where one fails with an error, the group is rolled back and each is done
 * by itself.
 *
 * Bound: as many wait as there are callers; at most GROUP are done in one go, so the process does not stand still for long.
 */
import type { CommitResult, Transaction } from '../engine.ts';
import { applyTransaction, type Tables } from './commit.ts';

const GROUP = 64;

interface Waiting {
  readonly transaction: Transaction;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

export class GroupCommit {
  readonly #tables: Tables;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** Done when the transaction is durable, or its checks failed. An abort counts only until it is begun. */
  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ transaction, signal, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Resolves when nothing waits any more. */
  async drained(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        // Others that became ready in this turn of the event loop join in.
        await new Promise((resolve) => setImmediate(resolve));
        const group = this.#takeGroup();
        if (group.length > 0) await this.#commitGroup(group);
      }
    } finally {
      this.#running = undefined;
    }
  }

  #takeGroup(): readonly Waiting[] {
    const group = this.#waiting.slice(0, GROUP);
    this.#waiting = this.#waiting.slice(GROUP);
    return group.filter(({ signal, reject }) => {
      if (signal?.aborted) reject(signal.reason);
      return !signal?.aborted;
    });
  }

  async #commitGroup(group: readonly Waiting[]): Promise<void> {
    const { connection } = this.#tables;
    try {
      const results = await connection.whenFree(() =>
        connection.transaction(() => group.map(({ transaction }) => applyTransaction(this.#tables, transaction))),
      );
      for (const [index, { resolve }] of group.entries()) resolve(results[index]!);
    } catch (error) {
      // A lock that another process holds is the same for all; anything else may be the fault of one.
      const shared = group.length === 1 || (error as { readonly retryable?: unknown }).retryable === true;
      if (shared) for (const { reject } of group) reject(error);
      else for (const each of group) await this.#commitGroup([each]);
    }
  }
}
