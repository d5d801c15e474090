/** What is particular to SQL servers: outages, answers that are lost, a server that crashes, values that do not fit, refusals. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client } from 'pg';
import { createConnection } from 'mysql2/promise';
import { FsError, UserError } from '../../src/lib/errors.ts';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { plainFile } from '../../src/meta/testing/sample.ts';
import { type Attr } from '../../src/meta/types.ts';
import { Line } from '../line.ts';
import { freePort, type Server, startMariadb, startPostgres } from '../servers.ts';

const count = (delta: number): Transaction => ({ checks: [], writes: [{ kind: 'addCounter', name: 'usedSpace', delta }] });

async function counter(engine: MetaEngine): Promise<number> {
  const [value] = await engine.read([{ kind: 'counter', name: 'usedSpace' }]);
  return value;
}

const file: Attr = { ...plainFile, atime: 1, mtime: 1, ctime: 1 };

interface Kind {
  readonly name: string;
  readonly start: () => Promise<Server & { url(): string }>;
  /** Ends every connection to the server but the one that asks; PostgreSQL crashes with it, and recovers. */
  readonly crash: (url: string) => Promise<void>;
  readonly refused: (url: string) => string;
  /** What the text that commits looks like on the wire. */
  readonly commits: (data: Buffer) => boolean;
}

