/**
 * What volumes are found by: every question of the form "which volumes …?" is an index, so that none goes through all of them.
 * Index functions never throw: an object that they cannot read is simply not found by them.
 */
import type { IndexFunction, Store } from '../../kube/types.ts';
import { findCondition } from '../../kube/conditions.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { secretNames } from './secrets.ts';
import { metadataIdentity, storageIdentity } from './target.ts';

type Index = 'place' | 'uuid' | 'secret' | 'policy' | 'granting' | 'conflict';

/** The one value of `granting` and `conflict`. */
export const YES = 'yes';

function safely(values: (volume: JuiceVolume) => readonly string[]): IndexFunction<JuiceVolume> {
  return (volume) => {
    try {
      return values(volume);
    } catch {
      return [];
    }
  };
}

/** Keys of the policies that a volume names. */
export function policyKeys(volume: JuiceVolume): readonly string[] {
  const { cachePolicyRef } = volume.spec;
  return cachePolicyRef ? [`${volume.metadata.namespace}/${cachePolicyRef.name}`] : [];
}

export const volumeIndexes: Readonly<Record<Index, IndexFunction<JuiceVolume>>> = {
  /** Its database, and its place in the store. */
  place: safely((volume) => [metadataIdentity(volume.spec), storageIdentity(volume)]),
  uuid: safely(({ status }) => (status?.uuid === undefined ? [] : [status.uuid])),
  /** `namespace/name` of each Secret it rests on. */
  secret: safely((volume) => [...secretNames(volume)].map((name) => `${volume.metadata.namespace}/${name}`)),
  policy: safely(policyKeys),
  /** Whether namespaces besides its own may use it. */
  granting: safely(({ spec }) => (spec.access.allowedNamespaces.from === 'Same' ? [] : [YES])),
  /** Whether it was refused for another one's sake. */
  conflict: safely(({ status }) => (findCondition(status?.conditions, 'Ready')?.reason === 'Conflict' ? [YES] : [])),
};

/** Those that use the database or the place of this volume, itself among them. */
export function neighbours(volume: JuiceVolume, volumes: Store<JuiceVolume>): readonly JuiceVolume[] {
  return volumeIndexes.place(volume).flatMap((place) => volumes.byIndex('place', place));
}
