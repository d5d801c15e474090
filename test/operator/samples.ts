/**
 * Samples of the resources for schema.test.ts: what the API server is to accept, what it is to refuse, and what cannot be changed later.
 * The accepted ones together hold every field there is, and the refused and changed ones break every rule: schema.test.ts says which is
 * missing. Bounds, patterns and lists of words are not here: that test derives a sample for each from the schema.
 */

export type Spec = Readonly<Record<string, unknown>>;
export type SampleKind = 'JuiceVolume' | 'JuiceCachePolicy';

const address = { addresses: ['redis:6379'] };
const redis = { metadata: { redis: address } };
const file = { storage: { file: { path: '/blocks' } } };
const s3 = (more: Spec): Spec => ({ storage: { s3: { bucket: 'abc', ...more } } });
const store = (kind: string, more: Spec): Spec => ({ storage: { [kind]: more } });
const credentials = { secretRef: { name: 'k' } };
const pair = { name: 'k', accessKeyIdKey: 'id', secretAccessKeyKey: 'word' };
const oss = { name: 'oss', bucket: 'abc', endpoint: 'https://oss-cn-hangzhou.aliyuncs.com', credentials };
const gs = { bucket: 'abc', credentials };
const azure = { account: 'abc', container: 'blocks', credentials };
const webdav = { endpoint: 'https://dav:8443' };
const access = (allowedNamespaces: Spec): Spec => ({ access: { allowedNamespaces } });
const encrypted = (more: Spec): Spec => ({ encryption: { algorithm: 'AES256GCM', ...more } });
const directories = (...list: readonly Spec[]): Spec => ({ quota: { directories: list } });
const server = { host: 'database', database: 'meta', authSecretRef: { name: 'auth' } };
const postgres = (more: Spec): Spec => ({ metadata: { postgres: { ...server, ...more } } });
const mysql = (more: Spec): Spec => ({ metadata: { mysql: { ...server, ...more } } });
const certificate = { name: 'client', certKey: 'c.pem', privateKeyKey: 'k.pem' };
const key = { name: 'k', key: 'rsa.pem' };
const words = { name: 'p', key: 'words' };

/** What every volume needs; a sample's own members come over it. */
export const minimal: Readonly<Record<SampleKind, Spec>> = { JuiceVolume: { ...redis, ...file }, JuiceCachePolicy: {} };

