/**
 * Random operations on a volume with limits: nested quotas of directories, quotas of users and groups, capacity and inodes of the
 * volume. A model in memory says which are refused, and with what; in the end the usage that is recorded for each quota, and the
 * volume's counters, are what the model adds up from its tree.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { type ErrnoName, FsError } from '../../src/lib/errors.ts';
import { type Ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { QuotaKey } from '../../src/meta/quota.ts';
import { checkQuotas, setQuota, setVolumeLimits } from '../../src/meta/quotas.ts';
import { type Attr, type Meta, RenameFlag } from '../../src/meta/types.ts';
import { type Database, describeEngines } from './engines.ts';
import { name, openVolume } from './volume.ts';

/** For a longer search: JUICEPOD_MODEL_RUNS=1000. */
const RUNS = Number(process.env['JUICEPOD_MODEL_RUNS'] ?? 40);
const BLOCK = 4096;
const PATHS = ['/a', '/a/b', '/a/b/c', '/d'] as const;
const USERS = [0, 1, 2] as const;
const NAMES = ['x', 'y', 'z'] as const;

interface Limits {
  readonly blocks: number;
  readonly inodes: number;
}
const NONE: Limits = { blocks: 0, inodes: 0 };

interface FileNode {
  readonly ino: Ino;
  readonly directory?: undefined;
  uid: number;
  gid: number;
  /** Blocks of 4 KiB that it is charged; an empty file one. */
  blocks: number;
  names: number;
  /** No file: it cannot be written to. */
  readonly symlink: boolean;
}
interface DirectoryNode {
  readonly ino: Ino;
  readonly directory: true;
  uid: number;
  gid: number;
  readonly blocks: 1;
  parent: DirectoryNode | undefined;
  readonly entries: Map<string, AnyNode>;
  quota: Limits | undefined;
}
type AnyNode = FileNode | DirectoryNode;
type Place = readonly [directory: DirectoryNode, name: string];

const exceeded = (limits: Limits, used: Limits, blocks: number, inodes: number): boolean =>
  (blocks > 0 && limits.blocks > 0 && used.blocks + blocks > limits.blocks) ||
  (inodes > 0 && limits.inodes > 0 && used.inodes + inodes > limits.inodes);

class Model {
  readonly root: DirectoryNode;
  readonly users = new Map<number, Limits>();
  readonly groups = new Map<number, Limits>();
  volume: Limits = NONE;
  readonly #trashOn: boolean;
  /** What is in the trash, and whether its directory of the hour is there. */
  readonly trashed = new Set<AnyNode>();
  #hour = false;

  constructor(trashOn: boolean) {
    this.#trashOn = trashOn;
    this.root = this.makeDirectory(ROOT_INO, undefined, 0);
  }

  makeDirectory(ino: Ino, parent: DirectoryNode | undefined, owner: number): DirectoryNode {
    return { ino, directory: true, uid: owner, gid: owner, blocks: 1, parent, entries: new Map(), quota: undefined };
  }

  directories(below: DirectoryNode = this.root): DirectoryNode[] {
    const children = [...below.entries.values()].filter((node): node is DirectoryNode => node.directory === true);
    return [below, ...children.flatMap((child) => this.directories(child))];
  }

  /** Every node but the root, once, trash included. */
  all(): Set<AnyNode> {
    const found = new Set<AnyNode>(this.trashed);
    for (const directory of this.directories()) for (const node of directory.entries.values()) found.add(node);
    return found;
  }

  below(directory: DirectoryNode): Limits {
    let [blocks, inodes] = [0, 0];
    for (const each of this.directories(directory))
      for (const node of each.entries.values()) {
        blocks += node.blocks;
        inodes++;
      }
    return { blocks, inodes };
  }

  /** With itself. */
  of(node: AnyNode): Limits {
    const { blocks, inodes } = node.directory ? this.below(node) : NONE;
    return { blocks: blocks + node.blocks, inodes: inodes + 1 };
  }

