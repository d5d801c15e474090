/** The status of a JuiceVolume from what was seen, and the events that its changes are worth. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { annotations } from '../../api/group.ts';
import type { Condition, ConditionType } from '../../api/conditions.ts';
import { keySecretName, passphraseSecretName } from '../../api/names.ts';
import { formatBytes } from '../../api/units.ts';
import { type JuiceVolume, type VolumeStatus, volumeNameOf } from '../../api/volume.ts';
import { findCondition, setConditions, timestamp } from '../../kube/conditions.ts';
import { credentialsOf, sessionsStatusOf } from './clients.ts';
import type { Verdict } from './verdict.ts';
import { makesKey, makesPassphrase } from './keys.ts';
import type { MetadataObservation, Observation } from './observation.ts';
import { quotaStatusOf } from './quotas.ts';
import { managedCapacity } from './target.ts';

/**
 * Usage that did not change is written again after so long, so that `observedAt` says something. Each write goes to everybody
 * who watches volumes, and there may be thousands of them that nobody uses.
 */
const USAGE_REFRESH_MS = 60 * 60_000;

/** What this controller writes of a volume's status; other controllers write other members and conditions. */
const members = [
  'observedGeneration',
  'volumeName',
  'uuid',
  'metadata',
  'storage',
  'usage',
  'capacity',
  'quotas',
  'changeLog',
  'encryption',
  'sessions',
  'credentials',
  'leaks',
  'mountSecrets',
  'lastHandledReconcileAt',
] as const satisfies readonly (keyof VolumeStatus)[];
const conditionTypes: ReadonlySet<string> = new Set<ConditionType>([
  'Ready',
  'SecretsResolved',
  'MetadataReachable',
  'MetadataDurable',
  'StorageReachable',
  'Formatted',
  'EncryptionReady',
  'QuotasApplied',
  'QuotaExceeded',
  'CredentialsCurrent',
  'CachePolicyResolved',
  'Suspended',
  'DeletionUnconfirmed',
  'Reconciling',
  'Stalled',
]);

/** The volume with that part of its status which is this controller's: what it compares, and what it writes again. */
export function withOwnStatus(volume: JuiceVolume): JuiceVolume {
  const { status } = volume;
  if (!status) return volume;
  const conditions = status.conditions?.filter(({ type }) => conditionTypes.has(type));
  const own = Object.fromEntries(members.filter((each) => status[each] !== undefined).map((each) => [each, status[each]]));
  return { ...volume, status: { ...own, ...(conditions ? { conditions } : {}) } };
}

export interface StatusInput {
  readonly verdicts: readonly (Verdict & { readonly type: string })[];
  readonly uuid: string | undefined;
  /** Undefined where nothing was looked at. */
  readonly seen: Observation | undefined;
  /** Conditions that are not in `verdicts` and stay as they are. @default none */
  readonly keep?: (type: string) => boolean;
  /** Undefined: as before. */
  readonly secretNamespaces: number | undefined;
  /** Of what the mount Secrets hold. Undefined: as before. */
  readonly generation?: string | undefined;
  /** Since when clients have both passphrases; undefined where none is changing. */
  readonly rotatingSince?: string | undefined;
}

/** Conditions whose type is not in `verdicts` go, unless `keep` says otherwise. */
export function nextConditions(
  volume: {
    readonly metadata: { readonly generation?: number };
    readonly status?: { readonly conditions?: readonly Condition[] };
  },
  verdicts: readonly (Verdict & { readonly type: string })[],
  now: number,
  keep: (type: string) => boolean = () => false,
): readonly Condition[] {
  const { generation } = volume.metadata;
  const types = new Set(verdicts.map(({ type }) => type));
  const old = (volume.status?.conditions ?? []).filter(({ type }) => types.has(type) || keep(type));
  const inputs = verdicts.map((verdict) => ({
    ...verdict,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
  }));
  return setConditions(old, inputs, now);
}

function usage(
  old: VolumeStatus['usage'],
  seen: { readonly bytes: number; readonly inodes: number },
  now: number,
): VolumeStatus['usage'] {
  const same = old !== undefined && old.bytes === seen.bytes && old.inodes === seen.inodes;
  if (same && now - Date.parse(old.observedAt) < USAGE_REFRESH_MS) return old;
  return { ...seen, size: formatBytes(seen.bytes), observedAt: timestamp(now) };
}

type FoundVolume = Extract<MetadataObservation, { readonly state: 'volume' }>;

function capacity(volume: JuiceVolume, { format }: FoundVolume): VolumeStatus['capacity'] {
  const managed = managedCapacity(volume).filter(
    // A limit that the spec no longer has is ours until it is gone.
    (each) => volume.spec.quota?.[each] !== undefined || format[each] > 0,
  );
  if (format.capacity === 0 && format.inodes === 0 && managed.length === 0) return undefined;
  return {
    ...(format.capacity > 0 ? { size: formatBytes(format.capacity), bytes: format.capacity } : {}),
    ...(format.inodes > 0 ? { inodes: format.inodes } : {}),
    ...(managed.length > 0 ? { managed } : {}),
  };
}

