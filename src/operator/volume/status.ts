/** The status of a JuiceVolume from what was seen, and the events that its changes are worth. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { annotations } from '../../api/group.ts';
import type { Condition } from '../../api/conditions.ts';
import { formatBytes } from '../../api/units.ts';
import { type JuiceVolume, type VolumeStatus, volumeNameOf } from '../../api/volume.ts';
import { findCondition, setConditions, timestamp } from '../../kube/conditions.ts';
import type { Verdict } from './decide.ts';
import type { Observation } from './observation.ts';

/** Usage that did not change is written again after so long, so that `observedAt` says something. */
const USAGE_REFRESH_MS = 10 * 60_000;

export interface StatusInput {
  readonly verdicts: readonly (Verdict & { readonly type: string })[];
  readonly uuid: string | undefined;
  /** Undefined where nothing was looked at. */
  readonly seen: Observation | undefined;
  /** Conditions that are not in `verdicts` and stay as they are. @default none */
  readonly keep?: (type: string) => boolean;
  /** Undefined: as before. */
  readonly secretNamespaces: number | undefined;
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

export function nextStatus(volume: JuiceVolume, input: StatusInput, now: number): VolumeStatus {
  const old = volume.status ?? {};
  const { metadata } = input.seen ?? {};
  const storage = input.seen?.target?.storage ?? old.storage;
  const handled = volume.metadata.annotations?.[annotations.reconcileAt];
  const secrets = input.secretNamespaces === undefined ? old.mountSecrets : { namespaces: input.secretNamespaces };
  return {
    ...(volume.metadata.generation === undefined ? {} : { observedGeneration: volume.metadata.generation }),
    conditions: nextConditions(volume, input.verdicts, now, input.keep),
    volumeName: volumeNameOf(volume),
    ...(input.uuid === undefined ? {} : { uuid: input.uuid }),
    ...(storage === undefined ? {} : { storage }),
    ...(metadata?.state === 'volume'
      ? { usage: usage(old.usage, metadata.usage, now), sessions: { active: metadata.sessions } }
      : { ...(old.usage ? { usage: old.usage } : {}), ...(old.sessions ? { sessions: old.sessions } : {}) }),
    ...(secrets ? { mountSecrets: secrets } : {}),
    ...(handled === undefined ? {} : { lastHandledReconcileAt: handled.slice(0, 256) }),
  };
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
const told = ['Ready', 'MetadataDurable'];

/** What is worth an event: a condition that people wait for changed its status or its reason. */
export function transitions(old: readonly Condition[] | undefined, next: readonly Condition[]): readonly Transition[] {
  return told.flatMap((type) => {
    const before = findCondition(old, type);
    const after = findCondition(next, type);
    if (!after || (before?.status === after.status && before.reason === after.reason)) return [];
    if (type !== 'Ready' && after.status !== 'False') return [];
    return [{ type: after.status === 'True' ? 'Normal' : 'Warning', reason: after.reason, note: after.message } as const];
  });
}
