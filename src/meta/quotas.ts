/**
 * Quotas as an administrator sees them: of the volume (its format), of directories by path, of users and of groups. Set,
 * listed, removed and checked over an open engine, without a session; running clients take a change over with their next
 * heartbeat (12 s), or at the first write that they would refuse.
 *
 * A quota is set as JuiceFS sets it: its limits first, so that nobody misses them, then its usage, counted over what is there.
 * Until a running client has seen a new quota, its changes are not counted: `checkQuotas` finds and repairs that.
 * Source: the JuiceFS format, accounting and quotas (pkg/meta/quota.go of 1.4.1).
 */
import { FsError, UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import type { ChangeLog } from './changelog.ts';
import type { MetaEngine, Write } from './engine.ts';
import type { Format } from './format.ts';
import { type DirectoryModel, makeDirectories, pathOf, resolvePath } from './paths.ts';
import { NO_LIMITS, type QuotaKey, type QuotaLimits, type QuotaRecord, type QuotaUsage } from './quota.ts';
import { changeSetting, logFor, readSetting } from './setting.ts';
import { ownerUsage, treeUsage } from './usage.ts';

/** Whose quota. A path begins at the root of the volume: `/projects/a`; `/` is everything but the trash. */
export type QuotaOwner =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'user'; readonly uid: number }
  | { readonly kind: 'group'; readonly gid: number };

/** What may be held; 0 is no limit, what is left out stays as it is. */
export interface Limits {
  /** Bytes. */
  readonly capacity?: number;
  readonly inodes?: number;
}

export interface Quota {
  readonly owner: QuotaOwner;
  /** Bytes; 0 is no limit. */
  readonly capacity: number;
  /** 0 is no limit. */
  readonly inodes: number;
  /** As recorded: running clients write what they use within three seconds. */
  readonly usedBytes: number;
  readonly usedInodes: number;
}

export interface QuotaCheck {
  readonly owner: QuotaOwner;
  /** What is recorded, and what is there. */
  readonly recorded: QuotaUsage;
  readonly counted: QuotaUsage;
  readonly consistent: boolean;
  readonly repaired: boolean;
}

export interface SetQuotaOptions {
  /** Makes the directories of the path that are missing: for everybody to write into, or the last one as said here. @default false */
  readonly create?: boolean | DirectoryModel;
  /** Counts files instead of trusting the statistics of directories. @default false */
  readonly strict?: boolean;
  readonly signal?: AbortSignal;
}

export interface CheckQuotasOptions extends Omit<SetQuotaOptions, 'create'> {
  /** Only this one. @default all quotas of directories, and all users and groups where these are counted */
  readonly owner?: QuotaOwner;
  /** Writes what was counted. @default false */
  readonly repair?: boolean;
}

const CHANGES_PER_COMMIT = 200;
const ATTEMPTS = 20;

function requireLimits({ capacity, inodes }: Limits): void {
  for (const [what, value] of [
    ['capacity', capacity],
    ['number of inodes', inodes],
  ] as const)
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0))
      throw new UserError('InvalidQuota', `the ${what} of a quota is a whole number from 0 (no limit) on, found ${value}`);
}

/** The record that stands for an owner. Throws UserError where there is no such directory or no such number. */
async function keyOf(engine: MetaEngine, owner: QuotaOwner): Promise<QuotaKey> {
  if (owner.kind === 'directory') return { kind: 'directory', id: await resolvePath(engine, owner.path) };
  const id = owner.kind === 'user' ? owner.uid : owner.gid;
  if (!Number.isInteger(id) || id < 0 || id > 0xffff_ffff)
    throw new UserError('InvalidOwner', `the number of a ${owner.kind} is from 0 to 4294967295, found ${id}`);
  if (owner.kind === 'user' && id === 0) throw new UserError('InvalidOwner', 'root (user 0) cannot have a quota');
  return { kind: owner.kind, id };
}

const limit = (value: number): number => Math.max(0, value);
const limited = ({ space, inodes }: QuotaLimits): boolean => space > 0 || inodes > 0;

function quotaOf(owner: QuotaOwner, { limits, used }: QuotaRecord): Quota {
  return {
    owner,
    capacity: limit(limits.space),
    inodes: limit(limits.inodes),
    usedBytes: used.space,
    usedInodes: used.inodes,
  };
}

async function ownerOf(engine: MetaEngine, quota: QuotaKey): Promise<QuotaOwner> {
  if (quota.kind === 'user') return { kind: 'user', uid: quota.id };
  if (quota.kind === 'group') return { kind: 'group', gid: quota.id };
  return { kind: 'directory', path: (await pathOf(engine, quota.id)) ?? `inode:${quota.id}` };
}

