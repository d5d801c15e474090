/**
 * The tables of a JuiceFS volume in SQL: same columns, same order, same types, same index names in each database, so that
 * the official client finds what its own schema check expects and both can work on one volume.
 *
 * Traps: names, link targets and values are bytes, while setting, counter and xattr names are text (in SQLite the two never
 * compare equal). In SQLite `slices` becomes TEXT with raw bytes when the official client appends to it, so it is always read
 * with CAST AS BLOB. In PostgreSQL and MySQL 32-bit columns are signed, so a uid of 2^31 or more does not fit; MySQL's BLOB
 * ends at 65535 bytes. Times are microseconds, and the nanoseconds that are left over.
 *
 * Source: the JuiceFS format, §19 (pkg/meta/sql.go; the DDL as 1.4.1 made it in each database).
 */
import type { ColumnType, Dialect } from './dialect.ts';

interface Column {
  readonly name: string;
  readonly type: ColumnType;
  /** The primary key by itself. */
  readonly key?: boolean;
  readonly nullable?: boolean;
  readonly zero?: boolean;
}

interface Index {
  readonly unique: boolean;
  readonly suffix: string;
  readonly columns: readonly string[];
}

interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  /** The primary key where it is of several columns. */
  readonly primary?: readonly string[];
  readonly indexes?: readonly Index[];
}

const SERIAL: Column = { name: 'id', type: 'serial64' };
const SERIAL_32: Column = { name: 'id', type: 'serial32' };
const i64 = (name: string): Column => ({ name, type: 'i64' });
const i32 = (name: string): Column => ({ name, type: 'i32' });
const key = (name: string): Column => ({ name, type: 'i64', key: true });
const textKey = (name: string): Column => ({ name, type: 'text255', key: true });
const text = (name: string): Column => ({ name, type: 'text' });
const bytes = (name: string): Column => ({ name, type: 'bytes' });
const nullable = (name: string, type: ColumnType): Column => ({ name, type, nullable: true });
const remainder = (name: string): Column => ({ name, type: 'i32', zero: true });
const unique = (suffix: string, ...columns: string[]): Index => ({ unique: true, suffix, columns });
const plain = (column: string): Index => ({ unique: false, suffix: column, columns: [column] });

const nodeRemainders = ['atimensec', 'mtimensec', 'ctimensec'].map(remainder);
const nodeAclAndTier = ['access_acl_id', 'default_acl_id', 'tier_id'].map((name) => nullable(name, 'i32'));

const tables: readonly Table[] = [
  { name: 'setting', columns: [textKey('name'), text('value')] },
  { name: 'counter', columns: [textKey('name'), i64('value')] },
  {
    name: 'edge',
    columns: [SERIAL, i64('parent'), { name: 'name', type: 'bytes255' }, i64('inode'), i32('type')],
    indexes: [unique('edge', 'parent', 'name'), plain('inode')],
  },
  {
    name: 'node',
    columns: [
      key('inode'),
      ...['type', 'flags', 'mode', 'uid', 'gid'].map(i32),
      ...['atime', 'mtime', 'ctime'].map(i64),
      ...nodeRemainders,
      i32('nlink'),
      i64('length'),
      nullable('rdev', 'i32'),
      nullable('parent', 'i64'),
      ...nodeAclAndTier,
    ],
  },
  { name: 'symlink', columns: [key('inode'), { name: 'target', type: 'bytes4096' }] },
  {
    name: 'xattr',
    columns: [SERIAL, i64('inode'), { name: 'name', type: 'name255' }, bytes('value')],
    indexes: [unique('name', 'inode', 'name')],
  },
  {
    name: 'chunk',
    columns: [SERIAL, i64('inode'), i32('indx'), bytes('slices')],
    indexes: [unique('chunk', 'inode', 'indx')],
  },
  { name: 'chunk_ref', columns: [key('chunkid'), i32('size'), i32('refs')], indexes: [plain('refs')] },
  { name: 'delslices', columns: [key('chunkid'), i64('deleted'), bytes('slices')] },
  { name: 'session2', columns: [key('sid'), i64('expire'), nullable('info', 'bytes')] },
  { name: 'sustained', columns: [SERIAL, i64('sid'), i64('inode')], indexes: [unique('sustained', 'sid', 'inode')] },
  { name: 'delfile', columns: [key('inode'), i64('length'), i64('expire')] },
  {
    name: 'flock',
    columns: [SERIAL, i64('inode'), i64('sid'), i64('owner'), i32('ltype')],
    indexes: [unique('flock', 'inode', 'sid', 'owner')],
  },
  {
    name: 'plock',
    columns: [SERIAL, i64('inode'), i64('sid'), i64('owner'), bytes('records')],
    indexes: [unique('plock', 'inode', 'sid', 'owner')],
  },
  { name: 'dir_quota', columns: [key('inode'), ...['max_space', 'max_inodes', 'used_space', 'used_inodes'].map(i64)] },
  {
    name: 'user_group_quota',
    columns: [i32('qtype'), ...['qkey', 'max_space', 'max_inodes', 'used_space', 'used_inodes'].map(i64)],
    primary: ['qtype', 'qkey'],
  },
  { name: 'dir_stats', columns: [key('inode'), ...['data_length', 'used_space', 'used_inodes'].map(i64)] },
  { name: 'detached_node', columns: [key('inode'), i64('added')] },
  {
    name: 'acl',
    columns: [
      SERIAL_32,
      ...['owner', 'group', 'mask', 'other'].map((name) => nullable(name, 'i32')),
      ...['named_users', 'named_groups'].map((name) => nullable(name, 'bytes')),
    ],
  },
  { name: 'delegation_token', columns: [SERIAL_32, nullable('token', 'bytes')] },
  { name: 'change_log', columns: [SERIAL, text('entry')] },
];

