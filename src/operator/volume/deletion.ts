/**
 * What becomes of a JuiceVolume that is being deleted. Pure. The default keeps the data and lets the object go; data is deleted
 * only with reclaimPolicy Delete, the confirming annotation, nobody using it, and proof that it is this volume's.
 */
import type { ConditionType } from '../../api/conditions.ts';
import { annotations } from '../../api/group.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { summary } from './decide.ts';
import type { Verdict } from './verdict.ts';
import type { Observation } from './observation.ts';

export type Deletion =
  /** The object may go, the data stays. */
  | { readonly do: 'release'; readonly note: string }
  /** Delete the data, then let the object go. */
  | { readonly do: 'destroy' }
  | { readonly do: 'wait'; readonly verdicts: readonly (Verdict & { readonly type: ConditionType })[] };

const wait = (
  reason: Verdict['reason'],
  message: string,
  more: readonly (Verdict & { readonly type: ConditionType })[] = [],
): Deletion => ({
  do: 'wait',
  verdicts: [...summary({ status: 'False', reason, message }), ...more],
});

/** Pods that a message names. */
const NAMED = 5;

/** `pods`: those that mount the volume, `namespace/name`; of those that only read the database says nothing. */
export function decideDeletion(volume: JuiceVolume, seen: Observation, pods: readonly string[] = []): Deletion {
  const { name } = volume.metadata;
  const uuid = volume.status?.uuid;
  const { metadata, storage, secrets, conflict } = seen;
  if (uuid === undefined || conflict)
    return { do: 'release', note: 'the volume was never formatted by this object; nothing was deleted' };
  const ours = metadata?.state === 'volume' && metadata.format.uuid === uuid;
  if (ours && metadata.clients.length > 0)
    return wait('InUse', `${metadata.clients.length} client(s) still have the volume mounted; it is released when they end`);
  if (pods.length > 0)
    return wait(
      'InUse',
      `${pods.length} pod(s) still mount the volume (${pods.toSorted().slice(0, NAMED).join(', ')}${pods.length > NAMED ? ', …' : ''}); it is released when they are gone`,
    );
  if (volume.spec.reclaimPolicy === 'Retain')
    return { do: 'release', note: `reclaimPolicy is Retain: the data with UUID ${uuid} stays where it is` };
  if (volume.metadata.annotations?.[annotations.confirmDelete] !== name) {
    const message = `reclaimPolicy is Delete: confirm with kubectl annotate juicevolume ${name} ${annotations.confirmDelete}=${name}, or set reclaimPolicy to Retain`;
    return wait('Unconfirmed', message, [{ type: 'DeletionUnconfirmed', status: 'True', reason: 'Unconfirmed', message }]);
  }
  if (secrets?.ok === false) return wait(secrets.reason, secrets.message);
  if (!metadata || metadata.state === 'failed')
    return wait(metadata?.reason ?? 'NotChecked', metadata?.message ?? 'the database was not asked');
  if (metadata.state === 'unreadable') return wait(metadata.reason, metadata.message);
  if (metadata.state === 'volume' && !ours)
    return wait(
      'VolumeReplaced',
      `the database holds the volume with UUID ${metadata.format.uuid}, not ${uuid}; nothing is deleted. Set reclaimPolicy to Retain to let the object go`,
    );
  if (storage?.state === 'missing' && metadata.state === 'empty')
    return { do: 'release', note: 'neither database nor bucket hold anything of the volume' };
  if (!storage || storage.state !== 'reached')
    return wait(
      storage?.state === 'failed' ? storage.reason : 'StorageInvalid',
      storage?.message ?? 'the object store was not asked',
    );
  if (storage.marker !== undefined && storage.marker !== uuid)
    return wait(
      'VolumeReplaced',
      `juicefs_uuid in the bucket is not ${uuid}; nothing is deleted. Set reclaimPolicy to Retain to let the object go`,
    );
  // Without database and marker nothing proves whose the objects are.
  if (metadata.state === 'empty' && storage.marker === undefined)
    return {
      do: 'release',
      note: 'the database is empty and juicefs_uuid is gone; whatever else lies in the bucket was not touched',
    };
  return { do: 'destroy' };
}
