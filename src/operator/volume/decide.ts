/**
 * What to make of what was seen. Pure: the same observation gives the same decision, and every line of the table in
 * decide.test.ts is one.
 *
 * Never formatted twice: only an empty database, an empty place in the store and a volume that was never seen formatted lead
 * to `format`. Whatever does not fit together stops with `Stalled` and a sentence; nothing is repaired by guessing.
 */
import type { ConditionType, Reason } from '../../api/conditions.ts';
import { type JuiceVolume, volumeNameOf } from '../../api/volume.ts';
import { type Format, jsonName } from '../../meta/format.ts';
import { fixedDifferences, type FormatInput } from '../../meta/format-input.ts';
import { parseBucketUrl } from '../../object/s3-url.ts';
import type { Observation } from './observation.ts';
import type { Target } from './target.ts';

export interface Verdict {
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: Reason;
  readonly message: string;
}

/** The next thing to do to the world; after it, the world is looked at again. */
export type Step =
  | { readonly do: 'nothing' }
  /** Makes the bucket if need be, tries it out, writes `setting`. */
  | { readonly do: 'format' }
  /** Writes what may change into `setting`. */
  | { readonly do: 'configure'; readonly changes: Partial<FormatInput> }
  /** Writes the object `juicefs_uuid`. */
  | { readonly do: 'mark'; readonly uuid: string };

export interface Decision {
  readonly step: Step;
  /** In the order they are shown. */
  readonly verdicts: readonly (Verdict & { readonly type: ConditionType })[];
  readonly ready: boolean;
  /** The UUID to remember; undefined where none is certain. */
  readonly uuid: string | undefined;
}

/** Reasons that no waiting cures. */
const stalling: ReadonlySet<Reason> = new Set([
  'Conflict',
  'FormatMismatch',
  'NewerFormat',
  'VolumeReplaced',
  'VolumeLost',
  'StorageNotEmpty',
  'MetadataInvalid',
  'PolicyInvalid',
]);

const yes = (message: string): Verdict => ({ status: 'True', reason: 'Succeeded', message });
const no = (reason: Reason, message: string): Verdict => ({ status: 'False', reason, message });
const unknown = (message: string): Verdict => ({ status: 'Unknown', reason: 'NotChecked', message });

function secretsResolved({ secrets }: Observation): Verdict {
  if (!secrets) return unknown('not looked at');
  return secrets.ok ? yes('every Secret is there') : no(secrets.reason, secrets.message);
}

function metadataReachable({ metadata }: Observation): Verdict {
  if (!metadata) return unknown('not looked at');
  return metadata.state === 'failed' ? no(metadata.reason, metadata.message) : yes('the database answers');
}

function metadataDurable({ metadata }: Observation): Verdict {
  if (!metadata || metadata.state === 'failed') return unknown('the database was not asked');
  const { state, message } = metadata.durability;
  if (state === 'unknown') return { status: 'Unknown', reason: 'DurabilityUnknown', message };
  return state === 'durable' ? yes(message) : no('NotDurable', message);
}

function storageReachable({ storage, metadata }: Observation): Verdict {
  if (!storage) return unknown('not looked at');
  if (storage.state === 'failed') return no(storage.reason, storage.message);
  if (storage.state === 'missing') return no(metadata?.state === 'empty' ? 'Progressing' : 'StorageInvalid', storage.message);
  return yes('the object store answers');
}

/** True where two spellings mean one bucket of one service. */
function sameBucket(format: Format, wanted: Target['input']): boolean {
  if (wanted.storage === 'file') return format.bucket === wanted.bucket;
  const place = (text: string): string => {
    const { bucket, host } = parseBucketUrl(text, format.storage === 'minio' ? 'minio' : 's3', {});
    return `${bucket} ${host.startsWith(`${bucket}.`) ? host.slice(bucket.length + 1) : host}`;
  };
  try {
    return place(format.bucket) === place(wanted.bucket);
  } catch {
    return false;
  }
}

function differences(format: Format, target: Target, adopting: boolean): string[] {
  const { name, blockSize, compression, storage, bucket } = target.input;
  const list = fixedDifferences(format, { name, blockSize, compression }).map(
    ({ field, wanted, found }) => `${field}: wanted ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`,
  );
  const driver = format.storage === 'minio' ? 's3' : format.storage;
  if (driver !== storage) list.push(`${jsonName('storage')}: wanted "${storage}", found "${format.storage}"`);
  // Later the endpoint may move, with the bucket; `setting` follows the spec then.
  else if (adopting && !sameBucket(format, target.input))
    list.push(`${jsonName('bucket')}: wanted "${bucket}", found ${JSON.stringify(format.bucket)}`);
  if (format.encryptKey !== '') list.push(`${jsonName('encryptKey')}: encrypted volumes cannot be mounted by this version`);
  return list;
}

