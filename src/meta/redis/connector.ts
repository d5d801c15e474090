/** How ioredis is made to reach a server: its options, and the connector that asks where the server is at the moment. */
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AbstractConnector } from 'ioredis';
import type { Address, RedisUrl } from '../url-redis.ts';
import type { Place } from './place.ts';
import { tlsOptions } from './tls.ts';

/** Between two attempts to find out where the server is, ms. */
const FIND_PAUSE_MS = 200;

/** Opens a connection to where `place` says the server is, each time anew; asks until it is told. */
function connectorTo(place: Place, url: () => RedisUrl, onAddress: (address: Address) => void) {
  return class extends AbstractConnector {
    constructor() {
      super(0);
    }

    async connect(emit: (event: string, error: Error) => void) {
      this.connecting = true;
      for (;;) {
        try {
          const address = await place.find();
          // oxlint-disable-next-line typescript/no-unnecessary-condition -- `disconnect` may have been called meanwhile
          if (!this.connecting) break;
          onAddress(address);
          const { tls } = url();
          const stream = tls ? connectTls({ ...tlsOptions(tls, address.host), ...address }) : connectTcp({ ...address });
          stream.once('error', (error) => (this.firstError = error));
          return (this.stream = stream);
        } catch (error) {
          emit('error', error as Error);
        }
        await place.pause(FIND_PAUSE_MS);
        // oxlint-disable-next-line typescript/no-unnecessary-condition -- as above
        if (!this.connecting) break;
      }
      throw new Error('Connection is closed.');
    }

    /** A master that has become a replica is left again. */
    override check(info: { readonly role?: string }): boolean {
      return place.role === 'replica' || info.role === undefined || info.role === 'master';
    }

    /** At once: who is left may be frozen, and would take no farewell. */
    override disconnect(): void {
      this.connecting = false;
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- there is none before the first connection
      this.stream?.destroy();
    }
  };
}

/**
 * How ioredis reaches a server, for any connection; made when it is asked for. With `place` that is where the server is;
 * `current` answers the URL with the credentials of the moment, `onAddress` hears where each connection goes.
 */
export function redisOptions(
  url: RedisUrl,
  place?: Place,
  current: () => RedisUrl = () => url,
  onAddress: (address: Address) => void = () => {},
) {
  return {
    ...(url.socket === undefined ? { host: url.host, port: url.port } : { path: url.socket }),
    // A Cluster has one database only; there the number is in the names of the keys.
    db: url.cluster ? 0 : url.database,
    ...(url.username === undefined ? {} : { username: url.username }),
    ...(url.password === undefined ? {} : { password: url.password }),
    ...(url.tls ? { tls: tlsOptions(url.tls, url.host) } : {}),
    ...(place ? { Connector: connectorTo(place, current, onAddress) } : {}),
    // What a replica of a Cluster wants to hear before it answers.
    ...(url.cluster && place?.role === 'replica' ? { readOnly: true } : {}),
    protocol: 2,
    lazyConnect: true,
    connectTimeout: url.writeTimeout,
    retryStrategy: (times: number) => Math.min(url.minRetryBackoff * 2 ** Math.min(times, 20), url.maxRetryBackoff, 1000),
  } as const;
}
