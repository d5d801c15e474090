/**
 * Metadata URLs of Redis, as JuiceFS spells them:
 *
 *   redis://[[user]:password@]host[:6379][/db][?options]          one server, or any one node of a Cluster; rediss:// with TLS
 *   redis://[[user]:password@]MASTER,s1,s2:26379[/db][?options]   the master of that name, which these Sentinels know
 *   redis://[[user]:password@]h1:6379,h2:6379[/db][?options]      a Cluster; `db` is the volume's hash tag then
 *   unix://[[user]:password@]/path/of/socket[?db=n]               one server on a unix socket
 *
 * Several hosts mean Sentinel where the first comma stands before the first colon. The Sentinels' own password comes from the
 * environment, SENTINEL_PASSWORD, or from `sentinel-password` in the query, which is ours.
 *
 * Source: the JuiceFS format, §5.5 and §19, and the documentation of JuiceFS 1.4 (client-cache). `wait-replicas` is ours.
 */
import { decode, type Environment, invalid, passwordOf, type Query, splitUrl } from './url-parts.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface RedisTls {
  /** @default the host of the connection */
  readonly serverName?: string;
  readonly insecureSkipVerify: boolean;
  /** Paths of PEM files. */
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly caFile?: string;
}

/** What is kept of a volume's names and attributes until somebody changes them. */
export interface ClientCache {
  /** Entries at most. @default 12800 */
  readonly size: number;
  /** How long anything is kept at most, ms. @default 60000 */
  readonly expire: number;
  /** Names of the root directory that are looked up at the start. @default 0 */
  readonly preload?: number;
}

export interface RedisUrl {
  readonly kind: 'redis';
  /** The server; meaningless with `sentinel`, the first of `cluster` with that. */
  readonly host: string;
  readonly port: number;
  /** The servers are found by Sentinels. */
  readonly sentinel?: { readonly master: string; readonly nodes: readonly Address[]; readonly password?: string };
  /** Some nodes of a Cluster. */
  readonly cluster?: readonly Address[];
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
  /** Clients that only read ask a replica, where Sentinel or Cluster knows one. @default false */
  readonly readReplica?: boolean;
  /** A change is answered when so many replicas have it. @default 0 */
  readonly waitReplicas?: number;
  readonly clientCache?: ClientCache;
}

const MAX_NODES = 64;
const MAX_REPLICAS = 8;

function parseAddress(text: string, url: string, port: number): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^[\]:,]*))(?::(\d*))?$/.exec(text);
  if (!match) throw invalid(url, `${JSON.stringify(text)} is not host:port; an IPv6 address goes in square brackets.`);
  const found = match[3] ? Number(match[3]) : port;
  if (found < 1 || found > 65_535) throw invalid(url, `the port should be 1 … 65535, it is ${match[3]}.`);
  return { host: match[1] ?? (match[2] || 'localhost'), port: found };
}

/** One server, Sentinels or a Cluster; told apart as JuiceFS does it. */
function parseHosts(
  text: string,
  url: string,
  environment: Environment,
): Pick<RedisUrl, 'host' | 'port' | 'sentinel' | 'cluster'> {
  const parts = text.split(',');
  if (parts.length === 1) return parseAddress(text, url, 6379);
  const [first = '', ...others] = parts;
  if (parts.includes(''))
    throw invalid(
      url,
      `there is nothing between two of the commas (or before the first, or behind the last) of ${JSON.stringify(text)}.`,
    );
  if (parts.length > MAX_NODES) throw invalid(url, `it names ${parts.length} hosts; ${MAX_NODES} are taken at most.`);
  if (!text.includes(':'))
    throw invalid(
      url,
      'it names several hosts and no port, so it is not clear what they are: Sentinels are given as redis://MASTER,host1,host2:26379/1, the nodes of a Cluster as redis://host1:6379,host2:6379/1.',
    );
  if (!first.includes(':')) {
    // The port of the last one stands for all that have none.
    const last = parseAddress(others.at(-1) ?? '', url, 26_379);
    const nodes = others.map((each) => parseAddress(each, url, last.port));
    const password = environment['SENTINEL_PASSWORD'];
    return { host: '', port: 0, sentinel: { master: first, nodes, ...(password ? { password } : {}) } };
  }
  const cluster = parts.map((each) => parseAddress(each, url, 6379));
  return { ...(cluster[0] as Address), cluster };
}

function parseDatabase(text: string, url: string): number {
  if (!/^\d{0,6}$/.test(text))
    throw invalid(url, `the database should be a number (redis://host:6379/1), it is ${JSON.stringify(text)}.`);
  return Number(text);
}

function takeNumber(query: Query, url: string, name: string, min: number, max: number): number | undefined {
  const text = query.take(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < min || value > max)
    throw invalid(url, `${name} should be a number from ${min} to ${max}, it is ${JSON.stringify(text)}.`);
  return value;
}

