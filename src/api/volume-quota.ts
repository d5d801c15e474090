/**
 * Limits of a JuiceVolume: of the whole volume (`ENOSPC`), and of directories, users and groups (`EDQUOT`), counted and enforced
 * as JuiceFS does. Limits that are in no list here and that somebody else set are shown in the status and left alone.
 */
import { z } from 'zod';
import { object, type Rule, text } from './schema.ts';

const MAX_ID = 4_294_967_295;
const MAX_ENTRIES = 256;

interface Limits {
  readonly capacity?: string | undefined;
  readonly inodes?: number | undefined;
}

const someLimit: Rule<Limits> = {
  cel: 'has(self.capacity) || has(self.inodes)',
  message: 'capacity, inodes or both are needed',
  holds: (value) => value.capacity !== undefined || value.inodes !== undefined,
};

/** From 1M to 7999Ti. A pattern, for a rule on each of hundreds of entries would cost more than the API server allows. */
const CAPACITY = '^([1-9][0-9]{0,5}(M|Mi|G|Gi)|([1-9][0-9]{0,2}|[1-7][0-9]{3})(T|Ti))$';
const FORM = 'capacity is a whole number with M, Mi, G, Gi, T or Ti, such as 100Gi, from 1M to 7999Ti; for no limit leave it out';
const capacity = (description: string) =>
  text(`${description} A whole number with M, Mi, G, Gi, T or Ti.`, { max: 8, pattern: CAPACITY, wanted: FORM }).optional();
const inodes = (description: string) => z.int().min(1).max(Number.MAX_SAFE_INTEGER).describe(description).optional();

/** Says what the pattern cannot; for the volume itself only, see above. */
const readableCapacity: Rule<Limits> = {
  cel: `!has(self.capacity) || self.capacity.matches('${CAPACITY}')`,
  message: FORM,
};

const limits = {
  capacity: capacity('Bytes at most, each file counted in steps of 4 KiB. Default: no limit.'),
  inodes: inodes('Files and directories at most. Default: no limit.'),
};

const id = (description: string, min: number) => z.int().min(min).max(MAX_ID).describe(description);

function entries<T extends z.ZodType>(schema: T, description: string, key: string) {
  return z
    .array(schema)
    .max(MAX_ENTRIES)
    .meta({ description, 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] })
    .optional();
}

export const quotaSpec = object(
  'Limits. Those of the volume answer ENOSPC, all others EDQUOT. They may be lowered below what is used: nothing is deleted, nothing more fits. Mounted clients follow within seconds.',
  {
    capacity: capacity(
      'Bytes that the volume may hold, trash included. Default: no limit, or the one that an adopted volume has.',
    ),
    inodes: inodes('Files and directories that the volume may hold. Default: no limit, or the one that an adopted volume has.'),
    directories: entries(
      object(
        'Limits of one directory and all that is below it.',
        {
          path: text('Absolute path inside the volume. Limits of a directory that does not exist yet wait for it.', {
            min: 2,
            max: 1024,
            pattern: '^(/([^/.\\x00][^/\\x00]*|\\.[^/.\\x00][^/\\x00]*|\\.\\.[^/\\x00]+))+$',
          }),
          ...limits,
        },
        [
          someLimit,
          {
            cel: "!self.path.startsWith('/.trash')",
            message: 'the trash takes no limits of its own',
            holds: (value) => !value.path.startsWith('/.trash'),
          },
        ],
      ),
      'Limits of directories.',
      'path',
    ),
    users: entries(
      object('Limits of what one user owns.', { uid: id('Number of the user; root cannot be limited.', 1), ...limits }, [
        someLimit,
      ]),
      'Limits of users.',
      'uid',
    ),
    groups: entries(
      object('Limits of what one group owns.', { gid: id('Number of the group.', 0), ...limits }, [someLimit]),
      'Limits of groups.',
      'gid',
    ),
  },
  [readableCapacity],
);

const count = (description: string) => z.int().min(0).describe(description);

export const quotaStatus = z
  .array(
    object('One limit, and what is used of it.', {
      kind: z.enum(['Directory', 'User', 'Group']).describe('What is limited.'),
      name: text('Path of the directory, or number of the user or group.', { max: 4096 }),
      managed: z
        .boolean()
        .describe('True: the spec has it, or had it. False: somebody else set it (juicefs quota set), and it is left alone.'),
      state: z
        .enum(['Applied', 'Pending'])
        .describe('Pending: not in the volume yet (or still there), as while the directory does not exist.'),
      capacityBytes: count('Bytes at most; absent without a limit.').optional(),
      inodes: count('Files and directories at most; absent without a limit.').optional(),
      usedBytes: count('Bytes that count.').optional(),
      usedInodes: count('Files and directories that count.').optional(),
    }),
  )
  .max(MAX_ENTRIES * 3)
  .meta({
    description: 'Limits of directories, users and groups; those of the spec first, then at most 100 others.',
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': ['kind', 'name'],
  });

export const capacityStatus = object('The limits of the whole volume, as they are in its settings.', {
  size: text('The bytes, for people; absent without a limit.', { max: 32 }).optional(),
  bytes: count('Bytes at most; absent without a limit.').optional(),
  inodes: count('Files and directories at most; absent without a limit.').optional(),
  managed: z
    .array(z.enum(['capacity', 'inodes']).describe('A limit.'))
    .max(2)
    .meta({
      description: 'Which of them the spec set: these go when the spec no longer has them.',
      'x-kubernetes-list-type': 'set',
    })
    .optional(),
});