/** Changes capacity and inodes of the whole volume; answers its format afterwards. */
export async function setVolumeLimits(engine: MetaEngine, limits: Limits): Promise<Format> {
  requireLimits(limits);
  const { after } = await changeSetting(engine, (format) => ({
    ...format,
    capacity: limits.capacity ?? format.capacity,
    inodes: limits.inodes ?? format.inodes,
  }));
  return after;
}

/** Writes a record's limits, where it is as it was when they were decided. True where the record is new. */
async function putLimits(engine: MetaEngine, log: ChangeLog, quota: QuotaKey, { capacity, inodes }: Limits): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [found] = await engine.read([{ kind: 'quota', quota }]);
    const before = found?.limits ?? NO_LIMITS;
    const limits = { space: capacity ?? before.space, inodes: inodes ?? before.inodes };
    const result = await engine.commit({
      checks: [{ kind: 'quotaLimits', quota, expect: found?.limits }],
      writes: [{ kind: 'putQuota', quota, limits }, ...log.setQuota(quota, capacity, inodes)],
    });
    if (result.ok) return !found;
  }
  throw new FsError('EAGAIN', 'the quota is changed again and again by somebody else', { retryable: true });
}

/** Replaces the usage of records; their limits stay. */
async function putUsages(
  engine: MetaEngine,
  log: ChangeLog,
  usages: readonly { readonly quota: QuotaKey; readonly limits: QuotaLimits; readonly usage: QuotaUsage }[],
): Promise<void> {
  for (let from = 0; from < usages.length; from += CHANGES_PER_COMMIT) {
    const writes = usages
      .slice(from, from + CHANGES_PER_COMMIT)
      .flatMap((each): readonly Write[] => [{ kind: 'putQuota', ...each }, ...log.setQuota(each.quota)]);
    await engine.commit({ checks: [], writes });
  }
}

async function recordsOf(engine: MetaEngine, kind: QuotaKey['kind']): Promise<QuotaRecord[]> {
  const records: QuotaRecord[] = [];
  for await (const batch of engine.scanQuotas(kind)) records.push(...batch);
  return records;
}

/** Compares users or groups with what they own, those without a record too. */
async function compareOwners(
  engine: MetaEngine,
  kind: 'user' | 'group',
  counted: ReadonlyMap<number, QuotaUsage>,
): Promise<{ readonly record: QuotaRecord; readonly counted: QuotaUsage; readonly recorded: boolean }[]> {
  const none = { space: 0, inodes: 0 };
  const records = await recordsOf(engine, kind);
  const known = new Set<number>(records.map(({ quota }) => quota.id));
  const missing = [...counted.keys()].filter((id) => !known.has(id));
  return [
    ...records.map((record) => ({ record, counted: counted.get(record.quota.id) ?? none, recorded: true })),
    ...missing.map((id) => ({
      record: { quota: { kind, id }, limits: NO_LIMITS, used: none },
      counted: counted.get(id) ?? none,
      recorded: false,
    })),
  ];
}

/** Usage of users and groups from nothing, after counting was switched on. */
export async function countOwners(engine: MetaEngine, signal?: AbortSignal): Promise<void> {
  const log = logFor(engine, (await readSetting(engine)).format);
  const { users, groups } = await ownerUsage(engine, signal);
  for (const [kind, counted] of [
    ['user', users],
    ['group', groups],
  ] as const) {
    const compared = await compareOwners(engine, kind, counted);
    await putUsages(
      engine,
      log,
      compared.map(({ record, counted: usage }) => ({ quota: record.quota, limits: record.limits, usage })),
    );
  }
}

/**
 * Makes or changes a quota, and answers it. The first quota of a directory switches the statistics of directories on, the
 * first of a user or group the counting of users and groups. Throws UserError.
 */
export async function setQuota(
  engine: MetaEngine,
  owner: QuotaOwner,
  limits: Limits,
  options: SetQuotaOptions = {},
): Promise<Quota> {
  requireLimits(limits);
  const { create = false } = options;
  if (create !== false && owner.kind === 'directory')
    await makeDirectories(engine, owner.path, create === true ? undefined : create);
  const quota = await keyOf(engine, owner);
  const counts = quota.kind === 'directory' ? ('dirStats' as const) : ('userGroupQuota' as const);
  const { before, after } = await changeSetting(engine, (format) => (format[counts] ? format : { ...format, [counts]: true }));
  const log = logFor(engine, after);
  const created = await putLimits(engine, log, quota, limits);
  if (quota.kind !== 'directory') {
    if (!before.userGroupQuota) await countOwners(engine, options.signal);
  } else if (created) {
    const usage = await treeUsage(engine, quota.id, options.strict, options.signal);
    const [record] = await engine.read([{ kind: 'quota', quota }]);
    if (record) await putUsages(engine, log, [{ quota, limits: record.limits, usage }]);
  }
  const [record] = await engine.read([{ kind: 'quota', quota }]);
  return quotaOf(owner, record ?? { quota, limits: NO_LIMITS, used: { space: 0, inodes: 0 } });
}

