import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { Clock } from '../lib/clock.ts';
import type { Ino } from '../lib/int64.ts';
import { type Attr, type DirEntry, type Entry, NodeType } from '../meta/types.ts';
import { NamesAhead } from './ahead.ts';
import { Changes } from './changes.ts';

const PARENT = 1 as Ino;
const NAMES = 40;

/** A database with one directory, and a client of it that asks for names as the kernel makes it. Time stands still but for `wait`. */
class World {
  now = 1000;
  /** Which of the names there are, as numbers of nodes: with each change another attribute. */
  readonly there = new Map<string, Entry>();
  /** When each state of a name ended that is no more. */
  readonly ended = new Map<Attr, number>();
  readonly #seen = new Map<Ino, Attr>();
  readonly #timers: { at: number; run: () => void }[] = [];
  readonly changes = new Changes();
  readonly ahead: NamesAhead;
  listings = 0;
  trips = 0;
  #held: (() => void)[] | undefined;

  constructor(names: number, lifetime = 1) {
    for (let index = 0; index < names; index++) this.put(`n${index}`, index + 2);
    const clock = {
      monotonic: () => this.now,
      timer: (ms: number, run: () => void) => {
        const timer = { at: this.now + ms, run };
        this.#timers.push(timer);
        return () => void this.#timers.splice(this.#timers.indexOf(timer) >>> 0, 1);
      },
    } as Partial<Clock> as Clock;
    const meta = {
      lastSeen: (ino: Ino) => this.#seen.get(ino),
      entriesAhead: async (_ino: Ino, most: number) => {
        this.listings++;
        const all = Array.from(this.there, ([name, { ino, attr }]): DirEntry => ({
          name: Buffer.from(name),
          ino,
          type: 1,
          attr,
        }));
        const before = new Map(this.#seen);
        const held = this.#held;
        if (held) await new Promise<void>((resolve) => held.push(resolve));
        if (all.length > most) return undefined;
        return all.map((entry) => {
          if (this.#seen.get(entry.ino) !== before.get(entry.ino)) return { ...entry, attr: undefined };
          if (entry.attr) this.#seen.set(entry.ino, entry.attr);
          return entry;
        });
      },
    };
    this.ahead = new NamesAhead(meta, this.changes, clock, lifetime);
    this.changes.onName = (parent, name) => this.ahead.changed(parent, name);
  }

  wait(ms: number): void {
    this.now += ms;
    for (const timer of this.#timers.filter(({ at }) => at <= this.now)) {
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.run();
    }
  }

  /** Anybody's change. */
  put(name: string, ino: number | undefined): Entry | undefined {
    const before = this.there.get(name);
    if (before?.attr) this.ended.set(before.attr, this.now);
    this.there.delete(name);
    if (ino === undefined) return undefined;
    const entry: Entry = { ino: ino as Ino, attr: { type: NodeType.File, length: 0 } as Attr };
    this.there.set(name, entry);
    return entry;
  }

  /** A change of ours, which has been answered. */
  putHere(name: string, ino: number | undefined): void {
    const entry = this.put(name, ino);
    if (entry) this.#seen.set(entry.ino, entry.attr);
    this.changes.name(PARENT, Buffer.from(name));
  }

  /** We are told of the attributes of what the name stands for now. */
  look(name: string): void {
    const entry = this.there.get(name);
    // Each answer is an object of its own.
    if (entry) this.#seen.set(entry.ino, { ...entry.attr });
  }

  /** The kernel asks for a name: what it is told, and for how long, ms. */
  lookup(name: string): { readonly attr: Attr | undefined; readonly lifetime: number; readonly ahead: boolean } {
    const told = this.ahead.find(PARENT, Buffer.from(name));
    if (told) return { attr: told.entry.attr, lifetime: told.lifetime * 1000, ahead: true };
    this.trips++;
    const entry = this.there.get(name);
    if (entry) {
      this.#seen.set(entry.ino, entry.attr);
      this.ahead.asked(PARENT, Buffer.from(name));
      this.asked(name);
    }
    return { attr: entry?.attr, lifetime: 1000, ahead: false };
  }

  /** Called for each name that the database was asked for. */
  asked: (name: string) => void = () => {};

  /** Answers of listings are held back until `release`. */
  hold(): void {
    this.#held ??= [];
  }

  async release(): Promise<void> {
    for (const answer of this.#held ?? []) answer();
    this.#held = undefined;
    await settled();
  }
}

const settled = (): Promise<void> => new Promise((done) => setImmediate(done));

async function lookUpAll(world: World, names: number): Promise<void> {
  for (let index = 0; index < names; index++) {
    assert.equal(world.lookup(`n${index}`).attr, world.there.get(`n${index}`)?.attr);
    await settled();
  }
}

test('who asks for one name after the other is told most of them out of a listing', async () => {
  const world = new World(400);
  await lookUpAll(world, 400);
  assert.ok(world.trips < 40, `${world.trips} trips for 400 names`);
});

test('a listing is worth so many names as were asked for, not more: a large directory costs few of them', async () => {
  const world = new World(20_000);
  await lookUpAll(world, 2000);
  assert.equal(world.trips, 2000);
  assert.ok(world.listings <= 5, `${world.listings} listings`);
});

test('what was read in vain is not read again soon', async () => {
  const world = new World(400);
  for (let round = 0; round < 50; round++) {
    for (let index = 0; index < 20; index++) {
      world.lookup('n0');
      await settled();
    }
    world.wait(1001);
  }
  assert.ok(world.listings <= 2, `${world.listings} listings`);
  world.wait(60_000);
  await lookUpAll(world, 400);
  assert.ok(world.listings >= 2, 'it is never tried again');
});

test('names that are asked for with pauses in between are asked of the database', async () => {
  const world = new World(400);
  for (let index = 0; index < 400; index++) {
    world.lookup(`n${index}`);
    await settled();
    world.wait(101);
  }
  assert.equal(world.listings, 0);
});

test('without a lifetime nothing is read ahead', async () => {
  const world = new World(400, 0);
  await lookUpAll(world, 400);
  assert.equal(world.listings, 0);
});

test('a name that was removed from here while the listing was under way is not told', async () => {
  const world = new World(NAMES);
  world.hold();
  for (let index = 0; index < 16; index++) world.lookup(`n${index}`);
  world.putHere('n30', undefined);
  await world.release();
  assert.equal(world.lookup('n30').attr, undefined);
  assert.equal(world.lookup('n31').ahead, true);
});

test('a name that the database was asked for while the listing was under way is not told out of that', async () => {
  const world = new World(NAMES);
  world.hold();
  for (let index = 0; index < 16; index++) world.lookup(`n${index}`);
  const now = world.put('n0', 50);
  assert.equal(world.lookup('n0').attr, now?.attr);
  await world.release();
  assert.equal(world.lookup('n0').attr, now?.attr);
});

test('a node that was changed from here, or that anybody here saw since, is asked for', async () => {
  const world = new World(NAMES);
  for (let index = 0; index < 16; index++) world.lookup(`n${index}`);
  await settled();
  world.changes.node(32 as Ino);
  world.look('n31');
  const [changed, seen, other] = ['n30', 'n31', 'n32'].map((key) => world.lookup(key).ahead);
  assert.deepEqual({ changed, seen, other }, { changed: false, seen: false, other: true });
});

type Step =
  | { readonly do: 'lookup' | 'remove' | 'removeHere' | 'look'; readonly name: number }
  | { readonly do: 'put' | 'putHere'; readonly name: number; readonly ino: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'run'; readonly from: number }
  | { readonly do: 'hold' | 'release' };

const name = fc.nat(NAMES - 1);
const ino = fc.integer({ min: 2, max: 60 });
const steps = fc.array(
  fc.oneof<fc.Arbitrary<Step>[]>(
    { weight: 5, arbitrary: fc.record({ do: fc.constant('lookup' as const), name }) } as never,
    fc.record({ do: fc.constant('run' as const), from: name }),
    fc.record({ do: fc.constantFrom('remove' as const, 'removeHere' as const, 'look' as const), name }),
    fc.record({ do: fc.constantFrom('put' as const, 'putHere' as const), name, ino }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 400 }) }),
    fc.record({ do: fc.constantFrom('hold' as const, 'release' as const) }),
  ),
  { maxLength: 120 },
);

