/**
 * Single commands to the node of a Cluster that a slot is on its way to. While it moves, what has moved already is there, and
 * each command must be led in by ASKING. One connection, to the node that was named last.
 */
import { Redis } from 'ioredis';
import { type Address, describeAddress, type RedisUrl } from '../url-redis.ts';
import { redisOptions } from './connector.ts';
import { tlsOptions } from './tls.ts';

export class Aside {
  #node = '';
  #redis: Redis | undefined;

  /** The answer of that node. `url`: with the credentials of the moment. */
  async call(address: Address, url: RedisUrl, command: string, args: readonly (string | Buffer | number)[]): Promise<unknown> {
    const redis = this.#to(address, url);
    // Both are sent before anything else can be.
    const [, reply] = await Promise.all([redis.call('ASKING'), redis.callBuffer(command, [...args])]);
    return reply;
  }

  #to(address: Address, url: RedisUrl): Redis {
    const node = describeAddress(address);
    if (this.#redis && this.#node === node) return this.#redis;
    this.close();
    const redis = new Redis({
      ...redisOptions({ ...url, ...address }),
      ...(url.tls ? { tls: tlsOptions(url.tls, address.host) } : {}),
      socketTimeout: url.readTimeout,
      maxRetriesPerRequest: 0,
    });
    // The commands say it.
    redis.on('error', () => {});
    this.#node = node;
    return (this.#redis = redis);
  }

  close(): void {
    this.#redis?.disconnect();
    this.#redis = undefined;
  }
}
