/** The object store of a JuiceVolume in JuiceFS's words (kind, bucket, keys), and the name of the place of its objects. Pure. */
import type { StorageOverride } from '../../api/mount.ts';
import { type JuiceVolume, type VolumeSpec, volumeNameOf } from '../../api/volume.ts';
import { namedStorages } from '../../object/s3-names.ts';
import type { ResolvedSecrets } from './secrets.ts';

const DEFAULT_REGION = 'us-east-1';

type Storage = VolumeSpec['storage'];
type S3 = NonNullable<Storage['s3']>;

export interface StorageTarget {
  /** JuiceFS's name of the driver. */
  readonly storage: string;
  /** The bucket as JuiceFS spells it. */
  readonly bucket: string;
  /** How the store is reached beyond what `setting` can say. */
  readonly override: StorageOverride;
  /** For people, without secrets: `s3://bucket/name at host`, `/path/name`. */
  readonly description: string;
  /** Names the place of the objects, whatever keys and whichever way lead there. */
  readonly identity: string;
}

/** What a store is opened with; secrets in plain text. */
export interface StorageKeys {
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
}

/** The keys of a store, all of them or none: those of two times never mix. */
export function storageKeys({ azure }: Storage, secrets: ResolvedSecrets): StorageKeys {
  const accessKey = azure ? azure.account : secrets.accessKey;
  const { secretKey, sessionToken } = secrets;
  return {
    ...(accessKey === undefined ? {} : { accessKey }),
    ...(secretKey === undefined ? {} : { secretKey }),
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}

function awsHost(region: string): string {
  return `s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;
}

const inHost = (bucket: string, { protocol, host }: URL): string => `${protocol}//${bucket}.${host}`;

function s3Target(s3: S3, name: string): StorageTarget {
  const endpoint = new URL(s3.endpoint ?? `https://${awsHost(s3.region)}`);
  const { protocol, host } = endpoint;
  const isOther = s3.endpoint !== undefined && !host.includes('.amazonaws.com');
  const inPath = s3.forcePathStyle ?? s3.endpoint !== undefined;
  return {
    storage: 's3',
    bucket: inPath ? `${protocol}//${host}/${s3.bucket}` : inHost(s3.bucket, endpoint),
    override: {
      ...(isOther && s3.region !== DEFAULT_REGION ? { region: s3.region } : {}),
      ...(isOther && s3.forcePathStyle === false ? { virtualHost: 'true' } : {}),
    },
    description: `s3://${s3.bucket}/${name} at ${host}`,
    identity: `s3://${s3.endpoint === undefined ? 'amazonaws.com' : host}/${s3.bucket}/${name}`,
  };
}

function providerTarget(provider: NonNullable<Storage['provider']>, name: string): StorageTarget {
  const endpoint = new URL(provider.endpoint);
  const { bucket, name: storage, region } = provider;
  const driver = namedStorages.find((each) => each === storage);
  if (!driver) throw new TypeError(`the schema names a provider that cannot be opened: ${storage}`);
  return {
    storage: driver,
    bucket: inHost(bucket, endpoint),
    override: region === undefined ? {} : { region },
    description: `${storage}://${bucket}/${name} at ${endpoint.host}`,
    // Buckets of a name may be there in several regions.
    identity: `${storage}://${endpoint.host}/${bucket}/${name}`,
  };
}

function gsTarget({ bucket, endpoint }: NonNullable<Storage['gs']>, name: string): StorageTarget {
  return {
    storage: 'gs',
    bucket: endpoint === undefined ? `gs://${bucket}` : inHost(bucket, new URL(endpoint)),
    override: {},
    description: `gs://${bucket}/${name}`,
    identity: `gs://${bucket}/${name}`,
  };
}

function azureTarget({ account, container, endpoint }: NonNullable<Storage['azure']>, name: string): StorageTarget {
  const cloud = new URL(endpoint ?? 'https://core.windows.net');
  const place = `${container}/${name} of ${account} at ${cloud.host}`;
  return {
    storage: 'wasb',
    bucket: inHost(container, cloud),
    override: {},
    description: `wasb://${place}`,
    identity: `wasb://${account}/${container}/${name}`,
  };
}

function webdavTarget({ endpoint, path }: NonNullable<Storage['webdav']>, name: string): StorageTarget {
  const { origin, host } = new URL(endpoint);
  const folder = path === '/' ? '/' : `${path}/`;
  return {
    storage: 'webdav',
    bucket: `${origin}${folder}`,
    override: {},
    description: `${origin}${folder}${name}`,
    identity: `webdav://${host}${folder}${name}`,
  };
}

/** Where the blocks of a volume are. */
export function storageTarget(volume: JuiceVolume): StorageTarget {
  const { s3, provider, gs, azure, webdav, file } = volume.spec.storage;
  const name = volumeNameOf(volume);
  if (s3) return s3Target(s3, name);
  if (provider) return providerTarget(provider, name);
  if (gs) return gsTarget(gs, name);
  if (azure) return azureTarget(azure, name);
  if (webdav) return webdavTarget(webdav, name);
  const path = `${file?.path.replace(/\/+$/, '')}/`;
  return { storage: 'file', bucket: path, override: {}, description: `${path}${name}`, identity: `file://${path}${name}` };
}
