/**
 * Dump and load on JuiceFS's tables, in every SQL database: each table is read by its key, a batch behind the other, and rows are written
 * many in a statement. A row that is there already stays, so a batch may be written twice.
 *
 * A slice has its row with one reference as soon as a chunk names it; `sliceRef` says where there are more. Parents of files with several
 * names are the entries themselves: they are derived when they are read, and nothing is written.
 */
import type { Ino } from '../../lib/int64.ts';
import { type Batch, type Bulk, type Contents, DUMPED_COUNTERS, LOAD_MARK, type RecordKind, type XattrRecord } from '../bulk.ts';
import { quotaTypes } from '../quota.ts';
import { decodeSlices } from '../records.ts';
import { NodeType } from '../types.ts';
import type { Dialect } from './dialect.ts';
import {
  aclAt,
  attrAt,
  bindAcl,
  bindIno,
  bindNode,
  bytesAt,
  entriesAt,
  inoAt,
  numberAt,
  quotaAt,
  type Row,
  type SqlValue,
} from './rows.ts';
import type { Statement } from './session.ts';
import { NODE_COLUMNS, type Statements, statementsOf } from './statements.ts';

export interface SqlAccess {
  /** Rows of statements that change nothing, in one round trip. */
  query(statements: readonly Statement[]): Promise<readonly (readonly Row[])[]>;
  /**
   * Carries out statements in one transaction, which may be done twice. With `last` all that was written is safe when it resolves; else it
   * may be lost with the machine, with what was written after it.
   */
  write(statements: readonly Statement[], last?: boolean): Promise<void>;
  /** Whether the tables of a volume are there. */
  hasTables(): Promise<boolean>;
  makeTables(): Promise<void>;
}

/** Rows read at once: of tables with small rows, and of chunks (one is at most some 60 KB). */
const ROWS = 1000;
const CHUNKS = 100;
/** Rows in a statement that writes several; what is left over goes one by one, so there are two texts for each table. */
const TOGETHER = 50;
/** Bytes written at once at most, and statements. */
const BYTES = 1024 * 1024;
const STATEMENTS = 200;

interface Table {
  readonly name: string;
  readonly columns: readonly string[];
  /** What tells rows apart. */
  readonly keys: readonly string[];
}

const quotaColumns = ['max_space', 'max_inodes', 'used_space', 'used_inodes'];

export class SqlBulk implements Bulk {
  readonly #dialect: Dialect;
  readonly #access: SqlAccess;
  readonly #sql: Statements;
  readonly #texts = new Map<string, string>();

  constructor(dialect: Dialect, access: SqlAccess) {
    this.#dialect = dialect;
    this.#access = access;
    this.#sql = statementsOf(dialect);
  }

