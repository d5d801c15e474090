/**
 * The part of a JuiceVolume that names its object store. What says which objects are meant (bucket, container, account, path) cannot
 * change; where the service is reached and with which keys can.
 */
import { z } from 'zod';
import {
  ABSOLUTE_PATH,
  choice,
  exactlyOne,
  fixedPresence,
  immutable,
  object,
  objectName,
  type Rule,
  secretKey,
  text,
} from './schema.ts';

/** A service without a path, a query or credentials. */
const ORIGIN = '^https?://[^/?#@]+/?$';

const secretName = objectName('Name of the Secret, in the namespace of the volume.');

const bucketName = (description: string, pattern: string) =>
  text(`${description} It is created where it does not exist. Immutable.`, { min: 3, max: 63, pattern }, [immutable]);

/** Two keys in a Secret, as S3 services give them out. */
const keyPair = {
  accessKeyIdKey: secretKey('Key of the access key id.').default('accessKeyId'),
  secretAccessKeyKey: secretKey('Key of the secret access key.').default('secretAccessKey'),
};
const sessionTokenKey = secretKey('Key of the session token, for temporary credentials. Default: none.').optional();

const s3 = object('A bucket of an S3 service. Objects lie under <volume name>/.', {
  bucket: bucketName('Name of the bucket.', '^[a-z0-9][a-z0-9.-]*[a-z0-9]$'),
  endpoint: text('URL of the service, without the bucket. Default: Amazon S3 in the region.', {
    max: 2048,
    pattern: ORIGIN,
  }).optional(),
  region: text('Region that requests are signed for.', { min: 1, max: 64, pattern: '^[a-z0-9-]+$' }).default('us-east-1'),
  forcePathStyle: z
    .boolean()
    .describe(
      'Name the bucket in the path (https://host/bucket) instead of in the host name. Default: true with an endpoint, false without.',
    )
    .optional(),
  credentials: object(
    'Keys. Without them every client uses what its environment offers (AWS_* variables, web identity, instance role).',
    { secretRef: object('The Secret with the keys.', { name: secretName, ...keyPair, sessionTokenKey }) },
  ).optional(),
});

/** Stores that JuiceFS knows by a name of their own and that are reached by S3's protocol; in the spelling of JuiceFS. */
export const PROVIDERS = ['oss', 'cos', 'obs', 'tos', 'bos', 'oos', 'eos', 'wasabi', 'scw', 'space'] as const;

const provider = object(
  'A bucket of a provider that JuiceFS knows by name, reached by S3’s protocol; the official client reaches the same objects by the provider’s own. Objects lie under <volume name>/.',
  {
    name: choice(
      'Alibaba Cloud OSS, Tencent Cloud COS, Huawei Cloud OBS, Volcengine TOS, Baidu BOS, China Telecom OOS, China Mobile EOS, Wasabi, Scaleway, DigitalOcean Spaces. Immutable.',
      PROVIDERS,
      [immutable],
    ),
    bucket: bucketName('Name of the bucket; of Tencent’s with the number of the account.', '^[a-z0-9][a-z0-9-]*[a-z0-9]$'),
    endpoint: text('URL of the service, without the bucket, such as https://oss-cn-hangzhou-internal.aliyuncs.com.', {
      min: 1,
      max: 2048,
      pattern: ORIGIN,
    }),
    region: text('Region that requests are signed for, where the endpoint does not tell it.', {
      min: 1,
      max: 64,
      pattern: '^[a-z0-9-]+$',
    }).optional(),
    credentials: object('Keys.', {
      secretRef: object('The Secret with the keys.', { name: secretName, ...keyPair, sessionTokenKey }),
    }),
  },
);

const gs = object(
  'A bucket of Google Cloud Storage, reached with an HMAC key. The official client reaches the same objects with Google’s own credentials. Objects lie under <volume name>/.',
  {
    bucket: bucketName('Name of the bucket.', '^[a-z0-9][a-z0-9_-]*[a-z0-9]$'),
    endpoint: text(
      'URL of the service: a host of googleapis.com (Private Service Connect), or a host with a port. Default: https://storage.googleapis.com.',
      { max: 2048, pattern: '^https?://([a-z0-9.-]+\\.googleapis\\.com|[A-Za-z0-9.-]+:[0-9]{1,5})/?$' },
    ).optional(),
    credentials: object('An HMAC key of a service account.', {
      secretRef: object('The Secret with the key.', { name: secretName, ...keyPair }),
    }),
  },
);

interface AzureSecret {
  readonly accountKeyKey?: string | undefined;
  readonly sasTokenKey?: string | undefined;
}

const oneOfBoth: Rule<AzureSecret> = {
  cel: '!has(self.accountKeyKey) || !has(self.sasTokenKey)',
  message: 'accountKeyKey or sasTokenKey, not both',
  holds: ({ accountKeyKey, sasTokenKey }) => accountKeyKey === undefined || sasTokenKey === undefined,
};

const azure = object('A container of Azure Blob Storage. Blobs lie under <volume name>/.', {
  account: text('Name of the storage account. Immutable.', { min: 3, max: 24, pattern: '^[a-z0-9]+$' }, [immutable]),
  container: text(
    'Name of the container. It is created where it does not exist. Immutable.',
    { min: 3, max: 63, pattern: '^[a-z0-9](-?[a-z0-9])+$' },
    [immutable],
  ),
  endpoint: text(
    'URL of the cloud, without account and container; blob. is put before the host where it is not there. Default: https://core.windows.net.',
    { max: 2048, pattern: ORIGIN },
  ).optional(),
  credentials: object('A key of the account, or a shared access signature.', {
    secretRef: object(
      'The Secret with it.',
      {
        name: secretName,
        accountKeyKey: secretKey('Key of the account key, in base64 as Azure shows it. Default: accountKey.').optional(),
        sasTokenKey: secretKey(
          'Key of a shared access signature that may read, add, create, write, delete and list in the container. Default: none, the account key is used.',
        ).optional(),
      },
      [oneOfBoth],
    ),
  }),
});

const webdav = object('A directory of a WebDAV server. Objects lie under <path>/<volume name>/.', {
  endpoint: text('URL of the server, without the path.', { min: 1, max: 2048, pattern: ORIGIN }),
  path: text(
    'Path on the server; what is above it must exist. Immutable.',
    { min: 1, max: 1024, pattern: '^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$' },
    [immutable],
  ).default('/'),
  credentials: object('User and password, as HTTP’s Basic takes them: use https. Without them, nobody in particular.', {
    secretRef: object('The Secret with them.', {
      name: secretName,
      usernameKey: secretKey('Key of the user name.').default('username'),
      passwordKey: secretKey('Key of the password.').default('password'),
    }),
  }).optional(),
});

export const storageSpec = object(
  'The object store that holds the bytes, as blocks.',
  {
    s3: s3.optional(),
    provider: provider.optional(),
    gs: gs.optional(),
    azure: azure.optional(),
    webdav: webdav.optional(),
    file: object('A directory. For one machine, or a directory that every client has at the same path.', {
      path: text('Absolute path of the directory. Immutable.', { min: 2, max: 4096, pattern: ABSOLUTE_PATH }, [immutable]),
    }).optional(),
  },
  [
    exactlyOne('s3', 'provider', 'gs', 'azure', 'webdav', 'file'),
    ...['s3', 'provider', 'gs', 'azure', 'webdav'].map((kind) => fixedPresence(kind)),
  ],
);
