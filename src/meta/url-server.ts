/**
 * Metadata URLs of SQL servers, as JuiceFS spells them:
 *
 *   postgres://[user[:password]@]host[:5432]/database[?options]
 *   mysql://[user[:password]@]([host[:3306]])/database[?options]     also unix(/path/of/socket), and host:port without brackets
 *
 * Without a user it is the one who runs the client. Options of both: table_prefix, max_open_conns, max_idle_time (seconds).
 * PostgreSQL: search_path (one schema), sslmode (disable, allow, prefer, require, verify-ca, verify-full; prefer where none
 * is given), sslrootcert, sslcert, sslkey, host (folder of a unix socket), connect_timeout (seconds).
 * MySQL: tls (false, true, skip-verify, preferred), timeout. Of ours, as the official client's drivers have no option for them: tls=verify-ca,
 * tls-ca-cert-file, tls-cert-file, tls-key-file (named as those of Redis).
 *
 * Source: the JuiceFS format, §19; options of the drivers it uses (pgx, go-sql-driver/mysql).
 */
import { decode, type Environment, invalid, passwordOf, type Query, splitUrl } from './url-parts.ts';

/** How a connection is made: in which order with and without TLS, and what of the server's certificate is checked. */
export interface ServerTls {
  /** `preferred`: without, where the server has none. `allowed`: with, where the server refuses the other. */
  readonly mode: 'off' | 'allowed' | 'preferred' | 'required';
  readonly verify: 'nothing' | 'authority' | 'name';
  /** Paths of PEM files. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

export interface ServerUrl {
  readonly kind: 'postgres' | 'mysql';
  readonly host: string;
  readonly port: number;
  /** A unix socket (MySQL), or the folder of one (PostgreSQL). */
  readonly socket?: string;
  readonly username?: string;
  readonly password?: string;
  readonly database: string;
  /** The schema of the tables (PostgreSQL). */
  readonly schema?: string;
  readonly tls: ServerTls;
  /** What all tables begin with: `jfs_`, or `jfs_<table_prefix>_`. */
  readonly tablePrefix: string;
  /** Connections at most. @default 16 */
  readonly maxConnections: number;
  /** A connection that is not used for so long is closed, ms. @default 300000 */
  readonly idleTime: number;
  /** How long making a connection may take, ms. @default 10000 */
  readonly connectTimeout: number;
}

/** What tables begin with. */
export function tablePrefixOf(query: Query, url: string): string {
  const prefix = query.take('table-prefix') ?? '';
  if (!/^\w*$/.test(prefix)) throw invalid(url, 'table_prefix may hold letters, digits and _ only.');
  return prefix === '' ? 'jfs_' : `jfs_${prefix}_`;
}

const sslModes: Readonly<Record<string, Pick<ServerTls, 'mode' | 'verify'>>> = {
  disable: { mode: 'off', verify: 'nothing' },
  allow: { mode: 'allowed', verify: 'nothing' },
  prefer: { mode: 'preferred', verify: 'nothing' },
  require: { mode: 'required', verify: 'nothing' },
  'verify-ca': { mode: 'required', verify: 'authority' },
  'verify-full': { mode: 'required', verify: 'name' },
};

const mysqlTls: Readonly<Record<string, Pick<ServerTls, 'mode' | 'verify'>>> = {
  false: { mode: 'off', verify: 'nothing' },
  preferred: { mode: 'preferred', verify: 'nothing' },
  'skip-verify': { mode: 'required', verify: 'nothing' },
  'verify-ca': { mode: 'required', verify: 'authority' },
  true: { mode: 'required', verify: 'name' },
};

/** Options of the official client's drivers that mean nothing here. */
const withoutMeaning: Readonly<Record<ServerUrl['kind'], readonly string[]>> = {
  postgres: [
    'application-name',
    'statement-cache-capacity',
    'default-query-exec-mode',
    'target-session-attrs',
    'client-encoding',
  ],
  mysql: ['charset', 'collation', 'parseTime', 'loc', 'interpolateParams', 'allowNativePasswords', 'maxAllowedPacket'].concat([
    'readTimeout',
    'writeTimeout',
    'allowCleartextPasswords',
    'checkConnLiveness',
    'clientFoundRows',
    'rejectReadOnly',
  ]),
};

function choose<T>(choices: Readonly<Record<string, T>>, option: string, value: string, url: string): T {
  const chosen = Object.hasOwn(choices, value) ? choices[value] : undefined;
  if (!chosen)
    throw invalid(url, `${option} should be one of ${Object.keys(choices).join(', ')}, it is ${JSON.stringify(value)}.`);
  return chosen;
}

function count(query: Query, name: string, otherwise: number, url: string): number {
  const text = query.take(name);
  if (text === undefined) return otherwise;
  if (!/^\d{1,6}$/.test(text))
    throw invalid(url, `${name.replaceAll('-', '_')} should be a number, it is ${JSON.stringify(text)}.`);
  return Number(text);
}

const postgresFiles = ['sslrootcert', 'sslcert', 'sslkey'] as const;
const mysqlFiles = ['tls-ca-cert-file', 'tls-cert-file', 'tls-key-file'] as const;

