/**
 * The SQL of the engines, one text per statement, in the dialect of a database. Parameters are numbered: `?1`, `?2`, …
 *
 * Inode numbers above 2^53 (the trash) come out of the database as `value - 2^63`, which is how lib/int64 holds them;
 * `ino` does that in SQL, so that no statement needs BigInt rows. They go in as BigInt (bindIno).
 */
import { SLICE_RECORD } from '../records.ts';
import type { Dialect } from './dialect.ts';

/** First of the special inodes, 0x7FFFFFFF00000000. */
const SPECIAL = '9223372032559808512';
const ino = (column: string): string =>
  `CASE WHEN ${column} >= ${SPECIAL} THEN ${column} - 9223372036854775807 - 1 ELSE ${column} END`;

/** Columns of a node in the order of what is bound and read; these are never NULL. */
const filledColumns = 'flags type mode uid gid atime atimensec mtime mtimensec ctime ctimensec nlink length'.split(' ');
const aclAndTier = ['access_acl_id', 'default_acl_id', 'tier_id'];

const nodeColumns = (table: string): string =>
  filledColumns
    .map((column) => `${table}.${column}`)
    .concat(
      `COALESCE(${table}.rdev, 0)`,
      ino(`COALESCE(${table}.parent, 0)`),
      ...aclAndTier.map((column) => `COALESCE(${table}.${column}, 0)`),
    )
    .join(', ');

/** Columns that may be NULL, which means 0. */
const laterColumns = ['rdev', 'parent', ...aclAndTier];
/** What tells who may do what, without what may be NULL. */
const accessColumns = filledColumns.slice(0, 5);

/** The columns of a node are the parameters from the second on. */
const guarded = (columns: readonly string[]): string =>
  columns
    .map((column, index) => `${laterColumns.includes(column) ? `COALESCE(n.${column}, 0)` : `n.${column}`} = ?${index + 2}`)
    .join(' AND ');

/** The count of a connection that was given up: no number that one reaches. */
const SPOILT = '-1000000000000';
/** What `putNode` is given, in this order. */
export const NODE_COLUMNS: readonly string[] = ['inode', ...filledColumns, 'rdev', 'parent', ...aclAndTier];

const parameters = (count: number): string => Array.from({ length: count }, (_, index) => `?${index + 1}`).join(', ');

const limits = ['max_space', 'max_inodes'];
const usage = ['used_space', 'used_inodes'];
const quota = [...limits, ...usage].join(', ');

export type Statements = ReturnType<typeof statementsOf>;

/**
 * All statements. With `onlyNew`, those that make a row or change the one that is there fail where there is one.
 */
