/**
 * Limits of directories, users and groups: what the spec wants, what the volume has, and what to do about the difference. Pure.
 *
 * A limit is *managed* from the moment the status says so, which is written before the limit itself: so a limit that the spec no
 * longer has is known to be ours, whenever the operator was stopped. Limits of others are shown and left alone. A managed limit
 * whose status is still Pending though it is there was interrupted while its usage was counted: it is counted again.
 */
import { parseQuantity } from '../../api/units.ts';
import type { JuiceVolume, VolumeSpec, VolumeStatus } from '../../api/volume.ts';
import type { Quota, QuotaOwner } from '../../meta/quotas.ts';
import { managedCapacity } from './target.ts';
import type { Verdict } from './verdict.ts';
import type { MetadataObservation, QuotasSeen } from './observation.ts';

/** Limits of others that the status shows. */
const MAX_OTHERS = 100;
/** Files grow by 4 KiB at least, and by more in practice: so much of a limit counts as all of it. */
const FULL = 0.99;

type QuotaEntry = NonNullable<VolumeStatus['quotas']>[number];
type Kind = QuotaEntry['kind'];

export interface QuotaName {
  readonly kind: Kind;
  /** Path of the directory, or number of the user or group. */
  readonly name: string;
}

export interface WantedQuota extends QuotaName {
  /** Bytes; 0 is no limit. */
  readonly capacity: number;
  readonly inodes: number;
}

export type QuotaAction =
  /** `recount`: the limits that are there were set without being counted, perhaps. */
  | { readonly do: 'set'; readonly quota: WantedQuota; readonly recount: boolean }
  | { readonly do: 'remove'; readonly quota: QuotaName }
  | { readonly do: 'recount'; readonly quota: QuotaName };

export const quotaId = ({ kind, name }: QuotaName): string => `${kind} ${name}`;

export function ownerOf({ kind, name }: QuotaName): QuotaOwner {
  if (kind === 'Directory') return { kind: 'directory', path: name };
  return kind === 'User' ? { kind: 'user', uid: Number(name) } : { kind: 'group', gid: Number(name) };
}

export function nameOf(owner: QuotaOwner): QuotaName {
  if (owner.kind === 'directory') return { kind: 'Directory', name: owner.path };
  return owner.kind === 'user' ? { kind: 'User', name: String(owner.uid) } : { kind: 'Group', name: String(owner.gid) };
}

export function wantedQuotas({ quota }: VolumeSpec): readonly WantedQuota[] {
  const limits = (entry: { readonly capacity?: string | undefined; readonly inodes?: number | undefined }) => ({
    capacity: entry.capacity === undefined ? 0 : parseQuantity(entry.capacity),
    inodes: entry.inodes ?? 0,
  });
  return [
    ...(quota?.directories ?? []).map((each) => ({ kind: 'Directory' as const, name: each.path, ...limits(each) })),
    ...(quota?.users ?? []).map((each) => ({ kind: 'User' as const, name: String(each.uid), ...limits(each) })),
    ...(quota?.groups ?? []).map((each) => ({ kind: 'Group' as const, name: String(each.gid), ...limits(each) })),
  ];
}

const managedIn = (status: VolumeStatus | undefined): readonly QuotaEntry[] =>
  (status?.quotas ?? []).filter(({ managed }) => managed);

/** Those that are looked at each time: wanted, and managed before. */
export function ownQuotas(volume: JuiceVolume): readonly QuotaName[] {
  const wanted = wantedQuotas(volume.spec);
  const ids = new Set(wanted.map(quotaId));
  return [...wanted, ...managedIn(volume.status).filter((entry) => !ids.has(quotaId(entry)))];
}

/**
 * The status with what this spec is going to manage; undefined where it says so already. Written before anything is set.
 * What it replaces is kept, so the observedGeneration is still the old one.
 */
export function claims(volume: JuiceVolume): VolumeStatus | undefined {
  const { status, spec } = volume;
  const known = new Set(managedIn(status).map(quotaId));
  const fresh = wantedQuotas(spec).filter((each) => !known.has(quotaId(each)));
  const managed = managedCapacity(volume);
  const same = managed.every((each) => status?.capacity?.managed?.includes(each));
  if (fresh.length === 0 && same) return undefined;
  const ids = new Set(fresh.map(quotaId));
  return {
    ...status,
    ...(same ? {} : { capacity: { ...status?.capacity, managed } }),
    quotas: [
      ...(status?.quotas ?? []).filter((entry) => !ids.has(quotaId(entry))),
      ...fresh.map(({ kind, name }) => ({ kind, name, managed: true, state: 'Pending' as const })),
    ],
  };
}

const agrees = (found: Quota | undefined, wanted: WantedQuota): boolean =>
  found !== undefined && found.capacity === wanted.capacity && found.inodes === wanted.inodes;

