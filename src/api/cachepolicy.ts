/** JuiceCachePolicy: what a client keeps in the pod, and how far it reads ahead. */
import { z } from 'zod';
import { conditionsSchema, type CustomResource, type WithConditions } from './meta.ts';
import { choice, type DeepReadonly, declare, duration, object, quantity } from './schema.ts';

export const cachePolicySpec = object('What the client keeps, and how far it reads ahead. Pods take it when they start.', {
  local: object('The cache of blocks in the pod.', {
    medium: choice(
      'EphemeralDisk: an emptyDir on the node’s disk. Memory: an emptyDir in memory. None: no block is kept on disk.',
      ['EphemeralDisk', 'Memory', 'None'],
    ).default('EphemeralDisk'),
    size: quantity('How much the cache may hold.', '64Mi', '64Ti').default('10Gi'),
    freeSpacePercent: declare(z.int().min(1).max(90), 'How much of the disk must stay free, in percent.').default(10),
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
  }).prefault({}),
  io: object('Traffic with the object store.', {
    maxUploads: declare(z.int().min(1).max(1000), 'Uploads at the same time.').default(20),
    maxDownloads: declare(z.int().min(1).max(1000), 'Downloads at the same time.').default(200),
  }).prefault({}),
});

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
