/**
 * The tables of a JuiceFS volume in SQLite: same columns, same order, same index names, so that the official client
 * finds what its own schema check expects and both can work on one file.
 *
 * Traps: names, link targets and values are BLOB, while setting, counter and xattr names are TEXT, and the two never
 * compare equal; `slices` becomes TEXT with raw bytes when the official client appends to it, so it is always read with
 * CAST AS BLOB. Times are microseconds, and the nanoseconds that are left over.
 *
 * Source: the JuiceFS format, §19 (pkg/meta/sql.go; the DDL as 1.4.1 made it).
 */

interface Table {
  readonly name: string;
  readonly columns: readonly string[];
  readonly indexes?: readonly { readonly unique: boolean; readonly suffix: string; readonly columns: readonly string[] }[];
}

const SERIAL = '`id` INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL';
const integer = (name: string): string => `\`${name}\` INTEGER NOT NULL`;
const key = (name: string): string => `\`${name}\` INTEGER PRIMARY KEY NOT NULL`;
const nullable = (name: string): string => `\`${name}\` INTEGER NULL`;
const blob = (name: string): string => `\`${name}\` BLOB NOT NULL`;
const remainder = (name: string): string => `\`${name}\` INTEGER DEFAULT 0 NOT NULL`;
const unique = (suffix: string, ...columns: string[]) => ({ unique: true, suffix, columns });
const plain = (column: string) => ({ unique: false, suffix: column, columns: [column] });

const tables: readonly Table[] = [
  { name: 'setting', columns: ['`name` TEXT PRIMARY KEY NOT NULL', '`value` TEXT NOT NULL'] },
  { name: 'counter', columns: ['`name` TEXT PRIMARY KEY NOT NULL', integer('value')] },
  {
    name: 'edge',
    columns: [SERIAL, integer('parent'), blob('name'), integer('inode'), integer('type')],
    indexes: [unique('edge', 'parent', 'name'), plain('inode')],
  },
  {
    name: 'node',
    columns: [
      key('inode'),
      ...['type', 'flags', 'mode', 'uid', 'gid', 'atime', 'mtime', 'ctime'].map(integer),
      ...['atimensec', 'mtimensec', 'ctimensec'].map(remainder),
      ...['nlink', 'length'].map(integer),
      ...['rdev', 'parent', 'access_acl_id', 'default_acl_id', 'tier_id'].map(nullable),
    ],
  },
  { name: 'symlink', columns: [key('inode'), blob('target')] },
  {
    name: 'xattr',
    columns: [SERIAL, integer('inode'), '`name` TEXT NOT NULL', blob('value')],
    indexes: [unique('name', 'inode', 'name')],
  },
  {
    name: 'chunk',
    columns: [SERIAL, integer('inode'), integer('indx'), blob('slices')],
    indexes: [unique('chunk', 'inode', 'indx')],
  },
  { name: 'chunk_ref', columns: [key('chunkid'), integer('size'), integer('refs')], indexes: [plain('refs')] },
  { name: 'delslices', columns: [key('chunkid'), integer('deleted'), blob('slices')] },
  { name: 'session2', columns: [key('sid'), integer('expire'), '`info` BLOB NULL'] },
  {
    name: 'sustained',
    columns: [SERIAL, integer('sid'), integer('inode')],
    indexes: [unique('sustained', 'sid', 'inode')],
  },
  { name: 'delfile', columns: [key('inode'), integer('length'), integer('expire')] },
  {
    name: 'flock',
    columns: [SERIAL, integer('inode'), integer('sid'), integer('owner'), integer('ltype')],
    indexes: [unique('flock', 'inode', 'sid', 'owner')],
  },
  {
    name: 'plock',
    columns: [SERIAL, integer('inode'), integer('sid'), integer('owner'), blob('records')],
    indexes: [unique('plock', 'inode', 'sid', 'owner')],
  },
  { name: 'dir_quota', columns: [key('inode'), ...['max_space', 'max_inodes', 'used_space', 'used_inodes'].map(integer)] },
  {
    name: 'user_group_quota',
    columns: [
      ...['qtype', 'qkey', 'max_space', 'max_inodes', 'used_space', 'used_inodes'].map(integer),
      'PRIMARY KEY ( `qtype`,`qkey` )',
    ],
  },
  { name: 'dir_stats', columns: [key('inode'), ...['data_length', 'used_space', 'used_inodes'].map(integer)] },
  { name: 'detached_node', columns: [key('inode'), integer('added')] },
  {
    name: 'acl',
    columns: [
      SERIAL,
      ...['owner', 'group', 'mask', 'other'].map(nullable),
      '`named_users` BLOB NULL',
      '`named_groups` BLOB NULL',
    ],
  },
  { name: 'delegation_token', columns: [SERIAL, '`token` BLOB NULL'] },
  { name: 'change_log', columns: [SERIAL, '`entry` TEXT NOT NULL'] },
];

/** Columns of `node` that older versions of JuiceFS did not have, in the order in which they came. */
const laterNodeColumns: Readonly<Record<string, string>> = {
  atimensec: remainder('atimensec'),
  mtimensec: remainder('mtimensec'),
  ctimensec: remainder('ctimensec'),
  access_acl_id: nullable('access_acl_id'),
  default_acl_id: nullable('default_acl_id'),
  tier_id: nullable('tier_id'),
};

/** Statements that make what is missing, safe to run again. `prefix` is `jfs_`, or `jfs_<table_prefix>_`. */
export function createStatements(prefix: string): readonly string[] {
  return tables.flatMap(({ name, columns, indexes = [] }) => {
    const table = `${prefix}${name}`;
    return [
      `CREATE TABLE IF NOT EXISTS \`${table}\` (${columns.join(', ')})`,
      ...indexes.map(({ unique, suffix, columns }) => {
        const index = `${unique ? 'UQE' : 'IDX'}_${table}_${suffix}`;
        const list = columns.map((column) => `\`${column}\``).join(',');
        return `CREATE ${unique ? 'UNIQUE ' : ''}INDEX IF NOT EXISTS \`${index}\` ON \`${table}\` (${list})`;
      }),
    ];
  });
}

/** Statements that add the columns which a `node` table with these columns lacks. */
export function addColumnStatements(prefix: string, present: ReadonlySet<string>): readonly string[] {
  return Object.entries(laterNodeColumns)
    .filter(([name]) => !present.has(name))
    .map(([, definition]) => `ALTER TABLE \`${prefix}node\` ADD COLUMN ${definition}`);
}

/** Names of all tables of a volume. */
export function tableNames(prefix: string): readonly string[] {
  return tables.map(({ name }) => `${prefix}${name}`);
}
