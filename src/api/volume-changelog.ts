/** JuiceVolume: the log of changes that the clients of a volume write. */
import { z } from 'zod';
import { duration, object } from './schema.ts';

const YEAR = '8760h';

export const changeLogSpec = object(
  'A log of all changes of names, attributes and contents, which every client writes into the database along with its changes and `juicepod changelog` (or `juicefs changelog`) follows. It costs a record for each change, and official clients older than 1.4 write none. Default: as the volume has it.',
  {
    enabled: z.boolean().describe('Whether the log is kept. Clients that run take a change over within a heartbeat (12 s).'),
    maxAge: duration('How long entries are kept; 0s is for ever.', YEAR).default('2h'),
    maxEntries: z
      .int()
      .min(0)
      .max(1_000_000_000)
      .describe('How many entries are kept, the newest ones; 0 is all that are not too old.')
      .default(0),
  },
);

export const changeLogStatus = object('The log of changes, as it is in the settings of the volume; absent where none is kept.', {
  maxAgeSeconds: z.int().min(0).describe('How long entries are kept; absent for ever.').optional(),
  maxEntries: z.int().min(0).describe('How many entries are kept; absent for all.').optional(),
});
