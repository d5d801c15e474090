/** Where a Secret of JuiceFS's CSI driver says that the bytes are, as `spec.storage` of a JuiceVolume and the keys of a Secret. Pure. */
import { PROVIDERS } from '../../api/volume-storage.ts';
import type { Json } from '../../lib/json.ts';
import { messageOf } from '../../lib/errors.ts';
import { parseContainer } from '../../object/azure-account.ts';
import { namedAddress } from '../../object/s3-names.ts';
import { parseBucketUrl } from '../../object/s3-url.ts';

export interface MigratedStorage {
  readonly storage?: Json;
  /** Of the Secret. */
  readonly keys: Readonly<Record<string, string>>;
  /** What a person has to do. */
  readonly todos: readonly string[];
  /** Why it cannot be brought over. */
  readonly obstacle?: string;
}

interface Given {
  readonly kind: string;
  readonly bucket: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly sessionToken: string;
  /** Name of the Secret that is made. */
  readonly secret: string;
  readonly fillIn: string;
}

const isProvider = (kind: string): kind is (typeof PROVIDERS)[number] => (PROVIDERS as readonly string[]).includes(kind);

/** Keys that must be there; what the driver's Secret lacks is to be filled in. */
function pairOf({ accessKey, secretKey, sessionToken, secret, fillIn }: Given) {
  return {
    keys: {
      accessKeyId: accessKey || fillIn,
      secretAccessKey: secretKey || fillIn,
      ...(sessionToken ? { sessionToken } : {}),
    },
    credentials: { secretRef: { name: secret, ...(sessionToken ? { sessionTokenKey: 'sessionToken' } : {}) } },
    todos: accessKey && secretKey ? [] : [`the driver's Secret has no keys of the store: put them into Secret ${secret}`],
  };
}

function s3Of(given: Given): MigratedStorage {
  const { kind, bucket, accessKey, secretKey, secret, fillIn } = given;
  const hasKeys = accessKey !== '' && secretKey !== '';
  const { keys, credentials } = hasKeys ? pairOf(given) : { keys: {}, credentials: undefined };
  const named = credentials ? { credentials } : {};
  if (bucket === '') {
    const todo = `the Secret does not say where the bytes are; \`juicefs status META-URL\` does: put bucket, endpoint and region into spec.storage.s3${hasKeys ? '' : `, and the keys into Secret ${secret}`}`;
    return { storage: { s3: { bucket: fillIn, ...named } }, keys, todos: [todo] };
  }
  const todos = ['s3', 'minio'].includes(kind)
    ? []
    : [
        `its object store is of kind ${kind || '(not named)'}; it is taken for S3 here: see that ${bucket} speaks that, and give its S3 endpoint and keys`,
      ];
  try {
    const address = parseBucketUrl(bucket, kind === 'minio' ? 'minio' : 's3', {});
    const isAws = /\.amazonaws\.com(\.cn)?$/.test(address.host);
    const isInHost = address.pathPrefix === '/';
    const endpoint = isInHost ? address.origin.replace(`${address.bucket}.`, '') : address.origin;
    const s3 = {
      bucket: address.bucket,
      ...(isAws ? {} : { endpoint }),
      region: address.region,
      ...(isAws || !isInHost ? {} : { forcePathStyle: false }),
      ...named,
    };
    if (!hasKeys)
      todos.push('there are no keys in the Secret: pods use what their environment offers (web identity, instance role)');
    return { storage: { s3 }, keys, todos };
  } catch (error) {
    return {
      storage: { s3: { bucket: fillIn, ...named } },
      keys,
      todos: [...todos, `the bucket could not be understood (${messageOf(error)}): fill in spec.storage.s3`],
    };
  }
}

function providerOf(given: Given, kind: (typeof PROVIDERS)[number]): MigratedStorage {
  const { keys, credentials, todos } = pairOf(given);
  // Throws where it is no address of this provider.
  const { bucket } = namedAddress(kind, given.bucket, {});
  const { protocol, host } = new URL(given.bucket.includes('://') ? given.bucket : `https://${given.bucket}`);
  const endpoint = `${protocol}//${host.slice(bucket.length + 1)}`;
  return { storage: { provider: { name: kind, bucket, endpoint, credentials } }, keys, todos };
}

function gsOf(given: Given): MigratedStorage {
  const { fillIn, secret } = given;
  return {
    storage: { gs: { bucket: namedAddress('gs', given.bucket, {}).bucket, credentials: { secretRef: { name: secret } } } },
    // The driver has Google's own credentials.
    keys: { accessKeyId: fillIn, secretAccessKey: fillIn },
    todos: [`Google Cloud Storage is reached with an HMAC key here: make one for the bucket, and put it into Secret ${secret}`],
  };
}

function azureOf(given: Given): MigratedStorage {
  const { bucket, accessKey, secretKey, sessionToken, secret, fillIn } = given;
  const { container, origin } = parseContainer(bucket, { accountName: accessKey || 'account', sas: 'any' }, {});
  const cloud = new URL(origin).host.slice((accessKey || 'account').length + 1);
  const isSigned = secretKey === '' && sessionToken !== '';
  return {
    storage: {
      azure: {
        account: accessKey || fillIn,
        container,
        ...(cloud === 'blob.core.windows.net' ? {} : { endpoint: `${new URL(origin).protocol}//${cloud}` }),
        credentials: { secretRef: { name: secret, ...(isSigned ? { sasTokenKey: 'sasToken' } : {}) } },
      },
    },
    keys: isSigned ? { sasToken: sessionToken } : { accountKey: secretKey || fillIn },
    todos:
      accessKey && (secretKey || isSigned)
        ? []
        : [
            `the driver's Secret has no key of the storage account: put its name into spec.storage.azure.account, and the key into Secret ${secret}`,
          ],
  };
}

function webdavOf({ bucket, accessKey, secretKey, secret }: Given): MigratedStorage {
  const { origin, pathname } = new URL(bucket.includes('://') ? bucket : `http://${bucket}`);
  const path = pathname.replace(/\/+$/, '');
  return {
    storage: {
      webdav: {
        endpoint: origin,
        ...(path === '' ? {} : { path }),
        ...(accessKey ? { credentials: { secretRef: { name: secret } } } : {}),
      },
    },
    keys: accessKey ? { username: accessKey, password: secretKey } : {},
    todos: [],
  };
}

/** `texts`: of the driver's Secret. `secret`: the name of the one with the keys. `fillIn`: stands where a person has to put something. */
export function storageOf(texts: Readonly<Record<string, string>>, secret: string, fillIn: string): MigratedStorage {
  const given: Given = {
    kind: texts['storage'] ?? '',
    bucket: texts['bucket'] ?? '',
    accessKey: texts['access-key'] ?? '',
    secretKey: texts['secret-key'] ?? '',
    sessionToken: texts['session-token'] ?? '',
    secret,
    fillIn,
  };
  const { kind } = given;
  if (given.bucket === '') return s3Of(given);
  if (kind === 'file')
    return { keys: {}, todos: [], obstacle: 'its bytes are in a directory of one machine, which pods do not reach' };
  try {
    if (isProvider(kind)) return providerOf(given, kind);
    if (kind === 'gs') return gsOf(given);
    if (kind === 'wasb') return azureOf(given);
    if (kind === 'webdav') return webdavOf(given);
  } catch (error) {
    return { keys: {}, todos: [], obstacle: `its bucket could not be understood (${messageOf(error)})` };
  }
  return s3Of(given);
}
