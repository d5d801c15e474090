/** The kinds of the group: names, columns, schemas. The custom resource definitions are made from this list. */
import { z } from 'zod';
import { UserError } from '../lib/errors.ts';
import { cachePolicySpec, cachePolicyStatus, type JuiceCachePolicy } from './cachepolicy.ts';
import { API_VERSION, GROUP, VERSION } from './group.ts';
import { type JuiceVolume, VOLUME_NAME_PATTERN, volumeSpec, volumeStatus } from './volume.ts';

export interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'boolean' | 'date';
  readonly jsonPath: string;
  readonly description: string;
  /** True: only with `-o wide`. */
  readonly wide?: boolean;
}

export interface Kind {
  readonly kind: 'JuiceVolume' | 'JuiceCachePolicy';
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status: z.ZodType;
  /** Rules on the whole object. */
  readonly rules: readonly { readonly cel: string; readonly message: string }[];
  readonly columns: readonly Column[];
  readonly selectableFields: readonly string[];
}

const condition = (type: string, member: string): string => `.status.conditions[?(@.type=="${type}")].${member}`;
const age: Column = {
  name: 'Age',
  type: 'date',
  jsonPath: '.metadata.creationTimestamp',
  description: 'Since when the object exists.',
};
const nameRule = {
  cel: `has(self.spec.volumeName) || self.metadata.name.matches('${VOLUME_NAME_PATTERN}')`,
  message: 'without spec.volumeName the name must be 3 to 63 lower-case letters, digits and dashes',
};

const volumeKind: Kind = {
  kind: 'JuiceVolume',
  plural: 'juicevolumes',
  singular: 'juicevolume',
  shortNames: ['jv'],
  description: 'A JuiceFS volume: where its names and bytes live, how it is written, and who may mount it.',
  spec: volumeSpec,
  status: volumeStatus,
  rules: [nameRule],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready', 'status'), description: 'Whether pods can mount the volume.' },
    { name: 'Used', type: 'string', jsonPath: '.status.usage.size', description: 'How much the volume holds.' },
    {
      name: 'Quota',
      type: 'string',
      jsonPath: '.status.capacity.size',
      description: 'How much the volume may hold; empty without a limit.',
    },
    { name: 'Sessions', type: 'integer', jsonPath: '.status.sessions.active', description: 'Clients that have it mounted.' },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: condition('Ready', 'reason'),
      description: 'Why it is ready, or not.',
      wide: true,
    },
    { name: 'Metadata', type: 'string', jsonPath: '.status.metadata', description: 'Where the names lie.', wide: true },
    { name: 'Storage', type: 'string', jsonPath: '.status.storage', description: 'Where the bytes lie.', wide: true },
    {
      name: 'Encryption',
      type: 'string',
      jsonPath: '.status.encryption.algorithm',
      description: 'How objects are encrypted; empty where they are not.',
      wide: true,
    },
    {
      name: 'Outdated',
      type: 'integer',
      jsonPath: '.status.credentials.outdated',
      description: 'Clients that still use earlier credentials.',
      wide: true,
    },
    { name: 'Policy', type: 'string', jsonPath: '.spec.cachePolicyRef.name', description: 'Its cache policy.', wide: true },
    age,
  ],
  selectableFields: ['.spec.cachePolicyRef.name'],
};

const cachePolicyKind: Kind = {
  kind: 'JuiceCachePolicy',
  plural: 'juicecachepolicies',
  singular: 'juicecachepolicy',
  shortNames: ['jcp'],
  description: 'What a client keeps in the pod, and how far it reads ahead.',
  spec: cachePolicySpec,
  status: cachePolicyStatus,
  rules: [],
  columns: [
    { name: 'Ready', type: 'string', jsonPath: condition('Ready', 'status'), description: 'Whether the policy is accepted.' },
    { name: 'Medium', type: 'string', jsonPath: '.spec.local.medium', description: 'Where blocks are cached.' },
    { name: 'Size', type: 'string', jsonPath: '.spec.local.size', description: 'How much is cached.' },
    {
      name: 'Writeback',
      type: 'boolean',
      jsonPath: '.spec.writeback.enabled',
      description: 'Whether writes are acknowledged before they are in the object store.',
    },
    { name: 'Used-By', type: 'integer', jsonPath: '.status.usedBy', description: 'Volumes that name it.' },
    {
      name: 'Reason',
      type: 'string',
      jsonPath: condition('Ready', 'reason'),
      description: 'Why it is accepted, or not.',
      wide: true,
    },
    { name: 'Buffer', type: 'string', jsonPath: '.spec.buffer.size', description: 'Memory for data on its way.', wide: true },
    age,
  ],
  selectableFields: [],
};

export const kinds: readonly Kind[] = [volumeKind, cachePolicyKind];

const resourceOf = ({ kind, plural }: Kind) => ({ group: GROUP, version: VERSION, plural, kind, namespaced: true }) as const;

/** How the API server is asked for them. */
export const JuiceVolumes = resourceOf(volumeKind);
export const JuiceCachePolicies = resourceOf(cachePolicyKind);

const metadata = z.looseObject({ name: z.string().min(1) });

function parse(kind: Kind, value: unknown): unknown {
  const schema = z.looseObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal(kind.kind),
    metadata,
    spec: kind.spec,
    status: z.unknown().optional(),
  });
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const name = (value as { metadata?: { name?: unknown } } | null)?.metadata?.name;
  const issues = result.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.') || 'object'}: ${issue.message}`);
  throw new UserError(
    'InvalidResource',
    `${kind.kind} ${typeof name === 'string' ? name : '(without a name)'}: ${issues.join('; ')}`,
  );
}

/** Reads a JuiceVolume from a file: defaults filled in, the API server's rules checked. Throws UserError. */
export function parseJuiceVolume(value: unknown): JuiceVolume {
  const volume = parse(volumeKind, value) as JuiceVolume;
  if (volume.spec.volumeName === undefined && !new RegExp(VOLUME_NAME_PATTERN).test(volume.metadata.name))
    throw new UserError('InvalidResource', `JuiceVolume ${volume.metadata.name}: ${nameRule.message}`);
  return volume;
}

/** Reads a JuiceCachePolicy from a file, as above. */
export function parseJuiceCachePolicy(value: unknown): JuiceCachePolicy {
  return parse(cachePolicyKind, value) as JuiceCachePolicy;
}
