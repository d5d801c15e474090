/**
 * Two JuiceVolumes on one database, or on one bucket and name, would destroy each other's data. One of them has the right to
 * it: the one that already holds a formatted volume, else the older object. The other is refused and touches nothing. Pure.
 */
import type { JuiceVolume } from '../../api/volume.ts';
import { metadataIdentity, storageIdentity } from './target.ts';

export interface Conflict {
  /** `namespace/name` of the volume that has the right. */
  readonly with: string;
  readonly over: string;
}

const key = (volume: JuiceVolume): string => `${volume.metadata.namespace}/${volume.metadata.name}`;

/** Negative where `a` has the older right. Total: of two volumes exactly one is refused. */
function bySeniority(a: JuiceVolume, b: JuiceVolume): number {
  const formatted = Number(b.status?.uuid !== undefined) - Number(a.status?.uuid !== undefined);
  if (formatted !== 0) return formatted;
  const [ageA, ageB] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
  if (ageA !== ageB) return ageA < ageB ? -1 : 1;
  return key(a) < key(b) ? -1 : 1;
}

/** The volume whose right to the same place is older, and what the place is. `all` may contain `volume` itself. */
export function findConflict(volume: JuiceVolume, all: Iterable<JuiceVolume>): Conflict | undefined {
  const metadata = metadataIdentity(volume.spec);
  const storage = storageIdentity(volume);
  const rivals = [...all]
    .filter((other) => key(other) !== key(volume) && bySeniority(other, volume) < 0)
    .map((other) => {
      if (metadataIdentity(other.spec) === metadata) return { other, over: metadata };
      if (storageIdentity(other) === storage) return { other, over: storage };
      return undefined;
    })
    .filter((rival) => rival !== undefined)
    .toSorted((a, b) => bySeniority(a.other, b.other));
  const first = rivals[0];
  return first && { with: key(first.other), over: first.over };
}

/** The other JuiceVolume that stands for the volume with this UUID already (reached under another name of its database). */
export function holderOf(uuid: string, volume: JuiceVolume, all: Iterable<JuiceVolume>): Conflict | undefined {
  for (const other of all)
    if (key(other) !== key(volume) && other.status?.uuid === uuid && bySeniority(other, volume) < 0)
      return { with: key(other), over: `the volume with UUID ${uuid}` };
  return undefined;
}
