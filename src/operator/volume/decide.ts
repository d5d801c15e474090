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
import { sameBucket } from '../../object/place.ts';
import { decideKeys, isRotating, type KeyDecision, type KeyStep } from './encryption.ts';
import type { Observation } from './observation.ts';
import { type QuotaAction, quotaActions, quotaExceeded, quotasApplied } from './quotas.ts';
import type { Target } from './target.ts';
import { no, unknown, type Verdict, yes } from './verdict.ts';

/** What is done to database and store. */
export type WorldStep =
  /** Makes the bucket if need be, tries it out, writes `setting`. */
  | { readonly do: 'format'; readonly key?: { readonly key: string; readonly passphrase: string } }
  /** Writes what may change into `setting`. */
  | { readonly do: 'configure'; readonly changes: Partial<FormatInput> }
  /** Writes the object `juicefs_uuid`. */
  | { readonly do: 'mark'; readonly uuid: string }
  | { readonly do: 'limits'; readonly actions: readonly QuotaAction[] }
  | Extract<KeyStep, { readonly do: 'rewrap' }>;

/** The next thing to do; after it, the world is looked at again. */
export type Step = { readonly do: 'nothing' } | WorldStep | KeyStep;

export interface Decision {
  readonly step: Step;
  /** In the order they are shown. */
  readonly verdicts: readonly (Verdict & { readonly type: ConditionType })[];
  readonly ready: boolean;
  /** The UUID to remember; undefined where none is certain. */
  readonly uuid: string | undefined;
  /** Clients are being given another passphrase. */
  readonly rotating: boolean;
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
  'SettingsDiffer',
  'NotAdopted',
  'KeyInvalid',
]);

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

/** Neither marker nor any object, though the volume holds something and its marker was there: another place, or all is gone. */
function storeLost(volume: JuiceVolume, { storage, metadata }: Observation): boolean {
  return (
    volume.status?.uuid !== undefined &&
    metadata?.state === 'volume' &&
    metadata.usage.inodes > 0 &&
    storage?.state === 'reached' &&
    storage.marker === undefined &&
    storage.firstObject === undefined
  );
}

function storageReachable(volume: JuiceVolume, seen: Observation): Verdict {
  const { storage, metadata, target } = seen;
  if (!storage) return unknown('not looked at');
  if (storage.state === 'failed') return no(storage.reason, storage.message);
  if (storage.state === 'missing') return no(metadata?.state === 'empty' ? 'Progressing' : 'StorageInvalid', storage.message);
  if (storeLost(volume, seen))
    return no(
      'StorageInvalid',
      `${target?.storage ?? 'the store'} is empty, though the volume holds files: is the right directory or bucket there? Bring its objects back; nothing is written there until then`,
    );
  return yes('the object store answers');
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
  const found = format.encryptKey === '' ? undefined : format.encryptAlgo || 'aes256gcm-rsa';
  if (found !== target.algorithm) list.push(`Encryption: wanted ${target.algorithm ?? 'none'}, found ${found ?? 'none'}`);
  return list;
}

const secretMembers: ReadonlySet<string> = new Set(['accessKey', 'secretKey', 'sessionToken']);

/** Settings of a volume that is to be adopted which are not those of the spec; keys by name only. */
function otherSettings(format: Format, target: Target): string {
  return Object.entries(changes(format, target))
    .map(([member, wanted]) => {
      const name = jsonName(member as keyof typeof target.input & 'bucket');
      if (secretMembers.has(member)) return `${name} is another`;
      return `${name}: wanted ${JSON.stringify(wanted)}, found ${JSON.stringify(format[member as keyof Format])}`;
    })
    .join('; ');
}

