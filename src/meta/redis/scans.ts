/**
 * What the engine over Redis lists and looks through, a bounded batch at a time: SCAN and its kind, whose cursor begins anew where another
 * server answers (scan.ts), so that things may come twice, and nothing is left out. Names come over a connection of their own where there is one.
 */
import { formatIno, type Ino, parseIno } from '../../lib/int64.ts';
import type { EngineScans, LogPart, NamedEntry } from '../engine.ts';
import type { QuotaKey, QuotaRecord } from '../quota.ts';
import { decodeEntry } from '../records.ts';
import type { LockedFile } from '../types.ts';
import type { RedisConnection } from './connection.ts';
import { type Keys, parseLocksKey, parseSliceField } from './keys.ts';
import type { ListingConnection, Page } from './listing.ts';
import { commandsOf, pairs, quotaOf, valueOf } from './reads.ts';
import { scanHash, scanKeys, scanMembers, scanPage, scanSorted } from './scan.ts';
import { readLogScript } from './scripts.ts';

/** Chunk lists read in one go: one is at most some 60 KB. */
const CHUNK_BATCH = 100;

export abstract class RedisScans implements EngineScans {
  protected readonly connection: RedisConnection;
  protected readonly keys: Keys;
  protected readonly listing: ListingConnection | undefined;

  constructor(connection: RedisConnection, keys: Keys, listing: ListingConnection | undefined) {
    this.connection = connection;
    this.keys = keys;
    this.listing = listing;
  }

  async *scanEntries(ino: Ino, batch: number): AsyncIterable<readonly NamedEntry[]> {
    const key = this.keys.directory(ino);
    for (let cursor = '0', server = this.connection.server; ;) {
      const page = (await this.listing?.page(key, cursor, batch)) ?? (await this.#page(key, cursor, batch));
      // As in scan.ts: another server has another order.
      const same = cursor === '0' || server === this.connection.server;
      server = this.connection.server;
      if (page.entries.length > 0) yield page.entries;
      cursor = same ? page.cursor : '0';
      if (same && cursor === '0') return;
    }
  }

  async #page(key: string, cursor: string, count: number): Promise<Page> {
    const [next, fields] = await scanPage(this.connection, 'HSCAN', [key], cursor, ['COUNT', count]);
    return { cursor: next, entries: pairs(fields).map(([name, value]) => ({ name, ...decodeEntry(value) })) };
  }

  async readLog(from: number, limit: number): Promise<LogPart> {
    const args = [this.keys.log, this.keys.logNumber, from, limit];
    const answer = await this.connection.script(readLogScript, 2, () => args);
    const [oldest, newest, first, ...texts] = answer as [number, number, number, ...Buffer[]];
    return { oldest, newest, entries: texts.map((text, at) => ({ number: first + at, text: text.toString('latin1') })) };
  }

  async *scanChunks(ino: Ino): AsyncIterable<number> {
    for await (const chunk of this.#scanChunkKeys(formatIno(ino))) yield chunk.index;
  }

  async *#scanChunkKeys(ino: string): AsyncIterable<{ readonly ino: Ino; readonly index: number }> {
    const prefix = `${this.keys.prefix}c`;
    for await (const key of scanKeys(this.connection, `${prefix}${ino}_*`)) {
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
    const replies = await this.connection.pipeline(reads.flatMap((read) => commandsOf(read, this.keys)));
    return reads.map((read, at) => ({ ino: read.ino, index: read.index, records: valueOf(read, [replies[at]]) as Buffer }));
  }

  async *allDelfiles(): AsyncIterable<readonly { readonly ino: Ino; readonly length: number; readonly time: number }[]> {
    for await (const members of scanSorted(this.connection, this.keys.delfiles, 1000))
      yield members.flatMap(([member, score]) => {
        const match = /^(\d+):(\d+)$/.exec(member.toString());
        return match ? [{ ino: parseIno(match[1] ?? ''), length: Number(match[2]), time: Number(score.toString()) }] : [];
      });
  }

  async *allDelayed(): AsyncIterable<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    for await (const fields of scanHash(this.connection, this.keys.delayed, 100))
      yield fields.flatMap(([field, slices]) => {
        const match = /^(\d+)_(\d+)$/.exec(field.toString());
        return match ? [{ id: Number(match[1]), time: Number(match[2]), slices }] : [];
      });
  }

  async *allUnreferenced(): AsyncIterable<readonly { readonly id: number; readonly size: number }[]> {
    for await (const fields of scanHash(this.connection, this.keys.sliceRefs, 1000))
      yield fields.flatMap(([field, value]) => {
        const slice = parseSliceField(field.toString());
        // A negative count means that not even the first reference is left.
        return slice && slice.id > 0 && Number(value.toString()) < 0 ? [slice] : [];
      });
  }

  async scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]> {
    const members = (await this.connection.call(
      'ZRANGEBYSCORE',
      this.keys.delfiles,
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
    const range = [this.keys.detached, '-inf', `(${before}`, 'LIMIT', 0, limit] as const;
    const members = (await this.connection.call('ZRANGEBYSCORE', ...range)) as Buffer[];
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
    const { limits, space, inodes } = this.keys.quotas[of];
    // As JuiceFS does: what has a number of inodes has a quota.
    for await (const found of scanHash(this.connection, inodes, 1000)) {
      const fields = found.map(([field]) => field);
      const [spaces, all] = (await this.connection.pipeline([
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
    for await (const key of scanKeys(this.connection, this.keys.anySustained)) {
      const sid = /session(\d+)$/.exec(key)?.[1];
      if (sid !== undefined) yield await this.sustained(Number(sid));
    }
  }

  async acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]> {
    const found = new Map<number, Buffer>();
    for await (const fields of scanHash(this.connection, this.keys.acls, 1000)) {
      for (const [id, rule] of fields) if (found.size < limit) found.set(Number(id.toString()), rule);
      if (found.size >= limit) break;
    }
    return Array.from(found, ([id, rule]) => ({ id, rule }));
  }

  async sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]> {
    const [scores, infos] = (await this.connection.pipeline([
      ['ZRANGE', this.keys.sessions, 0, -1, 'WITHSCORES'],
      ['HGETALL', this.keys.sessionInfos],
    ])) as [Buffer[], Buffer[]];
    const infoOf = new Map(pairs(infos).map(([sid, info]) => [sid.toString(), info.toString()]));
    return pairs(scores).map(([sid, score]) => ({
      sid: Number(sid.toString()),
      expire: Number(score.toString()),
      info: infoOf.get(sid.toString()),
    }));
  }

  async sustained(sid: number): Promise<readonly Ino[]> {
    const members = (await this.connection.call('SMEMBERS', this.keys.sustained(sid))) as Buffer[];
    return members.map((member) => parseIno(member.toString()));
  }

  async lockedFiles(sid: number): Promise<readonly LockedFile[]> {
    const files: LockedFile[] = [];
    for await (const key of scanMembers(this.connection, this.keys.locked(sid))) {
      const file = parseLocksKey(key.slice(this.keys.prefix.length));
      if (file) files.push(file);
    }
    return files;
  }
}
