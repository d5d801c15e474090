/**
 * The plan: what the webhook decided and the client follows, as JSON in the pod's annotation `juicepod.io/plan`. It holds no
 * secret. The client reads it whenever it starts, and when it changes. Parsed by hand: the client does not load a schema library.
 */
import { UserError } from '../lib/errors.ts';

export interface PlanMount {
  /** Names the mount within the pod: `0`, `1`, … */
  readonly id: string;
  /** `namespace/name` of the JuiceVolume, for people and metrics. */
  readonly volume: string;
  /** Path of volume.json in the client's container. */
  readonly config: string;
  /** Where the client mounts, in its container. */
  readonly target: string;
  /** Directory inside the volume that is mounted; empty for the whole volume. No leading slash. */
  readonly subPath: string;
  /** How the directory `subPath` is made where it is missing. Absent: for everybody to write into. */
  readonly directory?: PlanDirectory;
  readonly readOnly: boolean;
  /** How the application gets the files. @default 'fuse' */
  readonly mode?: 'fuse' | 'sync';
  /** Only with mode `sync`; what is absent has its default. */
  readonly sync?: SyncPlan;
}

/** Owner and mode of a directory that is made. */
export interface PlanDirectory {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits, at most 0o7777. */
  readonly mode: number;
}

/** What the sync sidecar is told of one mount (docs/sync.md). */
export interface SyncPlan {
  /** Globs of what is hydrated, relative to the mounted directory. Absent: everything. */
  readonly include?: readonly string[];
  /** Globs of what is not, though it is included. */
  readonly exclude?: readonly string[];
  /** The most that may lie on the pod's disk, MiB. Absent: what is free there. */
  readonly limitMiB?: number;
  /** Seconds for the last write-back when the pod ends. @default 50 */
  readonly flushSeconds?: number;
  /** Seconds between two comparisons of both trees; 0: only events are written back. @default 60 */
  readonly scanSeconds?: number;
  /** Seconds after which a file that stays open for writing is written back all the same. @default 60 */
  readonly writerSeconds?: number;
  /** Who else must be able to write what is hydrated: nobody (same user), the group of the pod's files, everybody. @default 'none' */
  readonly share?: 'none' | 'group' | 'all';
}

/** Globs in one list. */
const MAX_GLOBS = 64;

/** The cache of blocks on disk. */
export interface PlanCache {
  readonly directory: string;
  readonly sizeMiB: number;
  readonly freeSpaceRatio: number;
  /** What makes room for new blocks. @default '2-random' */
  readonly eviction?: 'none' | 'lru';
  /** Seconds after which blocks that are not used are dropped. Absent: never. */
  readonly expire?: number;
  /** What of a cached block is checked. @default 'extend' */
  readonly checksum?: 'none' | 'full' | 'shrink';
}

export interface Plan {
  readonly version: 1;
  /** `namespace/name` of the JuiceCachePolicy that the pod chose itself. Absent: that of its volumes. */
  readonly policy?: string;
  readonly mounts: readonly PlanMount[];
  /** Absent: no cache on disk. */
  readonly cache?: PlanCache;
  /** Written blocks go to the cache directory first and are uploaded later. Absent: they are uploaded at once. Only with `cache`. */
  readonly writeback?: {
    /** Staged at most, by all mounts together. */
    readonly maxStagingMiB: number;
    /** Seconds that a block stays before it is uploaded. */
    readonly uploadDelay: number;
    /** Seconds for which a client that is told to end uploads what is staged. */
    readonly drainTimeout: number;
  };
  /** Where written data lies until it is stored, so that it outlives the client. Absent: it does not. */
  readonly journal?: string;
  readonly bufferMiB: number;
  readonly readaheadMiB: number;
  /** Seconds, as all four. */
  readonly attrTTL: number;
  readonly entryTTL: number;
  readonly dirEntryTTL: number;
  readonly negativeTTL: number;
  /** Seconds for which a file may be opened again without asking the database. Absent: not at all. */
  readonly openCache?: number;
  readonly maxUploads: number;
  readonly maxDownloads: number;
  /** Bytes per second, of all mounts together. Absent: as each volume's settings say. */
  readonly uploadLimit?: number;
  readonly downloadLimit?: number;
  /** Operations on names and attributes per second, of all mounts together. Absent: no limit. */
  readonly maxMetadataOps?: number;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
}

/** More mounts in one pod than anybody wants; bounds what an annotation can make the client do. */
const MAX_MOUNTS = 16;

type Json = Readonly<Record<string, unknown>>;

function fail(where: string, wanted: string, found: unknown): never {
  const shown = JSON.stringify(found) ?? 'nothing';
  throw new UserError(
    'InvalidPlan',
    `plan: ${where} must be ${wanted}, found ${shown.length > 80 ? `${shown.slice(0, 80)}…` : shown}`,
  );
}