export const accepted: readonly (readonly [what: string, kind: SampleKind, spec: Spec])[] = [
  ['the shortest form', 'JuiceVolume', {}],
  [
    'a Redis with everything',
    'JuiceVolume',
    {
      volumeName: 'datasets',
      metadata: {
        redis: {
          addresses: ['[fd00::1]:6379'],
          database: 255,
          authSecretRef: { name: 'redis', usernameKey: 'user', passwordKey: 'word' },
          tls: {
            enabled: true,
            caSecretRef: { name: 'ca', key: 'bundle.pem' },
            clientCertSecretRef: certificate,
            serverName: 'redis',
          },
        },
      },
      adopt: { uuid: '12345678-9abc-4def-8123-456789abcdef', settings: 'Overwrite' },
      access: { allowedNamespaces: { from: 'All' }, readOnly: true },
      cachePolicyRef: { name: 'fast' },
      client: {
        image: 'registry:5000/juicepod@sha256:0',
        resources: { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '1Gi' } },
        logLevel: 'debug',
        rollout: { strategy: 'PodByPod', maxUnavailable: 1000, timeout: '1h', paused: true },
      },
      reclaimPolicy: 'Delete',
      suspend: true,
    },
  ],
  [
    'a Redis behind Sentinels',
    'JuiceVolume',
    {
      metadata: {
        redis: {
          addresses: ['sentinel-0:26379', 'sentinel-1:26379'],
          sentinel: { masterName: 'volumes', authSecretRef: { name: 'sentinel', passwordKey: 'word' } },
          waitForReplicas: 8,
          readFrom: 'Replica',
        },
      },
    },
  ],
  ['the shortest form over PostgreSQL', 'JuiceVolume', postgres({})],
  ['the shortest form over MySQL', 'JuiceVolume', mysql({})],
  [
    'a PostgreSQL with everything, and access control lists',
    'JuiceVolume',
    {
      ...postgres({
        host: 'fd00::1',
        port: 6432,
        schema: 'volumes',
        tablePrefix: 'a_1',
        maxConnections: 4,
        authSecretRef: { name: 'postgres', usernameKey: 'user', passwordKey: 'word' },
        tls: { mode: 'VerifyFull', caSecretRef: { name: 'ca', key: 'bundle.pem' }, clientCertSecretRef: certificate },
      }),
      format: { enableACL: true, changeLog: { enabled: true, maxAge: '24h', maxEntries: 1000 } },
    },
  ],
  [
    'a MySQL with everything',
    'JuiceVolume',
    mysql({
      port: 3307,
      tablePrefix: 'b',
      maxConnections: 1000,
      authSecretRef: { name: 'mysql', usernameKey: 'user', passwordKey: 'word' },
      tls: { mode: 'VerifyCA', caSecretRef: { name: 'ca', key: 'bundle.pem' }, clientCertSecretRef: certificate },
    }),
  ],
  ['SQLite', 'JuiceVolume', { metadata: { sqlite: { path: '/var/lib/meta.db' } } }],
  ['rare backups', 'JuiceVolume', { metadata: { redis: address, backup: { interval: '24h', skipTrash: true } } }],
  ['no backups', 'JuiceVolume', { metadata: { redis: address, backup: { interval: '0s' } } }],
  [
    'S3 with everything',
    'JuiceVolume',
    s3({
      endpoint: 'https://minio:9000/',
      region: 'eu-west-1',
      forcePathStyle: true,
      credentials: { secretRef: { name: 'k', accessKeyIdKey: 'id', secretAccessKeyKey: 'word', sessionTokenKey: 'token' } },
    }),
  ],
  [
    'a provider with everything',
    'JuiceVolume',
    store('provider', { ...oss, region: 'cn-hangzhou', credentials: { secretRef: { ...pair, sessionTokenKey: 'token' } } }),
  ],
  ['the shortest form over Google Cloud Storage', 'JuiceVolume', store('gs', gs)],
  [
    'Google Cloud Storage with everything',
    'JuiceVolume',
    store('gs', { bucket: 'a_b', endpoint: 'https://storage-a.p.googleapis.com', credentials: { secretRef: pair } }),
  ],
  ['the shortest form over Azure', 'JuiceVolume', store('azure', azure)],
  [
    'Azure with the key of the account',
    'JuiceVolume',
    store('azure', { ...azure, credentials: { secretRef: { name: 'k', accountKeyKey: 'word' } } }),
  ],
  [
    'Azure with a shared access signature',
    'JuiceVolume',
    store('azure', {
      ...azure,
      endpoint: 'https://core.chinacloudapi.cn',
      credentials: { secretRef: { name: 'k', sasTokenKey: 'sas' } },
    }),
  ],
  ['the shortest form over WebDAV', 'JuiceVolume', store('webdav', webdav)],
  [
    'WebDAV with everything',
    'JuiceVolume',
    store('webdav', {
      ...webdav,
      path: '/remote.php/dav',
      credentials: { secretRef: { name: 'k', usernameKey: 'user', passwordKey: 'word' } },
    }),
  ],
  ['a block size as a number', 'JuiceVolume', { format: { blockSize: 65536 } }],
  [
    'a block size in another spelling',
    'JuiceVolume',
    { format: { blockSize: '16384Ki', compression: 'Zstd', trashRetention: '87600h' } },
  ],
  [
    'a selector',
    'JuiceVolume',
    access({
      from: 'Selector',
      selector: { matchLabels: { a: 'b' }, matchExpressions: [{ key: 'team', operator: 'In', values: ['ml'] }] },
    }),
  ],
  ['generated encryption', 'JuiceVolume', encrypted({ passphraseGeneration: 3 })],
  ['a passphrase of the user', 'JuiceVolume', encrypted({ passphraseSecretRef: { name: 'p' } })],
  [
    'key and passphrase of the user',
    'JuiceVolume',
    encrypted({ keySecretRef: key, passphraseSecretRef: words, algorithm: 'ChaCha20Poly1305' }),
  ],
  [
    'limits of everything',
    'JuiceVolume',
    {
      quota: {
        capacity: '7999Ti',
        inodes: 1_000_000,
        directories: [
          { path: '/a', capacity: '1M', inodes: 5 },
          { path: '/.hidden/..odd/ü b', inodes: 1, capacity: '10Gi' },
        ],
        users: [{ uid: 4_294_967_295, inodes: 10, capacity: '1T' }],
        groups: [{ gid: 0, capacity: '1Ti', inodes: 2 }],
      },
    },
  ],
  [
    'as many limits as there may be',
    'JuiceVolume',
    { quota: { users: Array.from({ length: 256 }, (_, uid) => ({ uid: uid + 1, inodes: 1 })) } },
  ],
  ['the shortest form', 'JuiceCachePolicy', {}],
  [
    'the least of everything',
    'JuiceCachePolicy',
    {
      local: { medium: 'Memory', size: '64Mi', freeSpacePercent: 1, eviction: 'none', expire: '0s', verifyChecksum: 'none' },
      readahead: { max: 0 },
      buffer: { size: '32Mi' },
      metadata: { attrTTL: '0s', entryTTL: '0s', dirTTL: '0s', negativeTTL: '0s', openCache: '0s', maxOpsPerSecond: 1 },
      io: { maxUploads: 1, maxDownloads: 1, uploadLimit: '64Ki', downloadLimit: 65536 },
      writeback: { enabled: false, maxStaging: '64Mi', uploadDelay: '0s', drainTimeout: '0s' },
    },
  ],
  [
    'the most of everything, with write-back',
    'JuiceCachePolicy',
    {
      local: {
        medium: 'EphemeralDisk',
        size: '64Ti',
        freeSpacePercent: 90,
        eviction: 'lru',
        expire: '8760h',
        verifyChecksum: 'full',
      },
      readahead: { max: '4Gi' },
      buffer: { size: '64Gi' },
      metadata: {
        attrTTL: '1h',
        entryTTL: '1h',
        dirTTL: '60m',
        negativeTTL: '3600s',
        openCache: '1h',
        maxOpsPerSecond: 1_000_000,
      },
      io: { maxUploads: 1000, maxDownloads: 1000, uploadLimit: '1Ti', downloadLimit: '1Ti' },
      writeback: { enabled: true, maxStaging: '64Ti', uploadDelay: '24h', drainTimeout: '1h' },
    },
  ],
];

