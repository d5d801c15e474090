/**
 * The writes of a transaction as statements: one place for all SQL databases. Where they go is a sink: SQLite carries them
 * out at once, a server gets them together.
 */
import type { Ino } from '../../lib/int64.ts';
import type { Write } from '../engine.ts';
import { type QuotaKey, quotaTypes } from '../quota.ts';
import { SLICE_RECORD } from '../records.ts';
import { bindIno, bindNode, bindOwner, bindTime, type SqlValue } from './rows.ts';
import type { Statements } from './statements.ts';

/** Takes statements. R is the number that one yields, or what stands for it until it is known. */
export interface Sink<R> {
  /** Yields the number of rows that were changed. */
  run(statement: string, ...values: SqlValue[]): R;
  /** Yields the first column of the first row, 0 where there is none. */
  answer(statement: string, ...values: SqlValue[]): R;
  /** 0 */
  readonly nothing: R;
}

/** What is bound for a quota: its inode, or its type and number. */
export function bindQuota(quota: { readonly kind: QuotaKey['kind']; readonly id: number }): (number | bigint)[] {
  return quota.kind === 'directory' ? [bindIno(quota.id as Ino)] : [quotaTypes[quota.kind], quota.id];
}

/** Gives a write to the sink; yields what the seam says about the result of this kind. */
export function apply<R>(sink: Sink<R>, sql: Statements, write: Write): R {
  switch (write.kind) {
    case 'putNode':
      sink.run(sql.putNode, ...bindNode(write.ino, write.attr));
      return sink.nothing;
    case 'touchNode':
      return sink.run(sql.touchNode, ...bindTime(write.sec, write.nsec), write.nlink, bindIno(write.ino));
    case 'removeNode':
      sink.run(sql.removeNode, bindIno(write.ino));
      return sink.nothing;
    case 'putEntry':
      sink.run(sql.putEntry, bindIno(write.parent), write.name, bindIno(write.value.ino), write.value.type);
      return sink.nothing;
    case 'removeEntry':
      sink.run(sql.removeEntry, bindIno(write.parent), write.name);
      return sink.nothing;
    case 'addParent':
    case 'removeParents':
      // The parents of a file are its rows in `edge`.
      return sink.nothing;
    case 'putSymlink':
      sink.run(sql.putSymlink, bindIno(write.ino), write.target);
      return sink.nothing;
    case 'removeSymlink':
      sink.run(sql.removeSymlink, bindIno(write.ino));
      return sink.nothing;
    case 'putXattr':
      sink.run(sql.putXattr, bindIno(write.ino), write.name, write.value);
      return sink.nothing;
    case 'removeXattr':
      sink.run(sql.removeXattr, bindIno(write.ino), write.name);
      return sink.nothing;
    case 'removeXattrs':
      sink.run(sql.removeXattrs, bindIno(write.ino));
      return sink.nothing;
    case 'appendSlices': {
      const records = sink.answer(
        write.onlyExisting ? sql.appendExisting : sql.appendSlices,
        bindIno(write.ino),
        write.index,
        write.records,
      );
      if (write.newSlice) sink.run(sql.newSlice, write.newSlice.id, write.newSlice.size);
      return records;
    }
    case 'replaceSlices': {
      sink.run(sql.replaceSlices, bindIno(write.ino), write.index, write.records, write.count * SLICE_RECORD);
      if (write.records.length === 0) sink.run(sql.removeEmptyChunk, bindIno(write.ino), write.index);
      if (write.newSlice) sink.run(sql.newSlice, write.newSlice.id, write.newSlice.size);
      return sink.nothing;
    }
    case 'removeChunk':
      sink.run(sql.removeChunk, bindIno(write.ino), write.index);
      return sink.nothing;
    case 'addSliceRef':
      return sink.answer(sql.addSliceRef, write.id, write.size, write.delta);
    case 'forgetSlice':
      sink.run(sql.forgetSlice, write.id);
      return sink.nothing;
    case 'delaySlices':
      sink.run(sql.delaySlices, write.id, write.time, write.slices);
      return sink.nothing;
    case 'removeDelayed':
      sink.run(sql.removeDelayed, write.id, write.time);
      return sink.nothing;
    case 'addCounter':
      return sink.answer(sql.addCounter, write.name, write.delta);
    case 'setCounter':
      sink.run(sql.setCounter, write.name, write.value);
      return sink.nothing;
    case 'addDirStat':
      return sink.run(sql.addDirStat, write.delta.length, write.delta.space, write.delta.inodes, bindIno(write.ino));
    case 'putDirStat':
      sink.run(sql.putDirStat, write.value.length, write.value.space, write.value.inodes, bindIno(write.ino));
      return sink.nothing;
    case 'removeDirStat':
      sink.run(sql.removeDirStat, bindIno(write.ino));
      return sink.nothing;
    case 'removeDirStats':
      sink.run(sql.removeDirStats);
      return sink.nothing;
    case 'putQuota': {
      const directory = write.quota.kind === 'directory';
      const { limits, usage } = write;
      const values = [...bindQuota(write.quota), limits.space, limits.inodes];
      if (usage) sink.run(directory ? sql.putDirQuota : sql.putOwnerQuota, ...values, usage.space, usage.inodes);
      else sink.run(directory ? sql.putDirLimits : sql.putOwnerLimits, ...values);
      return sink.nothing;
    }
    case 'addQuotaUsage': {
      const statement = write.quota.kind === 'directory' ? sql.addDirQuotaUsage : sql.addOwnerQuotaUsage;
      sink.run(statement, ...bindQuota(write.quota), write.delta.space, write.delta.inodes);
      return sink.nothing;
    }
    case 'removeQuota':
      sink.run(write.quota.kind === 'directory' ? sql.removeDirQuota : sql.removeOwnerQuota, ...bindQuota(write.quota));
      return sink.nothing;
    case 'removeQuotas':
      sink.run(sql.removeOwnerQuotas, quotaTypes[write.of]);
      return sink.nothing;
    case 'putSetting':
      sink.run(sql.updateSetting, write.text);
      return sink.nothing;
    case 'addDelfile':
      sink.run(sql.addDelfile, bindIno(write.ino), write.length, write.time);
      return sink.nothing;
    case 'removeDelfile':
      sink.run(sql.removeDelfile, bindIno(write.ino));
      return sink.nothing;
    case 'addDetached':
      sink.run(sql.addDetached, bindIno(write.ino), write.time);
      return sink.nothing;
    case 'removeDetached':
      sink.run(sql.removeDetached, bindIno(write.ino));
      return sink.nothing;
    case 'addSustained':
      sink.run(sql.addSustained, write.sid, bindIno(write.ino));
      return sink.nothing;
    case 'removeSustained':
      sink.run(sql.removeSustained, write.sid, bindIno(write.ino));
      return sink.nothing;
    case 'putLock': {
      const holder = [bindIno(write.ino), write.sid, bindOwner(write.owner)];
      if (write.of === 'flock') sink.run(sql.putFlock, ...holder, write.value[0] ?? 0);
      else sink.run(sql.putPlock, ...holder, write.value);
      return sink.nothing;
    }
    case 'removeLock':
      sink.run(write.of === 'flock' ? sql.removeFlock : sql.removePlock, bindIno(write.ino), write.sid, bindOwner(write.owner));
      return sink.nothing;
    case 'announceLocks':
      return sink.nothing;
    case 'appendLog': {
      const { head, tail, records } = write;
      if (records) sink.run(sql.appendLogRecords, head, tail, bindIno(records.ino), records.index);
      else sink.run(sql.appendLog, head + tail);
      return sink.nothing;
    }
  }
}
