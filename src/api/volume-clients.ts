/** What the status of a JuiceVolume says of those who use it: sessions, the credentials they run with, and what they left behind. */
import { z } from 'zod';
import { object, text } from './schema.ts';

const count = (description: string) => z.int().min(0).describe(description);
const time = (description: string) => z.string().meta({ format: 'date-time', description });

/** So many sessions are listed one by one; the numbers count all. */
export const MAX_LISTED_CLIENTS = 50;

export const sessionsStatus = object(
  'Clients that have the volume mounted. Clients that only read keep no session in the database and do not count.',
  {
    active: count('Sessions whose heartbeat is not overdue.'),
    clients: z
      .array(
        object('One session.', {
          id: count('Number of the session.'),
          host: text('Name of the host.', { max: 253 }),
          pod: text('Name of the pod, where the client is its sidecar.', { max: 253 }).optional(),
          version: text('Version of the client.', { max: 128 }),
          mountPoint: text('Where it is mounted.', { max: 1024 }),
          generation: text('Generation of the credentials it uses; absent where the client does not say.', {
            max: 32,
          }).optional(),
        }),
      )
      .max(MAX_LISTED_CLIENTS)
      .meta({
        description: `The first ${MAX_LISTED_CLIENTS}, by number.`,
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['id'],
      })
      .optional(),
  },
);

export const credentialsStatus = object('What the mount Secrets hold, and who uses it.', {
  generation: text('Counts the changes of what the mount Secrets hold.', { max: 32 }),
  since: time('When the mount Secrets got it.'),
  current: count('Clients that use it.'),
  outdated: count('Clients that still use an earlier one.'),
  unknown: count('Clients that do not say: official ones, and those that were given a metadata URL.'),
});

export const leaksStatus = object(
  'What ended without cleaning up, or waits to be deleted. Clients clean it up while any is mounted; looked at every ten minutes, hourly where nobody can leave more.',
  {
    staleSessions: count('Sessions whose heartbeat is overdue.'),
    deletedFiles: count('Files deleted more than an hour ago whose blocks are still in the store (counted up to 1000).'),
    unreferencedSlices: count('Slices that nothing refers to and whose blocks are still in the store (counted up to 1000).'),
    observedAt: time('When this was read.'),
  },
);
