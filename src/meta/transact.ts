/**
 * Optimistic transactions: how every operation that changes something is carried out.
 *
 * An operation is a function that looks at nodes and entries through a `View` and decides: it answers a plan (what to
 * write), or throws. What it looked at becomes the checks of the commit. The first time it may be shown guesses of this
 * client; so in the ordinary case an operation is one round trip. Three things can go wrong, and each repeats the decision:
 * - it asks for something of which nothing is known: that is read;
 * - the commit finds that something has changed: it answers what is there now;
 * - it fails, or decides that nothing is to be done, on the ground of guesses: those are read, for only fresh values may
 *   make an error (a name that does not exist, a mode that forbids).
 *
 * Bounded: an operation gives up with EIO after ATTEMPTS; between later attempts it waits a little, at random.
 */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { Random } from '../lib/random.ts';
import type { Check, EntryValue, MetaEngine, NodeScope, Write } from './engine.ts';
import { entryKey, type Guesses } from './guesses.ts';
import type { Timings } from './timings.ts';
import type { Attr } from './types.ts';

const ATTEMPTS = 100;
/** Attempts before an operation waits between them; a conflict is answered with the values that the next try needs. */
const EAGER_ATTEMPTS = 5;

export interface View {
  /** A node, or undefined where there is none; `scope` is how much of it the decision rests on. */
  node(ino: Ino, scope: NodeScope): Attr | undefined;
  /** An entry, or undefined where there is none. Of an unknown one, `absent` guesses that there is none. */
  entry(parent: Ino, name: Buffer, unknown?: 'read' | 'absent'): EntryValue | undefined;
  /** Throws ENOTEMPTY where the directory holds something. */
  requireEmpty(ino: Ino): void;
  /** Rests on something else. `failed` is thrown where the check does not hold; without it the decision is made again. */
  require(check: Check, failed?: () => FsError): void;
}

export interface Plan<T> {
  /** Nothing is committed where this is empty. */
  readonly writes: readonly Write[];
  readonly value: T;
}

export interface Committed<T> {
  readonly value: T;
  readonly writes: readonly Write[];
  /** What each write answered, see CommitResult. */
  readonly results: readonly number[];
}

export type Decide<T> = (view: View) => Plan<T> | Promise<Plan<T>>;

/** Thrown through a decision that asks for what is not known yet. */
const UNKNOWN = Symbol('unknown');

interface SeenNode {
  readonly ino: Ino;
  attr: Attr | undefined;
  scope: NodeScope;
  fresh: boolean;
}
interface SeenEntry {
  readonly parent: Ino;
  readonly name: Buffer;
  value: EntryValue | undefined;
  fresh: boolean;
}

const width: Readonly<Record<NodeScope, number>> = { exists: 0, access: 1, all: 2 };

/** What one operation has seen so far, and in this attempt. */
class Attempt implements View {
  readonly #guesses: Guesses;
  readonly #nodes = new Map<Ino, SeenNode>();
  readonly #entries = new Map<string, SeenEntry>();
  /** Of this attempt only. */
  usedNodes: SeenNode[] = [];
  usedEntries: SeenEntry[] = [];
  others: { readonly check: Check; readonly failed: (() => FsError) | undefined }[] = [];
  /** What is to be read before the next attempt. */
  unknownNode: Ino | undefined;
  unknownEntry: { readonly parent: Ino; readonly name: Buffer } | undefined;

  constructor(guesses: Guesses) {
    this.#guesses = guesses;
  }

  begin(): void {
    this.usedNodes = [];
    this.usedEntries = [];
    this.others = [];
    this.unknownNode = undefined;
    this.unknownEntry = undefined;
  }

  node(ino: Ino, scope: NodeScope): Attr | undefined {
    let seen = this.#nodes.get(ino);
    if (!seen) {
      const attr = this.#guesses.node(ino);
      if (!attr) {
        this.unknownNode = ino;
        // oxlint-disable-next-line typescript/only-throw-error -- not an error: it unwinds the decision
        throw UNKNOWN;
      }
      seen = { ino, attr, scope, fresh: false };
      this.#nodes.set(ino, seen);
    }
    if (!this.usedNodes.includes(seen)) {
      seen.scope = scope;
      this.usedNodes.push(seen);
    } else if (width[scope] > width[seen.scope]) seen.scope = scope;
    return seen.attr;
  }

