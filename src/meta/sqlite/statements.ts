/**
 * The SQL of the engine, one text per statement, over a given prefix of the tables.
 *
 * Inode numbers above 2^53 (the trash) come out of the database as `value - 2^63`, which is how lib/int64 holds them;
 * `ino` does that in SQL, so that no statement needs BigInt rows. They go in as BigInt (bindIno).
 */

/** First of the special inodes, 0x7FFFFFFF00000000. */
const SPECIAL = '9223372032559808512';
const ino = (column: string): string =>
  `CASE WHEN ${column} >= ${SPECIAL} THEN ${column} - 9223372036854775807 - 1 ELSE ${column} END`;

const nodeColumns = (table: string): string =>
  ['flags', 'type', 'mode', 'uid', 'gid', 'atime', 'atimensec', 'mtime', 'mtimensec', 'ctime', 'ctimensec', 'nlink', 'length']
    .map((column) => `${table}.${column}`)
    .concat(
      `COALESCE(${table}.rdev, 0)`,
      ino(`COALESCE(${table}.parent, 0)`),
      ...['access_acl_id', 'default_acl_id', 'tier_id'].map((column) => `COALESCE(${table}.${column}, 0)`),
    )
    .join(', ');

const raw = (column: string): string => `CAST(${column} AS BLOB)`;
/** Bytes after bytes: `||` answers TEXT, whatever it is given. */
const joined = (left: string, right: string): string => raw(`${left} || ${right}`);

const quota = 'max_space, max_inodes, used_space, used_inodes';
const newLimits = 'max_space = excluded.max_space, max_inodes = excluded.max_inodes';
const newUsage = 'used_space = excluded.used_space, used_inodes = excluded.used_inodes';

const acl = [
  ...['owner', '"group"', 'mask', 'other'].map((column) => `COALESCE(${column}, 65535)`),
  raw('named_users'),
  raw('named_groups'),
].join(', ');

export type Statements = ReturnType<typeof statementsOf>;

