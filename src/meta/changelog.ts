/**
 * The change log of a volume, as its changes write it: each operation of the metadata adds an entry, the one that the official client
 * would, to its own transaction. So an entry is there exactly where its change is. Where the volume keeps no log, every method here
 * answers the same empty list.
 *
 * What is one change of ours and several of the official client's has several entries, in the order in which they would have been done:
 * - a slice with several parts is a WRITE for each (consecutive entries with the same slice, in the order of the list);
 * - a file without a name (O_TMPFILE) is made and unlinked while it is open, under the name `#<inode>`; naming it is a LINK;
 * - RENAME_WHITEOUT is a MOVE, and the CREATE of the device that takes the old name.
 * A MOVE that replaces nothing names no directory of the trash (the official client makes one in any case, and names it).
 * Usage of directories, quotas and the volume is not in the log, but where it was counted anew.
 *
 * Source: the JuiceFS format, §4.6 (the calls of genLog in pkg/meta/redis.go and sql.go of 1.4.1).
 */
import type { Clock } from '../lib/clock.ts';
import { FsError } from '../lib/errors.ts';
import { formatIno, type Ino } from '../lib/int64.ts';
import { escapeBytes, timeText } from './changelog-text.ts';
import type { LogWrite } from './engine.ts';
import { type QuotaKey, quotaTypes } from './quota.ts';
import { type Attr, LockType, type Moment, type NodeType, type SetAttr, type XattrMode } from './types.ts';

interface Place {
  readonly parent: Ino;
  readonly name: Buffer;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** As it was asked for: `umask` is not taken away yet. */
interface Node {
  readonly type: NodeType;
  readonly mode: number;
  readonly umask: number;
  /** Of a symbolic link. */
  readonly target?: Buffer;
}

type Entries = readonly LogWrite[];
const NONE: Entries = [];

/** Bits of SETATTR's mask. */
const Mask = { mode: 1, uid: 2, gid: 4, atime: 16, mtime: 32, atimeNow: 128, mtimeNow: 256, flags: 32_768 } as const;
/** Bits of CLONE's mode: attributes are those of the source. */
const PRESERVE = 2;
/** The bit of MOVE's flags that stands for a return from the trash. */
const RESTORE = 32;

const lockLetters = { [LockType.Read]: 'R', [LockType.Write]: 'W', [LockType.None]: 'U' } as const;

function maskOf({ mode, uid, gid, atime, mtime, flags }: SetAttr): number {
  return (
    (mode === undefined ? 0 : Mask.mode) |
    (uid === undefined ? 0 : Mask.uid) |
    (gid === undefined ? 0 : Mask.gid) |
    (atime === undefined ? 0 : Mask.atime) |
    (mtime === undefined ? 0 : Mask.mtime) |
    (atime === 'now' ? Mask.atimeNow : 0) |
    (mtime === 'now' ? Mask.mtimeNow : 0) |
    (flags === undefined ? 0 : Mask.flags)
  );
}

export class ChangeLog {
  /** Whether the volume keeps one. */
  on = false;
  readonly #clock: Clock;
  readonly #session: () => number;
  readonly #longest: number;
  #written = 0;

  /** `session` answers the session of this client, 0 while there is none; `longest` is what the database takes of an entry, bytes. */
  constructor(clock: Clock, session: () => number = () => 0, longest = Infinity) {
    this.#clock = clock;
    this.#session = session;
    this.#longest = longest;
  }

  #now(): Moment {
    const ns = this.#clock.nowNs();
    return { sec: Number(ns / 1_000_000_000n), nsec: Number(ns % 1_000_000_000n) };
  }

  /** Throws FsError E2BIG where the database does not take so long an entry. */
  #entry(operation: string, { sec, nsec } = this.#now(), session = this.#session()): Entries {
    const text = `${timeText(sec, nsec)}${operation}|(${session},${++this.#written})`;
    if (text.length > this.#longest)
      throw new FsError('E2BIG', `an entry of the change log has ${text.length} bytes, and the database takes ${this.#longest}`);
    return [{ kind: 'appendLog', head: text, tail: '' }];
  }

  create(place: Place, by: Owner, node: Node, touched: boolean, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    const { type, mode, umask, target } = node;
    const what = `${type},${mode & 0o7777},${umask},${target ? escapeBytes(target) : ''}`;
    const who = `${by.uid},${by.gid}`;
    const where = `${formatIno(place.parent)},${escapeBytes(place.name)}`;
    return this.#entry(`CREATE(${where},${who},${what},${process.platform},${touched}):${formatIno(ino)}`, now);
  }

  /** `trash`: the directory that has it now, or 0; `sustained`: it is kept while it is open. */
  unlink(place: Place, trash: Ino, sustained: boolean, touched: boolean, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    const where = `${formatIno(place.parent)},${escapeBytes(place.name)}`;
    return this.#entry(`UNLINK(${where},${formatIno(trash)},${sustained},${touched}):${formatIno(ino)}`, now);
  }

