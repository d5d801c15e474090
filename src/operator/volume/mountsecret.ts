/**
 * Mount Secrets: one in each namespace that may use the volume, with what a client needs and nothing else. In the volume's own
 * namespace it is owned by the volume; an owner cannot be in another namespace, so elsewhere a label says whose it is, and the
 * finalizer of the volume removes them. Pure.
 */
import { annotations, API_VERSION, labels, MANAGED_BY, MOUNT_SECRET_KEY, MOUNT_SECRET_TYPE } from '../../api/group.ts';
import { formatMountConfig, MOUNT_SECRET_FILES, type MountConfig, parseMountConfig, type TlsFiles } from '../../api/mount.ts';
import { mountSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { Intent } from '../../kube/types.ts';
import type { SecretObject } from './secrets.ts';

type SecretIntent = Intent & {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly data: Readonly<Record<string, string>>;
};

const tlsKeys = ['ca', 'cert', 'key'] as const satisfies readonly (keyof TlsFiles)[];

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

const decode = (secret: SecretObject | undefined, key: string): string | undefined => {
  const value = secret?.data?.[key];
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8');
};

/** What a mount Secret says; undefined where there is none, or somebody spoilt it. */
export function configOf(secret: SecretObject | undefined): MountConfig | undefined {
  const text = decode(secret, MOUNT_SECRET_KEY);
  try {
    return text === undefined ? undefined : parseMountConfig(text);
  } catch {
    return undefined;
  }
}

/**
 * Which members are credentials: how database, store and key are reached. What else clients are told is brought to them in the same
 * way and is no rotation: counted, it would make every volume look as though it had one when a release begins to say more.
 */
const isCredential: Readonly<Record<Exclude<keyof MountConfig, 'generation'>, boolean>> = {
  name: true,
  uuid: true,
  metaUrl: true,
  storage: true,
  encryption: true,
  readOnly: false,
  backup: false,
};

/** Equal texts for equal credentials. */
function credentialsIn(config: MountConfig): string {
  const { name, uuid, metaUrl } = config;
  const others = Object.entries(config).filter(([member]) => isCredential[member as keyof typeof isCredential]);
  return formatMountConfig({ ...Object.fromEntries(others), name, uuid, metaUrl });
}

/**
 * The generation of the credentials in mount Secrets: a number that grows with each change of them, and with each repair of a Secret that
 * was spoilt. It is no digest of the content: the status shows it, and a digest of a password is a way to guess it.
 * `tls`: PEM texts; `own`: the Secret of the volume's namespace, the first to change; `last`: the generation that the status knows.
 */
export function generationOf(
  config: MountConfig,
  tls: TlsFiles,
  own: SecretObject | undefined,
  last: string | undefined,
): string {
  const present = configOf(own);
  const { generation } = present ?? {};
  if (
    present &&
    generation !== undefined &&
    credentialsIn(present) === credentialsIn(config) &&
    tlsKeys.every((file) => decode(own, MOUNT_SECRET_FILES[file]) === tls[file])
  )
    return generation;
  const number = (text: string | undefined): number => (/^\d{1,15}$/.test(text ?? '') ? Number(text) : 0);
  return String(Math.max(number(generation), number(last)) + 1);
}

/** The Secret for one namespace, as it shall be. `tls`: PEM texts. */
export function mountSecret(volume: JuiceVolume, podNamespace: string, config: MountConfig, tls: TlsFiles): SecretIntent {
  const { name, namespace = 'default', uid = '' } = volume.metadata;
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: mountSecretName(namespace, name, podNamespace),
      namespace: podNamespace,
      labels: { [labels.managedBy]: MANAGED_BY, [labels.partOf]: 'juicepod', [labels.volumeUid]: uid },
      annotations: { [annotations.volume]: `${namespace}/${name}` },
      ...(podNamespace === namespace
        ? {
            ownerReferences: [
              { apiVersion: API_VERSION, kind: 'JuiceVolume', name, uid, controller: true, blockOwnerDeletion: true },
            ],
          }
        : {}),
    },
    type: MOUNT_SECRET_TYPE,
    data: {
      [MOUNT_SECRET_KEY]: base64(formatMountConfig(config)),
      ...Object.fromEntries(
        tlsKeys.flatMap((file) => (tls[file] === undefined ? [] : [[MOUNT_SECRET_FILES[file], base64(tls[file])]])),
      ),
    },
  };
}

function contains(whole: Readonly<Record<string, string>> | undefined, part: Readonly<Record<string, string>>): boolean {
  return Object.entries(part).every(([key, value]) => whole?.[key] === value);
}

function isCurrent(found: SecretObject, wanted: SecretIntent): boolean {
  const data = found.data ?? {};
  return (
    found.type === wanted['type'] &&
    Object.keys(data).length === Object.keys(wanted.data).length &&
    contains(data, wanted.data) &&
    contains(found.metadata.labels, wanted.metadata.labels) &&
    contains(found.metadata.annotations, wanted.metadata.annotations) &&
    (wanted.metadata['ownerReferences' as keyof typeof wanted.metadata] === undefined ||
      found.metadata.ownerReferences?.length === 1)
  );
}

/** Whether a Secret is one of the volume's mount Secrets, by what it says of itself. */
export function isMountSecret(secret: SecretObject): boolean {
  return secret.type === MOUNT_SECRET_TYPE;
}

export interface SecretPlan {
  readonly apply: readonly SecretIntent[];
  readonly remove: readonly SecretObject[];
}

/** What turns the Secrets that this volume has into those it shall have. Secrets on their way out count as gone. */
export function planSecrets(wanted: readonly SecretIntent[], found: readonly SecretObject[]): SecretPlan {
  const id = (object: { readonly metadata: { readonly name: string; readonly namespace?: string | undefined } }): string =>
    `${object.metadata.namespace}/${object.metadata.name}`;
  const present = new Map(
    found.filter(({ metadata }) => metadata.deletionTimestamp === undefined).map((each) => [id(each), each]),
  );
  const kept = new Set(wanted.map(id));
  return {
    apply: wanted.filter((each) => {
      const existing = present.get(id(each));
      return !existing || !isCurrent(existing, each);
    }),
    remove: [...present.values()].filter((each) => !kept.has(id(each))),
  };
}
