/**
 * Metadata URLs, as JuiceFS spells them:
 *
 *   redis://[[user]:password@]host[:6379][/db][?options]    rediss:// with TLS
 *   unix://[[user]:password@]/path/of/socket[?db=n]         Redis on a unix socket
 *   sqlite3://path[?table_prefix=name]                      the path as it is, relative or absolute
 *   postgres://… and mysql://…                              see url-server.ts
 *
 * A text without a scheme is a Redis address. A password that the URL does not hold is taken from the environment:
 * REDIS_PASSWORD (Redis only), META_PASSWORD, else the file that META_PASSWORD_FILE names.
 *
 * Source: the JuiceFS format, §5.5 and §19. Invariant: no error and no `describe` carries a password.
 */
import { UserError } from '../lib/errors.ts';
import { decode, type Environment, HINT, invalid, openQuery, passwordOf } from './url-parts.ts';
import { describeServerUrl, parseServer, type ServerUrl, tablePrefixOf } from './url-server.ts';

export { redactUrl } from './url-parts.ts';
export type { Environment } from './url-parts.ts';

export interface RedisTls {
  /** @default the host of the URL */
  readonly serverName?: string;
  readonly insecureSkipVerify: boolean;
  /** Paths of PEM files. */
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly caFile?: string;
}

export interface RedisUrl {
  readonly kind: 'redis';
  readonly host: string;
  readonly port: number;
  /** Path of the unix socket; host and port mean nothing then. */
  readonly socket?: string;
  readonly database: number;
  readonly username?: string;
  readonly password?: string;
  readonly tls?: RedisTls;
  /** How long an answer may take, ms. @default 30000 */
  readonly readTimeout: number;
  /** How long a request may take to be sent, ms. @default 5000 */
  readonly writeTimeout: number;
  /** Pause before the first and the longest before a later attempt, ms. @default 20 and 10000 */
  readonly minRetryBackoff: number;
  readonly maxRetryBackoff: number;
}

export interface SqliteUrl {
  readonly kind: 'sqlite';
  readonly path: string;
  /** What all tables begin with: `jfs_`, or `jfs_<table_prefix>_`. */
  readonly tablePrefix: string;
}

export type MetaUrl = RedisUrl | SqliteUrl | ServerUrl;

function parseHost(text: string, url: string): { readonly host: string; readonly port: number } {
  if (text.includes(','))
    throw invalid(url, 'it names several hosts, and neither Redis Sentinel nor Redis Cluster is supported yet: name one host.');
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:]*))(?::(\d*))?$/.exec(text);
  if (!match) throw invalid(url, `${JSON.stringify(text)} is not host:port; an IPv6 address goes in square brackets.`);
  const port = match[3] ? Number(match[3]) : 6379;
  if (port < 1 || port > 65_535) throw invalid(url, `the port should be 1 … 65535, it is ${match[3]}.`);
  return { host: match[1] ?? (match[2] || 'localhost'), port };
}

function parseDatabase(text: string, url: string): number {
  if (!/^\d{0,6}$/.test(text))
    throw invalid(url, `the database should be a number (redis://host:6379/1), it is ${JSON.stringify(text)}.`);
  return Number(text);
}