  rmdir(place: Place, trash: Ino, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    return this.#entry(`RMDIR(${formatIno(place.parent)},${escapeBytes(place.name)},${formatIno(trash)}):${formatIno(ino)}`, now);
  }

  /** The entries of O_TMPFILE. */
  unnamed(parent: Ino, by: Owner, node: Node, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    const place = { parent, name: Buffer.from(`#${formatIno(ino)}`) };
    return [...this.create(place, by, node, false, ino, now), ...this.unlink(place, 0 as Ino, true, false, ino, now)];
  }

  /** `replaced` and `trash` are 0 where there are none. */
  move(from: Place, to: Place, flags: number, restore: boolean, replaced: Ino, trash: Ino, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    const [source, target] = [from, to].map(({ parent, name }) => `${formatIno(parent)},${escapeBytes(name)}`);
    const how = `${flags | (restore ? RESTORE : 0)},${formatIno(replaced)},${formatIno(trash)}`;
    return this.#entry(`MOVE(${source},${target},${how}):${formatIno(ino)}`, now);
  }

  link(ino: Ino, place: Place, touched: boolean, nlink: number, now: Moment): Entries {
    if (!this.on) return NONE;
    return this.#entry(`LINK(${formatIno(ino)},${formatIno(place.parent)},${escapeBytes(place.name)},${touched}):${nlink}`, now);
  }

  /** The attributes as they are now; a change of owner may have taken bits from the mode. */
  setattr(ino: Ino, set: SetAttr, before: Attr, after: Attr): Entries {
    if (!this.on) return NONE;
    const { uid, gid, mode, flags, atime, mtime, atimensec, mtimensec, ctime, ctimensec, accessAcl } = after;
    const mask = maskOf(set) | (mode === before.mode ? 0 : Mask.mode);
    const values = [uid, gid, mode, flags, atime, mtime, atimensec, mtimensec, ctime, ctimensec, accessAcl];
    return this.#entry(`SETATTR(${formatIno(ino)},${mask},0,${values.join(',')})`, { sec: ctime, nsec: ctimensec });
  }

  /** A new access time: that of the entry. */
  access(ino: Ino, now: Moment): Entries {
    return this.on ? this.#entry(`ACCESS(${formatIno(ino)})`, now) : NONE;
  }

  /** `type`: 1 who may do what, 2 what new nodes in the directory get. */
  setAcl(ino: Ino, type: 1 | 2, rule: Buffer, now: Moment): Entries {
    return this.on ? this.#entry(`SETFACL(${formatIno(ino)},${type},${escapeBytes(rule)})`, now) : NONE;
  }

  setxattr(ino: Ino, name: string, value: Buffer, { create, replace }: XattrMode): Entries {
    if (!this.on) return NONE;
    const flags = create ? 1 : replace ? 2 : 0;
    return this.#entry(`SETXATTR(${formatIno(ino)},${escapeBytes(Buffer.from(name))},${escapeBytes(value)},${flags})`);
  }

  removexattr(ino: Ino, name: string): Entries {
    return this.on ? this.#entry(`REMOVEXATTR(${formatIno(ino)},${escapeBytes(Buffer.from(name))})`) : NONE;
  }

  /** A record of `len` bytes at `pos` of a chunk, with the slice's data. The result is how many records the chunk has now. */
  write(ino: Ino, index: number, pos: number, slice: number, len: number, after: Attr): Entries {
    if (!this.on) return NONE;
    const { mtime, mtimensec, ctime, ctimensec } = after;
    const head = `${timeText(ctime, ctimensec)}WRITE(${formatIno(ino)},${index},${pos},${slice},${len},${mtime},${mtimensec}):`;
    return [{ kind: 'appendLog', head, tail: `|(${this.#session()},${++this.#written})`, records: { ino, index } }];
  }

  /** `opened`: by somebody who has the file open. */
  truncate(ino: Ino, before: number, after: number, opened: boolean, now: Moment): Entries {
    return this.on ? this.#entry(`TRUNCATE(${formatIno(ino)},${before},${after},${opened ? 1 : 0})`, now) : NONE;
  }

  fallocate(ino: Ino, offset: number, size: number, mode: number, now: Moment): Entries {
    return this.on ? this.#entry(`FALLOCATE(${formatIno(ino)},${offset},${size},${mode})`, now) : NONE;
  }

  copyFileRange(from: Ino, offset: number, to: Ino, toOffset: number, size: number, length: number, now: Moment): Entries {
    if (!this.on) return NONE;
    return this.#entry(`COPYFILERANGE(${formatIno(from)},${offset},${formatIno(to)},${toOffset},${size}):${length}`, now);
  }

  /** `top`: the name that was asked for. */
  clone(source: Ino, place: Place, options: CloneRules, top: boolean, ino: Ino, now: Moment): Entries {
    if (!this.on) return NONE;
    const to = `${formatIno(place.parent)},${escapeBytes(place.name)},${formatIno(ino)}`;
    const how = `${options.preserve ? PRESERVE : 0},${options.umask},${top}`;
    return this.#entry(`CLONE(${formatIno(source)},${to},${how}):${formatIno(ino)}`, now);
  }

