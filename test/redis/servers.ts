/**
 * Redis as it is run to survive the loss of a server: a master and replicas under Sentinels, and a Cluster. All on loopback,
 * nothing saved, with times so short that a failover takes two or three seconds.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePort, type Server, start, startRedis } from '../servers.ts';
import { onPath } from '../tools.ts';
import { makeCertificates } from './guarded.ts';

type RedisServer = Awaited<ReturnType<typeof startRedis>>;

/** What they all have in common: a lost master is noticed after so long, ms. */
const DOWN_MS = 1000;
/** A replica asks for the whole data soon, and syncs without waiting for others. */
const REPLICATION = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', '--repl-timeout', '10'];

/** Waits until `check` answers something true; throws after a minute and a half, with what was waited for. */
export async function until<T>(what: string, check: () => Promise<T | undefined | false>): Promise<T> {
  for (let attempt = 0; attempt < 1800; attempt++) {
    const found = await check().catch(() => undefined);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited in vain for ${what}`);
}

/** A client for one question to one server. */
export async function ask<T>(port: number, question: (redis: Redis) => Promise<T>, options: object = {}): Promise<T> {
  const redis = new Redis({
    host: '127.0.0.1',
    port,
    lazyConnect: true,
    retryStrategy: () => null,
    commandTimeout: 2000,
    enableReadyCheck: false,
    ...options,
  });
  redis.on('error', () => {});
  try {
    await redis.connect();
    return await question(redis);
  } finally {
    redis.disconnect();
  }
}

/** PEM files: of an authority, and of a certificate that servers and clients show. */
export type Certificates = ReturnType<typeof makeCertificates>;

/** How servers of a group are started, and asked: over TLS, where there are certificates. */
interface Manner {
  readonly files: Certificates | undefined;
  /** Options of a server that keeps data. */
  readonly tls: readonly string[];
  readonly ask: typeof ask;
  start(extra: readonly string[]): Promise<RedisServer>;
  /** What stands before and behind a metadata URL. */
  url(place: string): string;
  remove(): void;
}

function mannerOf(isSecure: boolean): Manner {
  if (!isSecure) return { files: undefined, tls: [], ask, start: startRedis, url: (place) => `redis://${place}`, remove() {} };
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-redis-tls-'));
  const files = makeCertificates(folder);
  const pem = { ca: readFileSync(files.ca), cert: readFileSync(files.cert), key: readFileSync(files.key) };
  const tls = [
    '--tls-cert-file',
    files.cert,
    '--tls-key-file',
    files.key,
    '--tls-ca-cert-file',
    files.ca,
    '--tls-replication',
    'yes',
  ];
  const query = `tls-ca-cert-file=${files.ca}&tls-cert-file=${files.cert}&tls-key-file=${files.key}`;
  return {
    files,
    tls,
    ask: (port, question, options = {}) => ask(port, question, { tls: pem, ...options }),
    start: (extra) => startRedis((_folder, port) => ['--port', '0', '--tls-port', String(port), ...tls, ...extra]),
    url: (place) => `rediss://${place}?${query}`,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface Group extends AsyncDisposable {
  /** Of a group that speaks TLS and wants certificates of its clients. */
  readonly files?: Certificates | undefined;
  /** All servers that keep data, in the order they were started. */
  readonly servers: readonly RedisServer[];
  /** The metadata URL of a volume of its own; options go behind it. */
  url(database: number): string;
  /** The server that is the master of the volume now. */
  master(database?: number): Promise<RedisServer>;
  /** Its replicas that are in step. */
  replicas(database?: number): Promise<readonly RedisServer[]>;
  /** Starts a new replica of `master` in the place of a server that was killed; with Sentinels. */
  replace?(master: RedisServer): Promise<void>;
  stop(): Promise<void>;
}

/** SIGKILL also ends those that are stopped. */
async function stopAll(servers: readonly Server[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop('SIGKILL')));
}

async function linked(servers: readonly RedisServer[], master: RedisServer, manner: Manner): Promise<readonly RedisServer[]> {
  const found: RedisServer[] = [];
  for (const server of servers) {
    const info = await manner.ask(server.port, (redis) => redis.info('replication')).catch(() => '');
    if (info.includes(`master_port:${master.port}\r`) && info.includes('master_link_status:up')) found.push(server);
  }
  return found;
}

const NAME = 'volumes';

/** Options of a command line as lines of a configuration. */
const directives = (options: readonly string[]): string =>
  options
    .map((each) => (each.startsWith('--') ? `\n${each.slice(2)}` : ` ${each}`))
    .join('')
    .trimStart() + '\n';

/** A master, `replicas` replicas and three Sentinels. `extra` is for all servers that keep data. `secure`: all over TLS. */
export async function startSentinels(replicas = 1, extra: readonly string[] = [], secure = false): Promise<Group> {
  const manner = mannerOf(secure);
  const common = [...REPLICATION, '--databases', '5000', ...extra];
  const first = await manner.start(common);
  const servers = [first];
  const sentinels: Server[] = [];
  try {
    for (let n = 0; n < replicas; n++) servers.push(await manner.start([...common, '--replicaof', `127.0.0.1 ${first.port}`]));
    const binary = onPath('redis-server') ?? 'redis-server';
    for (let n = 0; n < 3; n++)
      sentinels.push(
        await start('sentinel', binary, (folder, port) => {
          const config = join(folder, 'sentinel.conf');
          writeFileSync(
            config,
            `${secure ? `port 0\ntls-port ${port}` : `port ${port}`}\nbind 127.0.0.1\n${directives(manner.tls)}sentinel monitor ${NAME} 127.0.0.1 ${first.port} 2\n` +
              `sentinel down-after-milliseconds ${NAME} ${DOWN_MS}\nsentinel failover-timeout ${NAME} 3000\n`,
          );
          return [config, '--sentinel'];
        }),
      );
    for (const { port } of sentinels)
      await until('Sentinels that know each other', async () => {
        const [[, , , , , ...fields]] = (await manner.ask(port, (redis) => redis.call('SENTINEL', 'masters'))) as [string[]];
        const value = (name: string): number => Number(fields[fields.indexOf(name) + 1]);
        return value('num-other-sentinels') === 2 && value('num-slaves') === replicas;
      });
    await until('replicas in step', async () => (await linked(servers, first, manner)).length === replicas);
  } catch (error) {
    await stopAll([...servers, ...sentinels]);
    manner.remove();
    throw error;
  }
  const master = (): Promise<RedisServer> =>
    until('a master', async () => {
      const [, port] = (await manner.ask(sentinels[0]?.port ?? 0, (redis) =>
        redis.call('SENTINEL', 'get-master-addr-by-name', NAME),
      )) as [string, string];
      return servers.find((server) => server.port === Number(port));
    });
  const stop = (): Promise<void> => stopAll([...servers, ...sentinels]).finally(() => manner.remove());
  return {
    servers,
    url: (database) => manner.url(`${NAME},${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${database}`),
    files: manner.files,
    master,
    replicas: async () => linked(servers, await master(), manner),
    async replace({ port }) {
      servers.push(await manner.start([...common, '--replicaof', `127.0.0.1 ${port}`]));
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A Cluster of three masters, each with `replicas` replicas. The URL names one node only, or with `several` three. */
export async function startCluster(replicas = 0, extra: readonly string[] = [], several = true, secure = false): Promise<Group> {
  const manner = mannerOf(secure);
  const servers: RedisServer[] = [];
  const busPorts: number[] = [];
  const masters = 3;
  const stop = (): Promise<void> => stopAll(servers).finally(() => manner.remove());
  try {
    for (let n = 0; n < masters * (1 + replicas); n++) {
      const bus = await freePort();
      busPorts.push(bus);
      const cluster = [
        '--cluster-enabled',
        'yes',
        ...(secure ? ['--tls-cluster', 'yes'] : []),
        '--cluster-port',
        String(bus),
        '--cluster-node-timeout',
        String(DOWN_MS),
      ];
      servers.push(await manner.start([...REPLICATION, ...cluster, ...extra]));
    }
    const ids: string[] = [];
    for (const [n, { port }] of servers.entries())
      await manner.ask(port, async (redis) => {
        ids.push(String(await redis.call('CLUSTER', 'MYID')));
        await redis.call('CLUSTER', 'SET-CONFIG-EPOCH', n + 1);
        const from = Math.ceil((16_384 / masters) * n);
        if (n < masters)
          await redis.call('CLUSTER', 'ADDSLOTSRANGE', from, Math.min(16_383, Math.ceil((16_384 / masters) * (n + 1)) - 1));
        if (n > 0) await redis.call('CLUSTER', 'MEET', '127.0.0.1', servers[0]?.port ?? 0, busPorts[0] ?? 0);
      });
    for (const { port } of servers)
      await until('nodes that know each other', async () =>
        (await manner.ask(port, (redis) => redis.call('CLUSTER', 'INFO').then(String))).includes(
          `cluster_known_nodes:${servers.length}\r`,
        ),
      );
    for (const [n, { port }] of servers.entries())
      if (n >= masters)
        await until('a replica that has a master', async () =>
          manner.ask(port, (redis) => redis.call('CLUSTER', 'REPLICATE', ids[n % masters] ?? '')).then(() => true),
        );
    for (const { port } of servers)
      await until('a Cluster that is whole', async () =>
        (await manner.ask(port, (redis) => redis.call('CLUSTER', 'INFO').then(String))).includes('cluster_state:ok'),
      );
    for (const [n, server] of servers.entries())
      if (n < masters) await until('replicas in step', async () => (await linked(servers, server, manner)).length === replicas);
  } catch (error) {
    await stop();
    throw error;
  }
  /** Asks all, for some may be gone or asleep: who believes itself master of the slot and has the newest configuration. */
  const master = (database = 0): Promise<RedisServer> =>
    until('a master of the slot', async () => {
      let best: { readonly epoch: number; readonly server: RedisServer } | undefined;
      for (const server of servers) {
        const answer = await manner
          .ask(
            server.port,
            async (redis) => {
              const slot = Number(await redis.call('CLUSTER', 'KEYSLOT', `{${database}}`));
              return [slot, String(await redis.call('CLUSTER', 'NODES'))] as const;
            },
            { commandTimeout: 500, connectTimeout: 500 },
          )
          .catch(() => undefined);
        const [slot, text] = answer ?? [0, ''];
        for (const line of text.split('\n').filter((each) => each.includes('myself,master'))) {
          const [, , , , , , epoch, , ...ranges] = line.split(' ');
          const has = ranges.some((range) => {
            const [from, to = from] = range.split('-').map(Number);
            return from !== undefined && to !== undefined && from <= slot && slot <= to;
          });
          if (has && Number(epoch) > (best?.epoch ?? -1)) best = { epoch: Number(epoch), server };
        }
      }
      return best?.server;
    });
  const named = servers.slice(0, several ? 3 : 1);
  return {
    servers,
    url: (database) => manner.url(`${named.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${database}`),
    files: manner.files,
    master,
    replicas: async (database) => linked(servers, await master(database), manner),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