export function statementsOf(dialect: Dialect, { onlyNew = false }: { readonly onlyNew?: boolean } = {}) {
  const t = (name: string): string => dialect.table(name);
  const one = (number: string): string => dialect.oneOrFail(number);
  const raw = (column: string): string => dialect.bytes(column);
  const joined = (left: string, right: string): string => dialect.joined(left, right);
  /** Makes a row whose key are these columns of it; where it is there, it gets the other columns' values, or what `set` says. */
  const put = (
    table: string,
    columns: readonly string[],
    keys: readonly string[],
    {
      values = parameters(columns.length),
      set,
    }: { readonly values?: string; readonly set?: Parameters<Dialect['upsert']>[4] } = {},
  ): string => {
    if (onlyNew) return `INSERT INTO ${t(table)} (${columns.join(', ')}) VALUES (${values})`;
    const others = columns.filter((column) => !keys.includes(column));
    const all: Parameters<Dialect['upsert']>[4] = (_own, given) =>
      others.map((column) => `${column} = ${given(column)}`).join(', ');
    return dialect.upsert(t(table), columns, values, keys, set ?? all);
  };
  const assign = (columns: readonly string[], given: (column: string) => string): string =>
    columns.map((column) => `${column} = ${given(column)}`).join(', ');
  const acl = [
    ...['owner', dialect.quote('group'), 'mask', 'other'].map((column) => `COALESCE(${column}, 65535)`),
    raw('named_users'),
    raw('named_groups'),
  ].join(', ');
  const returning = (statement: string, expression: string, table: string, where: string): string =>
    dialect.returning(statement, expression, t(table), where);
  const records = dialect.quotient(`length(${raw('slices')})`, String(SLICE_RECORD));

  return {
    getNode: `SELECT ${nodeColumns('n')} FROM ${t('node')} n WHERE n.inode = ?1`,
    getNodes: `SELECT ${nodeColumns('n')}, ${ino('n.inode')} FROM ${t('node')} n WHERE ${dialect.oneOf('n.inode', '?1')}`,
    lockNodes: `SELECT ${nodeColumns('n')}, ${ino('n.inode')} FROM ${t('node')} n WHERE ${dialect.oneOf('n.inode', '?1')}
      ORDER BY n.inode${dialect.forUpdate}`,
    shareNodes: `SELECT ${nodeColumns('n')}, ${ino('n.inode')} FROM ${t('node')} n WHERE ${dialect.oneOf('n.inode', '?1')}
      ORDER BY n.inode${dialect.forShare}`,
    putNode: put('node', NODE_COLUMNS, ['inode']),
    touchNode: `UPDATE ${t('node')} SET mtime = ?1, mtimensec = ?2, ctime = ?1, ctimensec = ?2, nlink = nlink + ?3 WHERE inode = ?4`,
    removeNode: `DELETE FROM ${t('node')} WHERE inode = ?1`,
    removeNodes: `DELETE FROM ${t('node')} WHERE ${dialect.oneOf('inode', '?1')}`,

    // Guards (at-once.ts): a division by nought where a check does not hold.
    someNode: `SELECT ${one('COUNT(*)')} FROM ${t('node')} n WHERE n.inode = ?1`,
    noNode: `SELECT ${one('(1 - COUNT(*))')} FROM ${t('node')} n WHERE n.inode = ?1`,
    sameNode: `SELECT ${one('COUNT(*)')} FROM ${t('node')} n WHERE n.inode = ?1 AND ${guarded([...filledColumns, ...laterColumns])}`,
    sameAccess: `SELECT ${one('COUNT(*)')} FROM ${t('node')} n WHERE n.inode = ?1 AND ${guarded([...accessColumns, ...laterColumns.slice(1)])}`,
    sameEntry: `SELECT ${one('COUNT(*)')} FROM ${t('edge')} WHERE parent = ?1 AND name = ?2 AND inode = ?3 AND type = ?4`,
    noEntry: `SELECT ${one('(1 - COUNT(*))')} FROM ${t('edge')} WHERE parent = ?1 AND name = ?2`,

    getEntry: `SELECT type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ?1 AND name = ?2`,
    lookup: `SELECT e.type, ${ino('e.inode')}, CASE WHEN n.inode IS NULL THEN 0 ELSE 1 END, ${nodeColumns('n')}
      FROM ${t('edge')} e LEFT JOIN ${t('node')} n ON n.inode = e.inode WHERE e.parent = ?1 AND e.name = ?2`,
    putEntry: put('edge', ['parent', 'name', 'inode', 'type'], ['parent', 'name']),
    removeEntry: `DELETE FROM ${t('edge')} WHERE parent = ?1 AND name = ?2`,
    removeEntries: `DELETE FROM ${t('edge')} WHERE parent = ?1 AND ${dialect.oneOf('name', '?2')}`,
    lockEntries: `SELECT type, ${ino('inode')}, name FROM ${t('edge')} WHERE parent = ?1 AND ${dialect.oneOf('name', '?2')}
      ORDER BY name${dialect.forUpdate}`,
    hasEntry: `SELECT 1 FROM ${t('edge')} WHERE parent = ?1 LIMIT 1`,
    countEntries: `SELECT COUNT(*) FROM ${t('edge')} WHERE parent = ?1`,
    getParents: `SELECT ${ino('parent')}, COUNT(*) FROM ${t('edge')} WHERE inode = ?1 GROUP BY parent`,
    firstEntries: `SELECT ${dialect.manyBytes('name')}, type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ?1 ORDER BY name LIMIT ?2`,
    nextEntries: `SELECT ${dialect.manyBytes('name')}, type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ?1 AND name > ?3 ORDER BY name LIMIT ?2`,

    getSymlink: `SELECT ${raw('target')} FROM ${t('symlink')} WHERE inode = ?1`,
    putSymlink: put('symlink', ['inode', 'target'], ['inode']),
    removeSymlink: `DELETE FROM ${t('symlink')} WHERE inode = ?1`,

    getXattr: `SELECT ${raw('value')} FROM ${t('xattr')} WHERE inode = ?1 AND name = ?2`,
    xattrNames: `SELECT name FROM ${t('xattr')} WHERE inode = ?1 ORDER BY id`,
    putXattr: put('xattr', ['inode', 'name', 'value'], ['inode', 'name']),
    removeXattr: `DELETE FROM ${t('xattr')} WHERE inode = ?1 AND name = ?2`,
    removeXattrs: `DELETE FROM ${t('xattr')} WHERE inode = ?1`,
    removeManyXattrs: `DELETE FROM ${t('xattr')} WHERE ${dialect.oneOf('inode', '?1')}`,

    getChunk: `SELECT ${raw('slices')} FROM ${t('chunk')} WHERE inode = ?1 AND indx = ?2`,
    getChunks: `SELECT ${ino('inode')}, ${raw('slices')} FROM ${t('chunk')} WHERE ${dialect.oneOf('inode', '?1')} AND indx = ?2`,
    /** Answers the number of records; so do the two that follow. */
    appendSlices: returning(
      put('chunk', ['inode', 'indx', 'slices'], ['inode', 'indx'], {
        set: (own, given) => `slices = ${joined(raw(own('slices')), given('slices'))}`,
      }),
      records,
      'chunk',
      'inode = ?1 AND indx = ?2',
    ),
    appendExisting: returning(
      `UPDATE ${t('chunk')} SET slices = ${joined(raw('slices'), '?3')} WHERE inode = ?1 AND indx = ?2`,
      records,
      'chunk',
      'inode = ?1 AND indx = ?2',
    ),
    replaceSlices: `UPDATE ${t('chunk')} SET slices = ${joined('?3', `substr(${raw('slices')}, ?4 + 1)`)} WHERE inode = ?1 AND indx = ?2`,
    removeEmptyChunk: `DELETE FROM ${t('chunk')} WHERE inode = ?1 AND indx = ?2 AND length(${raw('slices')}) = 0`,
    removeChunk: `DELETE FROM ${t('chunk')} WHERE inode = ?1 AND indx = ?2`,
    nextChunks: `SELECT indx FROM ${t('chunk')} WHERE inode = ?1 AND indx > ?2 ORDER BY indx LIMIT ?3`,
    allChunks: `SELECT id, ${ino('inode')}, indx, ${raw('slices')} FROM ${t('chunk')} WHERE id > ?1 ORDER BY id LIMIT ?2`,

    newSlice: `INSERT INTO ${t('chunk_ref')} (chunkid, size, refs) VALUES (?1, ?2, 1)`,
    addSliceRef: returning(
      put('chunk_ref', ['chunkid', 'size', 'refs'], ['chunkid'], {
        values: '?1, ?2, 1 + ?3',
        set: (own) => `refs = ${own('refs')} + ?3`,
      }),
      'refs',
      'chunk_ref',
      'chunkid = ?1',
    ),
    forgetSlice: `DELETE FROM ${t('chunk_ref')} WHERE chunkid = ?1`,
    unreferenced: `SELECT chunkid, size FROM ${t('chunk_ref')} WHERE refs <= 0 LIMIT ?1`,
    allUnreferenced: `SELECT chunkid, size FROM ${t('chunk_ref')} WHERE refs <= 0 AND chunkid > ?1 ORDER BY chunkid LIMIT ?2`,
    delaySlices: put('delslices', ['chunkid', 'deleted', 'slices'], ['chunkid']),
    getDelayed: `SELECT 1 FROM ${t('delslices')} WHERE chunkid = ?1 AND deleted = ?2`,
    removeDelayed: `DELETE FROM ${t('delslices')} WHERE chunkid = ?1 AND deleted = ?2`,
    allDelayed: `SELECT chunkid, deleted, ${raw('slices')} FROM ${t('delslices')} WHERE chunkid > ?1 ORDER BY chunkid LIMIT ?2`,
    delayed: `SELECT chunkid, deleted, ${raw('slices')} FROM ${t('delslices')} WHERE deleted < ?1 LIMIT ?2`,

    getCounter: `SELECT value FROM ${t('counter')} WHERE name = ?1`,
    addCounter: returning(
      put('counter', ['name', 'value'], ['name'], { set: (own, given) => `value = ${own('value')} + ${given('value')}` }),
      'value',
      'counter',
      'name = ?1',
    ),
    setCounter: put('counter', ['name', 'value'], ['name']),

    getDirStat: `SELECT data_length, used_space, used_inodes FROM ${t('dir_stats')} WHERE inode = ?1`,
    addDirStat: `UPDATE ${t('dir_stats')} SET data_length = data_length + ?1, used_space = used_space + ?2,
      used_inodes = used_inodes + ?3 WHERE inode = ?4`,
    putDirStat: put('dir_stats', ['data_length', 'used_space', 'used_inodes', 'inode'], ['inode']),
    removeDirStat: `DELETE FROM ${t('dir_stats')} WHERE inode = ?1`,
    removeDirStats: `DELETE FROM ${t('dir_stats')}`,

    getDirQuota: `SELECT ${quota} FROM ${t('dir_quota')} WHERE inode = ?1`,
    nextDirQuotas: `SELECT inode, ${quota} FROM ${t('dir_quota')} WHERE inode > ?1 ORDER BY inode LIMIT ?2`,
    putDirLimits: put('dir_quota', ['inode', ...limits, ...usage], ['inode'], {
      values: '?1, ?2, ?3, 0, 0',
      set: (_own, given) => assign(limits, given),
    }),
    putDirQuota: put('dir_quota', ['inode', ...limits, ...usage], ['inode']),
    addDirQuotaUsage: `UPDATE ${t('dir_quota')} SET used_space = used_space + ?2, used_inodes = used_inodes + ?3 WHERE inode = ?1`,
    removeDirQuota: `DELETE FROM ${t('dir_quota')} WHERE inode = ?1`,
    getOwnerQuota: `SELECT ${quota} FROM ${t('user_group_quota')} WHERE qtype = ?1 AND qkey = ?2`,
    nextOwnerQuotas: `SELECT qkey, ${quota} FROM ${t('user_group_quota')} WHERE qtype = ?1 AND qkey > ?2 ORDER BY qkey LIMIT ?3`,
    putOwnerLimits: put('user_group_quota', ['qtype', 'qkey', ...limits, ...usage], ['qtype', 'qkey'], {
      values: '?1, ?2, ?3, ?4, 0, 0',
      set: (_own, given) => assign(limits, given),
    }),
    putOwnerQuota: put('user_group_quota', ['qtype', 'qkey', ...limits, ...usage], ['qtype', 'qkey']),
    addOwnerQuotaUsage: put('user_group_quota', ['qtype', 'qkey', ...limits, ...usage], ['qtype', 'qkey'], {
      values: '?1, ?2, -1, -1, ?3, ?4',
      set: (own, given) => usage.map((column) => `${column} = ${own(column)} + ${given(column)}`).join(', '),
    }),
    removeOwnerQuota: `DELETE FROM ${t('user_group_quota')} WHERE qtype = ?1 AND qkey = ?2`,
    removeOwnerQuotas: `DELETE FROM ${t('user_group_quota')} WHERE qtype = ?1`,

    addDelfile: put('delfile', ['inode', 'length', 'expire'], ['inode']),
    removeDelfile: `DELETE FROM ${t('delfile')} WHERE inode = ?1`,
    removeDelfiles: `DELETE FROM ${t('delfile')} WHERE ${dialect.oneOf('inode', '?1')}`,
    allDelfiles: `SELECT ${ino('inode')}, length, expire FROM ${t('delfile')} WHERE inode > ?1 ORDER BY inode LIMIT ?2`,
    delfiles: `SELECT ${ino('inode')}, length FROM ${t('delfile')} WHERE expire < ?1 LIMIT ?2`,

    addDetached: put('detached_node', ['inode', 'added'], ['inode']),
    removeDetached: `DELETE FROM ${t('detached_node')} WHERE inode = ?1`,
    detached: `SELECT ${ino('inode')} FROM ${t('detached_node')} WHERE added < ?1 LIMIT ?2`,

    addSustained: dialect.insertMissing(t('sustained'), ['sid', 'inode'], '?1, ?2', ['sid', 'inode']),
    removeSustained: `DELETE FROM ${t('sustained')} WHERE sid = ?1 AND inode = ?2`,
    allSustained: `SELECT id, ${ino('inode')} FROM ${t('sustained')} WHERE id > ?1 ORDER BY id LIMIT ?2`,
    sustained: `SELECT ${ino('inode')} FROM ${t('sustained')} WHERE sid = ?1 ORDER BY id`,
    putSession: put('session2', ['sid', 'expire', 'info'], ['sid'], {
      set: (own, given) => `expire = ${given('expire')}, info = COALESCE(${own('info')}, ${given('info')})`,
    }),
    replaceSession: put('session2', ['sid', 'expire', 'info'], ['sid']),
    sessions: `SELECT sid, expire, ${raw('info')} FROM ${t('session2')} ORDER BY sid`,
    removeSession: `DELETE FROM ${t('session2')} WHERE sid = ?1`,
    // Owners have 64 bits, which only go as text or BigInt between a database and here.
    flocks: `SELECT sid, ${dialect.text('owner')}, ltype FROM ${t('flock')} WHERE inode = ?1`,
    putFlock: put('flock', ['inode', 'sid', 'owner', 'ltype'], ['inode', 'sid', 'owner']),
    removeFlock: `DELETE FROM ${t('flock')} WHERE inode = ?1 AND sid = ?2 AND owner = ?3`,
    removeFlocks: `DELETE FROM ${t('flock')} WHERE sid = ?1`,
    plocks: `SELECT sid, ${dialect.text('owner')}, ${raw('records')} FROM ${t('plock')} WHERE inode = ?1`,
    putPlock: put('plock', ['inode', 'sid', 'owner', 'records'], ['inode', 'sid', 'owner']),
    removePlock: `DELETE FROM ${t('plock')} WHERE inode = ?1 AND sid = ?2 AND owner = ?3`,
    flockedFiles: `SELECT DISTINCT ${ino('inode')} FROM ${t('flock')} WHERE sid = ?1`,
    plockedFiles: `SELECT DISTINCT ${ino('inode')} FROM ${t('plock')} WHERE sid = ?1`,
    removePlocks: `DELETE FROM ${t('plock')} WHERE sid = ?1`,

    getAcl: `SELECT id, ${acl} FROM ${t('acl')} WHERE id = ?1`,
    acls: `SELECT id, ${acl} FROM ${t('acl')} ORDER BY id LIMIT ?1`,
    /** Answers the new list's number. */
    addAcl: returning(
      `INSERT INTO ${t('acl')} (owner, ${dialect.quote('group')}, mask, other, named_users, named_groups) VALUES (${parameters(6)})`,
      'id',
      'acl',
      'id = LAST_INSERT_ID()',
    ),

    /** Counts a transaction of a connection; answers how many that makes. */
    countCommit: returning(
      put('juicepod_commit', ['session', 'number', 'at'], ['session'], {
        values: '?1, 1, ?2',
        set: (own, given) => `number = ${own('number')} + 1, at = ${given('at')}`,
      }),
      'number',
      'juicepod_commit',
      'session = ?1',
    ),
    sameCommit: `SELECT ${one('COUNT(*)')} FROM ${t('juicepod_commit')} WHERE session = ?1 AND number = ?2`,
    /**
     * Answers 1 where a connection has carried out so many transactions, else 0, and then its count is spoilt for what may still come
     * of it; waits for one that is under way.
     */
    wasCommitted: returning(
      put('juicepod_commit', ['session', 'number', 'at'], ['session'], {
        values: `?1, ${SPOILT}, ?2`,
        set: (own, given) =>
          `number = CASE WHEN ${own('number')} >= ?3 THEN ${own('number')} ELSE ${SPOILT} END, at = ${given('at')}`,
      }),
      'CASE WHEN number >= ?3 THEN 1 ELSE 0 END',
      'juicepod_commit',
      'session = ?1',
    ),
    forgetCommits: `DELETE FROM ${t('juicepod_commit')} WHERE at < ?1`,

    // What dump and load look through; the first column is where the next batch begins.
    allNodes: `SELECT ${ino('n.inode')}, ${nodeColumns('n')} FROM ${t('node')} n WHERE n.inode > ?1 ORDER BY n.inode LIMIT ?2`,
    allEntries: `SELECT ${dialect.manyBytes('name')}, type, ${ino('inode')}, id, ${ino('parent')} FROM ${t('edge')} WHERE id > ?1 ORDER BY id LIMIT ?2`,
    allSymlinks: `SELECT ${ino('inode')}, ${raw('target')} FROM ${t('symlink')} WHERE inode > ?1 ORDER BY inode LIMIT ?2`,
    allXattrs: `SELECT id, ${ino('inode')}, name, ${raw('value')} FROM ${t('xattr')} WHERE id > ?1 ORDER BY id LIMIT ?2`,
    xattrsOf: `SELECT name, ${raw('value')} FROM ${t('xattr')} WHERE inode = ?1 ORDER BY name`,
    sharedSlices: `SELECT chunkid, size, refs FROM ${t('chunk_ref')} WHERE refs <> 1 AND chunkid > ?1 ORDER BY chunkid LIMIT ?2`,
    allDirStats: `SELECT ${ino('inode')}, data_length, used_space, used_inodes FROM ${t('dir_stats')} WHERE inode > ?1 ORDER BY inode LIMIT ?2`,
    nextAcls: `SELECT id, ${acl} FROM ${t('acl')} WHERE id > ?1 ORDER BY id LIMIT ?2`,
    sustainedOfAll: `SELECT id, sid, ${ino('inode')} FROM ${t('sustained')} WHERE id > ?1 ORDER BY id LIMIT ?2`,
    appendLog: `INSERT INTO ${t('change_log')} (entry) VALUES (?1)`,
    /**
     * The parameters are what comes before and after the number of records of a list, and which list it is. On MySQL the official
     * client says 0 of the first record of a list.
     */
    appendLogRecords: `INSERT INTO ${t('change_log')} (entry) SELECT ${dialect.text(
      joined(
        joined(
          dialect.text('?1'),
          dialect.text(dialect.kind === 'mysql' ? `CASE WHEN ${records} > 1 THEN ${records} ELSE 0 END` : records),
        ),
        dialect.text('?2'),
      ),
    )} FROM ${t('chunk')} WHERE inode = ?3 AND indx = ?4`,
    readLog: `SELECT id, entry FROM ${t('change_log')} WHERE id >= ?1 ORDER BY id LIMIT ?2`,
    firstChange: `SELECT MIN(id) FROM ${t('change_log')}`,
    /** The number of the newest entry beyond so many newer ones. */
    changeBeyond: `SELECT id FROM ${t('change_log')} ORDER BY id DESC LIMIT 1 OFFSET ?1`,
    trimLog: `DELETE FROM ${t('change_log')} WHERE id < ?1`,
    lastChange: `SELECT COALESCE(MAX(id), 0) FROM ${t('change_log')}`,
    removeCounter: `DELETE FROM ${t('counter')} WHERE name = ?1`,

    getSetting: `SELECT value FROM ${t('setting')} WHERE name = 'format'`,
    insertSetting: `INSERT INTO ${t('setting')} (name, value) VALUES ('format', ?1)`,
    updateSetting: `UPDATE ${t('setting')} SET value = ?1 WHERE name = 'format'`,
  };
}