/** All statements for tables with this prefix. */
export function statementsOf(prefix: string) {
  const t = (name: string): string => `\`${prefix}${name}\``;
  return {
    getNode: `SELECT ${nodeColumns('n')} FROM ${t('node')} n WHERE n.inode = ?`,
    putNode: `INSERT INTO ${t('node')} (inode, flags, type, mode, uid, gid, atime, atimensec, mtime, mtimensec, ctime, ctimensec,
      nlink, length, rdev, parent, access_acl_id, default_acl_id, tier_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
      ON CONFLICT (inode) DO UPDATE SET flags = excluded.flags, type = excluded.type, mode = excluded.mode, uid = excluded.uid,
      gid = excluded.gid, atime = excluded.atime, atimensec = excluded.atimensec, mtime = excluded.mtime,
      mtimensec = excluded.mtimensec, ctime = excluded.ctime, ctimensec = excluded.ctimensec, nlink = excluded.nlink,
      length = excluded.length, rdev = excluded.rdev, parent = excluded.parent, access_acl_id = excluded.access_acl_id,
      default_acl_id = excluded.default_acl_id, tier_id = excluded.tier_id`,
    touchNode: `UPDATE ${t('node')} SET mtime = ?1, mtimensec = ?2, ctime = ?1, ctimensec = ?2, nlink = nlink + ?3 WHERE inode = ?4`,
    removeNode: `DELETE FROM ${t('node')} WHERE inode = ?`,

    getEntry: `SELECT type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ? AND name = ?`,
    lookup: `SELECT e.type, ${ino('e.inode')}, n.inode IS NOT NULL, ${nodeColumns('n')} FROM ${t('edge')} e
      LEFT JOIN ${t('node')} n ON n.inode = e.inode WHERE e.parent = ? AND e.name = ?`,
    putEntry: `INSERT INTO ${t('edge')} (parent, name, inode, type) VALUES (?,?,?,?)
      ON CONFLICT (parent, name) DO UPDATE SET inode = excluded.inode, type = excluded.type`,
    removeEntry: `DELETE FROM ${t('edge')} WHERE parent = ? AND name = ?`,
    hasEntry: `SELECT 1 FROM ${t('edge')} WHERE parent = ? LIMIT 1`,
    countEntries: `SELECT COUNT(*) FROM ${t('edge')} WHERE parent = ?`,
    getParents: `SELECT ${ino('parent')}, COUNT(*) FROM ${t('edge')} WHERE inode = ? GROUP BY parent`,
    firstEntries: `SELECT name, type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ?1 ORDER BY name LIMIT ?2`,
    nextEntries: `SELECT name, type, ${ino('inode')} FROM ${t('edge')} WHERE parent = ?1 AND name > ?3 ORDER BY name LIMIT ?2`,

    getSymlink: `SELECT ${raw('target')} FROM ${t('symlink')} WHERE inode = ?`,
    putSymlink: `INSERT INTO ${t('symlink')} (inode, target) VALUES (?,?) ON CONFLICT (inode) DO UPDATE SET target = excluded.target`,
    removeSymlink: `DELETE FROM ${t('symlink')} WHERE inode = ?`,

    getXattr: `SELECT ${raw('value')} FROM ${t('xattr')} WHERE inode = ? AND name = ?`,
    xattrNames: `SELECT name FROM ${t('xattr')} WHERE inode = ? ORDER BY id`,
    putXattr: `INSERT INTO ${t('xattr')} (inode, name, value) VALUES (?,?,?) ON CONFLICT (inode, name) DO UPDATE SET value = excluded.value`,
    removeXattr: `DELETE FROM ${t('xattr')} WHERE inode = ? AND name = ?`,
    removeXattrs: `DELETE FROM ${t('xattr')} WHERE inode = ?`,

    getChunk: `SELECT ${raw('slices')} FROM ${t('chunk')} WHERE inode = ? AND indx = ?`,
    appendSlices: `INSERT INTO ${t('chunk')} (inode, indx, slices) VALUES (?,?,?) ON CONFLICT (inode, indx)
      DO UPDATE SET slices = ${joined(raw('slices'), 'excluded.slices')} RETURNING length(${raw('slices')})`,
    appendExisting: `UPDATE ${t('chunk')} SET slices = ${joined(raw('slices'), '?3')} WHERE inode = ?1 AND indx = ?2
      RETURNING length(${raw('slices')})`,
    replaceSlices: `UPDATE ${t('chunk')} SET slices = ${joined('?3', `substr(${raw('slices')}, ?4 + 1)`)} WHERE inode = ?1 AND indx = ?2
      RETURNING length(${raw('slices')})`,
    removeChunk: `DELETE FROM ${t('chunk')} WHERE inode = ? AND indx = ?`,
    nextChunks: `SELECT indx FROM ${t('chunk')} WHERE inode = ? AND indx > ? ORDER BY indx LIMIT ?`,
    allChunks: `SELECT id, ${ino('inode')}, indx, ${raw('slices')} FROM ${t('chunk')} WHERE id > ? ORDER BY id LIMIT ?`,

    newSlice: `INSERT INTO ${t('chunk_ref')} (chunkid, size, refs) VALUES (?,?,1)`,
    addSliceRef: `INSERT INTO ${t('chunk_ref')} (chunkid, size, refs) VALUES (?1, ?2, 1 + ?3)
      ON CONFLICT (chunkid) DO UPDATE SET refs = refs + ?3 RETURNING refs`,
    forgetSlice: `DELETE FROM ${t('chunk_ref')} WHERE chunkid = ?`,
    unreferenced: `SELECT chunkid, size FROM ${t('chunk_ref')} WHERE refs <= 0 LIMIT ?`,
    delaySlices: `INSERT INTO ${t('delslices')} (chunkid, deleted, slices) VALUES (?,?,?)
      ON CONFLICT (chunkid) DO UPDATE SET deleted = excluded.deleted, slices = excluded.slices`,
    getDelayed: `SELECT 1 FROM ${t('delslices')} WHERE chunkid = ? AND deleted = ?`,
    removeDelayed: `DELETE FROM ${t('delslices')} WHERE chunkid = ? AND deleted = ?`,
    delayed: `SELECT chunkid, deleted, ${raw('slices')} FROM ${t('delslices')} WHERE deleted < ? LIMIT ?`,

    getCounter: `SELECT value FROM ${t('counter')} WHERE name = ?`,
    addCounter: `INSERT INTO ${t('counter')} (name, value) VALUES (?,?)
      ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value`,
    setCounter: `INSERT INTO ${t('counter')} (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,

    getDirStat: `SELECT data_length, used_space, used_inodes FROM ${t('dir_stats')} WHERE inode = ?`,
    addDirStat: `UPDATE ${t('dir_stats')} SET data_length = data_length + ?, used_space = used_space + ?,
      used_inodes = used_inodes + ? WHERE inode = ?`,
    putDirStat: `INSERT INTO ${t('dir_stats')} (data_length, used_space, used_inodes, inode) VALUES (?,?,?,?) ON CONFLICT (inode)
      DO UPDATE SET data_length = excluded.data_length, used_space = excluded.used_space, used_inodes = excluded.used_inodes`,
    removeDirStat: `DELETE FROM ${t('dir_stats')} WHERE inode = ?`,
    removeDirStats: `DELETE FROM ${t('dir_stats')}`,

    getDirQuota: `SELECT ${quota} FROM ${t('dir_quota')} WHERE inode = ?`,
    nextDirQuotas: `SELECT inode, ${quota} FROM ${t('dir_quota')} WHERE inode > ? ORDER BY inode LIMIT ?`,
    putDirLimits: `INSERT INTO ${t('dir_quota')} (inode, ${quota}) VALUES (?,?,?,0,0)
      ON CONFLICT (inode) DO UPDATE SET ${newLimits}`,
    putDirQuota: `INSERT INTO ${t('dir_quota')} (inode, ${quota}) VALUES (?,?,?,?,?)
      ON CONFLICT (inode) DO UPDATE SET ${newLimits}, ${newUsage}`,
    addDirQuotaUsage: `UPDATE ${t('dir_quota')} SET used_space = used_space + ?2, used_inodes = used_inodes + ?3 WHERE inode = ?1`,
    removeDirQuota: `DELETE FROM ${t('dir_quota')} WHERE inode = ?`,
    getOwnerQuota: `SELECT ${quota} FROM ${t('user_group_quota')} WHERE qtype = ? AND qkey = ?`,
    nextOwnerQuotas: `SELECT qkey, ${quota} FROM ${t('user_group_quota')} WHERE qtype = ?1 AND qkey > ?2 ORDER BY qkey LIMIT ?3`,
    putOwnerLimits: `INSERT INTO ${t('user_group_quota')} (qtype, qkey, ${quota}) VALUES (?,?,?,?,0,0)
      ON CONFLICT (qtype, qkey) DO UPDATE SET ${newLimits}`,
    putOwnerQuota: `INSERT INTO ${t('user_group_quota')} (qtype, qkey, ${quota}) VALUES (?,?,?,?,?,?)
      ON CONFLICT (qtype, qkey) DO UPDATE SET ${newLimits}, ${newUsage}`,
    addOwnerQuotaUsage: `INSERT INTO ${t('user_group_quota')} (qtype, qkey, ${quota}) VALUES (?1, ?2, -1, -1, ?3, ?4)
      ON CONFLICT (qtype, qkey) DO UPDATE SET used_space = used_space + ?3, used_inodes = used_inodes + ?4`,
    removeOwnerQuota: `DELETE FROM ${t('user_group_quota')} WHERE qtype = ? AND qkey = ?`,
    removeOwnerQuotas: `DELETE FROM ${t('user_group_quota')} WHERE qtype = ?`,

    addDelfile: `INSERT INTO ${t('delfile')} (inode, length, expire) VALUES (?,?,?)
      ON CONFLICT (inode) DO UPDATE SET length = excluded.length, expire = excluded.expire`,
    removeDelfile: `DELETE FROM ${t('delfile')} WHERE inode = ?`,
    delfiles: `SELECT ${ino('inode')}, length FROM ${t('delfile')} WHERE expire < ? LIMIT ?`,

    addSustained: `INSERT INTO ${t('sustained')} (sid, inode) VALUES (?,?) ON CONFLICT (sid, inode) DO NOTHING`,
    removeSustained: `DELETE FROM ${t('sustained')} WHERE sid = ? AND inode = ?`,
    allSustained: `SELECT id, ${ino('inode')} FROM ${t('sustained')} WHERE id > ? ORDER BY id LIMIT ?`,
    sustained: `SELECT ${ino('inode')} FROM ${t('sustained')} WHERE sid = ? ORDER BY id`,
    putSession: `INSERT INTO ${t('session2')} (sid, expire, info) VALUES (?,?,?)
      ON CONFLICT (sid) DO UPDATE SET expire = excluded.expire, info = COALESCE(info, excluded.info)`,
    replaceSession: `INSERT INTO ${t('session2')} (sid, expire, info) VALUES (?,?,?)
      ON CONFLICT (sid) DO UPDATE SET expire = excluded.expire, info = excluded.info`,
    sessions: `SELECT sid, expire, ${raw('info')} FROM ${t('session2')} ORDER BY sid`,
    removeSession: `DELETE FROM ${t('session2')} WHERE sid = ?`,
    // Owners have 64 bits, which only go as text or BigInt between SQLite and here.
    flocks: `SELECT sid, CAST(owner AS TEXT), ltype FROM ${t('flock')} WHERE inode = ?`,
    putFlock: `INSERT INTO ${t('flock')} (inode, sid, owner, ltype) VALUES (?,?,?,?)
      ON CONFLICT (inode, sid, owner) DO UPDATE SET ltype = excluded.ltype`,
    removeFlock: `DELETE FROM ${t('flock')} WHERE inode = ? AND sid = ? AND owner = ?`,
    removeFlocks: `DELETE FROM ${t('flock')} WHERE sid = ?`,
    plocks: `SELECT sid, CAST(owner AS TEXT), ${raw('records')} FROM ${t('plock')} WHERE inode = ?`,
    putPlock: `INSERT INTO ${t('plock')} (inode, sid, owner, records) VALUES (?,?,?,?)
      ON CONFLICT (inode, sid, owner) DO UPDATE SET records = excluded.records`,
    removePlock: `DELETE FROM ${t('plock')} WHERE inode = ? AND sid = ? AND owner = ?`,
    removePlocks: `DELETE FROM ${t('plock')} WHERE sid = ?`,
    flockedFiles: `SELECT DISTINCT ${ino('inode')} FROM ${t('flock')} WHERE sid = ?`,
    plockedFiles: `SELECT DISTINCT ${ino('inode')} FROM ${t('plock')} WHERE sid = ?`,

    getAcl: `SELECT id, ${acl} FROM ${t('acl')} WHERE id = ?`,
    acls: `SELECT id, ${acl} FROM ${t('acl')} ORDER BY id LIMIT ?`,
    addAcl: `INSERT INTO ${t('acl')} (owner, "group", mask, other, named_users, named_groups) VALUES (?,?,?,?,?,?) RETURNING id`,

    getSetting: `SELECT value FROM ${t('setting')} WHERE name = 'format'`,
    insertSetting: `INSERT INTO ${t('setting')} (name, value) VALUES ('format', ?)`,
    updateSetting: `UPDATE ${t('setting')} SET value = ? WHERE name = 'format'`,
  } as const;
}