/** What is refused when it is created, for the reason that the rule gives. */
export const refused: readonly (readonly [what: string, kind: SampleKind, spec: Spec, message: RegExp])[] = [
  [
    'two databases',
    'JuiceVolume',
    { metadata: { redis: address, sqlite: { path: '/x.db' } } },
    /exactly one of redis, postgres, mysql, sqlite/,
  ],
  [
    'an address twice',
    'JuiceVolume',
    { metadata: { redis: { addresses: ['redis:6379', 'redis:6379'] } } },
    /each address can stand there once/,
  ],
  [
    'backups all the time',
    'JuiceVolume',
    { metadata: { redis: address, backup: { interval: '4m' } } },
    /the interval must be 0s, or at least 5m/,
  ],
  ['backups every other year', 'JuiceVolume', { metadata: { redis: address, backup: { interval: '9000h' } } }, /at most 8760h/],
  ['no database', 'JuiceVolume', { metadata: {} }, /exactly one of redis, postgres, mysql, sqlite/],
  ...(
    [
      ['PostgreSQL', postgres],
      ['MySQL', mysql],
    ] as const
  ).flatMap(([product, over]) => [
    [
      `an authority that nobody asks, over ${product}`,
      'JuiceVolume',
      over({ tls: { caSecretRef: { name: 'ca' } } }),
      /caSecretRef needs mode: VerifyCA/,
    ] as const,
    [
      `a client certificate without TLS, over ${product}`,
      'JuiceVolume',
      over({ tls: { mode: 'Prefer', clientCertSecretRef: certificate } }),
      /clientCertSecretRef needs mode: Require/,
    ] as const,
    [`no user, over ${product}`, 'JuiceVolume', over({ authSecretRef: undefined }), /authSecretRef: Required/] as const,
  ]),
  [
    'two stores',
    'JuiceVolume',
    { storage: { s3: { bucket: 'abc' }, ...file.storage } },
    /exactly one of s3, provider, gs, azure, webdav, file/,
  ],
  ['no store', 'JuiceVolume', { storage: {} }, /exactly one of s3, provider, gs, azure, webdav, file/],
  [
    'an authority without TLS',
    'JuiceVolume',
    { metadata: { redis: { ...address, tls: { caSecretRef: { name: 'ca' } } } } },
    /enabled: true/,
  ],
  [
    'a client certificate without TLS',
    'JuiceVolume',
    { metadata: { redis: { ...address, tls: { clientCertSecretRef: certificate } } } },
    /enabled: true/,
  ],
  ['a block size that is no power of two', 'JuiceVolume', { format: { blockSize: '3Mi' } }, /power of two/],
  ['a block size that is too large', 'JuiceVolume', { format: { blockSize: '32Mi' } }, /between 64Ki and 16Mi/],
  ['a retention of half a day', 'JuiceVolume', { format: { trashRetention: '12h' } }, /whole days/],
  ['a retention of eleven years', 'JuiceVolume', { format: { trashRetention: '96360h' } }, /at most 87600h/],
  ['a selector that nothing asks for', 'JuiceVolume', access({ selector: {} }), /from: Selector/],
  ['no selector', 'JuiceVolume', access({ from: 'Selector' }), /from: Selector/],
  ['encryption without a cipher', 'JuiceVolume', { encryption: {} }, /encryption\.algorithm: Required/],
  ['a key without its passphrase', 'JuiceVolume', encrypted({ keySecretRef: key }), /keySecretRef needs passphraseSecretRef/],
  [
    'another passphrase to be generated where it is given',
    'JuiceVolume',
    encrypted({ passphraseSecretRef: words, passphraseGeneration: 2 }),
    /change what is in the Secret instead/,
  ],
  ['a volume without room', 'JuiceVolume', { quota: { capacity: '0' } }, /capacity is a whole number with M, Mi, G/],
  ['a volume of a broken number', 'JuiceVolume', { quota: { capacity: '1.5Ti' } }, /capacity is a whole number with M, Mi, G/],
  [
    'an address without port',
    'JuiceVolume',
    { metadata: { redis: { addresses: ['redis'] } } },
    /each address is host:port, such as redis/,
  ],
  ['a directory without a limit', 'JuiceVolume', directories({ path: '/a' }), /capacity, inodes or both are needed/],
  ['a directory twice', 'JuiceVolume', directories({ path: '/a', inodes: 1 }, { path: '/a', inodes: 2 }), /Duplicate value/],
  ['a directory by way of another', 'JuiceVolume', directories({ path: '/a/../b', inodes: 1 }), /directories\[0\]\.path/],
  ['a limit of the trash', 'JuiceVolume', directories({ path: '/.trash', inodes: 1 }), /the trash takes no limits/],
  ['a user without a limit', 'JuiceVolume', { quota: { users: [{ uid: 1 }] } }, /capacity, inodes or both are needed/],
  ['a group without a limit', 'JuiceVolume', { quota: { groups: [{ gid: 0 }] } }, /capacity, inodes or both are needed/],
  ['a provider that there is not', 'JuiceVolume', store('provider', { ...oss, name: 'floppy' }), /provider\.name/],
  ['a bucket with dots', 'JuiceVolume', store('provider', { ...oss, bucket: 'a.b' }), /provider\.bucket/],
  ['a provider without keys', 'JuiceVolume', store('provider', { ...oss, credentials: undefined }), /credentials: Required/],
  [
    'Google Cloud Storage at an address of others',
    'JuiceVolume',
    store('gs', { ...gs, endpoint: 'https://storage.example.com' }),
    /gs\.endpoint/,
  ],
  [
    'key and signature of Azure',
    'JuiceVolume',
    store('azure', { ...azure, credentials: { secretRef: { name: 'k', accountKeyKey: 'a', sasTokenKey: 'b' } } }),
    /accountKeyKey or sasTokenKey, not both/,
  ],
  ['a WebDAV path with a space', 'JuiceVolume', store('webdav', { ...webdav, path: '/a b' }), /webdav\.path/],
  ['a WebDAV server without a scheme', 'JuiceVolume', store('webdav', { endpoint: 'host' }), /webdav\.endpoint/],
  ['credentials in the endpoint', 'JuiceVolume', s3({ endpoint: 'http://u:p@host' }), /storage\.s3\.endpoint/],
  ['a roll-out that waits for hours', 'JuiceVolume', { client: { rollout: { timeout: '2h' } } }, /at most 1h/],
  ['a small cache', 'JuiceCachePolicy', { local: { size: '63Mi' } }, /between 64Mi and 64Ti/],
  ['a read-ahead of a disk', 'JuiceCachePolicy', { readahead: { max: '5Gi' } }, /between 0 and 4Gi/],
  ['a small buffer', 'JuiceCachePolicy', { buffer: { size: '16Mi' } }, /between 32Mi and 64Gi/],
  ...(['attrTTL', 'entryTTL', 'dirTTL', 'negativeTTL'] as const).map(
    (field) => [`a ${field} of two hours`, 'JuiceCachePolicy', { metadata: { [field]: '2h' } }, /at most 1h/] as const,
  ),
  ...(['uploadLimit', 'downloadLimit'] as const).map(
    (field) => [`an ${field} of 1Ki`, 'JuiceCachePolicy', { io: { [field]: '1Ki' } }, /between 64Ki and 1Ti/] as const,
  ),
  ['a policy of eviction that there is not', 'JuiceCachePolicy', { local: { eviction: 'fifo' } }, /eviction/],
  ['blocks that expire too late', 'JuiceCachePolicy', { local: { expire: '8761h' } }, /8760h/],
  ['little staging', 'JuiceCachePolicy', { writeback: { maxStaging: '1Mi' } }, /between 64Mi and 64Ti/],
  ['an upload that waits for days', 'JuiceCachePolicy', { writeback: { uploadDelay: '25h' } }, /at most 24h/],
  ['an end that takes hours', 'JuiceCachePolicy', { writeback: { drainTimeout: '2h' } }, /at most 1h/],
  [
    'write-back into memory',
    'JuiceCachePolicy',
    { local: { medium: 'Memory' }, writeback: { enabled: true } },
    /writeback needs local\.medium: EphemeralDisk/,
  ],
];

