/** What an engine must do, in the plainest way: a map of values by a name for each. The engine suite compares with it. */
import type {
  Check,
  CommitResult,
  DirStat,
  EntryValue,
  LockRecord,
  Read,
  Transaction,
  ValueOf,
  Write,
} from '../../src/meta/engine.ts';
import type { QuotaKey, QuotaRecord } from '../../src/meta/quota.ts';
import type { Attr, LockedFile } from '../../src/meta/types.ts';

const RECORD = 24;
const accessFields = ['flags', 'type', 'mode', 'uid', 'gid', 'parent', 'accessAcl', 'defaultAcl', 'tier'] as const;

const fileName = ({ of, ino }: LockedFile): string => `${of}/${ino}`;
const holderName = ({ sid, owner }: Pick<LockRecord, 'sid' | 'owner'>): string => `${sid}/${owner}`;
const quotaName = ({ kind, id }: QuotaKey): string => `${kind}/${id}`;

export class ReferenceEngine {
  readonly nodes = new Map<number, Attr>();
  /** By parent, then by the name's bytes as Latin-1. */
  readonly entries = new Map<number, Map<string, EntryValue>>();
  readonly symlinks = new Map<number, Buffer>();
  readonly xattrs = new Map<number, Map<string, Buffer>>();
  readonly chunks = new Map<string, Buffer>();
  readonly counters = new Map<string, number>();
  readonly dirStats = new Map<number, DirStat>();
  readonly quotas = new Map<string, QuotaRecord>();
  setting = '';
  /** Slices whose references are not simply one. */
  readonly references = new Map<number, { readonly size: number; readonly count: number }>();
  readonly log: string[] = [];
  readonly delayed = new Map<number, { readonly time: number; readonly slices: Buffer }>();
  readonly delfiles = new Map<number, { readonly length: number; readonly time: number }>();
  readonly sustained = new Set<string>();
  readonly detached = new Map<number, number>();
  /** By file and kind, then by session and owner. */
  readonly locks = new Map<string, Map<string, LockRecord>>();

  read(read: Read): ValueOf[Read['kind']] {
    switch (read.kind) {
      case 'node':
        return this.nodes.get(read.ino);
      case 'entry':
        return this.entries.get(read.parent)?.get(read.name.toString('latin1'));
      case 'symlink':
        return this.symlinks.get(read.ino);
      case 'xattr':
        return this.xattrs.get(read.ino)?.get(read.name);
      case 'xattrNames':
        return [...(this.xattrs.get(read.ino)?.keys() ?? [])];
      case 'chunk':
        return this.chunks.get(`${read.ino}/${read.index}`) ?? Buffer.alloc(0);
      case 'entryCount':
        return this.entries.get(read.ino)?.size ?? 0;
      case 'counter':
        return this.counters.get(read.name) ?? 0;
      case 'dirStat':
        return this.dirStats.get(read.ino);
      case 'quota':
        return this.quotas.get(quotaName(read.quota));
      case 'locks':
        return [...(this.locks.get(fileName(read))?.values() ?? [])];
      case 'acl':
      case 'parents':
        throw new Error(`${read.kind} is tested by itself: engines keep it in different ways`);
    }
  }

