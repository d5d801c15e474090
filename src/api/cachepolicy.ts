/** JuiceCachePolicy: what a client keeps in the pod, and how far it reads ahead. */
import { z } from 'zod';
import { conditionsSchema, type CustomResource, type WithConditions } from './meta.ts';
import { choice, type DeepReadonly, declare, duration, object, quantity } from './schema.ts';

const spec = {
  local: object('The cache of blocks in the pod.', {
    medium: choice(
      'EphemeralDisk: an emptyDir on the node’s disk. Memory: an emptyDir in memory. None: no block is kept on disk.',
      ['EphemeralDisk', 'Memory', 'None'],
    ).default('EphemeralDisk'),
    // With buffer and overshoot less than half of what the smallest platform gives a pod; with write-back it still fits.
    size: quantity(
      'How much the cache may hold; in sync mode, the files of a pod. It is requested as ephemeral storage (docs/admission.md, Resources).',
      '64Mi',
      '64Ti',
    ).default('4Gi'),
    freeSpacePercent: declare(z.int().min(1).max(90), 'How much of the disk must stay free, in percent.').default(10),
    eviction: choice(
      'What makes room for new blocks. 2-random: old ones, picked at random. lru: the least recently used. none: nothing, new ones are not cached.',
      ['none', '2-random', 'lru'],
    ).default('2-random'),
    expire: duration('Blocks that are not used for so long are dropped; 0s: never.', '8760h').default('0s'),
    verifyChecksum: choice(
      'What of a cached block is checked when it is read. extend: all pieces of 32 KiB that are touched; shrink: those read wholly; full: blocks read wholly; none: nothing.',
      ['none', 'full', 'shrink', 'extend'],
    ).default('extend'),
  }).prefault({}),
  readahead: object('Reading ahead of the application.', {
    max: quantity('How far, at most, for one open file.', '0', '4Gi').default('32Mi'),
  }).prefault({}),
  buffer: object('Memory for data on its way.', {
    size: quantity('How much may be buffered for reading and writing; writers wait above it.', '32Mi', '64Gi').default('300Mi'),
  }).prefault({}),
  metadata: object('How long the kernel may answer from memory without asking the database.', {
    attrTTL: duration('Attributes of files.', '1h').default('1s'),
    entryTTL: duration('Names of files.', '1h').default('1s'),
    dirTTL: duration('Names of directories.', '1h').default('1s'),
    negativeTTL: duration('That a name does not exist.', '1h').default('0s'),
    openCache: duration(
      'How long a file may be opened again by what was seen of it, without asking the database; others’ changes show so much later.',
      '1h',
    ).default('0s'),
    maxOpsPerSecond: declare(
      z.int().min(1).max(1_000_000),
      'Operations on names and attributes that the programs of a pod may make in a second; more wait. Absent: as many as they like.',
    ).optional(),
  }).prefault({}),
  io: object('Traffic with the object store.', {
    maxUploads: declare(z.int().min(1).max(1000), 'Uploads at the same time.').default(20),
    maxDownloads: declare(z.int().min(1).max(1000), 'Downloads at the same time.').default(200),
    uploadLimit: quantity(
      'Bytes that a pod may upload in a second. Absent: what the settings of each volume say.',
      '64Ki',
      '1Ti',
    ).optional(),
    downloadLimit: quantity(
      'Bytes that a pod may download in a second. Absent: what the settings of each volume say.',
      '64Ki',
      '1Ti',
    ).optional(),
  }).prefault({}),
  writeback: object(
    'Writing to the disk of the pod first and uploading afterwards. Faster for small files and bursts; what is not uploaded yet can be read in this pod only, and is lost with its disk.',
    {
      enabled: declare(z.boolean(), 'Whether written data is acknowledged before it is in the object store.').default(false),
      maxStaging: quantity(
        'How much may wait on the disk; above it, data is uploaded before it is acknowledged.',
        '64Mi',
        '64Ti',
      ).default('4Gi'),
      uploadDelay: duration(
        'How long data stays on the disk before it is uploaded: what is removed before is never uploaded.',
        '24h',
      ).default('0s'),
      drainTimeout: duration(
        'How long the client of a pod that ends uploads what waits. The pod’s termination grace period is raised by it.',
        '1h',
      ).default('60s'),
    },
  ).prefault({}),
};

export const cachePolicySpec = object(
  'What the client keeps, and how far it reads ahead. Pods take it when they start; those that run, where the volume has spec.client.rollout.strategy PodByPod.',
  spec,
  [
    {
      cel: `!self.writeback.enabled || self.local.medium == 'EphemeralDisk'`,
      message: 'writeback needs local.medium: EphemeralDisk',
      holds: ({ writeback, local }) => !writeback.enabled || local.medium === 'EphemeralDisk',
    },
  ],
);

export const cachePolicyStatus = object('What was observed.', {
  observedGeneration: z.int().min(-1).describe('The metadata.generation that was last acted on; -1 before any was.').optional(),
  conditions: conditionsSchema('Ready: the policy is accepted.').optional(),
  usedBy: z.int().min(0).describe('How many JuiceVolumes name this policy.').optional(),
});

export type CachePolicySpec = DeepReadonly<z.output<typeof cachePolicySpec>>;
export type CachePolicyStatus = WithConditions<DeepReadonly<z.output<typeof cachePolicyStatus>>>;
export type JuiceCachePolicy = CustomResource<'JuiceCachePolicy', CachePolicySpec, CachePolicyStatus>;

/** What a pod gets where no policy is named. */
export const defaultCachePolicy: CachePolicySpec = cachePolicySpec.parse({});
