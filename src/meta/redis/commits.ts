/**
 * Changes sent to Redis, each one script (commit.lua) and done exactly once: a number in a slot of a small hash of this client's, the marks,
 * tells a second attempt what became of the first. Redis forgets the marks an hour after the last use. At most 256 changes are out at once,
 * further ones wait.
 */
import type { CommitResult, Transaction } from '../engine.ts';
import type { ClientCache } from './client-cache.ts';
import type { Argument, RedisConnection } from './connection.ts';
import type { Keys } from './keys.ts';
import { commitScript } from './scripts.ts';
import { decodeAnswer, encodeTransaction, type NodeBytes, otherSpelling } from './transaction.ts';

/** Commits out at once. */
const SLOTS = 256;
const MARK_SECONDS = 3600;
/** The marks' lifetime is set anew once in so many commits of ours, and with the first. */
const RENEW_EVERY = 1000;

/** Numbers that must not be given out twice, not even by a master that did not know of the first time. */
const identities: ReadonlySet<string> = new Set(['nextInode', 'nextChunk', 'nextSession']);

export interface CommitParts {
  /** What changes go over: where they wait for replicas, no read waits behind them. */
  readonly writer: RedisConnection;
  /** Whether changes wait until replicas have them. */
  readonly waits: boolean;
  readonly keys: Keys;
  /** The key of this client's marks. */
  readonly marks: string;
  /** Hears of what was changed. */
  readonly cache: ClientCache | undefined;
}

/** A check or a command in the terms of the script. */
export type RawCheck = readonly [key: string, ...args: Argument[]];
export type RawCommand = readonly [key: string, command: string, ...args: Argument[]];

export class RedisCommits {
  readonly #writer: RedisConnection;
  readonly #waits: boolean;
  readonly #keys: Keys;
  readonly #marks: string;
  readonly #cache: ClientCache | undefined;
  readonly #freeSlots: number[] = Array.from({ length: SLOTS }, (_, index) => index);
  readonly #waiting: (() => void)[] = [];
  #commits = 0;

  constructor({ writer, waits, keys, marks, cache }: CommitParts) {
    this.#writer = writer;
    this.#waits = waits;
    this.#keys = keys;
    this.#marks = marks;
    this.#cache = cache;
  }

  /** As `MetaEngine.commit`. */
  async send(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    signal?.throwIfAborted();
    let nodeBytes: NodeBytes | undefined;
    const slot = this.#freeSlots.pop() ?? (await this.#waitForSlot());
    try {
      for (;;) {
        const answer = await this.#attempt(slot, transaction, nodeBytes, signal);
        nodeBytes = otherSpelling(transaction, answer.reply);
        if (!nodeBytes) return decodeAnswer(transaction, answer.encoded, answer.reply);
      }
    } finally {
      this.#free(slot);
    }
  }

  async #waitForSlot(): Promise<number> {
    for (;;) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      const slot = this.#freeSlots.pop();
      if (slot !== undefined) return slot;
    }
  }

  #free(slot: number): void {
    const next = this.#waiting.shift();
    this.#freeSlots.push(slot);
    next?.();
  }

  async #attempt(slot: number, transaction: Transaction, nodeBytes: NodeBytes | undefined, signal: AbortSignal | undefined) {
    const encoded = encodeTransaction(transaction, this.#keys, nodeBytes);
    const number = ++this.#commits;
    const ttl = number % RENEW_EVERY === 1 ? MARK_SECONDS : '';
    const identity = transaction.writes.some((write) => write.kind === 'addCounter' && identities.has(write.name));
    const reply = await this.#writer.script(
      commitScript,
      encoded.keys.length + 1,
      (attempt) => [this.#marks, ...encoded.keys, slot, number, attempt > 0 ? '1' : '', ttl, ...encoded.args],
      signal,
      this.#waits ? 'asked' : identity ? 'tried' : 'master',
    );
    // What was written is not what was read, and what a check met is not what was known.
    if (this.#cache) for (const key of encoded.keys) this.#cache.changed(key);
    return { encoded, reply };
  }

  /** A transaction in the terms of the script. False where a check failed. */
  async raw(checks: readonly RawCheck[], commands: readonly RawCommand[]): Promise<boolean> {
    const slot = this.#freeSlots.pop() ?? (await this.#waitForSlot());
    try {
      const number = ++this.#commits;
      const keys = [this.#marks, ...checks.map(([key]) => key), ...commands.map(([key]) => key)];
      const checkArgs = checks.flatMap(([, ...args]) => args);
      const commandArgs = commands.flatMap(([, command, ...args]) => [command, args.length, ...args]);
      const list = (attempt: number): readonly Argument[] => [
        ...keys,
        slot,
        number,
        attempt > 0 ? '1' : '',
        MARK_SECONDS,
        checks.length,
        ...checkArgs,
        ...commandArgs,
      ];
      const keeping = this.#waits ? 'asked' : 'master';
      const answer = (await this.#writer.script(commitScript, keys.length, list, undefined, keeping)) as [number];
      for (const key of keys) this.#cache?.changed(key);
      return answer[0] !== 0;
    } finally {
      this.#free(slot);
    }
  }
}
