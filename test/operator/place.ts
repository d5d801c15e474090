/** Places for volumes, as the suites of the operator use them: one Redis, and for each test a directory and a database of its own. */
import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext } from 'node:test';
import { Redis } from 'ioredis';
import type { MountConfig } from '../../src/api/mount.ts';
import { type Format, parseFormat } from '../../src/meta/format.ts';
import { decryptSecrets } from '../../src/meta/format-secrets.ts';
import { type Server, startRedis } from '../servers.ts';
import type { Harness } from './harness.ts';
import { removeFolder } from '../remove-folder.ts';

export let redis: Server & { url(db?: number): string };
let nextDatabase = 0;
before(async () => {
  redis = await startRedis(['--appendonly', 'yes', '--databases', '64']);
});
after(() => redis.stop());

/** A directory and a Redis database that nobody else uses. */
export function place(t: TestContext): {
  readonly spec: Record<string, unknown>;
  readonly folder: string;
  readonly database: Redis;
} {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-operator-'));
  const number = nextDatabase++;
  const database = new Redis(redis.url(number));
  t.after(() => {
    database.disconnect();
    removeFolder(folder);
  });
  const spec = {
    metadata: { redis: { addresses: [`127.0.0.1:${redis.port}`], database: number } },
    storage: { file: { path: folder } },
  };
  return { spec, folder, database };
}

export async function settingOf(database: Redis): Promise<Format> {
  return decryptSecrets(parseFormat((await database.get('setting')) ?? 'nothing'));
}

export function mountConfig(harness: Harness, namespace = 'data'): MountConfig {
  const secret = harness.secrets().find(({ metadata }) => metadata.namespace === namespace);
  assert.ok(secret, `no mount Secret in ${namespace}`);
  return JSON.parse(Buffer.from(secret.data?.['volume.json'] ?? '', 'base64').toString()) as MountConfig;
}