  owned(kind: 'uid' | 'gid', id: number): Limits {
    const owned = [...this.all()].filter((node) => node[kind] === id);
    return { blocks: owned.reduce((sum, { blocks }) => sum + blocks, 0), inodes: owned.length };
  }

  used(): Limits {
    const all = [...this.all()];
    const hour = this.#hour ? 1 : 0;
    return { blocks: all.reduce((sum, { blocks }) => sum + blocks, hour), inodes: all.length + hour };
  }

  #ownerRefuses(uid: number | undefined, gid: number | undefined, blocks: number, inodes: number): boolean {
    const user = uid === undefined ? undefined : this.users.get(uid);
    const group = gid === undefined ? undefined : this.groups.get(gid);
    return (
      (user !== undefined && exceeded(user, this.owned('uid', uid ?? 0), blocks, inodes)) ||
      (group !== undefined && exceeded(group, this.owned('gid', gid ?? 0), blocks, inodes))
    );
  }

  /** Directories from here up to the root. */
  #up(directory: DirectoryNode | undefined): DirectoryNode[] {
    return directory ? [directory, ...this.#up(directory.parent)] : [];
  }

  #directoriesRefuse(places: readonly DirectoryNode[], blocks: number, inodes: number): boolean {
    const times = new Map<DirectoryNode, number>();
    for (const place of places) for (const each of this.#up(place)) times.set(each, (times.get(each) ?? 0) + 1);
    return [...times].some(
      ([{ quota }, count], at) => quota && exceeded(quota, this.below([...times.keys()][at]!), blocks * count, inodes * count),
    );
  }

  /** What something new, or growth, of this owner in these directories is refused with. */
  grow(node: { uid: number; gid: number }, places: readonly DirectoryNode[], blocks: number, inodes: number) {
    if (blocks <= 0 && inodes <= 0) return undefined;
    if (this.#ownerRefuses(node.uid, node.gid, blocks, inodes)) return 'EDQUOT';
    if (exceeded(this.volume, this.used(), blocks, inodes)) return 'ENOSPC';
    return this.#directoriesRefuse(places, blocks, inodes) ? 'EDQUOT' : undefined;
  }

  link(node: FileNode, directory: DirectoryNode): ErrnoName | undefined {
    if (this.#ownerRefuses(node.uid, node.gid, 0, 1)) return 'EDQUOT';
    return this.#directoriesRefuse([directory], node.blocks, 1) ? 'EDQUOT' : undefined;
  }

  chown(node: AnyNode, uid: number, gid: number): ErrnoName | undefined {
    const to = [uid === node.uid ? undefined : uid, gid === node.gid ? undefined : gid] as const;
    return this.#ownerRefuses(...to, node.blocks, 1) ? 'EDQUOT' : undefined;
  }

  /** Only quotas that what moves was not under before can refuse it. */
  move(there: AnyNode, back: AnyNode | undefined, from: DirectoryNode, to: DirectoryNode): ErrnoName | undefined {
    const [sources, destinations] = [this.#up(from), this.#up(to)];
    const [a, b] = [this.of(there), back ? this.of(back) : NONE];
    const refuses = (ones: DirectoryNode[], others: DirectoryNode[], blocks: number, inodes: number): boolean =>
      ones.some((each) => each.quota && !others.includes(each) && exceeded(each.quota, this.below(each), blocks, inodes));
    const refused =
      refuses(destinations, sources, a.blocks - b.blocks, a.inodes - b.inodes) ||
      refuses(sources, destinations, b.blocks - a.blocks, b.inodes - a.inodes);
    return refused ? 'EDQUOT' : undefined;
  }

  places(node: AnyNode): DirectoryNode[] {
    return this.directories().flatMap((each) => [...each.entries.values()].filter((child) => child === node).map(() => each));
  }

  add([directory, text]: Place, node: AnyNode): void {
    directory.entries.set(text, node);
    if (node.directory) node.parent = directory;
  }

  remove([directory, text]: Place): void {
    const node = directory.entries.get(text)!;
    directory.entries.delete(text);
    if (node.directory) node.quota = undefined;
    if (this.#trashOn) {
      this.#hour = true;
      this.trashed.add(node);
    } else if (!node.directory) node.names--;
  }
}

type Step = readonly [op: (typeof OPS)[number], a: number, b: number, c: number, d: number];
const OPS = [
  'create',
  'create',
  'mkdir',
  'symlink',
  'write',
  'write',
  'truncate',
  'fallocate',
  'unlink',
  'rmdir',
  'link',
  'rename',
  'rename',
  'exchange',
  'chown',
] as const;
const anyStep: fc.Arbitrary<Step> = fc.tuple(fc.constantFrom(...OPS), fc.nat(50), fc.nat(50), fc.nat(50), fc.nat(50));

const anyLimits: fc.Arbitrary<Limits> = fc.record(
  { blocks: fc.constantFrom(0, 8, 16, 30), inodes: fc.constantFrom(0, 4, 8, 12) },
  { noNullPrototype: true },
);
const anyWorld = fc.record(
  {
    directories: fc.tuple(...PATHS.map(() => fc.option(anyLimits, { nil: undefined }))),
    root: fc.option(anyLimits, { nil: undefined }),
    users: fc.tuple(anyLimits, anyLimits),
    groups: fc.tuple(anyLimits, anyLimits),
    volume: fc.record({ blocks: fc.constantFrom(0, 40), inodes: fc.constantFrom(0, 20) }, { noNullPrototype: true }),
  },
  { noNullPrototype: true },
);

class Run {
  readonly #meta: Meta;
  readonly #model: Model;

  constructor(meta: Meta, model: Model) {
    this.#meta = meta;
    this.#model = model;
  }

  /** The call must be refused with what the model foresees; else `apply` does the same to the model. */
  async #expect<T>(foreseen: ErrnoName | undefined, call: Promise<T>, apply: (value: T) => void): Promise<void> {
    let code: ErrnoName | undefined;
    try {
      apply(await call);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      ({ code } = error);
    }
    assert.equal(code, foreseen);
  }

  #places(used: boolean, choose: (node: AnyNode) => boolean = () => true): Place[] {
    return this.#model
      .directories()
      .flatMap((directory) => NAMES.map((text): Place => [directory, text]))
      .filter(([directory, text]) => {
        const node = directory.entries.get(text);
        return used ? node !== undefined && choose(node) : node === undefined;
      });
  }

  async #resize(node: FileNode, blocks: number, call: Promise<Attr>): Promise<void> {
    const model = this.#model;
    const foreseen = model.grow(node, model.places(node), blocks - node.blocks, 0);
    await this.#expect(foreseen, call, () => (node.blocks = blocks));
  }

  async step([op, a, b, c, d]: Step): Promise<void> {
    const [meta, model] = [this.#meta, this.#model];
    const pick = <T>(list: readonly T[], choice: number): T | undefined => list[choice % Math.max(1, list.length)];
    const free = pick(this.#places(false), a);
    const any = pick(this.#places(true), b);
    const file = pick(
      this.#places(true, (node) => !node.directory && !node.symlink),
      b,
    );
    const owner = USERS[c % USERS.length]!;
    const ctx = { uid: owner, gid: owner, pid: 1 };
    const root = { uid: 0, gid: 0, pid: 1 };
    const nodeAt = (place: Place): AnyNode => place[0].entries.get(place[1])!;
    switch (op) {
      case 'create':
      case 'mkdir':
      case 'symlink': {
        if (!free) return;
        const [directory, text] = free;
        const foreseen = model.grow(ctx, [directory], 1, 1);
        const parent = directory.ino;
        const call =
          op === 'mkdir'
            ? meta.mkdir(ctx, parent, name(text), 0o777, 0)
            : op === 'symlink'
              ? meta.symlink(ctx, parent, name(text), name('anywhere'))
              : meta.create(ctx, parent, name(text), 0o666, 0, true);
        await this.#expect(foreseen, call, ({ ino }) => {
          const made: FileNode = { ino, uid: owner, gid: owner, blocks: 1, names: 1, symlink: op === 'symlink' };
          model.add(free, op === 'mkdir' ? model.makeDirectory(ino, directory, owner) : made);
        });
        const made = directory.entries.get(text);
        if (op === 'create' && made) await meta.release(made.ino);
        return;
      }
      case 'write': {
        if (!file) return;
        const node = nodeAt(file) as FileNode;
        const [from, count] = [c % 8, (d % 5) + 1];
        const id = await meta.newSliceId();
        const call = meta.writeSlice(root, node.ino, 0, from * BLOCK, { id, size: count * BLOCK }, 1n);
        return this.#resize(node, Math.max(node.blocks, from + count), call);
      }
      case 'truncate': {
        if (!file) return;
        const node = nodeAt(file) as FileNode;
        return this.#resize(node, Math.max(1, c % 10), meta.truncate(root, node.ino, (c % 10) * BLOCK));
      }
      case 'fallocate': {
        if (!file) return;
        const node = nodeAt(file) as FileNode;
        const end = (c % 10) + 1;
        return this.#resize(node, Math.max(node.blocks, end), meta.fallocate(root, node.ino, 0, 0, end * BLOCK));
      }
      case 'unlink': {
        const place = pick(
          this.#places(true, (node) => !node.directory),
          b,
        );
        if (!place) return;
        return this.#expect(undefined, meta.unlink(root, place[0].ino, name(place[1])), () => model.remove(place));
      }
      case 'rmdir': {
        const place = pick(
          this.#places(true, (node) => node.directory === true && node.entries.size === 0),
          b,
        );
        if (!place) return;
        return this.#expect(undefined, meta.rmdir(root, place[0].ino, name(place[1])), () => model.remove(place));
      }
      case 'link': {
        const place = pick(
          this.#places(true, (node) => !node.directory),
          b,
        );
        if (!free || !place) return;
        const node = nodeAt(place) as FileNode;
        const call = meta.link(root, node.ino, free[0].ino, name(free[1]));
        return this.#expect(model.link(node, free[0]), call, () => {
          node.names++;
          model.add(free, node);
        });
      }
      case 'rename':
      case 'exchange': {
        if (!any) return;
        const node = nodeAt(any);
        const exchange = op === 'exchange';
        const inside = node.directory ? model.directories(node) : [];
        const targets = this.#places(
          exchange,
          (other) => other !== node && !(other.directory && model.directories(other).includes(any[0])),
        );
        const over = this.#places(true, (other) => !other.directory && other !== node);
        const target = pick(
          [...targets, ...(exchange || node.directory ? [] : over)].filter(([directory]) => !inside.includes(directory)),
          a,
        );
        if (!target) return;
        const other = target[0].entries.get(target[1]);
        const foreseen = any[0] === target[0] ? undefined : model.move(node, exchange ? other : undefined, any[0], target[0]);
        const flags = exchange ? RenameFlag.Exchange : 0;
        const call = meta.rename(root, any[0].ino, name(any[1]), target[0].ino, name(target[1]), flags);
        return this.#expect(foreseen, call, () => {
          if (other && !exchange) model.remove(target);
          any[0].entries.delete(any[1]);
          model.add(target, node);
          if (other && exchange) model.add(any, other);
        });
      }
      case 'chown': {
        if (!any) return;
        const node = nodeAt(any);
        const [uid, gid] = [USERS[c % USERS.length]!, USERS[d % USERS.length]!];
        return this.#expect(model.chown(node, uid, gid), meta.setattr(root, node.ino, { uid, gid }), () => {
          node.uid = uid;
          node.gid = gid;
        });
      }
    }
  }
}

