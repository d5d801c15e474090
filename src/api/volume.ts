/** JuiceVolume: where the names and the bytes of a volume live, its format, who may mount it, what becomes of it. */
import { z } from 'zod';
import { conditionsSchema, labelSelector, type CustomResource, type WithConditions } from './meta.ts';
import {
  ABSOLUTE_PATH,
  anyQuantity,
  choice,
  type DeepReadonly,
  declare,
  duration,
  exactlyOne,
  fixedPresence,
  immutable,
  object,
  objectName,
  quantity,
  text,
} from './schema.ts';
import { parseDuration, parseQuantity } from './units.ts';
import { changeLogSpec, changeLogStatus } from './volume-changelog.ts';
import { credentialsStatus, leaksStatus, sessionsStatus } from './volume-clients.ts';
import { encryptionSpec, encryptionStatus } from './volume-encryption.ts';
import { capacityStatus, quotaSpec, quotaStatus } from './volume-quota.ts';
import { redisSpec } from './volume-redis.ts';
import { rolloutSpec, rolloutStatus } from './volume-rollout.ts';
import { mysqlSpec, neverOff, postgresSpec } from './volume-sql.ts';
import { storageSpec } from './volume-storage.ts';

/** JuiceFS's rule for volume names, and thereby for our objects' names where they serve as such. */
export const VOLUME_NAME_PATTERN = '^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$';
const BLOCK_SIZES = ['64Ki', '128Ki', '256Ki', '512Ki', '1Mi', '2Mi', '4Mi', '8Mi', '16Mi'] as const;
const DAY = 86_400_000;

const metadata = object(
  'The database that holds names, attributes and the lists of blocks.',
  {
    redis: redisSpec.optional(),
    postgres: postgresSpec.optional(),
    mysql: mysqlSpec.optional(),
    sqlite: object('A SQLite file. For one machine: every client must see the same file on a local disk.', {
      path: text('Absolute path of the file. Immutable.', { min: 2, max: 4096, pattern: ABSOLUTE_PATH }, [immutable]),
    }).optional(),
  },
  [exactlyOne('redis', 'postgres', 'mysql', 'sqlite'), fixedPresence('redis'), fixedPresence('postgres'), fixedPresence('mysql')],
);

const format = object('How the volume is written.', {
  blockSize: quantity('Size of a block: a power of two from 64Ki to 16Mi. Immutable.', '64Ki', '16Mi', [
    {
      cel: `[${BLOCK_SIZES.map((size) => `'${size}'`).join(', ')}].exists(s, quantity(s).compareTo(quantity(string(self))) == 0)`,
      message: 'blockSize must be a power of two from 64Ki to 16Mi',
      holds: (value) => BLOCK_SIZES.some((size) => parseQuantity(size) === parseQuantity(value)),
    },
    immutable,
  ]).default('4Mi'),
  compression: choice('Compression of each block. Immutable.', ['None', 'LZ4', 'Zstd'], [immutable]).default('None'),
  trashRetention: duration('How long deleted files are kept in the trash, in whole days; 0h switches the trash off.', '87600h', [
    {
      cel: 'duration(self).getSeconds() % 86400 == 0',
      message: 'trashRetention must be whole days: 0h, 24h, 48h, …',
      holds: (value) => parseDuration(value) % DAY === 0,
    },
  ]).default('24h'),
  enableACL: declare(
    z.boolean(),
    'Access control lists (POSIX ACL). They can be switched on later, which keeps clients older than 1.2 out, and never off. Pods that run see them when they are started anew.',
    [neverOff],
  ).default(false),
  changeLog: changeLogSpec.optional(),
});

const access = object('Who may mount the volume.', {
  allowedNamespaces: object(
    'Namespaces whose pods may use the volume. Each gets a Secret with the credentials of the volume.',
    {
      from: choice('Same: the namespace of the volume. All: every namespace. Selector: those with certain labels, and its own.', [
        'Same',
        'All',
        'Selector',
      ]).default('Same'),
      selector: labelSelector('Labels of the namespaces.').optional(),
    },
    [
      {
        cel: "has(self.selector) == (self.from == 'Selector')",
        message: 'selector is needed with from: Selector, and only there',
        holds: (value) => (value.selector !== undefined) === (value.from === 'Selector'),
      },
    ],
  ).prefault({ from: 'Same' }),
  readOnly: z.boolean().describe('Pods may only read, whatever they ask for.').default(false),
});

