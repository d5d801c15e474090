/** A volume over Redis and S3, both of which can be given users and keys, and have them taken away. */
import { Redis } from 'ioredis';
import type { MountConfig } from '../../src/api/mount.ts';
import { succeeds } from '../cli/command.ts';
import { startRedis, startS3 } from '../servers.ts';

export async function startWorld() {
  await using cleanup = new AsyncDisposableStack();
  const redis = cleanup.use(await startRedis());
  const s3 = cleanup.use(await startS3());
  s3.createBucket('blocks');
  const admin = new Redis({ host: '127.0.0.1', port: redis.port });
  cleanup.defer(() => admin.disconnect());
  const bucket = `${s3.endpoint}/blocks`;
  await succeeds([
    'format',
    redis.url(1),
    'testvol',
    '--storage',
    's3',
    '--bucket',
    bucket,
    '--access-key',
    s3.accessKey,
    '--secret-key',
    s3.secretKey,
  ]);
  const format = JSON.parse(
    await new Promise<string>((done, fail) => {
      const reader = new Redis({ host: '127.0.0.1', port: redis.port, db: 1 });
      reader
        .get('setting')
        .then((text) => done(text ?? ''), fail)
        .finally(() => reader.disconnect());
    }),
  ) as { UUID: string };
  /** Makes user and key of a generation, and what the client is told of them. */
  const credentials = async (generation: string): Promise<MountConfig> => {
    await admin.call('ACL', 'SETUSER', `user-${generation}`, 'reset', 'on', `>pass-${generation}`, '~*', '&*', '+@all');
    await s3.createKey(`key-${generation}`, `secret-${generation}`);
    return configOf(generation);
  };
  const configOf = (generation: string): MountConfig => ({
    name: 'testvol',
    uuid: format.UUID,
    metaUrl: `redis://user-${generation}:pass-${generation}@127.0.0.1:${redis.port}/1`,
    storage: { accessKey: `key-${generation}`, secretKey: `secret-${generation}` },
    generation,
  });
  const revoke = async (generation: string): Promise<void> => {
    // The key first: that starts a program, and what this process has open on the mount is flushed when a child closes it. With
    // the user gone that would wait, and this thread with it.
    await s3.deleteKey(`key-${generation}`);
    await admin.call('ACL', 'DELUSER', `user-${generation}`);
  };
  /** Users that are connected to the volume's database. */
  const users = async (): Promise<readonly string[]> => {
    const list = String(await admin.call('CLIENT', 'LIST'));
    return [...new Set([...list.matchAll(/ db=1 .* user=(\S+)/g)].map(([, user]) => user ?? ''))].toSorted();
  };
  const held = cleanup.move();
  return { redis, s3, users, credentials, configOf, revoke, [Symbol.asyncDispose]: () => held.disposeAsync() };
}
