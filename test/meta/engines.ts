/** The metadata engines that every suite of this folder runs over, each on a real database of its own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { openRedis } from '../../src/meta/redis/open.ts';
import { openSqlite } from '../../src/meta/sqlite/engine.ts';
import { parseMetaUrl } from '../../src/meta/url.ts';
import { startRedis } from '../servers.ts';

/** Where engines come from. */
export interface Database {
  /** The metadata URL of a database that nobody has used yet. */
  newUrl(): string;
}

/** Opens the engine of a URL. */
export async function openUrl(url: string): Promise<MetaEngine> {
  const parsed = parseMetaUrl(url);
  return parsed.kind === 'redis' ? openRedis(parsed) : openSqlite(parsed);
}

const DATABASES = 5000;

/** Describes a suite once per engine. Databases are made before its first test and gone after its last. */
export function describeEngines(title: string, suite: (database: Database) => void): void {
  describe(`${title}, SQLite`, () => {
    let folder = '';
    let used = 0;
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'juicepod-meta-'));
    });
    after(() => rmSync(folder, { recursive: true, force: true }));
    suite({ newUrl: () => `sqlite3://${join(folder, `${++used}.db`)}` });
  });
  describe(`${title}, Redis`, () => {
    let server: Awaited<ReturnType<typeof startRedis>> | undefined;
    let used = 0;
    before(async () => {
      server = await startRedis(['--databases', String(DATABASES)]);
    });
    after(() => server?.stop());
    suite({ newUrl: () => server?.url(++used) ?? '' });
  });
}