const adopt = object('A JuiceFS volume that exists already and that this object shall stand for.', {
  uuid: text('UUID of the volume (juicefs status shows it). With it a volume is never formatted, and no other one is used.', {
    min: 36,
    max: 36,
    pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  }),
  settings: choice(
    'What happens where its settings (trash, limits, keys of the bucket) are not those of the spec. Match: it is not adopted, and a condition says what differs. Overwrite: they are changed. What is fixed in a format must always agree.',
    ['Match', 'Overwrite'],
  ).default('Match'),
});

const resourceMap = (description: string) =>
  z.record(z.string(), anyQuantity('The amount.')).describe(description).meta({ maxProperties: 16 }).optional();

const client = object('The client in the pods.', {
  image: text('Image of the client. Default: that of the webhook.', { min: 1, max: 512 }).optional(),
  resources: object('Resources of the client’s container.', {
    requests: resourceMap('What the container is guaranteed.'),
    limits: resourceMap('What the container may use at most.'),
  }).optional(),
  logLevel: choice('How much the client logs.', ['debug', 'info', 'warn', 'error']).default('info'),
  rollout: rolloutSpec.prefault({}),
});

export const volumeSpec = object(
  'What the volume shall be.',
  {
    volumeName: text(
      'The name of the JuiceFS volume: 3 to 63 lower-case letters, digits and dashes. Objects lie under it. Default: the name of this object. Immutable.',
      { min: 3, max: 63, pattern: VOLUME_NAME_PATTERN },
      [immutable],
    ).optional(),
    metadata,
    storage: storageSpec,
    format: format.prefault({}),
    encryption: encryptionSpec.optional(),
    quota: quotaSpec.optional(),
    adopt: adopt.optional(),
    access: access.prefault({}),
    cachePolicyRef: object('The JuiceCachePolicy that pods use unless they name another.', {
      name: objectName('Name of the policy, in the namespace of the volume.'),
    }).optional(),
    client: client.prefault({}),
    reclaimPolicy: choice(
      'What becomes of the data when this object is deleted. Delete also needs the annotation juicepod.io/confirm-delete with the name of the object.',
      ['Retain', 'Delete'],
    ).default('Retain'),
    suspend: z.boolean().describe('Leave everything as it is: nothing is checked, formatted, written or deleted.').default(false),
  },
  [fixedPresence('volumeName'), fixedPresence('encryption')],
);

export const volumeStatus = object('What was observed.', {
  observedGeneration: z.int().min(-1).describe('The metadata.generation that was last acted on; -1 before any was.').optional(),
  conditions: conditionsSchema('Ready, and what it rests on.').optional(),
  volumeName: text('Name of the JuiceFS volume.', { max: 63 }).optional(),
  uuid: text('UUID of the volume, as its database has it. Once known, a volume with another UUID is never touched.', {
    max: 64,
  }).optional(),
  metadata: text('Where the names lie, for people.', { max: 2048 }).optional(),
  storage: text('Where the bytes lie, for people.', { max: 2048 }).optional(),
  usage: object('How much the volume holds, trash included.', {
    bytes: z.int().min(0).describe('Bytes.'),
    size: text('The bytes, for people.', { max: 32 }),
    inodes: z.int().min(0).describe('Files, directories and other nodes.'),
    observedAt: z.string().meta({ format: 'date-time', description: 'When this was read; hourly while it stays the same.' }),
  }).optional(),
  capacity: capacityStatus.optional(),
  quotas: quotaStatus.optional(),
  changeLog: changeLogStatus.optional(),
  encryption: encryptionStatus.optional(),
  sessions: sessionsStatus.optional(),
  credentials: credentialsStatus.optional(),
  leaks: leaksStatus.optional(),
  mountSecrets: object('Secrets with what a client needs.', {
    namespaces: z.int().min(0).describe('How many namespaces have one.'),
  }).optional(),
  rollout: rolloutStatus.optional(),
  lastHandledReconcileAt: text('The value of the annotation juicepod.io/reconcile-at that was last acted on.', {
    max: 256,
  }).optional(),
});

export type VolumeSpec = DeepReadonly<z.output<typeof volumeSpec>>;
export type VolumeStatus = WithConditions<DeepReadonly<z.output<typeof volumeStatus>>>;
export type JuiceVolume = CustomResource<'JuiceVolume', VolumeSpec, VolumeStatus>;

/** The name of the JuiceFS volume. */
export function volumeNameOf(volume: JuiceVolume): string {
  return volume.spec.volumeName ?? volume.metadata.name;
}