/** Why a volume that is there already, and was not made for this object, is not taken; undefined where it is. */
function notAdopted(volume: JuiceVolume, format: Format, target: Target): Verdict | undefined {
  const { adopt } = volume.spec;
  if (adopt && adopt.uuid !== format.uuid)
    return no('NotAdopted', `spec.adopt wants the volume with UUID ${adopt.uuid}; the database holds ${format.uuid}`);
  if (format.uuid === volume.metadata.uid || volume.status?.uuid !== undefined || adopt?.settings === 'Overwrite')
    return undefined;
  const differ = otherSettings(format, target);
  if (differ === '') return undefined;
  return no(
    'SettingsDiffer',
    `the database holds a volume with other settings. ${differ}. Change the spec, or let it overwrite them with spec.adopt: {uuid: ${format.uuid}, settings: Overwrite}`,
  );
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
    if (volume.spec.adopt)
      return no(
        'NotAdopted',
        `spec.adopt wants the volume with UUID ${volume.spec.adopt.uuid}, but the database is empty; correct its address, or remove spec.adopt to format a new volume`,
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
  return notAdopted(volume, format, target) ?? yes(`the volume ${format.name} has UUID ${format.uuid}`);
}

/** What of `setting` must follow the spec; empty where nothing. */
function changes(format: Format, { input }: Target): Partial<FormatInput> {
  const wanted: Partial<FormatInput> = {
    trashDays: input.trashDays,
    ...(input.capacity === undefined ? {} : { capacity: input.capacity }),
    ...(input.inodes === undefined ? {} : { inodes: input.inodes }),
    // Never switched off: files may have lists.
    ...(input.enableAcl ? { enableAcl: true } : {}),
    ...(input.changeLog === undefined ? {} : { changeLog: input.changeLog }),
    ...(input.changeLogMaxAge === undefined ? {} : { changeLogMaxAge: input.changeLogMaxAge }),
    ...(input.changeLogMaxLines === undefined ? {} : { changeLogMaxLines: input.changeLogMaxLines }),
    ...(input.storage === 'file' || sameBucket(format, input) ? {} : { bucket: input.bucket }),
    // Without credentials in the spec, those of an adopted volume stay.
    ...(input.accessKey === undefined
      ? {}
      : { accessKey: input.accessKey, secretKey: input.secretKey ?? '', sessionToken: input.sessionToken ?? '' }),
  };
  return Object.fromEntries(Object.entries(wanted).filter(([member, value]) => format[member as keyof Format] !== value));
}

function stepOf(volume: JuiceVolume, seen: Observation, isFormatted: Verdict, keys: KeyDecision | undefined): Step {
  const { metadata, storage, target, encryption } = seen;
  if (!target) return { do: 'nothing' };
  if (metadata?.state === 'empty') {
    if (isFormatted.reason !== 'Progressing') return { do: 'nothing' };
    if (!keys) return { do: 'format' };
    if (keys.step) return keys.step;
    const { passphrase, pem } = encryption?.keys.ok ? encryption.keys.material : {};
    if (keys.verdict.status !== 'True' || passphrase === undefined || pem === undefined) return { do: 'nothing' };
    return { do: 'format', key: { key: pem, passphrase } };
  }
  if (metadata?.state !== 'volume' || isFormatted.status !== 'True') return { do: 'nothing' };
  if (keys?.step) return keys.step;
  if (storage?.state === 'reached' && !storeLost(volume, seen)) {
    // Only with a store that lets us in: wrong new keys in `setting` would stop every client.
    const wanted = changes(metadata.format, target);
    if (Object.keys(wanted).length > 0) return { do: 'configure', changes: wanted };
    if (storage.marker === undefined) return { do: 'mark', uuid: metadata.format.uuid };
  }
  const actions = quotaActions(volume, metadata.quotas);
  return actions.length > 0 ? { do: 'limits', actions } : { do: 'nothing' };
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

function policyResolved(volume: JuiceVolume, { policyExists }: Observation): Verdict | undefined {
  const { name } = volume.spec.cachePolicyRef ?? {};
  if (policyExists === undefined || name === undefined) return undefined;
  if (policyExists) return yes(`JuiceCachePolicy ${name} exists`);
  return no(
    'PolicyNotFound',
    `JuiceCachePolicy ${name} does not exist in the namespace of the volume; pods get the defaults until it does`,
  );
}

/** The volume can be mounted; what the operator still has to do about it, as a condition. */
function unfinished(others: readonly (Verdict | undefined)[]): readonly (Verdict & { readonly type: ConditionType })[] {
  const next = others.find((each) => each?.status === 'False' || each?.reason === 'Rotating');
  return next ? [lower('Reconciling', { ...next, status: 'True' })] : [];
}

export function decide(volume: JuiceVolume, seen: Observation): Decision {
  const { metadata } = seen;
  const keys = seen.conflict ? undefined : decideKeys(volume, seen.encryption, metadata);
  const SecretsResolved = secretsResolved(seen);
  const MetadataReachable = metadataReachable(seen);
  const StorageReachable = storageReachable(volume, seen);
  const Formatted = formatted(volume, seen);
  const applied = seen.conflict ? undefined : quotasApplied(volume, metadata);
  const exceeded = quotaExceeded(metadata);
  const policy = policyResolved(volume, seen);
  // What cannot be mended by waiting is said first; a key of a volume that is not ours is no cause of anything.
  const encryption = keys && Formatted.status !== 'False' ? [keys.verdict] : [];
  const before = keys && Formatted.reason === 'Progressing' ? [keys.verdict] : [];
  const chain = seen.conflict
    ? [Formatted]
    : [SecretsResolved, MetadataReachable, ...before, Formatted, ...encryption, StorageReachable];
  const broken = chain.find(({ status }) => status === 'False') ?? chain.find(({ status }) => status === 'Unknown');
  // An unreachable store is the cause, "not formatted yet" its consequence.
  const cause = broken?.reason === 'Progressing' && StorageReachable.status === 'False' ? StorageReachable : broken;
  const ready = cause ? no(cause.reason, cause.message) : yes(`${volumeNameOf(volume)} can be mounted`);
  const [top, ...rest] = summary(ready);
  const optional = (type: ConditionType, verdict: Verdict | undefined) => (verdict ? [lower(type, verdict)] : []);
  return {
    step: stepOf(volume, seen, Formatted, keys),
    verdicts: [
      ...(top ? [top] : []),
      lower('SecretsResolved', SecretsResolved),
      lower('MetadataReachable', MetadataReachable),
      lower('MetadataDurable', metadataDurable(seen)),
      lower('StorageReachable', StorageReachable),
      lower('Formatted', Formatted),
      ...optional('EncryptionReady', keys?.verdict),
      ...optional('QuotasApplied', applied),
      ...optional('QuotaExceeded', exceeded),
      ...optional('CachePolicyResolved', policy),
      ...(rest.length > 0 || ready.status !== 'True' ? rest : unfinished([applied, keys?.verdict])),
    ],
    ready: ready.status === 'True',
    uuid: metadata?.state === 'volume' && Formatted.status === 'True' ? metadata.format.uuid : volume.status?.uuid,
    rotating: isRotating(keys),
  };
}
