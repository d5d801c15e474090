/**
 * Whether database and store let a client in, found out on connections of their own before it goes on with a session that an
 * earlier client left. There, opening the volume alone would not do: what the earlier client had not stored is stored then, and a
 * store that denies that would make the loss final.
 */
import { messageOf, UserError } from '../lib/errors.ts';
import { openEngine, readFormat } from '../meta/open.ts';
import { redactUrl } from '../meta/url.ts';
import { MARKER } from '../object/check.ts';
import { ObjectError } from '../object/store.ts';
import { openStore } from './volume-blocks.ts';
import type { VolumeOptions } from './volume-options.ts';

/** How long a database may take that is away, milliseconds: it is asked again, with what the Secret says by then. */
const PATIENCE_MS = 10_000;
/** A store that takes longer is slow, and none that denies. */
const STORE_MS = 5000;

/** Throws UserError where the database cannot be had, or the store denies us. */
export async function proveAccess({ metaUrl, storage }: Pick<VolumeOptions, 'metaUrl' | 'storage'>): Promise<void> {
  const engine = await openEngine(metaUrl, { existing: true, patience: PATIENCE_MS });
  try {
    const format = await readFormat(engine);
    if (!format) throw new UserError('NoVolume', `${redactUrl(metaUrl)} holds no volume`, { retryable: true });
    const store = openStore(format, storage);
    try {
      await store.get(MARKER, { signal: AbortSignal.timeout(STORE_MS) });
    } catch (error) {
      // The marker is missing in volumes of old clients; and of a store that fails the volume itself has to think.
      if (error instanceof ObjectError && error.code === 'AccessDenied')
        throw new UserError('StoreDenied', `${store.description} denies access: ${messageOf(error)}`, {
          cause: error,
          retryable: true,
        });
    } finally {
      await store.close();
    }
  } finally {
    await engine.close();
  }
}