  entry(parent: Ino, name: Buffer, unknown: 'read' | 'absent' = 'read'): EntryValue | undefined {
    const key = entryKey(parent, name);
    let seen = this.#entries.get(key);
    if (!seen) {
      const value = this.#guesses.entry(parent, name);
      if (!value && unknown === 'read') {
        this.unknownEntry = { parent, name };
        // oxlint-disable-next-line typescript/only-throw-error -- as above
        throw UNKNOWN;
      }
      seen = { parent, name, value, fresh: false };
      this.#entries.set(key, seen);
    }
    if (!this.usedEntries.includes(seen)) this.usedEntries.push(seen);
    return seen.value;
  }

  requireEmpty(ino: Ino): void {
    this.require({ kind: 'emptyDirectory', ino }, () => new FsError('ENOTEMPTY'));
  }

  require(check: Check, failed?: () => FsError): void {
    this.others.push({ check, failed });
  }

  learnNode(ino: Ino, attr: Attr | undefined): void {
    this.#guesses.setNode(ino, attr);
    const seen = this.#nodes.get(ino);
    if (seen) {
      seen.attr = attr;
      seen.fresh = true;
    } else this.#nodes.set(ino, { ino, attr, scope: 'exists', fresh: true });
  }

  learnEntry(parent: Ino, name: Buffer, value: EntryValue | undefined): void {
    this.#guesses.setEntry(parent, name, value);
    const key = entryKey(parent, name);
    const seen = this.#entries.get(key);
    if (seen) {
      seen.value = value;
      seen.fresh = true;
    } else this.#entries.set(key, { parent, name, value, fresh: true });
  }

  get allFresh(): boolean {
    return this.usedNodes.every((seen) => seen.fresh) && this.usedEntries.every((seen) => seen.fresh);
  }

  checks(): Check[] {
    const checks: Check[] = [];
    for (const { ino, attr, scope } of this.usedNodes)
      // A node that is missing is compared as a whole: there is nothing to choose from.
      checks.push({ kind: 'node', ino, expect: attr, scope: attr ? scope : 'all' });
    for (const { parent, name, value } of this.usedEntries) checks.push({ kind: 'entry', parent, name, expect: value });
    for (const { check } of this.others) checks.push(check);
    return checks;
  }
}

/** Brings the guesses up to date with what this client has written itself. */
function remember(guesses: Guesses, writes: readonly Write[]): void {
  for (const write of writes) {
    switch (write.kind) {
      case 'putNode':
        guesses.setNode(write.ino, write.attr);
        break;
      case 'removeNode':
        guesses.setNode(write.ino, undefined);
        break;
      case 'touchNode': {
        const attr = guesses.node(write.ino);
        const { sec, nsec } = write;
        if (attr)
          guesses.setNode(write.ino, {
            ...attr,
            mtime: sec,
            mtimensec: nsec,
            ctime: sec,
            ctimensec: nsec,
            nlink: Math.max(0, attr.nlink + write.nlink),
          });
        break;
      }
      case 'putEntry':
        guesses.setEntry(write.parent, write.name, write.value);
        break;
      case 'removeEntry':
        guesses.setEntry(write.parent, write.name, undefined);
        break;
      default:
        break;
    }
  }
}

export class Transactor {
  readonly #engine: MetaEngine;
  readonly #guesses: Guesses;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #timings: Timings | undefined;

  constructor(engine: MetaEngine, guesses: Guesses, clock: Clock, random: Random, timings?: Timings) {
    this.#engine = engine;
    this.#guesses = guesses;
    this.#clock = clock;
    this.#random = random;
    this.#timings = timings;
  }