const kinds: readonly Kind[] = [
  {
    name: 'PostgreSQL',
    start: () => startPostgres(['-c', 'synchronous_commit=on', '-c', 'restart_after_crash=on']),
    async crash(url) {
      const client = new Client(url);
      client.on('error', () => {});
      await client.connect();
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity WHERE application_name = 'juicepod' LIMIT 1`,
      );
      assert.ok(rows[0]);
      process.kill(rows[0].pid, 'SIGKILL');
      await client.end().catch(() => {});
    },
    refused: (url) => url.replace(/\/postgres$/, '/nothing'),
    commits: (data) => data.includes('COMMIT'),
  },
  {
    name: 'MariaDB',
    start: startMariadb,
    async crash(url) {
      const port = Number(/:(\d+)\)/.exec(url)?.[1]);
      const client = await createConnection({ host: '127.0.0.1', port, user: 'root' });
      const [rows] = (await client.query('SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()')) as [
        { id: number }[],
        unknown,
      ];
      for (const { id } of rows) await client.query(`KILL ${id}`).catch(() => {});
      await client.end();
    },
    refused: (url) => url.replace('root@', 'stranger:wrong@'),
    commits: (data) => data.includes('COMMIT'),
  },
];

for (const { name, start, crash, refused, commits } of kinds)
  describe(name, () => {
    let server: Server & { url(): string };
    let used = 0;
    before(async () => {
      server = await start();
    });
    after(() => server.stop());

    const through = (port: number): string => server.url().replace(`:${server.port}`, `:${port}`);

    async function withLine(
      options: { readonly patience: number },
      run: (engine: MetaEngine, line: Line) => Promise<void>,
    ): Promise<void> {
      await using line = await Line.start(server.port);
      const url = `${through(line.port)}?table_prefix=p${++used}`;
      const engine = await openEngine(url, { environment: {}, ...options });
      try {
        await engine.writeSetting('{}', { trash: true, nowNs: 1n });
        await run(engine, line);
      } finally {
        await engine.close();
      }
    }

    test('a commit whose answer is lost is neither done twice nor reported as failed', async () => {
      await withLine({ patience: 20_000 }, async (engine, line) => {
        let lost = 0;
        line.loses = (data) => commits(data) && lost++ % 3 === 0;
        for (let done = 1; done <= 12; done++) assert.deepEqual(await engine.commit(count(7)), { ok: true, results: [done * 7] });
        line.loses = () => false;
        assert.ok(lost > 5);
        assert.equal(await counter(engine), 84);
      });
    });

    test('commits that are out together when the connections go are each done once', async () => {
      await withLine({ patience: 20_000 }, async (engine, line) => {
        let lost = 0;
        line.loses = (data) => commits(data) && lost++ % 20 === 5;
        const results = await Promise.all(Array.from({ length: 100 }, () => engine.commit(count(1))));
        line.loses = () => false;
        assert.deepEqual(
          results.map((result) => (result.ok ? result.results[0] : 0)).toSorted((a, b) => Number(a) - Number(b)),
          Array.from({ length: 100 }, (_, index) => index + 1),
        );
        assert.equal(await counter(engine), 100);
      });
    });

    test('operations wait while the server is away, and go on when it is back', async () => {
      await withLine({ patience: 20_000 }, async (engine, line) => {
        await engine.commit(count(1));
        await line.cut();
        const waiting = [engine.commit(count(1)), counter(engine), engine.lookup(ROOT_INO, Buffer.from('x'))] as const;
        await new Promise((resolve) => setTimeout(resolve, 300));
        await line.mend();
        const [committed, , found] = await Promise.all(waiting);
        assert.deepEqual(committed, { ok: true, results: [2] });
        assert.equal(found, undefined);
        await engine.close();
      });
    });

    test('an operation gives up after its patience, in a sentence that names the server, and the next one works again', async () => {
      await withLine({ patience: 400 }, async (engine, line) => {
        await line.cut();
        await assert.rejects(engine.commit(count(1)), (error: unknown) => {
          assert.ok(error instanceof FsError);
          assert.equal(error.code, 'EIO');
          assert.match(
            error.message,
            new RegExp(`at \\w+://\\(?127\\.0\\.0\\.1:${line.port}\\)?/\\w+ does not answer: .*ECONNREFUSED`),
          );
          return true;
        });
        await line.mend();
        assert.deepEqual(await engine.commit(count(1)), { ok: true, results: [1] });
        await engine.close();
      });
    });

    test('no acknowledged change is lost, and none is made twice, when the connections are cut under load', async () => {
      const engine = await openEngine(`${server.url()}?table_prefix=p${++used}`, { environment: {}, patience: 60_000 });
      await engine.writeSetting('{}', { trash: true, nowNs: 1n });
      const state = { done: 0, stopped: false };
      const work = async (): Promise<void> => {
        while (!state.stopped) {
          const result = await engine.commit(count(1));
          assert.ok(result.ok);
          state.done++;
        }
      };
      const workers = Array.from({ length: 8 }, work);
      for (let round = 0; round < 3; round++) {
        const enough = state.done + 40;
        await crash(server.url());
        while (state.done < enough) await new Promise((resolve) => setTimeout(resolve, 20));
      }
      state.stopped = true;
      await Promise.all(workers);
      assert.equal(await counter(engine), state.done);
      await engine.close();
    });

    test('a number that does not fit its column is an error of the call, and nothing is changed', async () => {
      await withLine({ patience: 5000 }, async (engine) => {
        const write = (uid: number) =>
          engine.commit({
            checks: [],
            writes: [
              { kind: 'addCounter', name: 'usedSpace', delta: 1 },
              { kind: 'putNode', ino: ino(5), attr: { ...file, uid } },
            ],
          });
        await assert.rejects(write(2 ** 31), { code: 'EOVERFLOW' });
        assert.deepEqual([await counter(engine), (await engine.nodes([ino(5)]))[0]], [0, undefined]);
        assert.equal((await write(2 ** 31 - 1)).ok, true);
      });
    });

    test('a server that is not there, and one that refuses us, are reported with what to check', async () => {
      const port = await freePort();
      const missing = through(port).replace('@', ':secret@');
      for (const [url, code] of [
        [missing, 'MetaUnreachable'],
        [refused(server.url()), 'MetaRefused'],
      ] as const)
        await assert.rejects(openEngine(url, { environment: {}, patience: 500 }), (error: unknown) => {
          assert.ok(error instanceof UserError);
          assert.equal(error.code, code);
          assert.doesNotMatch(`${error.message} ${String(error.stack)}`, /secret|wrong/);
          return true;
        });
    });

    test('a volume of an older version gets its missing tables and columns', async () => {
      const url = `${server.url()}?table_prefix=p${++used}`;
      const engine = await openEngine(url, { environment: {} });
      await engine.writeSetting('{}', { trash: true, nowNs: 1n });
      const table = `jfs_p${used}_`;
      const old = [`ALTER TABLE ${table}node DROP COLUMN tier_id`, `DROP TABLE ${table}dir_stats`];
      if (name === 'PostgreSQL') {
        const client = new Client(server.url());
        await client.connect();
        for (const text of old) await client.query(text);
        await client.end();
      } else {
        const client = await createConnection({ host: '127.0.0.1', port: server.port, user: 'root', database: 'juicefs' });
        for (const text of old) await client.query(text);
        await client.end();
      }
      const again = await openEngine(url, { environment: {} });
      await again.commit({
        checks: [],
        writes: [
          { kind: 'putNode', ino: ino(7), attr: { ...file, tier: 1 } },
          { kind: 'putDirStat', ino: ino(7), value: { length: 1, space: 2, inodes: 3 } },
        ],
      });
      assert.deepEqual(
        await again.read([
          { kind: 'node', ino: ino(7) },
          { kind: 'dirStat', ino: ino(7) },
        ]),
        [
          { ...file, tier: 1 },
          { length: 1, space: 2, inodes: 3 },
        ],
      );
      await engine.close();
      await again.close();
    });
  });