/** The quota of an owner; undefined where there is none. Throws UserError where there is no such directory. */
export async function getQuota(engine: MetaEngine, owner: QuotaOwner): Promise<Quota | undefined> {
  const [record] = await engine.read([{ kind: 'quota', quota: await keyOf(engine, owner) }]);
  return record && quotaOf(owner, record);
}

/** Removes a quota; what a user or group uses is still counted. Nothing where there is none. */
export async function removeQuota(engine: MetaEngine, owner: QuotaOwner): Promise<void> {
  const quota = await keyOf(engine, owner);
  const log = logFor(engine, (await readSetting(engine)).format);
  if (quota.kind === 'directory') {
    await engine.commit({ checks: [], writes: [{ kind: 'removeQuota', quota }, ...log.removeQuota(quota)] });
    return;
  }
  const [record] = await engine.read([{ kind: 'quota', quota }]);
  if (!record) return;
  await engine.commit({ checks: [], writes: [{ kind: 'putQuota', quota, limits: NO_LIMITS }, ...log.removeQuota(quota)] });
}

/** All quotas that limit something: directories by path, then users, then groups by number. */
export async function listQuotas(engine: MetaEngine): Promise<readonly Quota[]> {
  const { format } = await readSetting(engine);
  const quotas: Quota[] = [];
  const kinds: readonly QuotaKey['kind'][] = [
    ...(format.dirStats ? (['directory'] as const) : []),
    ...(format.userGroupQuota ? (['user', 'group'] as const) : []),
  ];
  for (const kind of kinds) {
    const records = (await recordsOf(engine, kind)).filter(({ limits }) => limited(limits));
    const found: Quota[] = [];
    for (const record of records) found.push(quotaOf(await ownerOf(engine, record.quota), record));
    quotas.push(...found.toSorted(byOwner));
  }
  return quotas;
}

function byOwner({ owner: a }: Quota, { owner: b }: Quota): number {
  if (a.kind === 'directory' && b.kind === 'directory') return a.path < b.path ? -1 : Number(a.path > b.path);
  if (a.kind === 'user' && b.kind === 'user') return a.uid - b.uid;
  return a.kind === 'group' && b.kind === 'group' ? a.gid - b.gid : 0;
}

/**
 * Compares what is recorded with what is there, and with `repair` records that. What clients are changing meanwhile may look
 * inconsistent, and a repair may lose it: best done while nobody writes.
 */
export async function checkQuotas(engine: MetaEngine, options: CheckQuotasOptions = {}): Promise<readonly QuotaCheck[]> {
  const { format } = await readSetting(engine);
  const { owner, repair = false, strict = false, signal } = options;
  const log = logFor(engine, format);
  const checks: QuotaCheck[] = [];
  const check = async (record: QuotaRecord, counted: QuotaUsage, recorded: boolean, named?: QuotaOwner): Promise<void> => {
    const consistent = recorded && record.used.space === counted.space && record.used.inodes === counted.inodes;
    const repaired = repair && !consistent;
    if (repaired) await putUsages(engine, log, [{ quota: record.quota, limits: record.limits, usage: counted }]);
    const of = named ?? (await ownerOf(engine, record.quota));
    checks.push({ owner: of, recorded: record.used, counted, consistent, repaired });
  };
  const only = owner && (await keyOf(engine, owner));
  if (only?.kind === 'directory') {
    const [record] = await engine.read([{ kind: 'quota', quota: only }]);
    if (!record)
      throw new UserError('NoQuota', `${owner?.kind === 'directory' ? owner.path : ''} has no quota`, {
        hint: 'juicepod quota list shows those there are.',
      });
    await check(record, await treeUsage(engine, only.id, strict, signal), true, owner);
    return checks;
  }
  if (!only && format.dirStats)
    for (const record of await recordsOf(engine, 'directory'))
      await check(record, await treeUsage(engine, record.quota.id as Ino, strict, signal), true);
  if (!format.userGroupQuota) return checks;
  const counted = await ownerUsage(engine, signal);
  for (const [kind, usages] of [
    ['user', counted.users],
    ['group', counted.groups],
  ] as const) {
    if (only && only.kind !== kind) continue;
    for (const each of await compareOwners(engine, kind, usages))
      if (!only || only.id === each.record.quota.id) await check(each.record, each.counted, each.recorded);
  }
  return checks;
}
