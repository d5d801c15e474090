/** Whether a volume can be mounted, found out before anything is started: for who wants the answer in another form than a line in a log. */
import type { FoundVolume } from './settings.ts';
import { openEngine } from '../../meta/open.ts';
import { COMMAND_PATIENCE_MS, formatOf } from '../volume.ts';
import { PASSPHRASE_VARIABLE } from './settings.ts';

/** Name and UUID of the volume. Throws UserError where the database does not answer, holds none, or its key cannot be opened. */
export async function checkVolume(url: string): Promise<FoundVolume> {
  const engine = await openEngine(url, { existing: true, readOnly: true, patience: COMMAND_PATIENCE_MS });
  try {
    const format = await formatOf(engine, url);
    // Only whether the key opens: the process that serves the mount opens it again.
    if (format.encryptKey !== '') {
      const { envelopeOf } = await import('../../meta/encryption.ts');
      envelopeOf(format, process.env[PASSPHRASE_VARIABLE]);
    }
    return { name: format.name, uuid: format.uuid };
  } finally {
    await engine.close();
  }
}