function object(value: unknown, where: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(where, 'an object', value);
  return value as Json;
}

function string(value: unknown, where: string, pattern: RegExp, wanted: string): string {
  if (typeof value !== 'string' || value.length > 4096 || !pattern.test(value)) fail(where, wanted, value);
  return value;
}

function number(value: unknown, where: string, min: number, max: number, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number' || !(value >= min && value <= max)) fail(where, `a number from ${min} to ${max}`, value);
  return value;
}

const ABSOLUTE = /^\/(?!.*(^|\/)\.\.(\/|$))[^\0]*$/;
// A directory inside the volume: relative, without empty, `.` or `..` parts.
const INSIDE = /^(?:(?!\.{1,2}(?:\/|$))[^/\0]+(?:\/(?!\.{1,2}(?:\/|$)|$)[^/\0]+)*)?$/;

/** True for a directory inside a volume as a plan may name it: relative, normalised; empty for the root. */
export function isSubPath(path: string): boolean {
  return INSIDE.test(path);
}

function directoryOf(value: unknown, where: string): PlanDirectory {
  const raw = object(value, where);
  const whole = (name: string, max: number): number => {
    const found = raw[name];
    return Number.isInteger(found)
      ? number(found, `${where}.${name}`, 0, max, 0)
      : fail(`${where}.${name}`, 'a whole number', found);
  };
  return { uid: whole('uid', 2 ** 32 - 2), gid: whole('gid', 2 ** 32 - 2), mode: whole('mode', 0o7777) };
}

function globs(value: unknown, where: string): readonly string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_GLOBS)
    fail(where, `a list of 1 to ${MAX_GLOBS} globs`, value);
  return value.map((glob, index) => string(glob, `${where}[${index}]`, /^[^/\0][^\0]*$/, 'a relative glob'));
}

function syncOf(value: unknown, where: string): SyncPlan {
  const raw = object(value, where);
  const include = globs(raw['include'], `${where}.include`);
  const exclude = globs(raw['exclude'], `${where}.exclude`);
  const share = raw['share'];
  if (share !== undefined && share !== 'none' && share !== 'group' && share !== 'all')
    fail(`${where}.share`, 'none, group or all', share);
  const seconds = (name: 'flushSeconds' | 'scanSeconds' | 'writerSeconds', min: number): Partial<SyncPlan> =>
    raw[name] === undefined ? {} : { [name]: number(raw[name], `${where}.${name}`, min, 86_400, 0) };
  return {
    ...(include ? { include } : {}),
    ...(exclude ? { exclude } : {}),
    ...(raw['limitMiB'] === undefined ? {} : { limitMiB: number(raw['limitMiB'], `${where}.limitMiB`, 1, 2 ** 26, 0) }),
    ...seconds('flushSeconds', 1),
    ...seconds('scanSeconds', 0),
    ...seconds('writerSeconds', 1),
    ...(share === undefined ? {} : { share }),
  };
}

function mount(value: unknown, where: string): PlanMount {
  const raw = object(value, where);
  if (raw['readOnly'] !== undefined && typeof raw['readOnly'] !== 'boolean')
    fail(`${where}.readOnly`, 'true or false', raw['readOnly']);
  const mode = raw['mode'];
  if (mode !== undefined && mode !== 'fuse' && mode !== 'sync') fail(`${where}.mode`, 'fuse or sync', mode);
  return {
    id: string(raw['id'], `${where}.id`, /^[0-9a-z-]{1,16}$/, 'a short name'),
    volume: string(raw['volume'], `${where}.volume`, /^[^/]+\/[^/]+$/, 'namespace/name'),
    config: string(raw['config'], `${where}.config`, ABSOLUTE, 'an absolute path'),
    target: string(raw['target'], `${where}.target`, ABSOLUTE, 'an absolute path'),
    subPath: string(raw['subPath'] ?? '', `${where}.subPath`, INSIDE, 'a relative path without . and ..'),
    ...(raw['directory'] === undefined ? {} : { directory: directoryOf(raw['directory'], `${where}.directory`) }),
    readOnly: raw['readOnly'] === true,
    ...(mode === undefined ? {} : { mode }),
    ...(raw['sync'] === undefined ? {} : { sync: syncOf(raw['sync'], `${where}.sync`) }),
  };
}

/** One of those; undefined where it is absent, or the default. */
function oneOf<T extends string>(value: unknown, where: string, all: readonly T[], usual: string): T | undefined {
  if (value === undefined || value === usual) return undefined;
  return all.find((each) => each === value) ?? fail(where, [...all, usual].join(', '), value);
}

