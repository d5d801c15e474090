/**
 * What an engine over JuiceFS's tables lists and looks through: the same statements in every SQL database, each batch beginning behind
 * the last one's end. How rows are had is the engine's part.
 */
import type { Ino } from '../../lib/int64.ts';
import type { EngineScans, LogPart, MetaEngine, NamedEntry } from '../engine.ts';
import { type QuotaKey, type QuotaRecord, quotaTypes } from '../quota.ts';
import type { LockedFile, LockKind } from '../types.ts';
import { aclAt, bindIno, bytesAt, entriesAt, inoAt, numberAt, quotaAt, type Row, type SqlValue } from './rows.ts';
import type { Statements } from './statements.ts';

/** Chunk lists read at once: one is at most some 60 KB. */
const CHUNK_BATCH = 100;
export const INDEX_BATCH = 4096;
/** Names read at once at most: what a batch is made of lives as long as the batch, and the more, the later it is collected. */
const ENTRY_BATCH = 1024;
/** Entries of the change log removed at once. */
const TRIM_BATCH = 10_000;

export abstract class SqlScans implements EngineScans, Pick<MetaEngine, 'trimLog'> {
  protected abstract readonly sql: Statements;
  /** The rows of a statement that changes nothing, or may be carried out twice. */
  protected abstract rows(text: string, ...values: SqlValue[]): Promise<readonly Row[]>;

  async *scanEntries(ino: Ino, wanted: number): AsyncGenerator<readonly NamedEntry[]> {
    const { sql } = this;
    const batch = Math.min(wanted, ENTRY_BATCH);
    let last: Buffer | undefined;
    for (;;) {
      const rows = last
        ? await this.rows(sql.nextEntries, bindIno(ino), batch, last)
        : await this.rows(sql.firstEntries, bindIno(ino), batch);
      const entries = entriesAt(rows);
      if (entries.length > 0) yield entries;
      if (entries.length < batch) return;
      last = entries.at(-1)?.name;
    }
  }

  async readLog(from: number, limit: number): Promise<LogPart> {
    const { sql } = this;
    // In this order: what is written meanwhile is beyond what is said to be the newest.
    const [first] = await this.rows(sql.firstChange);
    const [last] = await this.rows(sql.lastChange);
    const rows = await this.rows(sql.readLog, from, limit);
    const entries = rows.map((row) => ({ number: numberAt(row, 0), text: String(row[1]) }));
    const newest = Math.max(last ? numberAt(last, 0) : 0, entries.at(-1)?.number ?? 0);
    return { oldest: first?.[0] === null || !first ? newest + 1 : numberAt(first, 0), newest, entries };
  }

  async trimLog({ before = 0, lines }: { readonly before?: number; readonly lines?: number }): Promise<number> {
    const { sql } = this;
    const [beyond] = lines === undefined ? [] : await this.rows(sql.changeBeyond, lines);
    const end = Math.max(before, beyond ? numberAt(beyond, 0) + 1 : 0);
    let removed = 0;
    for (;;) {
      const [first] = await this.rows(sql.firstChange);
      if (!first || first[0] === null || numberAt(first, 0) >= end) return removed;
      const next = Math.min(end, numberAt(first, 0) + TRIM_BATCH);
      await this.rows(sql.trimLog, next);
      removed += next - numberAt(first, 0);
    }
  }

  async *scanChunks(ino: Ino): AsyncGenerator<number> {
    for (let last = -1; ;) {
      const rows = await this.rows(this.sql.nextChunks, bindIno(ino), last, INDEX_BATCH);
      for (const row of rows) yield (last = numberAt(row, 0));
      if (rows.length < INDEX_BATCH) return;
    }
  }

  async *scanAllChunks(): AsyncGenerator<{ readonly ino: Ino; readonly index: number; readonly records: Buffer }> {
    for (let last = 0; ;) {
      const rows = await this.rows(this.sql.allChunks, last, CHUNK_BATCH);
      for (const row of rows) {
        last = numberAt(row, 0);
        yield { ino: inoAt(row, 1), index: numberAt(row, 2), records: bytesAt(row, 3) };
      }
      if (rows.length < CHUNK_BATCH) return;
    }
  }

  async scanDelfiles(before: number, limit: number): Promise<readonly { readonly ino: Ino; readonly length: number }[]> {
    const rows = await this.rows(this.sql.delfiles, before, limit);
    return rows.map((row) => ({ ino: inoAt(row, 0), length: numberAt(row, 1) }));
  }