/** What remains to be done. `volume.status` is as it was when the reconcile began. */
export function quotaActions(volume: JuiceVolume, seen: QuotasSeen): readonly QuotaAction[] {
  const found = new Map(seen.own.map((each) => [quotaId(nameOf(each.owner)), each]));
  const pending = new Set(
    managedIn(volume.status)
      .filter(({ state }) => state === 'Pending')
      .map(quotaId),
  );
  const wanted = wantedQuotas(volume.spec);
  const ids = new Set(wanted.map(quotaId));
  const left = (name: QuotaName): boolean => !seen.failed.has(quotaId(name)) && !seen.done.has(quotaId(name));
  return [
    ...managedIn(volume.status)
      .filter((entry) => !ids.has(quotaId(entry)) && found.has(quotaId(entry)) && left(entry))
      .map(({ kind, name }) => ({ do: 'remove', quota: { kind, name } }) as const),
    ...wanted.flatMap((each): QuotaAction[] => {
      if (!left(each)) return [];
      const there = found.get(quotaId(each));
      if (!agrees(there, each)) return [{ do: 'set', quota: each, recount: there !== undefined && pending.has(quotaId(each)) }];
      return pending.has(quotaId(each)) ? [{ do: 'recount', quota: each }] : [];
    }),
  ];
}

const used = (found: Quota | undefined) =>
  found ? { usedBytes: Math.max(0, found.usedBytes), usedInodes: Math.max(0, found.usedInodes) } : {};
const limitsOf = ({ capacity, inodes }: { readonly capacity: number; readonly inodes: number }) => ({
  ...(capacity > 0 ? { capacityBytes: capacity } : {}),
  ...(inodes > 0 ? { inodes } : {}),
});

/** What the status says of all of them; undefined where there are none. */
export function quotaStatusOf(volume: JuiceVolume, seen: QuotasSeen): VolumeStatus['quotas'] {
  const found = new Map(seen.own.map((each) => [quotaId(nameOf(each.owner)), each]));
  const left = new Set(quotaActions(volume, seen).map(({ quota }) => quotaId(quota)));
  const wanted = wantedQuotas(volume.spec);
  const ids = new Set(ownQuotas(volume).map(quotaId));
  const others =
    seen.others?.map((each): QuotaEntry => ({
      ...nameOf(each.owner),
      managed: false,
      state: 'Applied',
      ...limitsOf(each),
      ...used(each),
    })) ?? (volume.status?.quotas ?? []).filter(({ managed }) => !managed);
  const entries: QuotaEntry[] = [
    ...wanted.map((each): QuotaEntry => {
      const there = found.get(quotaId(each));
      const applied = agrees(there, each) && !left.has(quotaId(each)) && !seen.failed.has(quotaId(each));
      const { kind, name } = each;
      return { kind, name, managed: true, state: applied ? 'Applied' : 'Pending', ...limitsOf(each), ...used(there) };
    }),
    // No longer wanted, and not gone yet.
    ...managedIn(volume.status).filter(
      (entry) => found.has(quotaId(entry)) && !wanted.some((each) => quotaId(each) === quotaId(entry)),
    ),
    ...others.filter((entry) => !ids.has(quotaId(entry))).slice(0, MAX_OTHERS),
  ];
  return entries.length > 0 ? entries : undefined;
}

/** Undefined where the spec names no limits and none of its are left. */
export function quotasApplied(volume: JuiceVolume, metadata: MetadataObservation | undefined): Verdict | undefined {
  if (!volume.spec.quota && ownQuotas(volume).length === 0) return undefined;
  if (metadata?.state !== 'volume') return { status: 'Unknown', reason: 'NotChecked', message: 'the database was not asked' };
  const failures = [...metadata.quotas.failed];
  const broken = failures.find(([, { missing }]) => !missing);
  if (broken) return { status: 'False', reason: 'QuotaFailed', message: `${broken[0]}: ${broken[1].message}` };
  if (failures.length > 0)
    return {
      status: 'False',
      reason: 'QuotaPending',
      message: `waiting for ${failures
        .map(([id]) => id)
        .slice(0, 10)
        .join(', ')}: limits of a directory are set as soon as it exists`,
    };
  if (quotaActions(volume, metadata.quotas).length > 0)
    return { status: 'False', reason: 'Progressing', message: 'limits are about to be set' };
  if (!volume.spec.quota) return undefined;
  return { status: 'True', reason: 'Succeeded', message: 'the limits of the spec are those of the volume' };
}

/** What is full; undefined where nothing is. */
export function quotaExceeded(metadata: MetadataObservation | undefined): Verdict | undefined {
  if (metadata?.state !== 'volume') return undefined;
  const { format, usage, quotas } = metadata;
  const full: string[] = [];
  const check = (what: string, value: number, limit: number, unit: string): void => {
    if (limit > 0 && value >= limit * FULL) full.push(`${what} uses ${value} of ${limit} ${unit}`);
  };
  check('the volume', usage.bytes, format.capacity, 'bytes');
  check('the volume', usage.inodes, format.inodes, 'inodes');
  for (const { owner, capacity, inodes, usedBytes, usedInodes } of quotas.own) {
    const what = quotaId(nameOf(owner));
    check(what, usedBytes, capacity, 'bytes');
    check(what, usedInodes, inodes, 'inodes');
  }
  if (full.length === 0) return undefined;
  return { status: 'True', reason: 'LimitReached', message: full.slice(0, 10).join('; ') };
}