function formatted(volume: JuiceVolume, seen: Observation): Verdict {
  const { conflict, metadata, storage, target } = seen;
  const known = volume.status?.uuid;
  if (conflict)
    return no(
      'Conflict',
      `JuiceVolume ${conflict.with} already uses ${conflict.over}; use another database and another bucket or name`,
    );
  if (!metadata || metadata.state === 'failed' || !target) return unknown('the database was not asked');
  if (metadata.state === 'unreadable') return no(metadata.reason, metadata.message);
  if (metadata.state === 'empty') {
    if (known !== undefined)
      return no(
        'VolumeLost',
        `the database is empty, but the volume with UUID ${known} was in it; restore it, or delete this object and create it anew to format an empty volume`,
      );
    if (!storage || storage.state === 'failed') return unknown('the object store was not reached, so nothing is formatted yet');
    const taken = storage.state === 'reached' ? (storage.marker === undefined ? storage.firstObject : 'juicefs_uuid') : undefined;
    if (taken !== undefined)
      return no(
        'StorageNotEmpty',
        `the database is empty, but ${target.storage} holds objects already (such as ${taken}); use another volumeName or bucket, or empty it`,
      );
    return no('Progressing', 'the volume is about to be formatted');
  }
  const { format, holder } = metadata;
  if (known !== undefined && format.uuid !== known)
    return no('VolumeReplaced', `the database holds the volume with UUID ${format.uuid}; this object stands for ${known}`);
  if (holder) return no('Conflict', `JuiceVolume ${holder.with} already stands for ${holder.over}`);
  const differ = differences(format, target, known === undefined);
  if (differ.length > 0)
    return no(
      'FormatMismatch',
      `the database holds a volume of another format. ${differ.join('; ')}. Change the spec, or use another database`,
    );
  if (storage?.state === 'reached' && storage.marker !== undefined && storage.marker !== format.uuid)
    return no(
      'FormatMismatch',
      `juicefs_uuid in ${target.storage}: wanted "${format.uuid}", found ${JSON.stringify(storage.marker.slice(0, 64))}`,
    );
  return yes(`the volume ${format.name} has UUID ${format.uuid}`);
}

/** What of `setting` must follow the spec; empty where nothing. */
function changes(format: Format, { input }: Target): Partial<FormatInput> {
  const wanted: Partial<FormatInput> = {
    trashDays: input.trashDays,
    ...(input.storage === 'file' || sameBucket(format, input) ? {} : { bucket: input.bucket }),
    // Without credentials in the spec, those of an adopted volume stay.
    ...(input.accessKey === undefined
      ? {}
      : { accessKey: input.accessKey, secretKey: input.secretKey ?? '', sessionToken: input.sessionToken ?? '' }),
  };
  return Object.fromEntries(Object.entries(wanted).filter(([member, value]) => format[member as keyof Format] !== value));
}

function stepOf(seen: Observation, isFormatted: Verdict): Step {
  const { metadata, storage, target } = seen;
  if (!target) return { do: 'nothing' };
  if (metadata?.state === 'empty') return { do: isFormatted.reason === 'Progressing' ? 'format' : 'nothing' };
  if (metadata?.state !== 'volume' || isFormatted.status !== 'True' || storage?.state !== 'reached') return { do: 'nothing' };
  // Only with a store that lets us in: wrong new keys in `setting` would stop every client.
  const wanted = changes(metadata.format, target);
  if (Object.keys(wanted).length > 0) return { do: 'configure', changes: wanted };
  return storage.marker === undefined ? { do: 'mark', uuid: metadata.format.uuid } : { do: 'nothing' };
}

function lower(type: ConditionType, verdict: Verdict): Verdict & { readonly type: ConditionType } {
  return { type, ...verdict };
}

/** The pair of kstatus, and `Ready`, from what it rests on. */
export function summary(ready: Verdict): readonly (Verdict & { readonly type: ConditionType })[] {
  if (ready.status === 'True') return [lower('Ready', ready)];
  const stalled = stalling.has(ready.reason);
  return [lower('Ready', ready), lower(stalled ? 'Stalled' : 'Reconciling', { ...ready, status: 'True' })];
}

export function decide(volume: JuiceVolume, seen: Observation): Decision {
  const aspects = {
    SecretsResolved: secretsResolved(seen),
    MetadataReachable: metadataReachable(seen),
    StorageReachable: storageReachable(seen),
    Formatted: formatted(volume, seen),
  };
  const { SecretsResolved, MetadataReachable, StorageReachable, Formatted } = aspects;
  const chain = seen.conflict ? [Formatted] : [SecretsResolved, MetadataReachable, Formatted, StorageReachable];
  const broken = chain.find(({ status }) => status === 'False') ?? chain.find(({ status }) => status === 'Unknown');
  // An unreachable store is the cause, "not formatted yet" its consequence.
  const cause =
    broken === Formatted && broken.reason === 'Progressing' && StorageReachable.status === 'False' ? StorageReachable : broken;
  const ready = cause ? no(cause.reason, cause.message) : yes(`${volumeNameOf(volume)} can be mounted`);
  const [top, ...rest] = summary(ready);
  const { metadata } = seen;
  return {
    step: stepOf(seen, Formatted),
    verdicts: [
      ...(top ? [top] : []),
      lower('SecretsResolved', SecretsResolved),
      lower('MetadataReachable', MetadataReachable),
      lower('MetadataDurable', metadataDurable(seen)),
      lower('StorageReachable', StorageReachable),
      lower('Formatted', Formatted),
      ...rest,
    ],
    ready: ready.status === 'True',
    uuid: metadata?.state === 'volume' && Formatted.status === 'True' ? metadata.format.uuid : volume.status?.uuid,
  };
}
