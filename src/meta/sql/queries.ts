/** The reads of the engine seam as statements, and their rows as values. */
import type { Read, ValueOf } from '../engine.ts';
import { aclAt, attrAt, bindIno, bytesAt, entryAt, inoAt, lockAt, numberAt, quotaAt, type Row, type SqlValue } from './rows.ts';
import type { Statements } from './statements.ts';
import { bindQuota } from './writes.ts';

export interface Query {
  readonly text: string;
  readonly values: readonly SqlValue[];
}

/** The statement that reads a value. */
export function queryOf(sql: Statements, read: Read): Query {
  switch (read.kind) {
    case 'node':
      return { text: sql.getNode, values: [bindIno(read.ino)] };
    case 'entry':
      return { text: sql.getEntry, values: [bindIno(read.parent), read.name] };
    case 'symlink':
      return { text: sql.getSymlink, values: [bindIno(read.ino)] };
    case 'xattr':
      return { text: sql.getXattr, values: [bindIno(read.ino), read.name] };
    case 'xattrNames':
      return { text: sql.xattrNames, values: [bindIno(read.ino)] };
    case 'chunk':
      return { text: sql.getChunk, values: [bindIno(read.ino), read.index] };
    case 'parents':
      return { text: sql.getParents, values: [bindIno(read.ino)] };
    case 'entryCount':
      return { text: sql.countEntries, values: [bindIno(read.ino)] };
    case 'counter':
      return { text: sql.getCounter, values: [read.name] };
    case 'dirStat':
      return { text: sql.getDirStat, values: [bindIno(read.ino)] };
    case 'locks':
      return { text: read.of === 'flock' ? sql.flocks : sql.plocks, values: [bindIno(read.ino)] };
    case 'acl':
      return { text: sql.getAcl, values: [read.id] };
    case 'quota':
      return { text: read.quota.kind === 'directory' ? sql.getDirQuota : sql.getOwnerQuota, values: bindQuota(read.quota) };
  }
}

/** What the rows of that statement mean. Throws RangeError where they hold what cannot be. */
export function valueOf(read: Read, rows: readonly Row[]): ValueOf[Read['kind']] {
  const [row] = rows;
  switch (read.kind) {
    case 'node':
      return row && attrAt(row, 0);
    case 'entry':
      return row && entryAt(row, 0);
    case 'symlink':
    case 'xattr':
      return row && bytesAt(row, 0);
    case 'xattrNames':
      return rows.map(([name]) => String(name));
    case 'chunk':
      return row ? bytesAt(row, 0) : Buffer.alloc(0);
    case 'parents':
      return new Map(rows.map((each) => [inoAt(each, 0), numberAt(each, 1)]));
    case 'entryCount':
    case 'counter':
      return row ? numberAt(row, 0) : 0;
    case 'dirStat':
      return row && { length: numberAt(row, 0), space: numberAt(row, 1), inodes: numberAt(row, 2) };
    case 'locks':
      return rows.map(lockAt);
    case 'acl':
      return row && aclAt(row);
    case 'quota':
      return row && quotaAt(row, 0, read.quota);
  }
}
