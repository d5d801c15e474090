/**
 * Dump and load on Redis. Nodes, entries and the like are found by one walk over all keys (SCAN), whose first letter tells what they
 * are; their values are read a batch at a time. A key that comes twice is read twice: writing it again changes nothing.
 *
 * What is written is one pipeline per batch, of commands that may be sent twice.
 */
import { formatIno, type Ino, parseIno } from '../../lib/int64.ts';
import { type Batch, type Bulk, type Contents, DUMPED_COUNTERS, LOAD_MARK, type RecordKind, type XattrRecord } from '../bulk.ts';
import type { QuotaKey } from '../quota.ts';
import { decodeAttr, decodeEntry, encodeAttr, encodeEntry, encodeQuotaLimits, SLICE_RECORD } from '../records.ts';
import type { RedisConnection } from './connection.ts';
import { type Keys, parseSliceField, quotaField, sliceField } from './keys.ts';
import { type Command, commandsOf, pairs, quotaOf, valueOf } from './reads.ts';
import { scanHash, scanKeys } from './scan.ts';

/** Keys whose values are read at once: small ones, and lists and hashes. */
const SMALL = 1000;
const LARGE = 200;
const FIELDS = 1000;
/** Redis keeps the last used id, a dump the next one. */
const oneMore = (name: string): number => (name === 'nextInode' || name === 'nextChunk' ? 1 : 0);

const numberOf = (value: Buffer): number => Number(value.toString());

/** Kinds that have a key for each inode, by its first letter. */
const letters = { i: 'node', d: 'entry', c: 'chunk', s: 'symlink', x: 'xattr', p: 'parent' } as const;
type Letter = keyof typeof letters;

export class RedisBulk implements Bulk {
  readonly #connection: RedisConnection;
  readonly #keys: Keys;

  constructor(connection: RedisConnection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async *records(kinds: readonly RecordKind[]): AsyncGenerator<Batch> {
    const wanted = new Set(kinds);
    if (wanted.has('counter'))
      yield this.#counters(await this.#connection.pipeline(DUMPED_COUNTERS.map((name) => ['GET', this.#keys.counter(name)])));
    if (Object.values(letters).some((kind) => wanted.has(kind))) yield* this.#walk(wanted);
    if (wanted.has('sustained')) yield* this.#sustained();
    if (wanted.has('delfile')) yield* this.#delfiles();
    if (wanted.has('sliceRef')) yield* this.#sliceRefs();
    if (wanted.has('acl')) yield* this.#acls();
    if (wanted.has('dirStat')) yield* this.#dirStats();
    if (wanted.has('quota')) for (const kind of ['directory', 'user', 'group'] as const) yield* this.#quotas(kind);
  }

  #counters(values: readonly unknown[]): Batch {
    const rows = DUMPED_COUNTERS.map((name, at) => {
      const value = values[at] as Buffer | null;
      return { name, value: (value ? numberOf(value) : 0) + oneMore(name) };
    });
    return { kind: 'counter', rows };
  }

  /** All that has a key of its own for each inode. */
  async *#walk(wanted: ReadonlySet<RecordKind>): AsyncGenerator<Batch> {
    const { prefix } = this.#keys;
    const waiting: Record<Letter, string[]> = { i: [], d: [], c: [], s: [], x: [], p: [] };
    for await (const key of scanKeys(this.#connection, `${escapePattern(prefix)}[idcsxp]*`)) {
      const rest = key.slice(prefix.length);
      const letter = rest.charAt(0) as Letter;
      if (!wanted.has(letters[letter]) || !(letter === 'c' ? /^c\d+_\d+$/ : /^.\d+$/).test(rest)) continue;
      const list = waiting[letter];
      list.push(rest);
      if (list.length < (letter === 'i' || letter === 's' ? SMALL : LARGE)) continue;
      yield* this.#read(letter, list.splice(0));
    }
    for (const letter of Object.keys(waiting) as Letter[])
      if (waiting[letter].length > 0) yield* this.#read(letter, waiting[letter]);
  }

