/**
 * The metadata engine over Redis (4 or newer, or what speaks its protocol). Keys and values are JuiceFS's own (keys.ts,
 * records.ts), so the official client can work on the same volume at the same time: a script is atomic, and makes its WATCH
 * fail and retry as any other write would.
 *
 * Round trips: a read of one value, a lookup, a commit are one each; several reads are one pipeline. At most 256 commits are
 * out at once, further ones wait.
 *
 * Exactly once: see commit.lua. The marks of a client are one small hash that Redis forgets an hour after the last use.
 */
import type { Random } from '../../lib/random.ts';
import { formatIno, type Ino, parseIno, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { bareDirectory } from '../bare-directory.ts';
import type {
  CommitResult,
  EntryValue,
  LogPart,
  LogWrite,
  MetaEngine,
  NamedEntry,
  Read,
  Transaction,
  Values,
} from '../engine.ts';
import type { QuotaKey, QuotaRecord } from '../quota.ts';
import { decodeAttr, decodeEntry, encodeAttr } from '../records.ts';
import type { Attr, LockedFile } from '../types.ts';
import type { ClientCache } from './client-cache.ts';
import type { Argument, RedisConnection } from './connection.ts';
import { isVolumeKey, type Keys, parseLocksKey, parseSliceField } from './keys.ts';
import { parseMetaUrl } from '../url.ts';
import { RedisBulk } from './bulk.ts';
import { type Command, commandsOf, pairs, quotaOf, valueOf } from './reads.ts';
import { proveRedis } from './renew.ts';
import { commitScript, lookupScript, readLogScript, trimLogScript } from './scripts.ts';
import type { ListingConnection, Page } from './listing.ts';
import type { LockNotices } from './notices.ts';
import { scanHash, scanKeys, scanMembers, scanPage, scanSorted } from './scan.ts';
import type { Tracking } from './tracking.ts';
import { decodeAnswer, encodeTransaction, logCommands, type NodeBytes, otherSpelling } from './transaction.ts';

/** Commits out at once. */
const SLOTS = 256;
const MARK_SECONDS = 3600;
/** The marks' lifetime is set anew once in so many commits of ours, and with the first. */
const RENEW_EVERY = 1000;
const MGET_BATCH = 4096;
const RESET_BATCH = 1000;
const TRIM_BATCH = 10_000;
/** Chunk lists read in one go: one is at most some 60 KB. */
const CHUNK_BATCH = 100;

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

/** Numbers that must not be given out twice, not even by a master that did not know of the first time. */
const identities: ReadonlySet<string> = new Set(['nextInode', 'nextChunk', 'nextSession']);

export class RedisEngine implements MetaEngine {
  readonly description: string;
  readonly idCountersHold = 'last';
  readonly usageCounters = 'inline';
  readonly longestEntry = Infinity;
  readonly logGaps = false;
  readonly bulk: RedisBulk;
  readonly #connection: RedisConnection;
  /** What changes go over: where they wait for replicas, no read waits behind them. */
  readonly #writer: RedisConnection;
  readonly #waits: boolean;
  readonly #keys: Keys;
  readonly #listing: ListingConnection | undefined;
  readonly #cache: ClientCache | undefined;
  readonly #tracking: Tracking | undefined;
  readonly known?: NonNullable<MetaEngine['known']>;
  readonly #notices: LockNotices;
  readonly #marks: string;
  readonly #freeSlots: number[] = Array.from({ length: SLOTS }, (_, index) => index);
  readonly #waiting: (() => void)[] = [];
  #commits = 0;

  constructor(parts: RedisParts) {
    const { connection, writer = connection, keys, notices, listing, cache, tracking, random } = parts;
    this.description = connection.description;
    this.#connection = connection;
    this.#writer = writer;
    this.#waits = writer !== connection;
    this.#keys = keys;
    this.#notices = notices;
    this.#listing = listing;
    this.bulk = new RedisBulk(connection, keys);
    this.#marks = keys.marks(random.uuid());
    this.#cache = cache;
    this.#tracking = tracking;
    if (cache) this.known = this.#knownFrom(cache);
  }

  #knownFrom(cache: ClientCache): NonNullable<MetaEngine['known']> {
    const node = (ino: Ino): Attr | undefined => cache.node(this.#keys.node(ino));
    return {
      node,
      lookup: (parent, name) => {
        const value = cache.entry(this.#keys.directory(parent), name);
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
      const [command] = commandsOf(only, this.#keys) as readonly [Command];
      const [name, ...args] = command;
      const ask = async (): Promise<unknown> => valueOf(only, [await this.#connection.call(name, ...args)]);
      if (only.kind !== 'node' || !this.#cache) return [await ask()] as unknown as Values<R>;
      const ticket = this.#cache.begin();
      try {
        const attr = (await ask()) as Attr | undefined;
        if (attr) this.#cache.keepNode(ticket, this.#keys.node(only.ino), attr);
        return [attr] as unknown as Values<R>;
      } finally {
        this.#cache.end(ticket);
      }
    }
    const lists = reads.map((read) => commandsOf(read, this.#keys));
    const replies = await this.#connection.pipeline(lists.flat());
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
      if (found?.attr) cache.keepNode(ticket, this.#keys.node(found.value.ino), found.attr);
      if (!found || found.attr) cache.keepEntry(ticket, this.#keys.directory(parent), name, found?.value ?? null);
      return found;
    } finally {
      cache.end(ticket);
    }
  }

  async #lookup(parent: Ino, name: Buffer): Promise<{ readonly value: EntryValue; readonly attr: Attr | undefined } | undefined> {
    const args = [this.#keys.directory(parent), name, this.#keys.prefix];
    const reply = (await this.#connection.script(lookupScript, 1, () => args)) as [Buffer, Buffer | null] | null;
    if (!reply) return undefined;
    const [entry, node] = reply;
    return { value: decodeEntry(entry), attr: node ? decodeAttr(node) : undefined };
  }

  async commit(transaction: Transaction, signal?: AbortSignal): Promise<CommitResult> {
    signal?.throwIfAborted();
    let nodeBytes: NodeBytes | undefined;
    const slot = this.#freeSlots.pop() ?? (await this.#waitForSlot());
    try {
      for (;;) {
        const answer = await this.#send(slot, transaction, nodeBytes, signal);
        nodeBytes = otherSpelling(transaction, answer.reply);
        if (!nodeBytes) return decodeAnswer(transaction, answer.encoded, answer.reply);
      }
    } finally {
      const next = this.#waiting.shift();
      this.#freeSlots.push(slot);
      next?.();
    }
  }

  async #waitForSlot(): Promise<number> {
    for (;;) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      const slot = this.#freeSlots.pop();
      if (slot !== undefined) return slot;
    }
  }

  async #send(slot: number, transaction: Transaction, nodeBytes: NodeBytes | undefined, signal: AbortSignal | undefined) {
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

  async *scanEntries(ino: Ino, batch: number): AsyncIterable<readonly NamedEntry[]> {
    const key = this.#keys.directory(ino);
    for (let cursor = '0', server = this.#connection.server; ;) {
      const page = (await this.#listing?.page(key, cursor, batch)) ?? (await this.#page(key, cursor, batch));
      // As in scan.ts: another server has another order.
      const same = cursor === '0' || server === this.#connection.server;
      server = this.#connection.server;
      if (page.entries.length > 0) yield page.entries;
      cursor = same ? page.cursor : '0';
      if (same && cursor === '0') return;
    }
  }

  async #page(key: string, cursor: string, count: number): Promise<Page> {
    const [next, fields] = await scanPage(this.#connection, 'HSCAN', [key], cursor, ['COUNT', count]);
    return { cursor: next, entries: pairs(fields).map(([name, value]) => ({ name, ...decodeEntry(value) })) };
  }

  async nodes(inos: readonly Ino[]): Promise<readonly (Attr | undefined)[]> {
    const found: (Attr | undefined)[] = [];
    for (let from = 0; from < inos.length; from += MGET_BATCH) {
      const keys = inos.slice(from, from + MGET_BATCH).map((ino) => this.#keys.node(ino));
      const values = (await this.#connection.call('MGET', ...keys)) as (Buffer | null)[];
      for (const value of values) found.push(value ? decodeAttr(value) : undefined);
    }
    return found;
  }

  async *scanChunks(ino: Ino): AsyncIterable<number> {
    for await (const chunk of this.#scanChunkKeys(formatIno(ino))) yield chunk.index;
  }

  async *#scanChunkKeys(ino: string): AsyncIterable<{ readonly ino: Ino; readonly index: number }> {
    const prefix = `${this.#keys.prefix}c`;
    for await (const key of scanKeys(this.#connection, `${prefix}${ino}_*`)) {
      const match = /^(\d+)_(\d+)$/.exec(key.slice(prefix.length));
      if (match) yield { ino: parseIno(match[1] ?? ''), index: Number(match[2]) };
    }
  }

  async *scanAllChunks(): AsyncIterable<{ readonly ino: Ino; readonly index: number; readonly records: Buffer }> {
    let batch: { readonly kind: 'chunk'; readonly ino: Ino; readonly index: number }[] = [];
    for await (const { ino, index } of this.#scanChunkKeys('*')) {
      if (batch.push({ kind: 'chunk', ino, index }) < CHUNK_BATCH) continue;
      yield* await this.#chunks(batch);
      batch = [];
    }
    yield* await this.#chunks(batch);
  }

  async #chunks(reads: readonly { readonly kind: 'chunk'; readonly ino: Ino; readonly index: number }[]) {
    const lists = await this.read(reads);
    return reads.map(({ ino, index }, at) => ({ ino, index, records: lists[at] ?? Buffer.alloc(0) }));
  }

  async *allDelfiles(): AsyncIterable<readonly { readonly ino: Ino; readonly length: number; readonly time: number }[]> {
    for await (const members of scanSorted(this.#connection, this.#keys.delfiles, 1000))
      yield members.flatMap(([member, score]) => {
        const match = /^(\d+):(\d+)$/.exec(member.toString());
        return match ? [{ ino: parseIno(match[1] ?? ''), length: Number(match[2]), time: Number(score.toString()) }] : [];
      });
  }

  async *allDelayed(): AsyncIterable<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    for await (const fields of scanHash(this.#connection, this.#keys.delayed, 100))
      yield fields.flatMap(([field, slices]) => {
        const match = /^(\d+)_(\d+)$/.exec(field.toString());
        return match ? [{ id: Number(match[1]), time: Number(match[2]), slices }] : [];
      });
  }

  async *allUnreferenced(): AsyncIterable<readonly { readonly id: number; readonly size: number }[]> {
    for await (const fields of scanHash(this.#connection, this.#keys.sliceRefs, 1000))
      yield fields.flatMap(([field, value]) => {
        const slice = parseSliceField(field.toString());
        // A negative count means that not even the first reference is left.
        return slice && slice.id > 0 && Number(value.toString()) < 0 ? [slice] : [];
      });
  }

  async scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]> {
    const members = (await this.#connection.call(
      'ZRANGEBYSCORE',
      this.#keys.delfiles,
      '-inf',
      `(${before}`,
      'LIMIT',
      0,
      limit,
    )) as Buffer[];
    return members.flatMap((member) => {
      const match = /^(\d+):(\d+)$/.exec(member.toString());
      return match ? [{ ino: parseIno(match[1] ?? ''), length: Number(match[2]) }] : [];
    });
  }

  async scanDetached(before: number, limit: number): Promise<readonly Ino[]> {
    const range = [this.#keys.detached, '-inf', `(${before}`, 'LIMIT', 0, limit] as const;
    const members = (await this.#connection.call('ZRANGEBYSCORE', ...range)) as Buffer[];
    return members.map((member) => parseIno(member.toString()));
  }

  async scanDelayed(
    before: number,
    limit: number,
  ): Promise<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    const found: { readonly id: number; readonly time: number; readonly slices: Buffer }[] = [];
    for await (const delayed of this.allDelayed()) {
      found.push(...delayed.filter(({ time }) => time < before));
      if (found.length >= limit) break;
    }
    return found.slice(0, limit);
  }

  async scanUnreferenced(limit: number): Promise<readonly { readonly id: number; readonly size: number }[]> {
    const found: { readonly id: number; readonly size: number }[] = [];
    for await (const slices of this.allUnreferenced()) {
      found.push(...slices);
      if (found.length >= limit) break;
    }
    return found.slice(0, limit);
  }

  async *scanQuotas(of: QuotaKey['kind']): AsyncIterable<readonly QuotaRecord[]> {
    const { limits, space, inodes } = this.#keys.quotas[of];
    // As JuiceFS does: what has a number of inodes has a quota.
    for await (const found of scanHash(this.#connection, inodes, 1000)) {
      const fields = found.map(([field]) => field);
      const [spaces, all] = (await this.#connection.pipeline([
        ['HMGET', space, ...fields],
        ['HMGET', limits, ...fields],
      ])) as [unknown[], unknown[]];
      yield found.map(([field, count], at) => {
        const id = parseIno(field.toString());
        return quotaOf({ kind: of, id }, [all[at], spaces[at], count]);
      });
    }
  }

  async *scanSustained(): AsyncIterable<readonly Ino[]> {
    for await (const key of scanKeys(this.#connection, this.#keys.anySustained)) {
      const sid = /session(\d+)$/.exec(key)?.[1];
      if (sid !== undefined) yield await this.sustained(Number(sid));
    }
  }

  async readSetting(): Promise<string | undefined> {
    const text = (await this.#connection.call('GET', this.#keys.setting)) as Buffer | null;
    return text?.toString();
  }

  async writeSetting(text: string, create?: { readonly trash: boolean; readonly nowNs: bigint }): Promise<boolean> {
    const { setting } = this.#keys;
    const commands: (readonly [key: string, command: string, ...args: Argument[]])[] = [];
    if (create) {
      const time = { sec: Number(create.nowNs / 1_000_000_000n), nsec: 0 };
      if (create.trash) commands.push([this.#keys.node(TRASH_INO), 'SETNX', encodeAttr(bareDirectory(0o555, time))]);
      commands.push([setting, 'SET', text], [this.#keys.node(ROOT_INO), 'SET', encodeAttr(bareDirectory(0o777, time))]);
    } else commands.push([setting, 'SET', text]);
    const checks: readonly (readonly [key: string, ...args: Argument[]])[] = create ? [[setting, 'n', '']] : [];
    return this.#commitRaw(checks, commands);
  }

  /** A transaction in the terms of the script. False where a check failed. */
  async #commitRaw(
    checks: readonly (readonly [key: string, ...args: Argument[]])[],
    commands: readonly (readonly [key: string, command: string, ...args: Argument[]])[],
  ): Promise<boolean> {
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
      const next = this.#waiting.shift();
      this.#freeSlots.push(slot);
      next?.();
    }
  }

  async acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]> {
    const found = new Map<number, Buffer>();
    for await (const fields of scanHash(this.#connection, this.#keys.acls, 1000)) {
      for (const [id, rule] of fields) if (found.size < limit) found.set(Number(id.toString()), rule);
      if (found.size >= limit) break;
    }
    return Array.from(found, ([id, rule]) => ({ id, rule }));
  }

  async readLog(from: number, limit: number): Promise<LogPart> {
    const { log, logNumber } = this.#keys;
    const answer = (await this.#connection.script(readLogScript, 2, () => [log, logNumber, from, limit])) as [
      number,
      number,
      number,
      ...Buffer[],
    ];
    const [oldest, newest, first, ...texts] = answer;
    return { oldest, newest, entries: texts.map((text, at) => ({ number: first + at, text: text.toString('latin1') })) };
  }

  async trimLog({ before = 0, lines = -1 }: { readonly before?: number; readonly lines?: number }): Promise<number> {
    const { log, logNumber } = this.#keys;
    let removed = 0;
    for (;;) {
      const args = [log, logNumber, before, lines, TRIM_BATCH];
      const count = Number(await this.#writer.script(trimLogScript, 2, () => args));
      removed += count;
      if (count < TRIM_BATCH) return removed;
    }
  }

  async addAcl(rule: Buffer, log?: LogWrite): Promise<number> {
    // Repeated after a lost answer it leaves out a number, which does no harm.
    const id = await this.#count('aclMaxId', log);
    await this.#connection.call('HSETNX', this.#keys.acls, id, rule);
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
    await this.#commitRaw(
      [],
      [
        [this.#keys.sessions, 'ZADD', expire, sid],
        [this.#keys.sessionInfos, replace ? 'HSET' : 'HSETNX', sid, info],
        ...(log ? logCommands(log, this.#keys) : []),
      ],
    );
  }

  async sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]> {
    const [scores, infos] = (await this.#connection.pipeline([
      ['ZRANGE', this.#keys.sessions, 0, -1, 'WITHSCORES'],
      ['HGETALL', this.#keys.sessionInfos],
    ])) as [Buffer[], Buffer[]];
    const infoOf = new Map(pairs(infos).map(([sid, info]) => [sid.toString(), info.toString()]));
    return pairs(scores).map(([sid, score]) => ({
      sid: Number(sid.toString()),
      expire: Number(score.toString()),
      info: infoOf.get(sid.toString()),
    }));
  }

  async sustained(sid: number): Promise<readonly Ino[]> {
    const members = (await this.#connection.call('SMEMBERS', this.#keys.sustained(sid))) as Buffer[];
    return members.map((member) => parseIno(member.toString()));
  }

  async lockedFiles(sid: number): Promise<readonly LockedFile[]> {
    const files: LockedFile[] = [];
    for await (const key of scanMembers(this.#connection, this.#keys.locked(sid))) {
      const file = parseLocksKey(key.slice(this.#keys.prefix.length));
      if (file) files.push(file);
    }
    return files;
  }

  watchLocks(file: LockedFile, woken: () => void): Promise<() => void> {
    return this.#notices.watch(this.#keys.lockChannel(file), woken);
  }

  async removeSession(sid: number, log?: LogWrite): Promise<void> {
    const locked = this.#keys.locked(sid);
    for await (const key of scanMembers(this.#connection, locked)) {
      const fields = (await this.#connection.call('HKEYS', key)) as Buffer[];
      const ours = fields.filter((field) => field.toString('latin1').startsWith(`${sid}_`));
      const file = parseLocksKey(key.slice(this.#keys.prefix.length));
      await this.#commitRaw(
        [],
        [
          ...ours.map((field) => [key, 'HDEL', field] as const),
          [locked, 'SREM', key] as const,
          ...(file ? [[key, 'ANNOUNCE', this.#keys.lockChannel(file)] as const] : []),
        ],
      );
    }
    await this.#commitRaw(
      [],
      [[this.#keys.sessionInfos, 'HDEL', sid], [this.#keys.sessions, 'ZREM', sid], ...(log ? logCommands(log, this.#keys) : [])],
    );
  }

  async renew(...[url, options]: Parameters<Required<MetaEngine>['renew']>): Promise<() => Promise<void>> {
    const proved = await proveRedis(this.#connection, this.#keys, parseMetaUrl(url, options.environment), options.writing);
    return async () => {
      this.#listing?.adopt(proved);
      this.#notices.adopt(proved);
      this.#tracking?.adopt(proved);
      await this.#connection.adopt(proved);
      if (this.#writer !== this.#connection) await this.#writer.adopt(proved);
    };
  }

  async reset(): Promise<void> {
    const { prefix, setting } = this.#keys;
    let batch: string[] = [];
    const remove = async (): Promise<void> => {
      if (batch.length > 0) await this.#connection.call('UNLINK', ...batch);
      batch = [];
    };
    // Keys of others in the database stay. `setting` goes last: what is interrupted is still known to be there.
    for await (const key of scanKeys(this.#connection, `${prefix}*`)) {
      if (key === setting || !isVolumeKey(key.slice(prefix.length))) continue;
      if (batch.push(key) >= RESET_BATCH) await remove();
    }
    await remove();
    await this.#connection.call('DEL', setting);
    this.#cache?.clear();
  }

  close(): Promise<void> {
    this.#tracking?.close();
    this.#listing?.close();
    this.#notices.close();
    this.#connection.close();
    this.#writer.close();
    return Promise.resolve();
  }
}