  async #rows(text: string, ...values: SqlValue[]): Promise<readonly Row[]> {
    const [rows = []] = await this.#access.query([{ text, values }]);
    return rows;
  }

  /** All rows of a statement that begins behind its first parameter; `last` is the next one. */
  async *#all(text: string, last: (row: Row) => SqlValue, size = ROWS): AsyncGenerator<readonly Row[]> {
    for (let from: SqlValue = -1; ;) {
      const rows = await this.#rows(text, from, size);
      if (rows.length > 0) yield rows;
      if (rows.length < size) return;
      from = last(rows.at(-1) ?? []);
    }
  }

  async *records(kinds: readonly RecordKind[]): AsyncGenerator<Batch> {
    const sql = this.#sql;
    const byId = (row: Row): SqlValue => numberAt(row, 0);
    const byIno = (row: Row): SqlValue => bindIno(inoAt(row, 0));
    const wanted = new Set(kinds);
    if (wanted.has('counter'))
      yield this.#counters(await this.#access.query(DUMPED_COUNTERS.map((name) => ({ text: sql.getCounter, values: [name] }))));
    if (wanted.has('node') || wanted.has('parent'))
      for await (const rows of this.#all(sql.allNodes, byIno)) {
        const nodes = rows.map((row) => ({ ino: inoAt(row, 0), attr: attrAt(row, 1) }));
        if (wanted.has('node')) yield { kind: 'node', rows: nodes };
        if (!wanted.has('parent')) continue;
        const linked = nodes.filter(({ attr }) => attr.parent === 0 && attr.type !== NodeType.Directory).map(({ ino }) => ino);
        if (linked.length > 0) yield await this.#parents(linked);
      }
    if (wanted.has('entry'))
      for await (const rows of this.#all(sql.allEntries, (row) => numberAt(row, 3)))
        yield {
          kind: 'entry',
          rows: entriesAt(rows).map((entry, at) => ({ parent: inoAt(rows[at] ?? [], 4), ...entry })),
        };
    if (wanted.has('chunk'))
      for await (const rows of this.#all(sql.allChunks, byId, CHUNKS))
        yield {
          kind: 'chunk',
          rows: rows.map((row) => ({ ino: inoAt(row, 1), index: numberAt(row, 2), records: bytesAt(row, 3) })),
        };
    if (wanted.has('symlink'))
      for await (const rows of this.#all(sql.allSymlinks, byIno))
        yield { kind: 'symlink', rows: rows.map((row) => ({ ino: inoAt(row, 0), target: bytesAt(row, 1) })) };
    if (wanted.has('xattr'))
      for await (const rows of this.#all(sql.allXattrs, byId, CHUNKS))
        yield { kind: 'xattr', rows: rows.map((row) => ({ ino: inoAt(row, 1), name: String(row[2]), value: bytesAt(row, 3) })) };
    if (wanted.has('sustained'))
      for await (const rows of this.#all(sql.sustainedOfAll, byId))
        yield {
          kind: 'sustained',
          rows: Array.from(
            Map.groupBy(rows, (row) => numberAt(row, 1)),
            ([sid, all]) => ({ sid, inos: all.map((row) => inoAt(row, 2)) }),
          ),
        };
    if (wanted.has('delfile'))
      for await (const rows of this.#all(sql.allDelfiles, byIno))
        yield {
          kind: 'delfile',
          rows: rows.map((row) => ({ ino: inoAt(row, 0), length: numberAt(row, 1), time: numberAt(row, 2) })),
        };
    if (wanted.has('sliceRef'))
      for await (const rows of this.#all(sql.sharedSlices, byId))
        yield {
          kind: 'sliceRef',
          rows: rows.map((row) => ({ id: numberAt(row, 0), size: numberAt(row, 1), refs: numberAt(row, 2) })),
        };
    if (wanted.has('acl'))
      for await (const rows of this.#all(sql.nextAcls, byId))
        yield { kind: 'acl', rows: rows.map((row) => ({ id: numberAt(row, 0), rule: aclAt(row) })) };
    if (wanted.has('dirStat'))
      for await (const rows of this.#all(sql.allDirStats, byIno))
        yield {
          kind: 'dirStat',
          rows: rows.map((row) => ({
            ino: inoAt(row, 0),
            value: { length: numberAt(row, 1), space: numberAt(row, 2), inodes: numberAt(row, 3) },
          })),
        };
    if (wanted.has('quota')) yield* this.#quotas();
  }

  #counters(found: readonly (readonly Row[])[]): Batch {
    const rows = DUMPED_COUNTERS.map((name, at) => {
      const [row] = found[at] ?? [];
      return { name, value: row ? numberAt(row, 0) : 0 };
    });
    return { kind: 'counter', rows };
  }

  async #parents(inos: readonly Ino[]): Promise<Batch> {
    const lists = await this.#access.query(inos.map((ino) => ({ text: this.#sql.getParents, values: [bindIno(ino)] })));
    const rows = inos.flatMap((ino, at) =>
      (lists[at] ?? []).map((row) => ({ ino, parent: inoAt(row, 0), count: numberAt(row, 1) })),
    );
    return { kind: 'parent', rows };
  }

  async *#quotas(): AsyncGenerator<Batch> {
    const { nextDirQuotas, nextOwnerQuotas } = this.#sql;
    for await (const rows of this.#all(nextDirQuotas, (row) => numberAt(row, 0)))
      yield { kind: 'quota', rows: rows.map((row) => quotaAt(row, 1, { kind: 'directory', id: inoAt(row, 0) })) };
    for (const kind of ['user', 'group'] as const)
      for (let last = -1; ;) {
        const rows = await this.#rows(nextOwnerQuotas, quotaTypes[kind], last, ROWS);
        if (rows.length > 0) yield { kind: 'quota', rows: rows.map((row) => quotaAt(row, 1, { kind, id: numberAt(row, 0) })) };
        if (rows.length < ROWS) break;
        last = numberAt(rows.at(-1) ?? [], 0);
      }
  }

  async xattrs(inos: readonly Ino[]): Promise<readonly (readonly XattrRecord[])[]> {
    const lists = await this.#access.query(inos.map((ino) => ({ text: this.#sql.xattrsOf, values: [bindIno(ino)] })));
    return inos.map((ino, at) => (lists[at] ?? []).map((row) => ({ ino, name: String(row[0]), value: bytesAt(row, 1) })));
  }

  async lastChange(): Promise<number> {
    const [row] = await this.#rows(this.#sql.lastChange);
    return row ? numberAt(row, 0) : 0;
  }

  async contents(): Promise<Contents> {
    if (!(await this.#access.hasTables())) return { kind: 'empty' };
    const table = (name: string): string => this.#dialect.table(name);
    const tables = ['node', 'edge', 'chunk', 'counter'];
    const [settings = [], marks = [], ...found] = await this.#access.query([
      { text: this.#sql.getSetting, values: [] },
      { text: this.#sql.getCounter, values: [LOAD_MARK] },
      ...tables.map((name) => ({ text: `SELECT 1 FROM ${table(name)} LIMIT 1`, values: [] })),
    ]);
    if (settings.length > 0) return { kind: 'volume' };
    if (marks[0]) return { kind: 'loading', since: numberAt(marks[0], 0) };
    const filled = tables.find((_name, at) => (found[at]?.length ?? 0) > 0);
    return filled === undefined ? { kind: 'empty' } : { kind: 'other', what: `rows in table ${this.#dialect.prefix}${filled}` };
  }

  prepare(): Promise<void> {
    return this.#access.makeTables();
  }

  async put(batch: Batch): Promise<void> {
    let waiting: Statement[] = [];
    let bytes = 0;
    for (const statement of this.#statementsOf(batch)) {
      waiting.push(statement);
      for (const value of statement.values) if (value instanceof Uint8Array) bytes += value.length;
      if (waiting.length < STATEMENTS && bytes < BYTES) continue;
      await this.#access.write(waiting);
      waiting = [];
      bytes = 0;
    }
    if (waiting.length > 0) await this.#access.write(waiting);
  }

  #statementsOf(batch: Batch): Iterable<Statement> {
    switch (batch.kind) {
      case 'counter':
        return batch.rows.map(({ name, value }) => ({ text: this.#sql.setCounter, values: [name, value] }));
      case 'node':
        return this.#inserts(
          { name: 'node', columns: NODE_COLUMNS, keys: ['inode'] },
          batch.rows.map(({ ino, attr }) => bindNode(ino, attr)),
        );
      case 'entry':
        return this.#inserts(
          { name: 'edge', columns: ['parent', 'name', 'inode', 'type'], keys: ['parent', 'name'] },
          batch.rows.map(({ parent, name, ino, type }) => [bindIno(parent), name, bindIno(ino), type]),
        );
      case 'parent':
        return [];
      case 'chunk':
        return this.#chunks(batch);
      case 'sliceRef': {
        const text = this.#dialect.upsert(
          this.#dialect.table('chunk_ref'),
          ['chunkid', 'size', 'refs'],
          '?1, ?2, ?3',
          ['chunkid'],
          (_own, given) => `refs = ${given('refs')}`,
        );
        return batch.rows.map(({ id, size, refs }) => ({ text, values: [id, size, refs] }));
      }
      case 'symlink':
        return this.#inserts(
          { name: 'symlink', columns: ['inode', 'target'], keys: ['inode'] },
          batch.rows.map(({ ino, target }) => [bindIno(ino), target]),
        );
      case 'xattr':
        return this.#inserts(
          { name: 'xattr', columns: ['inode', 'name', 'value'], keys: ['inode', 'name'] },
          batch.rows.map(({ ino, name, value }) => [bindIno(ino), name, value]),
        );
      case 'sustained':
        return this.#inserts(
          { name: 'sustained', columns: ['sid', 'inode'], keys: ['sid', 'inode'] },
          batch.rows.flatMap(({ sid, inos }) => inos.map((ino) => [sid, bindIno(ino)])),
        );
      case 'delfile':
        return this.#inserts(
          { name: 'delfile', columns: ['inode', 'length', 'expire'], keys: ['inode'] },
          batch.rows.map(({ ino, length, time }) => [bindIno(ino), length, time]),
        );
      case 'acl': {
        const group = this.#dialect.quote('group');
        const columns = ['id', 'owner', group, 'mask', 'other', 'named_users', 'named_groups'];
        return this.#inserts(
          { name: 'acl', columns, keys: ['id'] },
          batch.rows.map(({ id, rule }) => [id, ...bindAcl(rule)]),
        );
      }
      case 'dirStat':
        return this.#inserts(
          { name: 'dir_stats', columns: ['inode', 'data_length', 'used_space', 'used_inodes'], keys: ['inode'] },
          batch.rows.map(({ ino, value }) => [bindIno(ino), value.length, value.space, value.inodes]),
        );
      default: {
        const values = batch.rows.map(({ quota, limits, used }) => ({
          quota,
          numbers: [limits.space, limits.inodes, used.space, used.inodes],
        }));
        return [
          ...this.#inserts(
            { name: 'dir_quota', columns: ['inode', ...quotaColumns], keys: ['inode'] },
            values.flatMap(({ quota, numbers }) => (quota.kind === 'directory' ? [[bindIno(quota.id), ...numbers]] : [])),
          ),
          ...this.#inserts(
            { name: 'user_group_quota', columns: ['qtype', 'qkey', ...quotaColumns], keys: ['qtype', 'qkey'] },
            values.flatMap(({ quota, numbers }) =>
              quota.kind === 'directory' ? [] : [[quotaTypes[quota.kind], quota.id, ...numbers]],
            ),
          ),
        ];
      }
    }
  }

  *#chunks({ rows }: Extract<Batch, { kind: 'chunk' }>): Generator<Statement> {
    const table = { name: 'chunk', columns: ['inode', 'indx', 'slices'], keys: ['inode', 'indx'] };
    // Lists are long: fewer together.
    for (const row of rows) yield* this.#inserts(table, [[bindIno(row.ino), row.index, row.records]]);
    const slices = rows.flatMap(({ records }) => decodeSlices(records)).filter(({ id }) => id > 0);
    yield* this.#inserts(
      { name: 'chunk_ref', columns: ['chunkid', 'size', 'refs'], keys: ['chunkid'] },
      slices.map(({ id, size }) => [id, size, 1]),
    );
  }

  /** Statements that make the rows that are not there yet. */
  *#inserts(table: Table, rows: readonly (readonly SqlValue[])[]): Generator<Statement> {
    let from = 0;
    for (; from + TOGETHER <= rows.length; from += TOGETHER)
      yield { text: this.#insertText(table, TOGETHER), values: rows.slice(from, from + TOGETHER).flat() };
    for (const row of rows.slice(from)) yield { text: this.#insertText(table, 1), values: row };
  }

  #insertText({ name, columns, keys }: Table, count: number): string {
    const key = `${name} ${count}`;
    let text = this.#texts.get(key);
    if (text === undefined) {
      const width = columns.length;
      const row = (at: number): string => columns.map((_column, index) => `?${at * width + index + 1}`).join(', ');
      const values = Array.from({ length: count }, (_, at) => row(at)).join('), (');
      this.#texts.set(key, (text = this.#dialect.insertMissing(this.#dialect.table(name), columns, values, keys)));
    }
    return text;
  }

  async finish(setting: string): Promise<void> {
    const table = this.#dialect.table('acl');
    await this.#access.write(
      [
        // Numbers that were given do not move the sequence on.
        ...(this.#dialect.kind === 'postgres'
          ? [
              {
                text: `SELECT setval(pg_get_serial_sequence('${table.replaceAll("'", "''")}', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM ${table}), false)`,
                values: [],
              },
            ]
          : []),
        {
          text: this.#dialect.insertMissing(this.#dialect.table('setting'), ['name', 'value'], '?1, ?2', ['name']),
          values: ['format', setting],
        },
        { text: this.#sql.removeCounter, values: [LOAD_MARK] },
      ],
      true,
    );
  }
}
