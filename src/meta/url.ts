/**
 * Metadata URLs, as JuiceFS spells them:
 *
 *   redis://…, rediss://… and unix://…                      see url-redis.ts
 *   sqlite3://path[?table_prefix=name]                      the path as it is, relative or absolute
 *   postgres://… and mysql://…                              see url-server.ts
 *
 * A text without a scheme is a Redis address. A password that the URL does not hold is taken from the environment:
 * REDIS_PASSWORD (Redis only), META_PASSWORD, else the file that META_PASSWORD_FILE names.
 *
 * Source: the JuiceFS format, §5.5 and §19. Invariant: no error and no `describe` carries a password.
 */
import { UserError } from '../lib/errors.ts';
import { type Environment, HINT, invalid, openQuery } from './url-parts.ts';
import { describeRedisUrl, parseRedis, type RedisUrl } from './url-redis.ts';
import { describeServerUrl, parseServer, type ServerUrl, tablePrefixOf } from './url-server.ts';

export { redactUrl } from './url-parts.ts';
export type { Environment } from './url-parts.ts';
export type { RedisUrl } from './url-redis.ts';

export interface SqliteUrl {
  readonly kind: 'sqlite';
  readonly path: string;
  /** What all tables begin with: `jfs_`, or `jfs_<table_prefix>_`. */
  readonly tablePrefix: string;
}

export type MetaUrl = RedisUrl | SqliteUrl | ServerUrl;

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
  return url.kind === 'redis' ? describeRedisUrl(url) : describeServerUrl(url);
}
