/** Sentinels and a Cluster that speak TLS only and want their clients' certificates: found, followed and listed over it. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { openEngine, proveCredentials } from '../../src/meta/open.ts';
import { NodeType } from '../../src/meta/types.ts';
import { makeCertificates } from './guarded.ts';
import { startCluster, startSentinels } from './servers.ts';

const added = { kind: 'addCounter', name: 'nextChunk', delta: 1 } as const;

/** Over a connection of its own. */
async function listed(engine: MetaEngine): Promise<number> {
  let sum = 0;
  for await (const batch of engine.scanEntries(ROOT_INO, 100)) sum += batch.length;
  return sum;
}

for (const [name, start] of [
  ['Sentinels', () => startSentinels(1, [], true)],
  ['a Cluster', () => startCluster(1, [], true, true)],
] as const)
  describe(`TLS with ${name}`, () => {
    test('a client with a certificate follows a failover, one without is not let in, and certificates change while it runs', async (t) => {
      await using group = await start();
      assert.ok(group.files);
      const folder = mkdtempSync(join(tmpdir(), 'juicepod-redis-certificates-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const files = { ca: join(folder, 'ca.crt'), cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') };
      const put = (from: typeof files): void => {
        copyFileSync(from.cert, files.cert);
        copyFileSync(from.key, files.key);
      };
      copyFileSync(group.files.ca, files.ca);
      put(group.files);
      const place = group.url(0).split('?')[0] ?? '';
      const url = `${place}?tls-ca-cert-file=${files.ca}&tls-cert-file=${files.cert}&tls-key-file=${files.key}`;
      const options = { environment: {}, patience: 30_000 };

      await assert.rejects(openEngine(`${place}?tls-ca-cert-file=${files.ca}`, { ...options, patience: 500 }), {
        name: 'UserError',
      });
      await assert.rejects(openEngine(place.replace('rediss:', 'redis:'), { ...options, patience: 500 }), { name: 'UserError' });
      // Who is not believed to be the server.
      const stranger = makeCertificates(mkdtempSync(join(folder, 'stranger-')));
      await assert.rejects(
        openEngine(url.replace(files.ca, stranger.ca), { ...options, patience: 500 }),
        /certificate|self.signed|verify/i,
      );

      const engine = await openEngine(url, options);
      t.after(() => engine.close());
      // What it writes is at the replica, too.
      const careful = await openEngine(`${url}&wait-replicas=1`, options);
      const value = { type: NodeType.File, ino: ino(12) };
      const entry = { kind: 'putEntry', parent: ROOT_INO, name: Buffer.from('name'), value } as const;
      await careful.writeSetting('{}', { trash: true, nowNs: 1n });
      assert.deepEqual(await careful.commit({ checks: [], writes: [added, entry] }), { ok: true, results: [1, 0] });
      await careful.close();
      assert.equal(await listed(engine), 1);

      const master = await group.master(0);
      process.kill(master.pid, 'SIGKILL');
      assert.deepEqual(await engine.commit({ checks: [], writes: [added] }), { ok: true, results: [2] });
      assert.equal(await listed(engine), 1);
      assert.notEqual((await group.master(0)).port, master.port);

      put(stranger);
      await assert.rejects(proveCredentials(engine, url, { writing: true, environment: {} }), { name: 'UserError' });
      put(group.files);
      await (
        await proveCredentials(engine, url, { writing: true, environment: {} })
      )();
      assert.deepEqual(await engine.commit({ checks: [], writes: [added] }), { ok: true, results: [3] });
    });
  });