const sqlite = (path: string): Spec => ({ metadata: { sqlite: { path } } });

/** What is refused as a change of an object that was accepted. */
export const changes: readonly (readonly [what: string, kind: SampleKind, before: Spec, after: Spec, message: RegExp])[] = [
  [
    'another number of the database',
    'JuiceVolume',
    {},
    { metadata: { redis: { ...address, database: 3 } } },
    /database: .*immutable/,
  ],
  [
    'another master of the Sentinels',
    'JuiceVolume',
    { metadata: { redis: { ...address, sentinel: { masterName: 'one' } } } },
    { metadata: { redis: { ...address, sentinel: { masterName: 'two' } } } },
    /sentinel\.masterName names the database: it is immutable/,
  ],
  ['another kind of database', 'JuiceVolume', {}, sqlite('/x.db'), /redis can neither be added nor removed/],
  ['PostgreSQL instead of SQLite', 'JuiceVolume', sqlite('/x.db'), postgres({}), /postgres can neither be added nor removed/],
  ['MySQL instead of SQLite', 'JuiceVolume', sqlite('/x.db'), mysql({}), /mysql can neither be added nor removed/],
  ...(
    [
      ['PostgreSQL', postgres],
      ['MySQL', mysql],
    ] as const
  ).flatMap(([product, over]) => [
    [`another database of ${product}`, 'JuiceVolume', over({}), over({ database: 'other' }), /database: .*immutable/] as const,
    [
      `another prefix in ${product}`,
      'JuiceVolume',
      over({ tablePrefix: 'a' }),
      over({ tablePrefix: 'b' }),
      /tablePrefix: .*immutable/,
    ] as const,
    [`a prefix in ${product}`, 'JuiceVolume', over({}), over({ tablePrefix: 'b' }), /tablePrefix can neither be added/] as const,
  ]),
  ['another schema', 'JuiceVolume', postgres({ schema: 'a' }), postgres({ schema: 'b' }), /schema: .*immutable/],
  ['no schema any more', 'JuiceVolume', postgres({ schema: 'a' }), postgres({}), /schema can neither be added/],
  ['no access control lists any more', 'JuiceVolume', { format: { enableACL: true } }, {}, /cannot be switched off again/],
  ['another SQLite file', 'JuiceVolume', sqlite('/x.db'), sqlite('/y.db'), /sqlite\.path: .*immutable/],
  ['another kind of store', 'JuiceVolume', {}, s3({}), /s3 can neither be added nor removed/],
  ['another bucket', 'JuiceVolume', s3({}), s3({ bucket: 'other' }), /bucket: .*immutable/],
  ...(
    [
      ['provider', oss, { name: 'cos', bucket: 'other' }],
      ['gs', gs, { bucket: 'other' }],
      ['azure', azure, { account: 'other', container: 'other' }],
      ['webdav', webdav, { path: '/other' }],
    ] as const
  ).flatMap(([kind, whole, others]) => [
    [
      `${kind} instead of a directory`,
      'JuiceVolume' as const,
      {},
      store(kind, whole),
      new RegExp(`${kind} can neither be added nor removed`),
    ] as const,
    ...Object.entries(others).map(
      ([field, value]) =>
        [
          `another ${field} of ${kind}`,
          'JuiceVolume' as const,
          store(kind, whole),
          store(kind, { ...whole, [field]: value }),
          new RegExp(`${field}: .*immutable`),
        ] as const,
    ),
  ]),
  ['another directory', 'JuiceVolume', {}, { storage: { file: { path: '/elsewhere' } } }, /file\.path: .*immutable/],
  ['another block size', 'JuiceVolume', {}, { format: { blockSize: '1Mi' } }, /blockSize: .*immutable/],
  ['another compression', 'JuiceVolume', {}, { format: { compression: 'LZ4' } }, /compression: .*immutable/],
  ['a name of its own', 'JuiceVolume', {}, { volumeName: 'other' }, /volumeName can neither be added nor removed/],
  ['another name', 'JuiceVolume', { volumeName: 'one' }, { volumeName: 'two' }, /volumeName: .*immutable/],
  ['no encryption any more', 'JuiceVolume', encrypted({}), {}, /encryption can neither be added nor removed/],
  ['another cipher', 'JuiceVolume', encrypted({}), encrypted({ algorithm: 'ChaCha20Poly1305' }), /algorithm: .*immutable/],
  [
    'an earlier passphrase',
    'JuiceVolume',
    encrypted({ passphraseGeneration: 2 }),
    encrypted({}),
    /passphraseGeneration can only grow/,
  ],
  [
    'a passphrase of the user instead of a generated one',
    'JuiceVolume',
    encrypted({}),
    encrypted({ passphraseSecretRef: words }),
    /passphraseSecretRef can neither be added nor removed/,
  ],
  [
    'a key of the user instead of a generated one',
    'JuiceVolume',
    encrypted({ passphraseSecretRef: words }),
    encrypted({ passphraseSecretRef: words, keySecretRef: key }),
    /keySecretRef can neither be added nor removed/,
  ],
];
