/** The metadata URL of a volume on an SQL server as a part of a JuiceVolume. Pure. */
import type { Json } from '../../lib/json.ts';
import type { ServerTls, ServerUrl } from '../../meta/url-server.ts';

const DEFAULT_CONNECTIONS = 16;

function modeOf({ mode, verify }: ServerTls): string {
  if (mode === 'off') return 'Disable';
  if (mode !== 'required') return 'Prefer';
  return { nothing: 'Require', authority: 'VerifyCA', name: 'VerifyFull' }[verify];
}

export interface SqlMetadata {
  readonly metadata?: Json;
  /** What the Secret holds. */
  readonly keys: Readonly<Record<string, string>>;
  readonly todos: string[];
  readonly obstacle?: string;
}

/** `secret`: its name; `fillIn`: what stands where the URL does not say something; `shown`: the URL without its password. */
export function sqlMetadataOf(url: ServerUrl, secret: string, fillIn: string, shown: string): SqlMetadata {
  if (url.socket !== undefined)
    return { keys: {}, todos: [], obstacle: `its database is reached by a unix socket (${shown}), which pods do not have` };
  const field = `spec.metadata.${url.kind}`;
  const { username, password, tls } = url;
  const prefix = /^jfs_(.+)_$/.exec(url.tablePrefix)?.[1];
  const mode = modeOf(tls);
  const todos = [
    ...(username ? [] : [`the metadata URL (${shown}) names no user: put one into Secret ${secret}, under the key username`]),
    ...(password ? [] : [`the metadata URL (${shown}) has no password: put it into Secret ${secret}, under the key password`]),
    ...(tls.caFile
      ? [`put the authority's certificate (${tls.caFile}) into a Secret and name it in ${field}.tls.caSecretRef`]
      : []),
    ...(tls.certFile
      ? [`put the client certificate (${tls.certFile}) and its key into a Secret and name it in ${field}.tls.clientCertSecretRef`]
      : []),
  ];
  const server = {
    host: url.host,
    port: url.port,
    database: url.database,
    ...(url.schema === undefined ? {} : { schema: url.schema }),
    ...(prefix === undefined ? {} : { tablePrefix: prefix }),
    ...(url.maxConnections === DEFAULT_CONNECTIONS ? {} : { maxConnections: url.maxConnections }),
    authSecretRef: { name: secret },
    ...(mode === 'Prefer' ? {} : { tls: { mode } }),
  };
  return { keys: { username: username ?? fillIn, password: password ?? fillIn }, todos, metadata: { [url.kind]: server } };
}
