/**
 * The metadata engines that every suite of this folder runs over, each on a real database of its own. On a server of
 * PostgreSQL or MariaDB databases are sets of tables with a prefix of their own, as `table_prefix` makes them.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { startGuarded } from '../redis/guarded.ts';
import { type Group, startCluster, startSentinels } from '../redis/servers.ts';
import { startMariadb, startPostgres, startRedis } from '../servers.ts';

/** Where engines come from. */
export interface Database {
  /** What a uid, a device number or the index of a chunk may be at most: SQL servers keep them in 31 bits. */
  readonly largest: number;
  /** Bytes of the value of an extended attribute at most: a BLOB of MySQL holds one less than the kernel takes. */
  readonly largestValue: number;
  /** How often a test may begin with an empty database: a server makes some twenty tables for one. */
  readonly runs: number;
  /** The metadata URL of a database that nobody has used yet. */
  newUrl(): string;
}

/** Opens the engine of a URL. */
export const openUrl = (url: string): Promise<MetaEngine> => openEngine(url, { environment: {} });

const DATABASES = 5000;
const ROOMY = { largest: 2 ** 32 - 1, largestValue: 65_536, runs: 150 };

/**
 * The further ways in which Redis is run. What differs is how its server is found and followed, and the names of keys; so
 * most suites run over them only where JUICEPOD_TEST_REDIS=all asks for it.
 */
const groups: readonly (readonly [string, () => Promise<RedisGroup>])[] = [
  ['Redis Sentinel', () => startSentinels(1)],
  ['Redis Sentinel with replicas waited for', async () => withOption(await startSentinels(1), 'wait-replicas=1')],
  ['Redis Cluster', () => startCluster(0)],
  ['Redis Cluster with a cache of the client', async () => withOption(await startCluster(0), 'client-cache=true')],
  ['Redis with TLS and a user of few rights', startGuarded],
];

type RedisGroup = Pick<Group, 'url' | 'stop'>;

const withOption = (group: Group, option: string): RedisGroup => ({
  url: (database) => `${group.url(database)}?${option}`,
  stop: () => group.stop(),
});

export interface EnginesOptions {
  /** Over all ways in which Redis is run. @default as JUICEPOD_TEST_REDIS says */
  readonly everywhere?: boolean;
  /** The engines at the same time, for suites that mostly wait; each engine's tests one after the other all the same. @default false */
  readonly sideBySide?: boolean;
}

/** Describes a suite once per engine. Databases are made before its first test and gone after its last. */
export function describeEngines(
  title: string,
  suite: (database: Database) => void,
  { sideBySide = false, ...options }: EnginesOptions = {},
): void {
  if (sideBySide) describe(title, { concurrency: true }, () => describeEach(title, suite, options));
  else describeEach(title, suite, options);
}

function describeEach(
  title: string,
  suite: (database: Database) => void,
  { everywhere = process.env['JUICEPOD_TEST_REDIS'] === 'all' }: Pick<EnginesOptions, 'everywhere'>,
): void {
  // Else they would inherit it.
  const serial = { concurrency: false };
  describe(`${title}, SQLite`, serial, () => {
    let folder = '';
    let used = 0;
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'juicepod-meta-'));
    });
    after(() => rmSync(folder, { recursive: true, force: true }));
    suite({ ...ROOMY, newUrl: () => `sqlite3://${join(folder, `${++used}.db`)}` });
  });
  describe(`${title}, Redis`, serial, () => {
    let server: Awaited<ReturnType<typeof startRedis>> | undefined;
    let used = 0;
    before(async () => {
      server = await startRedis(['--databases', String(DATABASES)]);
    });
    after(() => server?.stop());
    suite({ ...ROOMY, newUrl: () => server?.url(++used) ?? '' });
  });
  for (const [name, start] of everywhere ? groups : [])
    describe(`${title}, ${name}`, serial, () => {
      let group: RedisGroup | undefined;
      let used = 0;
      before(async () => {
        group = await start();
      });
      after(() => group?.stop());
      suite({ ...ROOMY, runs: 30, newUrl: () => group?.url(++used) ?? '' });
    });
  for (const [name, start, largestValue] of [
    ['PostgreSQL', startPostgres, 65_536],
    ['MariaDB', startMariadb, 65_535],
  ] as const)
    describe(`${title}, ${name}`, serial, () => {
      let server: Awaited<ReturnType<typeof start>> | undefined;
      let used = 0;
      before(async () => {
        server = await start();
      });
      after(() => server?.stop());
      suite({ largest: 2 ** 31 - 1, largestValue, runs: 12, newUrl: () => `${server?.url()}?table_prefix=t${++used}` });
    });
}
