/** JuiceVolume: backups of the metadata into the object store, as the official client's mounts make them. */
import { z } from 'zod';
import { duration, object } from './schema.ts';
import { parseDuration } from './units.ts';

const YEAR = '8760h';
const SHORTEST = '5m';

export const backupSpec = object(
  'Backups of the metadata, as objects meta/dump-<time>.json.gz under the volume’s name: one of the pods that have it mounted for writing makes each. All of two days are kept, one a day for two weeks, one a week for two months, one a month for two years.',
  {
    interval: duration(
      'How often one is made; of a volume with more than a million files less often, but once a day. 0s: never.',
      YEAR,
      [
        {
          cel: `duration(self) == duration('0s') || duration(self) >= duration('${SHORTEST}')`,
          message: `the interval must be 0s, or at least ${SHORTEST}`,
          holds: (value) => parseDuration(value) === 0 || parseDuration(value) >= parseDuration(SHORTEST),
        },
      ],
    ).default('1h'),
    skipTrash: z.boolean().describe('Leave out what is in the trash.').default(false),
  },
);

export const backupStatus = object('Backups of the metadata.', {
  startedAt: z.string().meta({ format: 'date-time', description: 'When a client last began one that has not failed.' }),
});
