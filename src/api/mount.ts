/**
 * `volume.json`: what a client needs to mount a volume, secrets included; the one mandatory key of a mount Secret. Whatever else
 * the Secret holds (certificates) lies beside it in the client's container. Parsed by hand: the client loads no schema library.
 */
import { UserError } from '../lib/errors.ts';

/** Where the store is to be reached in another way than the volume's `setting` says. */
export interface StorageOverride {
  readonly bucket?: string;
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
  /** The region that requests are signed for, where the bucket's URL does not tell (`setting` has no place for it). */
  readonly region?: string;
  /** `true`: the bucket is part of the host name, though the service is not Amazon's. */
  readonly virtualHost?: 'true';
}

/** What the object store takes from the environment, for a volume whose description says so (AWS_REGION and so on). */
export function storeEnvironment(storage: StorageOverride | undefined): Readonly<Record<string, string>> {
  return {
    ...(storage?.region === undefined ? {} : { AWS_REGION: storage.region }),
    ...(storage?.virtualHost === undefined ? {} : { JFS_S3_VHOST_STYLE: storage.virtualHost }),
  };
}

/** What a client opens its store with: keys that are given take the place of all that `setting` has, none of which may stay. */
export function storageChangeOf(
  storage: StorageOverride | undefined,
): StorageOverride & { readonly environment: Readonly<Record<string, string>> } {
  const isKeyed = storage?.accessKey !== undefined;
  return { ...(isKeyed ? { secretKey: '', sessionToken: '' } : {}), ...storage, environment: storeEnvironment(storage) };
}

export interface MountConfig {
  /** Name of the JuiceFS volume; the client refuses a database that holds another. */
  readonly name: string;
  /** UUID of the volume; as the name. */
  readonly uuid: string;
  /** Metadata URL as JuiceFS spells it, with credentials. A certificate that it names by a relative path lies beside volume.json. */
  readonly metaUrl: string;
  readonly storage?: StorageOverride;
  /** Names this content, so that everybody can say which one is in use: letters, digits, `.`, `_`, `-`, at most 64. No secret. */
  readonly generation?: string;
  /** Clients may only read, whatever the plan of the pod says. */
  readonly readOnly?: boolean;
  /** What the key of an encrypted volume is under; while that changes, `previous` is what it may still be under. */
  readonly encryption?: { readonly passphrase: string; readonly previous?: string };
}

const GENERATION = /^[A-Za-z0-9._-]{1,64}$/;

const overrides = ['bucket', 'accessKey', 'secretKey', 'sessionToken', 'region', 'virtualHost'] as const;

/** What is needed for TLS to the metadata database, and where it is: paths, or PEM texts. */
export interface TlsFiles {
  /** Certificates of the authorities to trust. */
  readonly ca?: string;
  /** Certificate and private key of the client. */
  readonly cert?: string;
  readonly key?: string;
}

/** The keys of a mount Secret that hold them. */
export const MOUNT_SECRET_FILES = { ca: 'ca.crt', cert: 'tls.crt', key: 'tls.key' } as const satisfies TlsFiles;

/** Options of metadata URLs that name such files: Redis and MySQL, PostgreSQL. */
const RELATIVE_FILE = /([?&](?:tls-ca-cert-file|tls-cert-file|tls-key-file|sslrootcert|sslcert|sslkey)=)(?!%2F|\/)/gi;

/**
 * Reads volume.json. With `folder` (where the file lies), the relative path of a certificate becomes absolute. Throws UserError
 * `InvalidMountConfig` that names the member, never its value (it may be a secret).
 */
export function parseMountConfig(text: string, folder?: string): MountConfig {
  const fail = (what: string): never => {
    throw new UserError('InvalidMountConfig', `${folder ?? 'the mount Secret'}: ${what}`, {
      hint: 'The operator writes volume.json; see the conditions of the JuiceVolume (kubectl describe jv).',
    });
  };
  let raw: Readonly<Record<string, unknown>> = {};
  try {
    const json: unknown = JSON.parse(text);
    if (typeof json !== 'object' || json === null || Array.isArray(json)) fail('volume.json is not a JSON object');
    raw = json as Readonly<Record<string, unknown>>;
  } catch (error) {
    if (error instanceof UserError) throw error;
    fail('volume.json is not JSON');
  }
  const member = (of: Readonly<Record<string, unknown>>, name: string, path = name): string => {
    const value = of[name];
    if (typeof value !== 'string' || value === '') return fail(`volume.json lacks ${path}, or it is not text`);
    return value;
  };
  let metaUrl = member(raw, 'metaUrl');
  if (folder !== undefined) metaUrl = metaUrl.replaceAll(RELATIVE_FILE, (match) => `${match}${encodeURIComponent(`${folder}/`)}`);
  const storage = raw['storage'];
  if (storage !== undefined && (typeof storage !== 'object' || storage === null)) fail('storage in volume.json is not an object');
  const given = (storage ?? {}) as Readonly<Record<string, unknown>>;
  const override = Object.fromEntries(
    overrides.filter((name) => given[name] !== undefined).map((name) => [name, member(given, name, `storage.${name}`)]),
  ) as StorageOverride;
  const generation = raw['generation'];
  if (generation !== undefined && (typeof generation !== 'string' || !GENERATION.test(generation)))
    fail('generation in volume.json is not a short name');
  const readOnly = raw['readOnly'];
  if (readOnly !== undefined && typeof readOnly !== 'boolean') fail('readOnly in volume.json is neither true nor false');
  const encryption = raw['encryption'];
  if (encryption !== undefined && (typeof encryption !== 'object' || encryption === null))
    fail('encryption in volume.json is not an object');
  const passphrases = encryption as Readonly<Record<string, unknown>> | undefined;
  return {
    name: member(raw, 'name'),
    uuid: member(raw, 'uuid'),
    metaUrl,
    ...(Object.keys(override).length > 0 ? { storage: override } : {}),
    ...(typeof generation === 'string' ? { generation } : {}),
    ...(readOnly === true ? { readOnly } : {}),
    ...(passphrases === undefined
      ? {}
      : {
          encryption: {
            passphrase: member(passphrases, 'passphrase', 'encryption.passphrase'),
            ...(passphrases['previous'] === undefined
              ? {}
              : { previous: member(passphrases, 'previous', 'encryption.previous') }),
          },
        }),
  };
}

/** The text of volume.json; equal configurations are equal texts. */
export function formatMountConfig(config: MountConfig): string {
  const { name, uuid, metaUrl, storage, generation, readOnly, encryption } = config;
  const override = Object.fromEntries(
    overrides.filter((key) => storage?.[key] !== undefined).map((key) => [key, storage?.[key]]),
  );
  return JSON.stringify({
    name,
    uuid,
    metaUrl,
    ...(Object.keys(override).length > 0 ? { storage: override } : {}),
    ...(readOnly ? { readOnly } : {}),
    ...(encryption
      ? {
          encryption: {
            passphrase: encryption.passphrase,
            ...(encryption.previous === undefined ? {} : { previous: encryption.previous }),
          },
        }
      : {}),
    ...(generation === undefined ? {} : { generation }),
  });
}