function parseRedis(scheme: string, rest: string, url: string, environment: Environment): RedisUrl {
  const question = rest.indexOf('?', rest.lastIndexOf('@') + 1);
  const address = question < 0 ? rest : rest.slice(0, question);
  const query = openQuery(question < 0 ? '' : rest.slice(question + 1), url);
  // The last @ ends the credentials, so that a password with an @ or a slash in it is taken as it is meant.
  const at = address.lastIndexOf('@');
  const credentials = at < 0 ? '' : address.slice(0, at);
  const target = address.slice(at + 1);
  const colon = credentials.indexOf(':');
  const username = decode(colon < 0 ? credentials : credentials.slice(0, colon), url);
  const password =
    (colon < 0 ? '' : decode(credentials.slice(colon + 1), url)) ||
    passwordOf(environment, url, ['REDIS_PASSWORD', 'META_PASSWORD']);

  if (target === '') throw invalid(url, 'it names no host.');
  const slash = target.indexOf('/');
  const place =
    scheme === 'unix'
      ? { host: '', port: 0, socket: decode(target, url), database: parseDatabase(query.take('db') ?? '', url) }
      : {
          ...parseHost(slash < 0 ? target : target.slice(0, slash), url),
          database: parseDatabase(query.take('db') ?? (slash < 0 ? '' : target.slice(slash + 1).replace(/\/$/, '')), url),
        };

  const skip = query.take('insecure-skip-verify');
  const files = { cert: query.take('tls-cert-file'), key: query.take('tls-key-file'), ca: query.take('tls-ca-cert-file') };
  const serverName = query.take('tls-server-name');
  if ((files.cert === undefined) !== (files.key === undefined))
    throw invalid(url, 'tls-cert-file and tls-key-file go together, one of them is missing.');
  const result: RedisUrl = {
    kind: 'redis',
    ...place,
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(scheme === 'rediss'
      ? {
          tls: {
            insecureSkipVerify: skip !== undefined,
            ...(serverName ? { serverName } : {}),
            ...(files.cert && files.key ? { certFile: files.cert, keyFile: files.key } : {}),
            ...(files.ca ? { caFile: files.ca } : {}),
          },
        }
      : {}),
    readTimeout: query.duration('read-timeout', 30_000),
    writeTimeout: query.duration('write-timeout', 5000),
    minRetryBackoff: query.duration('min-retry-backoff', 20),
    maxRetryBackoff: query.duration('max-retry-backoff', 10_000),
  };
  query.end(
    'db, read-timeout, write-timeout, min-retry-backoff, max-retry-backoff, insecure-skip-verify, tls-cert-file, tls-key-file, tls-ca-cert-file, tls-server-name',
  );
  return result;
}

/** Options of the official client's SQLite driver that ask for what we do anyway. */
const sqliteDriverOptions = ['cache', '-journal', '-journal-mode', '-timeout', '-busy-timeout'];
const sqlPoolOptions = ['max-open-conns', 'max-idle-conns', 'max-idle-time', 'max-life-time'];

function parseSqlite(rest: string, url: string): SqliteUrl {
  const question = rest.indexOf('?');
  const path = question < 0 ? rest : rest.slice(0, question);
  if (path === '' || path.endsWith('/')) throw invalid(url, 'it names no file.');
  const query = openQuery(question < 0 ? '' : rest.slice(question + 1), url);
  const tablePrefix = tablePrefixOf(query, url);
  for (const name of [...sqliteDriverOptions, ...sqlPoolOptions]) query.take(name);
  query.end('table_prefix');
  return { kind: 'sqlite', path, tablePrefix };
}

/**
 * Reads a metadata URL. `environment` (process.env) is where a missing password of a Redis is looked for.
 * Throws UserError InvalidMetaUrl, UnsupportedMetaUrl or PasswordFile.
 */
export function parseMetaUrl(url: string, environment: Environment = {}): MetaUrl {
  if (url.trim() === '') throw invalid(url, 'it is empty.');
  const schemeEnd = url.indexOf('://');
  const scheme = schemeEnd < 0 ? 'redis' : url.slice(0, schemeEnd);
  const rest = schemeEnd < 0 ? url : url.slice(schemeEnd + 3);
  if (schemeEnd < 0 && /^[./~]/.test(url)) throw invalid(url, `it is a path; a SQLite database is named sqlite3://${url}.`);
  switch (scheme) {
    case 'redis':
    case 'rediss':
    case 'unix':
      return parseRedis(scheme, rest, url, environment);
    case 'sqlite3':
      return parseSqlite(rest, url);
    case 'postgres':
    case 'mysql':
      return parseServer(scheme, rest, url, environment);
    case 'sqlite':
      throw invalid(url, 'the scheme is spelled sqlite3://.');
    case 'postgresql':
      throw invalid(url, 'the scheme is spelled postgres://.');
    default:
      throw new UserError(
        'UnsupportedMetaUrl',
        `There is no metadata engine for ${JSON.stringify(`${scheme}://`)} here; there are redis://, rediss://, unix://, postgres://, mysql:// and sqlite3://.`,
        { hint: HINT },
      );
  }
}

/** The engine as people are told of it; never a secret. */
export function describeMetaUrl(url: MetaUrl): string {
  if (url.kind === 'sqlite') return `sqlite3://${url.path}`;
  if (url.kind !== 'redis') return describeServerUrl(url);
  if (url.socket !== undefined) return `unix://${url.socket}?db=${url.database}`;
  const host = url.host.includes(':') ? `[${url.host}]` : url.host;
  return `${url.tls ? 'rediss' : 'redis'}://${host}:${url.port}/${url.database}`;
}
