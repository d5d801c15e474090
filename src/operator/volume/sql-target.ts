/** The metadata URL of a JuiceVolume whose names are on an SQL server, and what tells its tables from others. Pure. */
import type { TlsFiles } from '../../api/mount.ts';
import type { VolumeSpec } from '../../api/volume.ts';
import type { ResolvedSecrets } from './secrets.ts';

type Server = NonNullable<VolumeSpec['metadata']['postgres'] | VolumeSpec['metadata']['mysql']>;
type Mode = Server['tls']['mode'];

/** As the drivers of the official client spell it; `verify-ca` of MySQL is our own word. */
const sslmode: Readonly<Record<Mode, string>> = {
  Disable: 'disable',
  Prefer: 'prefer',
  Require: 'require',
  VerifyCA: 'verify-ca',
  VerifyFull: 'verify-full',
};
const mysqlTls: Readonly<Record<Mode, string>> = {
  Disable: 'false',
  Prefer: 'preferred',
  Require: 'skip-verify',
  VerifyCA: 'verify-ca',
  VerifyFull: 'true',
};
const postgresFiles = { ca: 'sslrootcert', cert: 'sslcert', key: 'sslkey' } as const;
const mysqlFiles = { ca: 'tls-ca-cert-file', cert: 'tls-cert-file', key: 'tls-key-file' } as const;

function serverOf({ postgres, mysql }: VolumeSpec['metadata']): Server {
  const server = postgres ?? mysql;
  if (!server) throw new TypeError('the API server lets no JuiceVolume pass without a database');
  return server;
}

function address({ host, port }: Server): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** `files`: where the PEM texts lie, for whoever uses the URL. */
export function sqlUrl(metadata: VolumeSpec['metadata'], secrets: ResolvedSecrets, files: TlsFiles): string {
  const { postgres } = metadata;
  const server = serverOf(metadata);
  const { tls, tablePrefix, maxConnections } = server;
  const { sqlUsername = '', sqlPassword } = secrets;
  const user = encodeURIComponent(sqlUsername);
  const credentials = sqlPassword === undefined ? user : `${user}:${encodeURIComponent(sqlPassword)}`;
  const names = postgres ? postgresFiles : mysqlFiles;
  const options: readonly (readonly [string, string | number | undefined])[] = [
    [postgres ? 'sslmode' : 'tls', postgres ? sslmode[tls.mode] : mysqlTls[tls.mode]],
    [names.ca, secrets.ca === undefined ? undefined : files.ca],
    [names.cert, secrets.clientCert === undefined ? undefined : files.cert],
    [names.key, secrets.clientKey === undefined ? undefined : files.key],
    ['search_path', postgres?.schema],
    ['table_prefix', tablePrefix],
    ['max_open_conns', maxConnections],
  ];
  const query = options
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`]))
    .join('&');
  const place = postgres ? address(server) : `(${address(server)})`;
  return `${postgres ? 'postgres' : 'mysql'}://${credentials}@${place}/${encodeURIComponent(server.database)}?${query}`;
}

/** Names the tables, whatever credentials are used for them. */
export function sqlIdentity(metadata: VolumeSpec['metadata']): string {
  const { postgres } = metadata;
  const server = serverOf(metadata);
  const place = `${address(server).toLowerCase()}/${server.database}`;
  const tables = `${postgres?.schema === undefined ? '' : `${postgres.schema}.`}jfs_${server.tablePrefix === undefined ? '' : `${server.tablePrefix}_`}`;
  return `${postgres ? 'postgres' : 'mysql'}://${place}/${tables}`;
}
