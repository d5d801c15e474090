/**
 * Other credentials for a Redis that is in use: proved on a connection of their own first, with what the engine does (a script
 * that reads the volume's settings and, for a client that writes, one that writes), then taken by the connection in use.
 */
import { systemClock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { nullLogger } from '../../lib/log.ts';
import { describeMetaUrl, type MetaUrl, type RedisUrl } from '../url.ts';
import { RedisConnection } from './connection.ts';
import type { Keys } from './keys.ts';

/** How long the proof may take, ms. */
const PATIENCE = 10_000;
/** Adds nothing to a counter: allowed to those who may write, and changes nothing. */
const PROOF = `if ARGV[1] == '1' then redis.call('INCRBY', KEYS[2], 0) end return redis.call('EXISTS', KEYS[1])`;

/** Answers the URL that was proved. Throws UserError where the credentials do not do. */
export async function proveRedis(connection: RedisConnection, keys: Keys, url: MetaUrl, writing: boolean): Promise<RedisUrl> {
  if (url.kind !== 'redis' || describeMetaUrl(url) !== connection.description)
    throw new UserError(
      'MetaElsewhere',
      `the metadata database is now ${describeMetaUrl(url)}, and was ${connection.description}: only its credentials can change under a mount`,
      { hint: 'A client that is started anew takes the new place.' },
    );
  const proved = connection.shape(url);
  const beside = new RedisConnection(proved, { clock: systemClock, logger: nullLogger, patience: PATIENCE });
  try {
    await beside.open();
    const found = await beside.call('EVAL', PROOF, 2, keys.setting, keys.counter('nextSession'), writing ? '1' : '0');
    if (Number(found) !== 1) throw new UserError('NoVolume', `these credentials find no volume in ${connection.description}`);
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('MetaRefused', messageOf(error), { cause: error });
  } finally {
    beside.close();
  }
  return proved;
}