function tlsOf(kind: ServerUrl['kind'], query: Query, url: string): ServerTls {
  const names = kind === 'postgres' ? postgresFiles : mysqlFiles;
  const [caFile, certFile, keyFile] = names.map((name) => query.take(name));
  const files = { caFile, certFile, keyFile };
  if ((files.certFile === undefined) !== (files.keyFile === undefined))
    throw invalid(url, `${names[1]} and ${names[2]} go together, one of them is missing.`);
  const mode =
    kind === 'postgres'
      ? choose(sslModes, 'sslmode', query.take('sslmode') ?? 'prefer', url)
      : choose(mysqlTls, 'tls', query.take('tls') ?? (caFile || certFile ? 'true' : 'false'), url);
  if (kind === 'mysql' && mode.mode !== 'required' && (caFile || certFile))
    throw invalid(url, `${names[0]} and ${names[1]} need tls=true, verify-ca or skip-verify.`);
  return {
    ...mode,
    // As libpq: an authority that is named is asked.
    verify: mode.mode === 'required' && mode.verify === 'nothing' && files.caFile ? 'authority' : mode.verify,
    ...(files.caFile ? { caFile: files.caFile } : {}),
    ...(files.certFile && files.keyFile ? { certFile: files.certFile, keyFile: files.keyFile } : {}),
  };
}

interface Place {
  readonly host: string;
  readonly port: number;
  readonly socket?: string;
}

function placeOf(kind: ServerUrl['kind'], text: string, url: string): Place {
  const standard = kind === 'postgres' ? 5432 : 3306;
  let address = text;
  if (kind === 'mysql') {
    const network = /^(\w*)\((.*)\)$/.exec(text);
    if (network?.[1] === 'unix') return { host: '', port: 0, socket: network[2] ?? '' };
    if (network?.[1]) {
      if (network[1] !== 'tcp') throw invalid(url, `the network should be tcp or unix, it is ${JSON.stringify(network[1])}.`);
    }
    address = network?.[2] ?? text;
  }
  if (address.includes(',')) throw invalid(url, 'it names several hosts: name one, or a proxy that finds the primary.');
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:()]*))(?::(\d*))?$/.exec(address);
  if (!match) throw invalid(url, `${JSON.stringify(address)} is not host:port; an IPv6 address goes in square brackets.`);
  const port = match[3] ? Number(match[3]) : standard;
  if (port < 1 || port > 65_535) throw invalid(url, `the port should be 1 … 65535, it is ${match[3]}.`);
  return { host: match[1] ?? (match[2] || 'localhost'), port };
}

/** A password may hold a percent sign that stands for itself, as the official client takes it (MySQL). */
function decodePassword(kind: ServerUrl['kind'], text: string, url: string): string {
  if (kind === 'postgres') return decode(text, url);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Reads what follows `postgres://` or `mysql://`. Throws UserError InvalidMetaUrl or PasswordFile. */
export function parseServer(kind: ServerUrl['kind'], rest: string, url: string, environment: Environment): ServerUrl {
  const { query, target, ...credentials } = splitUrl(rest, url);
  const username = decode(credentials.user, url);
  const own = decodePassword(kind, credentials.password ?? '', url);
  const password = own || passwordOf(environment, url, ['META_PASSWORD']);
  // A socket's path in brackets holds slashes.
  const slash = target.lastIndexOf('/');
  const database = slash < 0 ? '' : decode(target.slice(slash + 1), url);
  if (database === '' || target.slice(slash).includes(')')) throw invalid(url, 'it names no database (…/database).');
  const place = placeOf(kind, target.slice(0, slash), url);
  const folder = kind === 'postgres' ? query.take('host') : undefined;
  const schema = kind === 'postgres' ? query.take('search-path') : undefined;
  if (schema?.includes(',')) throw invalid(url, 'search_path may name one schema only.');
  const tls = tlsOf(kind, query, url);
  const connectTimeout =
    kind === 'postgres' ? count(query, 'connect-timeout', 10, url) * 1000 : query.duration('timeout', 10_000);
  const result: ServerUrl = {
    kind,
    ...place,
    ...(folder?.startsWith('/') ? { socket: folder } : folder ? { host: folder } : {}),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    database,
    ...(schema ? { schema } : {}),
    tls,
    tablePrefix: tablePrefixOf(query, url),
    maxConnections: count(query, 'max-open-conns', 0, url) || 16,
    idleTime: count(query, 'max-idle-time', 300, url) * 1000,
    connectTimeout,
  };
  for (const name of [...withoutMeaning[kind], 'max-idle-conns', 'max-life-time']) query.take(name);
  query.end(
    kind === 'postgres'
      ? 'sslmode, sslrootcert, sslcert, sslkey, search_path, host, connect_timeout, table_prefix, max_open_conns, max_idle_time'
      : 'tls, tls-ca-cert-file, tls-cert-file, tls-key-file, timeout, table_prefix, max_open_conns, max_idle_time',
  );
  return result;
}

/** The server and its database as people are told of them; never a secret. */
export function describeServerUrl(url: ServerUrl): string {
  const host = url.host.includes(':') ? `[${url.host}]` : url.host;
  const place = url.socket === undefined ? `${host}:${url.port}` : url.socket;
  return url.kind === 'postgres'
    ? `postgres://${place}/${url.database}${url.schema === undefined ? '' : `?search_path=${url.schema}`}`
    : `mysql://${url.socket === undefined ? '' : 'unix'}(${place})/${url.database}`;
}
