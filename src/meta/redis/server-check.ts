/** What is looked at in a Redis before a client that writes uses it. */
import type { Logger } from '../../lib/log.ts';
import type { RedisConnection } from './connection.ts';

/** Looks at version and settings of the server; warns of what endangers data, and sets what it may set. */
export async function checkServer(connection: RedisConnection, logger: Logger): Promise<void> {
  let info: string;
  try {
    info = String(await connection.call('INFO'));
  } catch (error) {
    logger.warn('Redis does not tell its version and settings', { server: connection.description, error });
    return;
  }
  const version = /redis_version:(\d+)\./.exec(info);
  if (version && Number(version[1]) < 4)
    logger.warn('Redis is older than version 4, which is the oldest that is supported', { server: connection.description });
  const policy = /maxmemory_policy:(\S+)/.exec(info)?.[1];
  if (policy === undefined || policy === 'noeviction') return;
  try {
    await connection.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    logger.info('Redis may not drop keys any more: maxmemory-policy is now noeviction', { server: connection.description });
  } catch (error) {
    logger.warn('Redis drops keys when it runs out of memory, which destroys volumes: set maxmemory-policy to noeviction', {
      server: connection.description,
      policy,
      error,
    });
  }
}