  #holds(check: Check): boolean {
    switch (check.kind) {
      case 'node': {
        const found = this.nodes.get(check.ino);
        if (!found || !check.expect) return found === check.expect;
        const expect = check.expect;
        if (check.scope === 'exists') return true;
        const fields = check.scope === 'all' ? (Object.keys(found) as (keyof Attr)[]) : accessFields;
        return fields.every((field) => found[field] === expect[field]);
      }
      case 'entry': {
        const found = this.entries.get(check.parent)?.get(check.name.toString('latin1'));
        return found?.ino === check.expect?.ino && found?.type === check.expect?.type;
      }
      case 'emptyDirectory':
        return (this.entries.get(check.ino)?.size ?? 0) === 0;
      case 'xattr':
        return (this.xattrs.get(check.ino)?.has(check.name) ?? false) === (check.expect === 'present');
      case 'chunkPrefix': {
        const found = this.chunks.get(`${check.ino}/${check.index}`) ?? Buffer.alloc(0);
        return check.whole ? found.equals(check.records) : found.subarray(0, check.records.length).equals(check.records);
      }
      case 'delayed':
        return this.delayed.get(check.id)?.time === check.time;
      case 'quotaLimits': {
        const found = this.quotas.get(quotaName(check.quota))?.limits;
        return found?.space === check.expect?.space && found?.inodes === check.expect?.inodes;
      }
      case 'locks': {
        const found = this.locks.get(fileName(check)) ?? new Map<string, LockRecord>();
        return (
          found.size === check.expect.length &&
          check.expect.every((lock) => found.get(holderName(lock))?.value.equals(lock.value))
        );
      }
      case 'setting':
        return this.setting === check.expect;
      case 'counterAtMost':
        return (this.counters.get(check.name) ?? 0) <= check.value;
    }
  }

  #addReference(id: number, size: number, delta: number): number {
    const count = (this.references.get(id)?.count ?? 1) + delta;
    this.references.set(id, { size, count });
    return count;
  }

  #write(write: Write): number {
    switch (write.kind) {
      case 'putNode':
        this.nodes.set(write.ino, write.attr);
        return 0;
      case 'touchNode': {
        const attr = this.nodes.get(write.ino);
        if (!attr) return 0;
        const { sec, nsec } = write;
        this.nodes.set(write.ino, {
          ...attr,
          mtime: sec,
          mtimensec: nsec,
          ctime: sec,
          ctimensec: nsec,
          nlink: attr.nlink + write.nlink,
        });
        return 1;
      }
      case 'removeNode':
        this.nodes.delete(write.ino);
        return 0;
      case 'putEntry': {
        const names = this.entries.get(write.parent) ?? new Map<string, EntryValue>();
        this.entries.set(write.parent, names.set(write.name.toString('latin1'), write.value));
        return 0;
      }
      case 'removeEntry':
        this.entries.get(write.parent)?.delete(write.name.toString('latin1'));
        return 0;
      case 'addParent':
      case 'removeParents':
        return 0;
      case 'putSymlink':
        this.symlinks.set(write.ino, write.target);
        return 0;
      case 'removeSymlink':
        this.symlinks.delete(write.ino);
        return 0;
      case 'putXattr':
        this.xattrs.set(write.ino, (this.xattrs.get(write.ino) ?? new Map<string, Buffer>()).set(write.name, write.value));
        return 0;
      case 'removeXattr':
        this.xattrs.get(write.ino)?.delete(write.name);
        return 0;
      case 'removeXattrs':
        this.xattrs.delete(write.ino);
        return 0;
      case 'appendSlices': {
        const key = `${write.ino}/${write.index}`;
        const found = this.chunks.get(key);
        if (!found && write.onlyExisting) return 0;
        const list = Buffer.concat([found ?? Buffer.alloc(0), write.records]);
        this.chunks.set(key, list);
        return list.length / RECORD;
      }
      case 'replaceSlices': {
        const key = `${write.ino}/${write.index}`;
        const rest = (this.chunks.get(key) ?? Buffer.alloc(0)).subarray(write.count * RECORD);
        this.chunks.set(key, Buffer.concat([write.records, rest]));
        return 0;
      }
      case 'removeChunk':
        this.chunks.delete(`${write.ino}/${write.index}`);
        return 0;
      case 'addSliceRef':
        return this.#addReference(write.id, write.size, write.delta);
      case 'forgetSlice':
        this.references.delete(write.id);
        return 0;
      case 'delaySlices':
        this.delayed.set(write.id, { time: write.time, slices: write.slices });
        return 0;
      case 'removeDelayed':
        this.delayed.delete(write.id);
        return 0;
      case 'addCounter': {
        const value = (this.counters.get(write.name) ?? 0) + write.delta;
        this.counters.set(write.name, value);
        return value;
      }
      case 'setCounter':
        this.counters.set(write.name, write.value);
        return 0;
      case 'addDirStat': {
        const found = this.dirStats.get(write.ino);
        if (!found) return 0;
        const { length, space, inodes } = write.delta;
        this.dirStats.set(write.ino, {
          length: found.length + length,
          space: found.space + space,
          inodes: found.inodes + inodes,
        });
        return 1;
      }
      case 'putDirStat':
        this.dirStats.set(write.ino, write.value);
        return 0;
      case 'removeDirStat':
        this.dirStats.delete(write.ino);
        return 0;
      case 'removeDirStats':
        this.dirStats.clear();
        return 0;
      case 'putQuota': {
        const used = write.usage ?? this.quotas.get(quotaName(write.quota))?.used ?? { space: 0, inodes: 0 };
        this.quotas.set(quotaName(write.quota), { quota: write.quota, limits: write.limits, used });
        return 0;
      }
      case 'addQuotaUsage': {
        const found = this.quotas.get(quotaName(write.quota));
        if (!found && write.quota.kind === 'directory') return 0;
        const { limits, used } = found ?? { limits: { space: -1, inodes: -1 }, used: { space: 0, inodes: 0 } };
        this.quotas.set(quotaName(write.quota), {
          quota: write.quota,
          limits,
          used: { space: used.space + write.delta.space, inodes: used.inodes + write.delta.inodes },
        });
        return 0;
      }
      case 'removeQuota':
        this.quotas.delete(quotaName(write.quota));
        return 0;
      case 'removeQuotas':
        for (const [key, { quota }] of this.quotas) if (quota.kind === write.of) this.quotas.delete(key);
        return 0;
      case 'putSetting':
        this.setting = write.text;
        return 0;
      case 'addDelfile':
        this.delfiles.set(write.ino, { length: write.length, time: write.time });
        return 0;
      case 'removeDelfile':
        this.delfiles.delete(write.ino);
        return 0;
      case 'addDetached':
        this.detached.set(write.ino, write.time);
        return 0;
      case 'removeDetached':
        this.detached.delete(write.ino);
        return 0;
      case 'addSustained':
        this.sustained.add(`${write.sid}/${write.ino}`);
        return 0;
      case 'removeSustained':
        this.sustained.delete(`${write.sid}/${write.ino}`);
        return 0;
      case 'putLock': {
        const { sid, owner, value } = write;
        const locks = this.locks.get(fileName(write)) ?? new Map<string, LockRecord>();
        this.locks.set(fileName(write), locks.set(holderName(write), { sid, owner, value }));
        return 0;
      }
      case 'removeLock':
        this.locks.get(fileName(write))?.delete(holderName(write));
        return 0;
      case 'announceLocks':
        return 0;
      case 'appendLog':
        this.log.push(write.head + write.tail);
        return 0;
    }
  }

  commit({ checks, writes }: Transaction): CommitResult {
    const failed = checks.flatMap((check, index) => (this.#holds(check) ? [] : [index]));
    if (failed.length === 0) return { ok: true, results: writes.map((write) => this.#write(write)) };
    const current = checks.map((check) =>
      check.kind === 'node' || check.kind === 'entry' ? (this.read(check) as Attr) : undefined,
    );
    return { ok: false, failed, current };
  }
}