function cacheOf(raw: Json): PlanCache {
  const eviction = oneOf(raw['eviction'], 'cache.eviction', ['none', 'lru'], '2-random');
  const expire = number(raw['expire'], 'cache.expire', 0, 31_536_000, 0);
  const checksum = oneOf(raw['checksum'], 'cache.checksum', ['none', 'full', 'shrink'], 'extend');
  return {
    directory: string(raw['directory'], 'cache.directory', ABSOLUTE, 'an absolute path'),
    sizeMiB: number(raw['sizeMiB'], 'cache.sizeMiB', 1, 2 ** 26, 4096),
    freeSpaceRatio: number(raw['freeSpaceRatio'], 'cache.freeSpaceRatio', 0, 0.95, 0.1),
    ...(eviction === undefined ? {} : { eviction }),
    ...(expire === 0 ? {} : { expire }),
    ...(checksum === undefined ? {} : { checksum }),
  };
}

/**
 * Reads a plan. Members it does not know are ignored (a newer webhook may have written them); optional ones get their default.
 * Throws UserError `InvalidPlan` that names the member, what was wanted and what was found.
 */
export function parsePlan(text: string): Plan {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError('InvalidPlan', 'plan: not JSON', { cause });
  }
  const raw = object(json, 'the plan');
  if (raw['version'] !== 1) fail('version', '1 (is the client’s image older than the webhook?)', raw['version']);
  const list = raw['mounts'];
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_MOUNTS) fail('mounts', `a list of 1 to ${MAX_MOUNTS}`, list);
  const mounts = list.map((each, index) => mount(each, `mounts[${index}]`));
  for (const member of ['id', 'target'] as const) {
    const twice = mounts.find((each, index) => mounts.findIndex((other) => other[member] === each[member]) !== index);
    if (twice) fail(`mounts[].${member}`, 'different in every mount', twice[member]);
  }
  const cache = raw['cache'] === undefined ? undefined : object(raw['cache'], 'cache');
  const writeback = raw['writeback'] === undefined ? undefined : object(raw['writeback'], 'writeback');
  if (writeback && !cache) fail('cache', 'there where writeback is', undefined);
  const rate = <K extends string>(member: K): { readonly [k in K]?: number } =>
    raw[member] === undefined ? {} : ({ [member]: number(raw[member], member, 1, 2 ** 50, 1) } as { readonly [k in K]: number });
  const level = raw['logLevel'] ?? 'info';
  if (level !== 'debug' && level !== 'info' && level !== 'warn' && level !== 'error')
    fail('logLevel', 'debug, info, warn or error', level);
  const policy = raw['policy'];
  return {
    version: 1,
    ...(policy === undefined ? {} : { policy: string(policy, 'policy', /^[^/]+\/[^/]+$/, 'namespace/name') }),
    mounts,
    ...(cache ? { cache: cacheOf(cache) } : {}),
    ...(writeback
      ? {
          writeback: {
            maxStagingMiB: number(writeback['maxStagingMiB'], 'writeback.maxStagingMiB', 1, 2 ** 26, 4096),
            uploadDelay: number(writeback['uploadDelay'], 'writeback.uploadDelay', 0, 86_400, 0),
            drainTimeout: number(writeback['drainTimeout'], 'writeback.drainTimeout', 0, 3600, 60),
          },
        }
      : {}),
    ...(raw['journal'] === undefined ? {} : { journal: string(raw['journal'], 'journal', ABSOLUTE, 'an absolute path') }),
    bufferMiB: number(raw['bufferMiB'], 'bufferMiB', 32, 65_536, 300),
    readaheadMiB: number(raw['readaheadMiB'], 'readaheadMiB', 0, 4096, 32),
    attrTTL: number(raw['attrTTL'], 'attrTTL', 0, 3600, 1),
    entryTTL: number(raw['entryTTL'], 'entryTTL', 0, 3600, 1),
    dirEntryTTL: number(raw['dirEntryTTL'], 'dirEntryTTL', 0, 3600, 1),
    negativeTTL: number(raw['negativeTTL'], 'negativeTTL', 0, 3600, 0),
    ...(raw['openCache'] === undefined ? {} : { openCache: number(raw['openCache'], 'openCache', 0, 3600, 0) }),
    maxUploads: number(raw['maxUploads'], 'maxUploads', 1, 1000, 20),
    maxDownloads: number(raw['maxDownloads'], 'maxDownloads', 1, 1000, 200),
    ...rate('uploadLimit'),
    ...rate('downloadLimit'),
    ...rate('maxMetadataOps'),
    logLevel: level,
  };
}

/** The annotation's text. Members stand in a fixed order, so equal plans are equal texts. */
export function formatPlan(plan: Plan): string {
  return JSON.stringify(plan);
}