/**
 * A table of our own on servers, which do not keep the fate of transactions (PostgreSQL does, but may give the number of one
 * that a crash undid to another): each connection counts its transactions in a row of it, within them. `session` is a number
 * that the connection drew, `at` Unix seconds. The official client does not look at it.
 */
const commits: Table = { name: 'juicepod_commit', columns: [key('session'), i64('number'), i64('at')] };

const tablesOf = ({ kind }: Dialect): readonly Table[] => (kind === 'sqlite' ? tables : [...tables, commits]);

/** Columns of `node` that older versions of JuiceFS did not have, in the order in which they came. */
const laterNodeColumns: readonly Column[] = [...nodeRemainders, ...nodeAclAndTier];

function definition(dialect: Dialect, { name, type, key, nullable, zero }: Column): string {
  const parts = [dialect.quote(name), dialect.types[type], ...(key ? ['PRIMARY KEY'] : []), ...(zero ? ['DEFAULT 0'] : [])];
  return [...parts, nullable ? 'NULL' : 'NOT NULL'].join(' ');
}

/** Statements that make what is missing, safe to run again. */
export function createStatements(dialect: Dialect): readonly string[] {
  return tablesOf(dialect).flatMap(({ name, columns, primary, indexes = [] }) => {
    const list = (names: readonly string[]): string => names.map((column) => dialect.quote(column)).join(',');
    const indexName = ({ unique, suffix }: Index): string =>
      dialect.quote(`${unique ? 'UQE' : 'IDX'}_${dialect.prefix}${name}_${suffix}`);
    const members = [
      ...columns.map((column) => definition(dialect, column)),
      ...(primary ? [`PRIMARY KEY ( ${list(primary)} )`] : []),
      // Only MariaDB has CREATE INDEX IF NOT EXISTS.
      ...(dialect.kind === 'mysql'
        ? indexes.map((index) => `${index.unique ? 'UNIQUE ' : ''}KEY ${indexName(index)} (${list(index.columns)})`)
        : []),
    ];
    return [
      `CREATE TABLE IF NOT EXISTS ${dialect.table(name)} (${members.join(', ')})`,
      ...(dialect.kind === 'mysql'
        ? []
        : indexes.map(
            (index) =>
              `CREATE ${index.unique ? 'UNIQUE ' : ''}INDEX IF NOT EXISTS ${indexName(index)} ON ${dialect.table(name)} (${list(index.columns)})`,
          )),
    ];
  });
}

/** Statements that add the columns which a `node` table with these columns lacks. */
export function addColumnStatements(dialect: Dialect, present: ReadonlySet<string>): readonly string[] {
  return laterNodeColumns
    .filter(({ name }) => !present.has(name))
    .map((column) => `ALTER TABLE ${dialect.table('node')} ADD COLUMN ${definition(dialect, column)}`);
}

/** Names of all tables of a volume, without their prefix. */
export function tableNames(dialect: Dialect): readonly string[] {
  return tablesOf(dialect).map(({ name }) => name);
}

/** Counters of a new volume; the next free ids. */
export const initialCounters: Readonly<Record<string, number>> = {
  nextInode: 2,
  nextChunk: 1,
  nextSession: 0,
  usedSpace: 0,
  totalInodes: 0,
  nextCleanupSlices: 0,
};