function changeLog({ format }: FoundVolume): VolumeStatus['changeLog'] {
  if (!format.changeLog) return undefined;
  const { changeLogMaxAge: age, changeLogMaxLines: entries } = format;
  return { ...(age > 0 ? { maxAgeSeconds: age } : {}), ...(entries > 0 ? { maxEntries: entries } : {}) };
}

function leaks(old: VolumeStatus['leaks'], { leaks: seen, staleSessions }: FoundVolume, now: number): VolumeStatus['leaks'] {
  if (seen) return { staleSessions, ...seen, observedAt: timestamp(now) };
  return old && { ...old, staleSessions };
}

function encryption(volume: JuiceVolume, input: StatusInput): VolumeStatus['encryption'] {
  const { encryption: seen, target } = input.seen ?? {};
  if (!seen?.keys.ok || seen.fingerprint === undefined || !target?.algorithm) return volume.status?.encryption;
  const { name } = volume.metadata;
  return {
    algorithm: target.algorithm,
    keyFingerprint: seen.fingerprint,
    ...(makesPassphrase(volume) ? { passphraseGeneration: seen.keys.material.generation } : {}),
    passphraseSecret: volume.spec.encryption?.passphraseSecretRef?.name ?? passphraseSecretName(name),
    ...(makesKey(volume) ? { keySecret: keySecretName(name) } : {}),
    ...(input.rotatingSince === undefined ? {} : { rotatingSince: input.rotatingSince }),
  };
}

/** What only a look into the database tells; without one it stays as it was. */
function fromDatabase(volume: JuiceVolume, found: FoundVolume, now: number): Partial<VolumeStatus> {
  const old = volume.status ?? {};
  const parts = {
    usage: usage(old.usage, found.usage, now),
    capacity: capacity(volume, found),
    quotas: quotaStatusOf(volume, found.quotas),
    changeLog: changeLog(found),
    backup: found.lastBackup === undefined ? undefined : { startedAt: timestamp(found.lastBackup) },
    sessions: sessionsStatusOf(found.clients),
    leaks: leaks(old.leaks, found, now),
  };
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined));
}

function credentials(old: VolumeStatus, input: StatusInput, now: number): VolumeStatus['credentials'] {
  const { metadata } = input.seen ?? {};
  const generation = input.generation ?? old.credentials?.generation;
  if (generation === undefined || metadata?.state !== 'volume') return old.credentials;
  return credentialsOf(generation, metadata.clients, old.credentials, now);
}

export function nextStatus(volume: JuiceVolume, input: StatusInput, now: number): VolumeStatus {
  const old = volume.status ?? {};
  const { metadata } = input.seen ?? {};
  const { usage: used, capacity: limits, quotas, changeLog: log, backup, sessions, leaks: left } = old;
  const handled = volume.metadata.annotations?.[annotations.reconcileAt];
  const parts = {
    observedGeneration: volume.metadata.generation,
    conditions: nextConditions(volume, input.verdicts, now, input.keep),
    volumeName: volumeNameOf(volume),
    uuid: input.uuid,
    metadata: input.seen?.target?.metadata ?? old.metadata,
    storage: input.seen?.target?.storage ?? old.storage,
    ...(metadata?.state === 'volume'
      ? fromDatabase(volume, metadata, now)
      : { usage: used, capacity: limits, quotas, changeLog: log, backup, sessions, leaks: left }),
    encryption: encryption(volume, input),
    credentials: credentials(old, input, now),
    mountSecrets: input.secretNamespaces === undefined ? old.mountSecrets : { namespaces: input.secretNamespaces },
    lastHandledReconcileAt: handled?.slice(0, 256),
  };
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value !== undefined)) as VolumeStatus;
}

/** True where nothing need be written. The API server may keep conditions in another order than we sent them. */
export function sameStatus(
  a: { readonly conditions?: readonly Condition[] } | undefined,
  b: { readonly conditions?: readonly Condition[] },
): boolean {
  const sorted = (status: typeof b) => ({
    ...status,
    conditions: (status.conditions ?? []).toSorted((x, y) => (x.type < y.type ? -1 : 1)),
  });
  return a !== undefined && isDeepStrictEqual(sorted(a), sorted(b));
}

export interface Transition {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly note: string;
}

/** Only these are told; the others are causes that `Ready` names anyway. */
const told = ['Ready', 'MetadataDurable', 'EncryptionReady', 'QuotasApplied', 'QuotaExceeded', 'CachePolicyResolved'];
/** Of these, the ones whose being true is what should be told. */
const abnormal: ReadonlySet<string> = new Set(['QuotaExceeded']);

/** What is worth an event: a condition that people wait for changed its status or its reason. */
export function transitions(old: readonly Condition[] | undefined, next: readonly Condition[]): readonly Transition[] {
  return told.flatMap((type) => {
    const before = findCondition(old, type);
    const after = findCondition(next, type);
    if (!after || (before?.status === after.status && before.reason === after.reason)) return [];
    if (type !== 'Ready' && !abnormal.has(type) && after.status !== 'False') return [];
    // On its way to what it shall be is nothing to warn of.
    if (type !== 'Ready' && after.reason === 'Progressing') return [];
    const good = after.status === 'True' && !abnormal.has(type);
    return [{ type: good ? 'Normal' : 'Warning', reason: after.reason, note: after.message } as const];
  });
}