  async scanDetached(before: number, limit: number): Promise<readonly Ino[]> {
    const rows = await this.rows(this.sql.detached, before, limit);
    return rows.map((row) => inoAt(row, 0));
  }

  async scanDelayed(
    before: number,
    limit: number,
  ): Promise<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    const rows = await this.rows(this.sql.delayed, before, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), time: numberAt(row, 1), slices: bytesAt(row, 2) }));
  }

  /** Rows in batches, each beginning behind the last one's first column. */
  async *#batches(text: string, size: number): AsyncGenerator<readonly Row[]> {
    for (let last = -1; ;) {
      const rows = await this.rows(text, last, size);
      if (rows.length > 0) yield rows;
      if (rows.length < size) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async *allDelfiles(): AsyncGenerator<readonly { readonly ino: Ino; readonly length: number; readonly time: number }[]> {
    for await (const rows of this.#batches(this.sql.allDelfiles, INDEX_BATCH))
      yield rows.map((row) => ({ ino: inoAt(row, 0), length: numberAt(row, 1), time: numberAt(row, 2) }));
  }

  async *allDelayed(): AsyncGenerator<readonly { readonly id: number; readonly time: number; readonly slices: Buffer }[]> {
    for await (const rows of this.#batches(this.sql.allDelayed, CHUNK_BATCH))
      yield rows.map((row) => ({ id: numberAt(row, 0), time: numberAt(row, 1), slices: bytesAt(row, 2) }));
  }

  async *allUnreferenced(): AsyncGenerator<readonly { readonly id: number; readonly size: number }[]> {
    for await (const rows of this.#batches(this.sql.allUnreferenced, INDEX_BATCH))
      yield rows.map((row) => ({ id: numberAt(row, 0), size: numberAt(row, 1) }));
  }

  async *scanQuotas(of: QuotaKey['kind']): AsyncGenerator<readonly QuotaRecord[]> {
    const { sql } = this;
    for (let last = -1; ;) {
      const rows = await (of === 'directory'
        ? this.rows(sql.nextDirQuotas, last, INDEX_BATCH)
        : this.rows(sql.nextOwnerQuotas, quotaTypes[of], last, INDEX_BATCH));
      if (rows.length > 0) yield rows.map((row) => quotaAt(row, 1, { kind: of, id: inoAt(row, 0) }));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async *scanSustained(): AsyncGenerator<readonly Ino[]> {
    for (let last = -1; ;) {
      const rows = await this.rows(this.sql.allSustained, last, INDEX_BATCH);
      if (rows.length > 0) yield rows.map((row) => inoAt(row, 1));
      if (rows.length < INDEX_BATCH) return;
      last = numberAt(rows.at(-1) ?? [], 0);
    }
  }

  async scanUnreferenced(limit: number): Promise<readonly { readonly id: number; readonly size: number }[]> {
    const rows = await this.rows(this.sql.unreferenced, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), size: numberAt(row, 1) }));
  }

  async acls(limit: number): Promise<readonly { readonly id: number; readonly rule: Buffer }[]> {
    const rows = await this.rows(this.sql.acls, limit);
    return rows.map((row) => ({ id: numberAt(row, 0), rule: aclAt(row) }));
  }

  async sessions(): Promise<readonly { readonly sid: number; readonly expire: number; readonly info: string | undefined }[]> {
    const rows = await this.rows(this.sql.sessions);
    return rows.map((row) => ({
      sid: numberAt(row, 0),
      expire: numberAt(row, 1),
      info: row[2] === null ? undefined : bytesAt(row, 2).toString('utf8'),
    }));
  }

  async sustained(sid: number): Promise<readonly Ino[]> {
    const rows = await this.rows(this.sql.sustained, sid);
    return rows.map((row) => inoAt(row, 0));
  }

  async lockedFiles(sid: number): Promise<readonly LockedFile[]> {
    const { sql } = this;
    const files = async (of: LockKind, text: string): Promise<readonly LockedFile[]> =>
      (await this.rows(text, sid)).map((row) => ({ of, ino: inoAt(row, 0) }));
    return [...(await files('flock', sql.flockedFiles)), ...(await files('posix', sql.plockedFiles))];
  }
}
