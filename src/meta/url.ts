/**
 * Metadata URLs, as JuiceFS spells them:
 *
 *   redis://[[user]:password@]host[:6379][/db][?options]    rediss:// with TLS
 *   unix://[[user]:password@]/path/of/socket[?db=n]         Redis on a unix socket
 *   sqlite3://path[?table_prefix=name]                      the path as it is, relative or absolute
 *
 * A text without a scheme is a Redis address. A password that the URL does not hold is taken from the environment:
 * REDIS_PASSWORD, META_PASSWORD, else the file that META_PASSWORD_FILE names.
 *
 * Source: the JuiceFS format, §5.5 and §19. Invariant: no error and no `describe` carries a password.
 */
import { readFileSync } from 'node:fs';
import { messageOf, UserError } from '../lib/errors.ts';

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

export type MetaUrl = RedisUrl | SqliteUrl;

/** What passwords are taken from beside the URL. */
export type Environment = Readonly<Record<string, string | undefined>>;

const HINT = 'Give it as redis://host:6379/1, rediss://…, or sqlite3:///path/of/file.db.';

function invalid(url: string, why: string): UserError {
  return new UserError('InvalidMetaUrl', `The metadata URL ${JSON.stringify(redactUrl(url))} cannot be used: ${why}`, {
    hint: HINT,
  });
}

/**
 * The URL without its password, and without query members that may be one. Any text may be given; a text that is no URL
 * loses whatever stands between its first colon and its last `@`.
 */
export function redactUrl(url: string): string {
  const query = /([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*/gi;
  const at = url.lastIndexOf('@');
  const schemeEnd = url.indexOf('://');
  const start = schemeEnd < 0 ? 0 : schemeEnd + 3;
  const colon = url.indexOf(':', start);
  const open = at < 0 || colon < 0 || colon > at ? url : `${url.slice(0, colon)}:****${url.slice(at)}`;
  return open.replace(query, '$1****');
}

function decode(text: string, url: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(url, 'it holds a percent sign that is not followed by two hexadecimal digits (write %25).');
  }
}

const units: Readonly<Record<string, number>> = { ns: 1e-6, us: 1e-3, µs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a Go duration ("1m30s", "20ms"), or of a number of seconds. Undefined where it is neither. */
function parseDuration(text: string): number | undefined {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)].reduce(
    (sum, [, number, unit]) => sum + Number(number) * (units[unit ?? ''] ?? 0),
    0,
  );
}

/** Options of the official client that change how it caches and where it reads; ours always asks the master. */
const withoutMeaning = new Set([
  'route-read',
  'client-cache',
  'client-cache-size',
  'client-cache-expire',
  'client-cache-preload',
]);

function passwordOf(environment: Environment, url: string): string | undefined {
  const direct = environment['REDIS_PASSWORD'] || environment['META_PASSWORD'];
  if (direct) return direct;
  const file = environment['META_PASSWORD_FILE'];
  if (!file) return undefined;
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch (cause) {
    throw new UserError(
      'PasswordFile',
      `The file that META_PASSWORD_FILE names cannot be read for ${redactUrl(url)}: ${messageOf(cause)}`,
      { cause, hint: 'Correct META_PASSWORD_FILE, or unset it where the database needs no password.' },
    );
  }
}

interface Query {
  take(name: string): string | undefined;
  duration(name: string, otherwise: number): number;
  /** Throws where a member is left that nobody took. */
  end(known: string): void;
}

function openQuery(text: string, url: string): Query {
  const members = new Map([...new URLSearchParams(text)].map(([name, value]) => [name.replaceAll('_', '-'), value]));
  const take = (name: string): string | undefined => {
    const value = members.get(name);
    members.delete(name);
    return value || undefined;
  };
  return {
    take,
    duration(name, otherwise) {
      const value = take(name);
      if (value === undefined) return otherwise;
      const ms = parseDuration(value);
      if (ms === undefined) throw invalid(url, `${name} should be a duration like 20ms or 30s, it is ${JSON.stringify(value)}.`);
      return ms;
    },
    end(known) {
      const left = [...members.keys()].filter((name) => !withoutMeaning.has(name));
      if (left.length > 0) throw invalid(url, `it has an unknown option "${left[0]}"; known are ${known}.`);
    },
  };
}

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
  const password = (colon < 0 ? '' : decode(credentials.slice(colon + 1), url)) || passwordOf(environment, url);

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
  const prefix = query.take('table-prefix') ?? '';
  for (const name of [...sqliteDriverOptions, ...sqlPoolOptions]) query.take(name);
  query.end('table_prefix');
  if (!/^\w*$/.test(prefix)) throw invalid(url, 'table_prefix may hold letters, digits and _ only.');
  return { kind: 'sqlite', path, tablePrefix: prefix === '' ? 'jfs_' : `jfs_${prefix}_` };
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
  switch (scheme) {
    case 'redis':
    case 'rediss':
    case 'unix':
      return parseRedis(scheme, rest, url, environment);
    case 'sqlite3':
      return parseSqlite(rest, url);
    case 'sqlite':
      throw invalid(url, 'the scheme is spelled sqlite3://.');
    default:
      throw new UserError(
        'UnsupportedMetaUrl',
        `There is no metadata engine for ${JSON.stringify(`${scheme}://`)} here; there are redis://, rediss://, unix:// and sqlite3://.`,
        { hint: HINT },
      );
  }
}

/** The engine as people are told of it; never a secret. */
export function describeMetaUrl(url: MetaUrl): string {
  if (url.kind === 'sqlite') return `sqlite3://${url.path}`;
  if (url.socket !== undefined) return `unix://${url.socket}?db=${url.database}`;
  const host = url.host.includes(':') ? `[${url.host}]` : url.host;
  return `${url.tls ? 'rediss' : 'redis'}://${host}:${url.port}/${url.database}`;
}