  /** Decides and commits; see the head of this file. Throws what the decision throws, and the engine's FsErrors. */
  async run<T>(decide: Decide<T>, signal?: AbortSignal): Promise<Committed<T>> {
    const begin = this.#clock.monotonic();
    try {
      return await this.#run(decide, signal);
    } finally {
      this.#timings?.transactions.observe((this.#clock.monotonic() - begin) / 1000);
    }
  }

  async #run<T>(decide: Decide<T>, signal: AbortSignal | undefined): Promise<Committed<T>> {
    const attempt = new Attempt(this.#guesses);
    for (let count = 0; count < ATTEMPTS; count++) {
      if (count > EAGER_ATTEMPTS) await this.#clock.sleep(this.#random.float() * Math.min(count * count, 200), signal);
      attempt.begin();
      let plan: Plan<T>;
      try {
        const decided = decide(attempt);
        plan = decided instanceof Promise ? await decided : decided;
      } catch (error) {
        if (error === UNKNOWN) await this.#readUnknown(attempt);
        else if (attempt.allFresh) throw error;
        else await this.#refresh(attempt);
        continue;
      }
      if (plan.writes.length === 0) {
        if (attempt.allFresh && attempt.others.length === 0) return { value: plan.value, writes: [], results: [] };
        if (!attempt.allFresh) {
          await this.#refresh(attempt);
          continue;
        }
      }
      const result = await this.#engine.commit({ checks: attempt.checks(), writes: plan.writes }, signal);
      if (result.ok) {
        remember(this.#guesses, plan.writes);
        return { value: plan.value, writes: plan.writes, results: result.results };
      }
      if (this.#timings) this.#timings.restarts++;
      this.#learn(attempt, result.failed, result.current);
    }
    throw new FsError('EIO', `gave up after ${ATTEMPTS} attempts, each of which met a change by others`, { retryable: true });
  }

  /** Takes over what a failed commit answered; throws where a check of another kind is what failed. */
  #learn(attempt: Attempt, failed: readonly number[], current: readonly (Attr | EntryValue | undefined)[]): void {
    const { usedNodes, usedEntries, others } = attempt;
    usedNodes.forEach((seen, index) => attempt.learnNode(seen.ino, current[index] as Attr | undefined));
    usedEntries.forEach(({ parent, name }, index) =>
      attempt.learnEntry(parent, name, current[usedNodes.length + index] as EntryValue | undefined),
    );
    const first = usedNodes.length + usedEntries.length;
    // While nodes and entries have changed as well, the other checks may have asked for the wrong thing.
    if (failed.some((index) => index < first)) return;
    for (const index of failed) {
      const other = others[index - first];
      if (other?.failed) throw other.failed();
    }
  }

  async #readUnknown(attempt: Attempt): Promise<void> {
    const { unknownEntry, unknownNode } = attempt;
    await Promise.all([
      unknownEntry ? this.#readEntry(attempt, unknownEntry.parent, unknownEntry.name) : undefined,
      unknownNode === undefined ? undefined : this.#readNodes(attempt, [unknownNode]),
    ]);
  }

  /** Reads everything the attempt has seen that is only a guess, in one go. */
  async #refresh(attempt: Attempt): Promise<void> {
    const nodes = attempt.usedNodes.filter((seen) => !seen.fresh).map((seen) => seen.ino);
    const entries = attempt.usedEntries.filter((seen) => !seen.fresh);
    await Promise.all([
      nodes.length > 0 ? this.#readNodes(attempt, nodes) : undefined,
      ...entries.map(({ parent, name }) => this.#readEntry(attempt, parent, name)),
    ]);
  }

  async #readNodes(attempt: Attempt, inos: readonly Ino[]): Promise<void> {
    const attrs = await this.#engine.read(inos.map((ino) => ({ kind: 'node', ino }) as const));
    inos.forEach((ino, index) => attempt.learnNode(ino, attrs[index]));
  }

  async #readEntry(attempt: Attempt, parent: Ino, name: Buffer): Promise<void> {
    const found = await this.#engine.lookup(parent, name);
    attempt.learnEntry(parent, name, found?.value);
    if (found) attempt.learnNode(found.value.ino, found.attr);
  }
}