function parseTls(query: Query, url: string): RedisTls {
  const skip = query.take('insecure-skip-verify');
  const files = { cert: query.take('tls-cert-file'), key: query.take('tls-key-file'), ca: query.take('tls-ca-cert-file') };
  const serverName = query.take('tls-server-name');
  if ((files.cert === undefined) !== (files.key === undefined))
    throw invalid(url, 'tls-cert-file and tls-key-file go together, one of them is missing.');
  return {
    insecureSkipVerify: skip !== undefined,
    ...(serverName ? { serverName } : {}),
    ...(files.cert && files.key ? { certFile: files.cert, keyFile: files.key } : {}),
    ...(files.ca ? { caFile: files.ca } : {}),
  };
}

function parseClientCache(query: Query, url: string): Pick<RedisUrl, 'clientCache'> {
  const on = query.take('client-cache');
  const size = takeNumber(query, url, 'client-cache-size', 1, 10_000_000) ?? 12_800;
  const expire = query.duration('client-cache-expire', 60_000);
  const preload = takeNumber(query, url, 'client-cache-preload', 0, 10_000_000);
  return on === undefined || on === 'false' ? {} : { clientCache: { size, expire, ...(preload ? { preload } : {}) } };
}

function parseReads(query: Query, url: string): Pick<RedisUrl, 'readReplica'> {
  const route = query.take('route-read');
  if (route !== undefined && !['replica', 'random', 'latency', 'primary', 'master'].includes(route))
    throw invalid(
      url,
      `route-read should be replica or master (random and latency count as replica), it is ${JSON.stringify(route)}.`,
    );
  return route === undefined || route === 'primary' || route === 'master' ? {} : { readReplica: true };
}

/** Reads a URL without its scheme, which is `redis`, `rediss` or `unix`. Throws UserError InvalidMetaUrl or PasswordFile. */
export function parseRedis(scheme: string, rest: string, url: string, environment: Environment): RedisUrl {
  const { query, target, ...credentials } = splitUrl(rest, url);
  const username = decode(credentials.user, url);
  const password = decode(credentials.password ?? '', url) || passwordOf(environment, url, ['REDIS_PASSWORD', 'META_PASSWORD']);

  if (target === '') throw invalid(url, 'it names no host.');
  const slash = target.indexOf('/');
  const place =
    scheme === 'unix'
      ? { host: '', port: 0, socket: decode(target, url), database: parseDatabase(query.take('db') ?? '', url) }
      : {
          ...parseHosts(slash < 0 ? target : target.slice(0, slash), url, environment),
          database: parseDatabase(query.take('db') ?? (slash < 0 ? '' : target.slice(slash + 1).replace(/\/$/, '')), url),
        };
  const tls = parseTls(query, url);
  const sentinelPassword = query.take('sentinel-password');
  if (sentinelPassword !== undefined && !('sentinel' in place && place.sentinel))
    throw invalid(url, 'it has a sentinel-password, and names no Sentinels.');
  const waitReplicas = takeNumber(query, url, 'wait-replicas', 0, MAX_REPLICAS);
  const result: RedisUrl = {
    kind: 'redis',
    ...place,
    ...('sentinel' in place && place.sentinel && sentinelPassword
      ? { sentinel: { ...place.sentinel, password: sentinelPassword } }
      : {}),
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    ...(scheme === 'rediss' ? { tls } : {}),
    readTimeout: query.duration('read-timeout', 30_000),
    writeTimeout: query.duration('write-timeout', 5000),
    minRetryBackoff: query.duration('min-retry-backoff', 20),
    maxRetryBackoff: query.duration('max-retry-backoff', 10_000),
    ...parseReads(query, url),
    ...(waitReplicas ? { waitReplicas } : {}),
    ...parseClientCache(query, url),
  };
  query.end(
    'db, read-timeout, write-timeout, min-retry-backoff, max-retry-backoff, insecure-skip-verify, tls-cert-file, tls-key-file, tls-ca-cert-file, tls-server-name, route-read, wait-replicas, sentinel-password, client-cache, client-cache-size, client-cache-expire, client-cache-preload',
  );
  return result;
}

/** host:port, with brackets where they are needed. */
export function describeAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** The place as people are told of it; never a secret. */
export function describeRedisUrl(url: RedisUrl): string {
  if (url.socket !== undefined) return `unix://${url.socket}?db=${url.database}`;
  const hosts = url.sentinel
    ? [url.sentinel.master, ...url.sentinel.nodes.map(describeAddress)]
    : (url.cluster ?? [url]).map(describeAddress);
  return `${url.tls ? 'rediss' : 'redis'}://${hosts.join(',')}/${url.database}`;
}
