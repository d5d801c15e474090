/**
 * Names of the keys of a volume on Redis. All key names are made here; `prefix` is empty, or a hash tag in a cluster.
 * Source: the JuiceFS format, Redis key space.
 */
import { formatIno, type Ino, parseIno } from '../../lib/int64.ts';
import type { QuotaKey } from '../quota.ts';
import type { LockedFile } from '../types.ts';

/** The counters whose key is not their name. */
const counterKeys: Readonly<Record<string, string>> = {
  nextInode: 'nextinode',
  nextChunk: 'nextchunk',
  nextSession: 'nextsession',
};

/** Three hashes, each by inode, uid or gid. */
export interface QuotaKeys {
  readonly limits: string;
  readonly space: string;
  readonly inodes: string;
}

export class Keys {
  readonly prefix: string;
  readonly setting: string;
  readonly sliceRefs: string;
  readonly delayed: string;
  readonly delfiles: string;
  readonly detached: string;
  readonly sessions: string;
  readonly sessionInfos: string;
  readonly dirLength: string;
  readonly dirSpace: string;
  readonly dirInodes: string;
  readonly acls: string;
  /** The change log, and the number of its newest entry. */
  readonly log: string;
  readonly logNumber: string;
  readonly quotas: Readonly<Record<QuotaKey['kind'], QuotaKeys>>;

  readonly #channels: string;

  /** `scope` tells the volume from others of the same server, whatever database they are in: channels know no databases. */
  constructor(prefix = '', scope = '') {
    this.prefix = prefix;
    this.#channels = `juicepod:${scope}:${prefix}`;
    this.setting = `${prefix}setting`;
    this.sliceRefs = `${prefix}sliceRef`;
    this.delayed = `${prefix}delSlices`;
    this.delfiles = `${prefix}delfiles`;
    this.detached = `${prefix}detachedNodes`;
    this.sessions = `${prefix}allSessions`;
    this.sessionInfos = `${prefix}sessionInfos`;
    this.dirLength = `${prefix}dirDataLength`;
    this.dirSpace = `${prefix}dirUsedSpace`;
    this.dirInodes = `${prefix}dirUsedInodes`;
    this.acls = `${prefix}acl`;
    this.log = `${prefix}txnLog`;
    this.logNumber = `${prefix}txnLastLog`;
    const quotaKeys = (name: string): QuotaKeys => ({
      limits: `${prefix}${name}`,
      space: `${prefix}${name}UsedSpace`,
      inodes: `${prefix}${name}UsedInodes`,
    });
    this.quotas = { directory: quotaKeys('dirQuota'), user: quotaKeys('userQuota'), group: quotaKeys('groupQuota') };
  }

  node(ino: Ino): string {
    return `${this.prefix}i${formatIno(ino)}`;
  }
  directory(ino: Ino): string {
    return `${this.prefix}d${formatIno(ino)}`;
  }
  parents(ino: Ino): string {
    return `${this.prefix}p${formatIno(ino)}`;
  }
  chunk(ino: Ino, index: number): string {
    return `${this.prefix}c${formatIno(ino)}_${index}`;
  }
  symlink(ino: Ino): string {
    return `${this.prefix}s${formatIno(ino)}`;
  }
  xattr(ino: Ino): string {
    return `${this.prefix}x${formatIno(ino)}`;
  }
  counter(name: string): string {
    return this.prefix + (counterKeys[name] ?? name);
  }
  sustained(sid: number): string {
    return `${this.prefix}session${sid}`;
  }
  /** Matches the sets of files that sessions keep. */
  get anySustained(): string {
    return `${this.prefix}session[0-9]*`;
  }
  locked(sid: number): string {
    return `${this.prefix}locked${sid}`;
  }
  locks({ of, ino }: LockedFile): string {
    return `${this.prefix}lock${of === 'flock' ? 'f' : 'p'}${formatIno(ino)}`;
  }
  /** The channel on which released locks of a file are announced. */
  lockChannel({ of, ino }: LockedFile): string {
    return `${this.#channels}lock${of === 'flock' ? 'f' : 'p'}${formatIno(ino)}`;
  }
  /**
   * The marks of one client's last transactions (commit.lua). JuiceFS tells keys apart by their first letter and knows none
   * that begins with z.
   */
  marks(client: string): string {
    return `${this.prefix}zcommit:${client}`;
  }
}

/** Every key of a volume without the prefix, and our own marks of commits. */
const volumeKey =
  /^(setting|[idpsx]\d+|c\d+_\d+|k\d+_\d+|lock[fp]\d+|locked\d+|session\d+|allSessions|sessionInfos|sessions|next(inode|chunk|session|Trash|CleanupSlices)|usedSpace|totalInodes|aclMaxId|krbTokenMaxId|lastCleanup\w+|delfiles|delSlices|sliceRef|detachedNodes|dirDataLength|dirUsed(Space|Inodes)|(dir|user|group)Quota(Used(Space|Inodes))?|acl|krbToken|txnLog|txnLastLog|zcommit:.*)$/;

/** True for a key that belongs to a volume; `key` is without the prefix. */
export function isVolumeKey(key: string): boolean {
  return volumeKey.test(key);
}

/** The field of a quota in its hashes. */
export function quotaField(quota: QuotaKey): string {
  return quota.kind === 'directory' ? formatIno(quota.id) : String(quota.id);
}

/** The field of a lock's owner in the hash of its file. */
export function lockField(sid: number, owner: bigint): string {
  return `${sid}_${owner.toString(16).toUpperCase().padStart(16, '0')}`;
}

/** Reads the field of a lock's owner, or undefined where it is something else. */
export function parseLockField(field: string): { readonly sid: number; readonly owner: bigint } | undefined {
  const match = /^(\d+)_([0-9A-Fa-f]{1,16})$/.exec(field);
  return match ? { sid: Number(match[1]), owner: BigInt(`0x${match[2]}`) } : undefined;
}

/** Reads the key of a file's locks without the prefix, or undefined where it is something else. */
export function parseLocksKey(key: string): LockedFile | undefined {
  const match = /^lock([fp])(\d+)$/.exec(key);
  return match ? { of: match[1] === 'f' ? 'flock' : 'posix', ino: parseIno(match[2] ?? '') } : undefined;
}

/** The field of a slice in `sliceRef`. */
export function sliceField(id: number, size: number): string {
  return `k${id}_${size}`;
}

/** Reads the field of a slice in `sliceRef`, or undefined where it is something else. */
export function parseSliceField(field: string): { readonly id: number; readonly size: number } | undefined {
  const match = /^k(\d+)_(\d+)$/.exec(field);
  return match ? { id: Number(match[1]), size: Number(match[2]) } : undefined;
}
