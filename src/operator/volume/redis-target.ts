/** The metadata URL of a JuiceVolume on Redis, and the name of its database. Pure. */
import type { TlsFiles } from '../../api/mount.ts';
import type { VolumeSpec } from '../../api/volume.ts';
import type { ResolvedSecrets } from './secrets.ts';

type RedisSpec = NonNullable<VolumeSpec['metadata']['redis']>;

/** `files`: where the PEM texts lie, for whoever uses the URL. */
export function redisUrl(redis: RedisSpec, secrets: ResolvedSecrets, files: TlsFiles): string {
  const { tls, sentinel, addresses, database, readFrom, waitForReplicas } = redis;
  const user = encodeURIComponent(secrets.redisUsername ?? '');
  const credentials = secrets.redisPassword === undefined ? '' : `${user}:${encodeURIComponent(secrets.redisPassword)}@`;
  const option = (name: string, value: string | undefined): string[] =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`];
  const options = [
    ...(tls.enabled ? option('tls-server-name', tls.serverName) : []),
    ...(tls.enabled && secrets.ca !== undefined ? option('tls-ca-cert-file', files.ca) : []),
    ...(tls.enabled && secrets.clientCert !== undefined ? option('tls-cert-file', files.cert) : []),
    ...(tls.enabled && secrets.clientKey !== undefined ? option('tls-key-file', files.key) : []),
    ...(sentinel ? option('sentinel-password', secrets.sentinelPassword) : []),
    ...(readFrom === 'Replica' ? option('route-read', 'replica') : []),
    ...(waitForReplicas ? option('wait-replicas', String(waitForReplicas)) : []),
  ];
  const hosts = [...(sentinel ? [sentinel.masterName] : []), ...addresses].join(',');
  const query = options.length > 0 ? `?${options.join('&')}` : '';
  return `${tls.enabled ? 'rediss' : 'redis'}://${credentials}${hosts}/${database}${query}`;
}

/** Names the database, whatever credentials are used for it, and in whatever order its servers are given. */
export function redisIdentity({ addresses, sentinel, database }: RedisSpec): string {
  const [first = ''] = addresses.map((address) => address.toLowerCase()).toSorted();
  return `redis://${sentinel ? `${sentinel.masterName},` : ''}${first}/${database}`;
}
