/**
 * The metadata engine over Redis (4 or newer, or what speaks its protocol). Keys and values are JuiceFS's own (keys.ts,
 * records.ts), so the official client can work on the same volume at the same time: a script is atomic, and makes its WATCH
 * fail and retry as any other write would.
 *
 * Round trips: a read of one value, a lookup, a commit are one each; several reads are one pipeline. How changes are sent is
 * in commits.ts, how things are listed in scans.ts.
 */
import type { Random } from '../../lib/random.ts';
import { type Ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { forEachParallel } from '../../lib/parallel.ts';
import { bareDirectory } from '../bare-directory.ts';
import type { CommitResult, EntryValue, LogWrite, MetaEngine, Read, Transaction, Values } from '../engine.ts';
import { decodeAttr, decodeEntry, encodeAttr } from '../records.ts';
import type { Attr, LockedFile } from '../types.ts';
import { parseMetaUrl } from '../url.ts';
import { RedisBulk } from './bulk.ts';
import type { ClientCache } from './client-cache.ts';
import { type RawCheck, type RawCommand, RedisCommits } from './commits.ts';
import type { RedisConnection } from './connection.ts';
import { isVolumeKey, type Keys, parseLocksKey } from './keys.ts';
import type { ListingConnection } from './listing.ts';
import type { LockNotices } from './notices.ts';
import { type Command, commandsOf, valueOf } from './reads.ts';
import { proveRedis } from './renew.ts';
import { scanKeys, scanMembers } from './scan.ts';
import { RedisScans } from './scans.ts';
import { lookupScript, trimLogScript } from './scripts.ts';
import type { Tracking } from './tracking.ts';
import { logCommands } from './transaction.ts';

const MGET_BATCH = 4096;
/** From so many nodes on they come over the connection of listings. */
const MANY = 16;
const RESET_BATCH = 1000;
/** Names looked up ahead at the same time. */
const PRELOADS = 64;
/** Entries of the change log removed at once. */
const TRIM_BATCH = 10_000;

function attrOf(value: Buffer | null): Attr | undefined {
  return value ? decodeAttr(value) : undefined;
}

export interface RedisParts {
  /** Open. */
  readonly connection: RedisConnection;
  /** Where changes wait for replicas: a connection of their own, open. */
  readonly writer?: RedisConnection | undefined;
  readonly keys: Keys;
  /** Tells of released locks. */
  readonly notices: LockNotices;
  /** With it, directories are listed over that. */
  readonly listing?: ListingConnection | undefined;
  /** Keeps names and attributes, as long as `tracking` hears of changes. */
  readonly cache?: ClientCache | undefined;
  readonly tracking?: Tracking | undefined;
  readonly random: Random;
}

export class RedisEngine extends RedisScans implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'last';
  readonly usageCounters = 'inline';
  readonly longestEntry = Infinity;
  readonly logGaps = false;
  readonly bulk: RedisBulk;
  readonly #writer: RedisConnection;
  readonly #commits: RedisCommits;
  readonly #cache: ClientCache | undefined;
  readonly #tracking: Tracking | undefined;
  readonly known?: NonNullable<MetaEngine['known']>;
  readonly #notices: LockNotices;

  constructor(parts: RedisParts) {
    const { connection, writer = connection, keys, notices, listing, cache, tracking, random } = parts;
    super(connection, keys, listing);
    this.description = connection.description;
    this.#writer = writer;
    this.#commits = new RedisCommits({
      writer,
      waits: writer !== connection,
      keys,
      marks: keys.marks(random.uuid()),
      cache,
    });
    this.#notices = notices;
    this.bulk = new RedisBulk(connection, keys);
    this.#cache = cache;
    this.#tracking = tracking;
    if (cache) this.known = this.#knownFrom(cache);
  }

  #knownFrom(cache: ClientCache): NonNullable<MetaEngine['known']> {
    const node = (ino: Ino): Attr | undefined => cache.node(this.keys.node(ino));
    return {
      node,
      lookup: (parent, name) => {
        const value = cache.entry(this.keys.directory(parent), name);
        if (!value) return value;
        const attr = node(value.ino);
        return attr && { value, attr };
      },
    };
  }

  async read<const R extends readonly Read[]>(reads: R, signal?: AbortSignal): Promise<Values<R>> {
    signal?.throwIfAborted();
    const [only] = reads;
    if (reads.length === 1 && only && only.kind !== 'dirStat' && only.kind !== 'quota') {
      const [command] = commandsOf(only, this.keys) as readonly [Command];
      const [name, ...args] = command;
      const ask = async (): Promise<unknown> => valueOf(only, [await this.connection.call(name, ...args)]);
      if (only.kind !== 'node' || !this.#cache) return [await ask()] as unknown as Values<R>;
      const ticket = this.#cache.begin();
      try {
        const attr = (await ask()) as Attr | undefined;
        if (attr) this.#cache.keepNode(ticket, this.keys.node(only.ino), attr);
        return [attr] as unknown as Values<R>;
      } finally {
        this.#cache.end(ticket);
      }
    }
    const lists = reads.map((read) => commandsOf(read, this.keys));
    const replies = await this.connection.pipeline(lists.flat());
    let from = 0;
    return reads.map((read, index) => {
      const to = from + (lists[index]?.length ?? 0);
      const value = valueOf(read, replies.slice(from, to));
      from = to;
      return value;
    }) as unknown as Values<R>;
  }

  async lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const cache = this.#cache;
    if (!cache) return this.#lookup(parent, name);
    const ticket = cache.begin();
    try {
      const found = await this.#lookup(parent, name);
      if (found?.attr) cache.keepNode(ticket, this.keys.node(found.value.ino), found.attr);
      if (!found || found.attr) cache.keepEntry(ticket, this.keys.directory(parent), name, found?.value ?? null);
      return found;
    } finally {
      cache.end(ticket);
    }
  }

  /** Looks up names of the root directory, so many at most, whatever their order is. */
  async preload(count: number): Promise<void> {
    await forEachParallel(this.#firstNames(count), PRELOADS, (name) => this.lookup(ROOT_INO, name));
  }

  async *#firstNames(count: number): AsyncGenerator<Buffer> {
    let left = count;
    for await (const batch of this.scanEntries(ROOT_INO, Math.min(count, 1000)))
      for (const { name } of batch) {
        yield name;
        if (--left === 0) return;
      }
  }

  async #lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const args = [this.keys.directory(parent), name, this.keys.prefix];
    const reply = (await this.connection.script(lookupScript, 1, () => args)) as [Buffer, Buffer | null] | null;
    if (!reply) return undefined;
    const [entry, node] = reply;
    return { value: decodeEntry(entry), attr: node ? decodeAttr(node) : undefined };
  }

  commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    return this.#commits.send(transaction, signal);
  }

  async nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const found: (Attr | undefined)[] = [];
    for (let from = 0; from < inos.length; from += MGET_BATCH) {
      const keys = inos.slice(from, from + MGET_BATCH).map((ino) => this.keys.node(ino));
      const values =
        (await this.#listed(keys)) ?? ((await this.connection.call('MGET', ...keys)) as (Buffer | null)[]).map(attrOf);
      if (keys.length === inos.length) return values;
      for (const value of values) found.push(value);
    }
    return found;
  }

  /** Undefined where they are to be had in the usual way: also where the server may have been replaced by another unnoticed. */
  async #listed(keys: readonly string[]): Promise<readonly (Attr | undefined)[] | undefined> {
    if (keys.length < MANY || this.connection.place) return undefined;
    const nodes = await this.listing?.nodes(keys);
    return nodes?.length === keys.length ? nodes : undefined;
  }

  async readSetting(): Promise<string | undefined> {
    const text = (await this.connection.call('GET', this.keys.setting)) as Buffer | null;
    return text?.toString();
  }

  async writeSetting(text: string, create?: { readonly trash: boolean; readonly nowNs: bigint }): Promise<boolean> {
    const { setting } = this.keys;
    const commands: RawCommand[] = [];
    if (create) {
      const time = { sec: Number(create.nowNs / 1_000_000_000n), nsec: 0 };
      if (create.trash) commands.push([this.keys.node(TRASH_INO), 'SETNX', encodeAttr(bareDirectory(0o555, time))]);
      commands.push([setting, 'SET', text], [this.keys.node(ROOT_INO), 'SET', encodeAttr(bareDirectory(0o777, time))]);
    } else commands.push([setting, 'SET', text]);
    const checks: readonly RawCheck[] = create ? [[setting, 'n', '']] : [];
    return this.#commits.raw(checks, commands);
  }

  async trimLog({ before = 0, lines = -1 }: { readonly before?: number; readonly lines?: number }): Promise<number> {
    const { log, logNumber } = this.keys;
    const args = [log, logNumber, before, lines, TRIM_BATCH];
    let removed = 0;
    for (;;) {
      const count = Number(await this.#writer.script(trimLogScript, 2, () => args));
      removed += count;
      if (count < TRIM_BATCH) return removed;
    }
  }

  async addAcl(rule: Buffer, log?: LogWrite): Promise<number> {
    const id = await this.#count('aclMaxId', log);
    await this.connection.call('HSETNX', this.keys.acls, id, rule);
    return id;
  }

  newSessionId(log?: LogWrite): Promise<number> {
    return this.#count('nextSession', log);
  }

  async #count(counter: string, log: LogWrite | undefined): Promise<number> {
    const writes = [{ kind: 'addCounter' as const, name: counter, delta: 1 }, ...(log ? [log] : [])];
    const result = await this.commit({ checks: [], writes });
    return (result.ok ? result.results[0] : undefined) ?? 0;
  }

  async putSession(sid: number, expire: number, info: string, replace = false, log?: LogWrite): Promise<void> {
    await this.#commits.raw(
      [],
      [
        [this.keys.sessions, 'ZADD', expire, sid],
        [this.keys.sessionInfos, replace ? 'HSET' : 'HSETNX', sid, info],
        ...(log ? logCommands(log, this.keys) : []),
      ],
    );
  }

  watchLocks(file: LockedFile, woken: () => void): Promise<() => void> {
    return this.#notices.watch(this.keys.lockChannel(file), woken);
  }

  async removeSession(sid: number, log?: LogWrite): Promise<void> {
    const locked = this.keys.locked(sid);
    for await (const key of scanMembers(this.connection, locked)) {
      const fields = (await this.connection.call('HKEYS', key)) as Buffer[];
      const ours = fields.filter((field) => field.toString('latin1').startsWith(`${sid}_`));
      const file = parseLocksKey(key.slice(this.keys.prefix.length));
      await this.#commits.raw(
        [],
        [
          ...ours.map((field) => [key, 'HDEL', field] as const),
          [locked, 'SREM', key] as const,
          ...(file ? [[key, 'ANNOUNCE', this.keys.lockChannel(file)] as const] : []),
        ],
      );
    }
    await this.#commits.raw(
      [],
      [[this.keys.sessionInfos, 'HDEL', sid], [this.keys.sessions, 'ZREM', sid], ...(log ? logCommands(log, this.keys) : [])],
    );
  }

  async renew(...[url, options]: Parameters<Required<MetaEngine>['renew']>): Promise<() => Promise<void>> {
    const proved = await proveRedis(this.connection, this.keys, parseMetaUrl(url, options.environment), options.writing);
    return async () => {
      this.listing?.adopt(proved);
      this.#notices.adopt(proved);
      this.#tracking?.adopt(proved);
      await this.connection.adopt(proved);
      if (this.#writer !== this.connection) await this.#writer.adopt(proved);
    };
  }

  async reset(): Promise<void> {
    const { prefix, setting } = this.keys;
    let batch: string[] = [];
    const remove = async (): Promise<void> => {
      if (batch.length > 0) await this.connection.call('UNLINK', ...batch);
      batch = [];
    };
    // Keys of others in the database stay. `setting` goes last: what is interrupted is still known to be there.
    for await (const key of scanKeys(this.connection, `${prefix}*`)) {
      if (key === setting || !isVolumeKey(key.slice(prefix.length))) continue;
      if (batch.push(key) >= RESET_BATCH) await remove();
    }
    await remove();
    await this.connection.call('DEL', setting);
    this.#cache?.clear();
  }

  close(): Promise<void> {
    this.#tracking?.close();
    this.listing?.close();
    this.#notices.close();
    this.connection.close();
    this.#writer.close();
    return Promise.resolve();
  }
}