  /** A copied tree is whole, and gets its name. */
  attach(ino: Ino, place: Place, now: Moment): Entries {
    return this.on ? this.#entry(`ATTACH(${formatIno(ino)},${formatIno(place.parent)},${escapeBytes(place.name)})`, now) : NONE;
  }

  /** The top of a copy that nobody finished is gone. */
  cleanup(ino: Ino): Entries {
    return this.on ? this.#entry(`CLEANUP(${formatIno(ino)})`) : NONE;
  }

  flock(ino: Ino, owner: bigint, type: LockType): Entries {
    return this.on ? this.#entry(`FLOCK(${formatIno(ino)},${owner},${lockLetters[type]})`) : NONE;
  }

  /** The last byte of a lock to the end of any file is 2^63-1. */
  setlk(ino: Ino, owner: bigint, lock: RangeOf): Entries {
    if (!this.on) return NONE;
    const { type, start, end, pid } = lock;
    return this.#entry(`SETLK(${formatIno(ino)},${owner},${lockLetters[type]},${start},${end},${pid})`);
  }

  newSession(sid: number, expire: number, info: string): LogWrite | undefined {
    if (!this.on) return undefined;
    return this.#entry(`NEWSESSION(${sid},${expire},${escapeBytes(Buffer.from(info))})`, this.#now(), sid)[0];
  }

  cleanSession(sid: number): LogWrite | undefined {
    return this.on ? this.#entry(`CLEANSESSION(${sid})`)[0] : undefined;
  }

  /** A file without a name that a session kept is deleted. */
  deleteSustained(sid: number, ino: Ino): Entries {
    return this.on ? this.#entry(`DELSUSTAINED(${sid},${formatIno(ino)})`) : NONE;
  }

  deleteChunk(ino: Ino, index: number): Entries {
    return this.on ? this.#entry(`DELCHUNK(${formatIno(ino)},${index})`) : NONE;
  }

  /** The blocks of a slice are gone. */
  deleteSlice(id: number, size: number): Entries {
    return this.on ? this.#entry(`DELETESLICE(${id},${size})`) : NONE;
  }

  /** Behind `skipped` records of a chunk one takes the place of `count`, at `pos`. */
  compact(
    { ino, index, skipped, pos }: { readonly ino: Ino; readonly index: number; readonly skipped: number; readonly pos: number },
    count: number,
    slice: { readonly id: number; readonly size: number },
  ): Entries {
    if (!this.on) return NONE;
    return this.#entry(`COMPACTCHUNK(${formatIno(ino)},${index},${skipped},${count},${pos},${slice.id},${slice.size})`);
  }

  /** The slices that a compaction replaced are let go of: when their days are over, or by `gc`. */
  dropDelayed(id: number, time: number, by: 'age' | 'gc'): Entries {
    return this.on ? this.#entry(`CLEANUP_${by === 'gc' ? 'TRASH' : 'DELAYED'}_SLICES(${id},${time})`) : NONE;
  }

  /** The usage of a directory was counted anew. */
  dirStat(
    ino: Ino,
    { length, space, inodes }: { readonly length: number; readonly space: number; readonly inodes: number },
  ): Entries {
    return this.on ? this.#entry(`DIRSTAT(${formatIno(ino)},${length},${space},${inodes})`) : NONE;
  }

  /** The link count of a directory was counted anew, or the directory made again. */
  repairDirectory(ino: Ino): Entries {
    return this.on ? this.#entry(`REPAIRDIR(${formatIno(ino)})`) : NONE;
  }

  /** Limits as they were asked for; -1 is what stays as it is. */
  setQuota(quota: QuotaKey, space = -1, inodes = -1): Entries {
    return this.on ? this.#entry(`SETQUOTA(${quotaTypes[quota.kind]},${quotaId(quota)},${space},${inodes})`) : NONE;
  }

  removeQuota(quota: QuotaKey): Entries {
    return this.on ? this.#entry(`DELQUOTA(${quotaTypes[quota.kind]},${quotaId(quota)})`) : NONE;
  }

  /** A counter went on by so much. */
  addCounter(name: string, delta: number): Entries {
    return this.on ? this.#entry(`INCR_COUNTER(${name},${delta})`) : NONE;
  }

  /** A job was begun. */
  setCounter(name: string, value: number): Entries {
    return this.on ? this.#entry(`SET(${name},${value})`) : NONE;
  }

  /** Statistics of directories, or of users and groups, begin without old records. */
  startCounting(what: 'DIRSTATS' | 'USERGROUPQUOTA'): Entries {
    return this.on ? this.#entry(`INIT_ENABLE_${what}()`) : NONE;
  }
}

interface CloneRules {
  readonly preserve: boolean;
  readonly umask: number;
}

interface RangeOf {
  readonly type: LockType;
  readonly start: bigint;
  readonly end: bigint;
  readonly pid: number;
}

const quotaId = (quota: QuotaKey): string => (quota.kind === 'directory' ? formatIno(quota.id) : String(quota.id));