const bytes = ({ blocks, inodes }: Limits) => ({ capacity: blocks * BLOCK, inodes });

describeEngines('random operations under limits', (database: Database) => {
  for (const trash of [false, true])
    test(`are refused where a model refuses them, and counted as it counts, trash ${trash ? 'on' : 'off'}`, async () => {
      await fc.assert(
        fc.asyncProperty(anyWorld, fc.array(anyStep, { minLength: 1, maxLength: 80, size: 'max' }), async (world, steps) => {
          const cleanup: (() => Promise<void>)[] = [];
          const after = (done?: unknown): void => void cleanup.push(done as () => Promise<void>);
          try {
            const volume = await openVolume({ after }, database.newUrl(), { trashDays: trash ? 1 : 0 });
            const model = new Model(trash);
            for (const path of PATHS) {
              const names = path.slice(1).split('/');
              let directory = model.root;
              for (const text of names.slice(0, -1)) directory = directory.entries.get(text) as DirectoryNode;
              const { ino } = await volume.meta.mkdir({ uid: 0, gid: 0, pid: 1 }, directory.ino, name(names.at(-1)!), 0o777, 0);
              model.add([directory, names.at(-1)!], model.makeDirectory(ino, directory, 0));
            }
            await volume.meta.close();
            const { engine } = volume;
            for (const [at, limits] of [...world.directories, world.root].entries()) {
              if (!limits) continue;
              const path = PATHS[at] ?? '/';
              let directory = model.root;
              for (const text of path.split('/').filter(Boolean)) directory = directory.entries.get(text) as DirectoryNode;
              directory.quota = limits;
              await setQuota(engine, { kind: 'directory', path }, bytes(limits));
            }
            for (const id of [1, 2]) {
              model.users.set(id, world.users[id - 1]!);
              model.groups.set(id, world.groups[id - 1]!);
              await setQuota(engine, { kind: 'user', uid: id }, bytes(world.users[id - 1]!));
              await setQuota(engine, { kind: 'group', gid: id }, bytes(world.groups[id - 1]!));
            }
            model.volume = world.volume;
            await setVolumeLimits(engine, bytes(world.volume));

            const meta = await volume.another({ heartbeat: 1_000_000 });
            const run = new Run(meta, model);
            for (const step of steps) await run.step(step);
            await meta.close();

            const recorded = async (kind: QuotaKey['kind']): Promise<Map<number, Limits>> => {
              const found = new Map<number, Limits>();
              for await (const batch of engine.scanQuotas(kind))
                for (const { quota, used } of batch) found.set(quota.id, { blocks: used.space / BLOCK, inodes: used.inodes });
              return found;
            };
            const quotas = model.directories().filter(({ quota }) => quota);
            assert.deepEqual(await recorded('directory'), new Map(quotas.map((each) => [each.ino, model.below(each)])));
            for (const [kind, key] of [
              ['user', 'uid'],
              ['group', 'gid'],
            ] as const) {
              const found = await recorded(kind);
              for (const id of USERS) assert.deepEqual(found.get(id) ?? NONE, model.owned(key, id), `${kind} ${id}`);
            }
            const [space, inodes] = await engine.read([
              { kind: 'counter', name: 'usedSpace' },
              { kind: 'counter', name: 'totalInodes' },
            ]);
            const used = model.used();
            assert.deepEqual({ blocks: space / BLOCK, inodes }, used);
            for (const strict of [false, true])
              for (const check of await checkQuotas(engine, { strict })) assert.ok(check.consistent, JSON.stringify(check));
          } finally {
            for (const done of cleanup.toReversed()) await done();
          }
        }),
        { numRuns: process.env['JUICEPOD_MODEL_RUNS'] ? RUNS : Math.min(RUNS, database.runs) },
      );
    });
});