test('at the end of its lifetime nothing that is told has been over for longer than the kernel may trust it, and own changes are seen', async () => {
  let ahead = 0;
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const world = new World(NAMES);
      const own = new Map<string, number>();
      const looked = new Map<string, number>();
      world.asked = (key) => looked.set(key, world.now);
      const check = (key: string): void => {
        const told = world.lookup(key);
        if (!told.ahead || !told.attr) return;
        ahead++;
        const over = world.ended.get(told.attr);
        if (over === undefined) return;
        assert.ok(world.now + told.lifetime - over <= 1000, `${key} is trusted ${world.now + told.lifetime - over} ms too long`);
        assert.ok((own.get(key) ?? -1) < over || own.get(key) === undefined, `${key} was changed from here`);
        assert.ok((looked.get(key) ?? -1) < over, `${key} was seen later`);
      };
      for (const step of list) {
        const key = 'name' in step ? `n${step.name}` : '';
        if (step.do === 'lookup') check(key);
        else if (step.do === 'run') for (let i = 0; i < 20; i++) check(`n${(step.from + i) % NAMES}`);
        else if (step.do === 'wait') world.wait(step.ms);
        else if (step.do === 'put') world.put(key, step.ino);
        else if (step.do === 'remove') world.put(key, undefined);
        else if (step.do === 'hold') world.hold();
        else if (step.do === 'release') await world.release();
        else if (step.do === 'look') {
          world.look(key);
          looked.set(key, world.now);
        } else {
          world.putHere(key, step.do === 'putHere' ? step.ino : undefined);
          own.set(key, world.now);
        }
        await settled();
        if (step.do !== 'wait') world.wait(1);
      }
    }),
    { numRuns: 300 },
  );
  assert.ok(ahead > 100, 'nothing was told ahead');
});