  async *#read(letter: Letter, rests: readonly string[]): AsyncGenerator<Batch> {
    const { prefix } = this.#keys;
    const inoOf = (rest: string): Ino => parseIno(/\d+/.exec(rest)?.[0] ?? '');
    if (letter === 'd') {
      for (const rest of rests) {
        const parent = inoOf(rest);
        for await (const fields of scanHash(this.#connection, prefix + rest, FIELDS))
          yield { kind: 'entry', rows: fields.map(([name, value]) => ({ parent, name, ...decodeEntry(value) })) };
      }
      return;
    }
    if (letter === 'i' || letter === 's') {
      const values = (await this.#connection.call('MGET', ...rests.map((rest) => prefix + rest))) as (Buffer | null)[];
      const found = values.flatMap((value, at) => (value ? [{ ino: inoOf(rests[at] ?? ''), value }] : []));
      yield letter === 'i'
        ? { kind: 'node', rows: found.map(({ ino, value }) => ({ ino, attr: decodeAttr(value) })) }
        : { kind: 'symlink', rows: found.map(({ ino, value }) => ({ ino, target: value })) };
      return;
    }
    if (letter === 'x') {
      yield { kind: 'xattr', rows: (await this.xattrs(rests.map(inoOf))).flat() };
      return;
    }
    if (letter === 'p') {
      const lists = await this.#connection.pipeline(rests.map((rest) => ['HGETALL', prefix + rest]));
      const rows = rests.flatMap((rest, at) => {
        const ino = inoOf(rest);
        const parents = valueOf({ kind: 'parents', ino }, [lists[at]]) as ReadonlyMap<Ino, number>;
        return Array.from(parents, ([parent, count]) => ({ ino, parent, count }));
      });
      yield { kind: 'parent', rows };
      return;
    }
    const chunks = rests.map((rest) => ({ ino: inoOf(rest), index: Number(rest.slice(rest.indexOf('_') + 1)) }));
    const lists = await this.#connection.pipeline(chunks.flatMap((chunk) => commandsOf({ kind: 'chunk', ...chunk }, this.#keys)));
    const rows = chunks.map((chunk, at) => ({ ...chunk, records: valueOf({ kind: 'chunk', ...chunk }, [lists[at]]) as Buffer }));
    yield { kind: 'chunk', rows: rows.filter(({ records }) => records.length > 0) };
  }

  async xattrs(inos: readonly Ino[]): Promise<readonly (readonly XattrRecord[])[]> {
    const lists = (await this.#connection.pipeline(inos.map((ino) => ['HGETALL', this.#keys.xattr(ino)]))) as Buffer[][];
    return inos.map((ino, at) => pairs(lists[at] ?? []).map(([name, value]) => ({ ino, name: name.toString(), value })));
  }

  async lastChange(): Promise<number> {
    const value = (await this.#connection.call('GET', this.#keys.logNumber)) as Buffer | null;
    return value ? numberOf(value) : 0;
  }

  /** Of all clients, also of those whose session is gone. */
  async *#sustained(): AsyncGenerator<Batch> {
    for await (const key of scanKeys(this.#connection, this.#keys.anySustained)) {
      const sid = /session(\d+)$/.exec(key)?.[1];
      if (sid === undefined) continue;
      const members = (await this.#connection.call('SMEMBERS', key)) as Buffer[];
      const inos = members.map((member) => parseIno(member.toString()));
      if (inos.length > 0) yield { kind: 'sustained', rows: [{ sid: Number(sid), inos }] };
    }
  }

  async *#delfiles(): AsyncGenerator<Batch> {
    for await (const found of scanHash(this.#connection, this.#keys.delfiles, FIELDS, 'ZSCAN'))
      yield {
        kind: 'delfile',
        rows: found.flatMap(([member, score]) => {
          const match = /^(\d+):(\d+)$/.exec(member.toString());
          return match ? [{ ino: parseIno(match[1] ?? ''), length: Number(match[2]), time: Math.floor(numberOf(score)) }] : [];
        }),
      };
  }

  async *#sliceRefs(): AsyncGenerator<Batch> {
    for await (const found of scanHash(this.#connection, this.#keys.sliceRefs, FIELDS))
      yield {
        kind: 'sliceRef',
        rows: found.flatMap(([field, value]) => {
          const slice = parseSliceField(field.toString());
          const refs = numberOf(value) + 1;
          return slice && slice.id > 0 && refs !== 1 ? [{ ...slice, refs }] : [];
        }),
      };
  }

  async *#acls(): AsyncGenerator<Batch> {
    for await (const found of scanHash(this.#connection, this.#keys.acls, FIELDS))
      yield { kind: 'acl', rows: found.map(([id, rule]) => ({ id: numberOf(id), rule })) };
  }

  async *#dirStats(): AsyncGenerator<Batch> {
    const { dirSpace, dirLength, dirInodes } = this.#keys;
    for await (const found of scanHash(this.#connection, dirSpace, FIELDS)) {
      if (found.length === 0) continue;
      const fields = found.map(([field]) => field);
      const [lengths, inodes] = (await this.#connection.pipeline([
        ['HMGET', dirLength, ...fields],
        ['HMGET', dirInodes, ...fields],
      ])) as [(Buffer | null)[], (Buffer | null)[]];
      const rows = found.flatMap(([field, space], at) => {
        const [length, count] = [lengths[at], inodes[at]];
        // One that is not whole is counted anew when it is needed.
        if (!length || !count) return [];
        return [
          {
            ino: parseIno(field.toString()),
            value: { length: numberOf(length), space: numberOf(space), inodes: numberOf(count) },
          },
        ];
      });
      yield { kind: 'dirStat', rows };
    }
  }

  /** Limits without a usage are a quota as well. */
  async *#quotas(of: QuotaKey['kind']): AsyncGenerator<Batch> {
    const { limits, space, inodes } = this.#keys.quotas[of];
    for (const [hash, others] of [
      [inodes, undefined],
      [limits, inodes],
    ] as const)
      for await (const found of scanHash(this.#connection, hash, FIELDS)) {
        if (found.length === 0) continue;
        const fields = found.map(([field]) => field);
        const commands: Command[] = [limits, space, inodes].map((key) => ['HMGET', key, ...fields]);
        const [allLimits, spaces, counts] = (await this.#connection.pipeline(commands)) as [unknown[], unknown[], unknown[]];
        const rows = fields.flatMap((field, at) => {
          // Those with a usage came before.
          if (others !== undefined && counts[at]) return [];
          return [quotaOf({ kind: of, id: parseIno(field.toString()) }, [allLimits[at], spaces[at], counts[at]])];
        });
        yield { kind: 'quota', rows };
      }
  }

  async contents(): Promise<Contents> {
    const { setting } = this.#keys;
    const [text, mark] = (await this.#connection.pipeline([
      ['EXISTS', setting],
      ['GET', this.#keys.counter(LOAD_MARK)],
    ])) as [number, Buffer | null];
    if (text) return { kind: 'volume' };
    if (mark) return { kind: 'loading', since: numberOf(mark) };
    const { prefix } = this.#keys;
    for await (const key of scanKeys(this.#connection, `${escapePattern(prefix)}*`))
      // What a client of ours keeps for an hour after its last transaction.
      if (!key.slice(prefix.length).startsWith('zcommit:')) return { kind: 'other', what: `the key ${JSON.stringify(key)}` };
    return { kind: 'empty' };
  }

  async prepare(): Promise<void> {}

  async put(batch: Batch): Promise<void> {
    const commands: Command[] = [];
    for (const command of this.#commandsOf(batch)) {
      commands.push(command);
      if (commands.length >= FIELDS) await this.#connection.pipeline(commands.splice(0));
    }
    await this.#connection.pipeline(commands);
    if (batch.kind === 'acl') await this.#raiseAcls(Math.max(0, ...batch.rows.map(({ id }) => id)));
  }

  /** The number of the last access control list; nobody else gives out numbers yet. */
  async #raiseAcls(id: number): Promise<void> {
    const key = this.#keys.counter('aclMaxId');
    const value = (await this.#connection.call('GET', key)) as Buffer | null;
    if (id > (value ? numberOf(value) : 0)) await this.#connection.call('SET', key, id);
  }

  *#commandsOf(batch: Batch): Generator<Command> {
    const keys = this.#keys;
    switch (batch.kind) {
      case 'counter':
        for (const { name, value } of batch.rows) yield ['SET', keys.counter(name), value - oneMore(name)];
        return;
      case 'node':
        for (const { ino, attr } of batch.rows) yield ['SET', keys.node(ino), encodeAttr(attr)];
        return;
      case 'entry':
        for (const entry of batch.rows) yield ['HSET', keys.directory(entry.parent), entry.name, encodeEntry(entry)];
        return;
      case 'parent':
        for (const { ino, parent, count } of batch.rows) yield ['HSET', keys.parents(ino), formatIno(parent), count];
        return;
      case 'chunk':
        for (const { ino, index, records } of batch.rows) {
          const key = keys.chunk(ino, index);
          const list: Buffer[] = [];
          for (let at = 0; at < records.length; at += SLICE_RECORD) list.push(records.subarray(at, at + SLICE_RECORD));
          yield ['DEL', key];
          if (list.length > 0) yield ['RPUSH', key, ...list];
        }
        return;
      case 'sliceRef':
        // One reference is what a slice without a field has.
        for (const { id, size, refs } of batch.rows)
          if (refs !== 1) yield ['HSET', keys.sliceRefs, sliceField(id, size), refs - 1];
        return;
      case 'symlink':
        for (const { ino, target } of batch.rows) yield ['SET', keys.symlink(ino), target];
        return;
      case 'xattr':
        for (const { ino, name, value } of batch.rows) yield ['HSET', keys.xattr(ino), name, value];
        return;
      case 'sustained':
        for (const { sid, inos } of batch.rows) if (inos.length > 0) yield ['SADD', keys.sustained(sid), ...inos.map(formatIno)];
        return;
      case 'delfile':
        for (const { ino, length, time } of batch.rows) yield ['ZADD', keys.delfiles, time, `${formatIno(ino)}:${length}`];
        return;
      case 'acl':
        for (const { id, rule } of batch.rows) yield ['HSET', keys.acls, id, rule];
        return;
      case 'dirStat':
        for (const { ino, value } of batch.rows) {
          const field = formatIno(ino);
          yield ['HSET', keys.dirLength, field, value.length];
          yield ['HSET', keys.dirSpace, field, value.space];
          yield ['HSET', keys.dirInodes, field, value.inodes];
        }
        return;
      default:
        for (const { quota, limits, used } of batch.rows) {
          const names = keys.quotas[quota.kind];
          const field = quotaField(quota);
          yield ['HSET', names.limits, field, encodeQuotaLimits(limits)];
          yield ['HSET', names.space, field, used.space];
          yield ['HSET', names.inodes, field, used.inodes];
        }
    }
  }

  async finish(setting: string): Promise<void> {
    // In this order: a volume whose mark is still there is a volume.
    await this.#connection.call('SET', this.#keys.setting, setting);
    await this.#connection.call('DEL', this.#keys.counter(LOAD_MARK));
  }
}

/** A prefix in a glob pattern: that of a cluster is `{db}`, which means itself. */
function escapePattern(prefix: string): string {
  return prefix.replaceAll(/[[\]?*\\]/g, '\\$&');
}
