/**
 * Conditions of the resources and the closed list of their reasons, with the sentence that the reference page shows for each.
 * `Ready` is the summary; the others say what it rests on. `Reconciling` and `Stalled` are the kstatus pair: there only while
 * true, so that Flux, Argo CD and `kubectl wait` understand them without help.
 */

/** As metav1.Condition. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
  readonly reason: string;
  readonly message: string;
}

export const conditionTypes = {
  Ready: 'Pods can mount the volume; for a policy: it is accepted.',
  SecretsResolved: 'Every Secret that the spec names exists and has the keys.',
  MetadataReachable: 'The metadata database answers, and lets us in.',
  MetadataDurable:
    'The database is set up not to lose metadata (Redis: nothing is evicted, and every write is logged; PostgreSQL, MySQL: a commit is on the disk before it is answered). A warning only.',
  StorageReachable: 'Objects can be listed (and, when the volume is formatted, written, read back and deleted).',
  Formatted: 'The database holds this volume, and its format is what the spec says.',
  EncryptionReady: 'The key of the volume is there, and the passphrase opens it. Absent without spec.encryption.',
  QuotasApplied: 'The limits of the spec are those of the volume. Absent without spec.quota. Does not make the volume unusable.',
  QuotaExceeded:
    'A limit of the volume, or one of the spec, is reached or nearly (99 %): writing fails, or soon will. Absent otherwise.',
  CredentialsCurrent:
    'Every client that says which credentials it uses has the newest. False while a rotation is on its way into the pods; a warning only.',
  CachePolicyResolved: 'The JuiceCachePolicy that the spec names exists. Absent where none is named; a warning only.',
  PodsServed:
    'False while pods that ask for the volume run without it (they slipped past the webhook), or are refused. A warning only; absent otherwise.',
  Suspended: 'spec.suspend is set. Absent otherwise.',
  DeletionUnconfirmed:
    'The object is being deleted with reclaimPolicy Delete and waits for the confirming annotation. Absent otherwise.',
  Reconciling: 'The operator is still at work, or will try again by itself. Absent when done.',
  Stalled: 'Nothing will change until a person changes something. Absent otherwise.',
} as const;
export type ConditionType = keyof typeof conditionTypes;

export const reasons = {
  Succeeded: 'All is as it should be.',
  Accepted: 'The policy is valid and can be used.',
  PolicyInvalid: 'The sizes of the policy do not fit together.',
  Suspended: 'spec.suspend is set: nothing is read or written, the last state is kept.',
  Progressing: 'The operator has begun, the rest follows.',
  NotChecked: 'Something it rests on is not there, so it was not looked at.',
  SecretNotFound: 'A Secret that the spec names does not exist.',
  SecretKeyMissing: 'A Secret exists but lacks a key, or the key is empty.',
  MetadataUnreachable: 'The metadata database does not answer; tried again by itself.',
  MetadataDenied: 'The metadata database refuses the user name or password.',
  MetadataInvalid: 'The database answers with something that cannot be understood, or the address cannot be used.',
  NotDurable: 'The database may lose metadata with its present settings.',
  DurabilityUnknown: 'The database does not let us read its settings (managed services often do not).',
  StorageUnreachable: 'The object store does not answer; tried again by itself.',
  StorageDenied: 'The object store refuses the credentials, or an action with them.',
  StorageInvalid:
    'The bucket does not exist and cannot be made, what was written did not come back, or the objects of the volume are gone.',
  StorageNotEmpty:
    'The database is empty but the bucket already holds objects under the volume’s name: formatting would mix two volumes.',
  FormatMismatch: 'The database holds a volume whose format is not the one in the spec.',
  NewerFormat: 'The volume was made by a newer client than this one understands.',
  VolumeReplaced: 'The database holds a volume with another UUID than the one observed before.',
  VolumeLost: 'The database is empty, though the volume had been formatted before; never formatted again by itself.',
  SettingsDiffer:
    'The volume that is to be adopted has other settings than the spec, and spec.adopt does not say to overwrite them.',
  NotAdopted: 'spec.adopt names a volume that is not in the database. Nothing is formatted.',
  SecretRefused: 'A Secret with the name of one that the operator makes exists already and is not ours.',
  PassphraseWrong: 'The passphrase does not open the RSA key of the volume, and neither does an earlier one that is known.',
  KeyInvalid: 'The RSA key cannot be read, is not opened by the passphrase, or is not the one of the volume.',
  Rotating: 'The passphrase is being changed: clients are given both, then the key is encrypted with the new one.',
  QuotaPending: 'Limits wait for a directory that does not exist.',
  QuotaFailed: 'The database did not take a limit; tried again by itself.',
  LimitReached: 'At least 99 % of a limit is used.',
  ClientsOutdated: 'Clients still use earlier credentials; they read the new ones within two minutes.',
  PolicyNotFound: 'The JuiceCachePolicy does not exist; pods get the defaults until it does.',
  PodsWithoutVolume: 'Pods that ask for the volume run without it: what they write is not in it. The message names them.',
  PodsRefused: 'Pods that ask for the volume are refused when they are created. The message says whose, and why.',
  Conflict: 'Another JuiceVolume already uses this database, or this bucket and name.',
  InUse: 'Clients or pods still have the volume mounted; deletion waits for them.',
  Unconfirmed: 'Deletion of the data waits for the annotation juicepod.io/confirm-delete with the name of the object.',
  Deleting: 'The data of the volume is being deleted.',
  MountSecretRefused: 'A Secret with the name of a mount Secret exists already and is not ours.',
  ApiForbidden:
    'The API server does not let the operator do what it must: its rights (config/rbac) are of an older version, or a quota or a policy forbids it. Tried again by itself.',
  InternalError: 'Something unexpected happened; tried again by itself, see the message and the operator’s log.',
} as const;
export type Reason = keyof typeof reasons;
