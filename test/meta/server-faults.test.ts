/** What SQL servers do to those who use them: operations wait and go on, or fail in words that say what to do, and nothing is half done. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { createConnection } from 'mysql2/promise';
import { FsError, UserError } from '../../src/lib/errors.ts';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { MetaEngine, Transaction, Write } from '../../src/meta/engine.ts';
import { openEngine } from '../../src/meta/open.ts';
import { type Server, startMariadb, startPostgres } from '../servers.ts';
import { until } from '../until.ts';
import { asAdministrator, makeUser, restart, type SecureServer, type SqlKind, sqlKinds, startSecure } from '../sql-servers.ts';

const write = (...writes: readonly Write[]): Transaction => ({ checks: [], writes });
const count = write({ kind: 'addCounter', name: 'usedSpace', delta: 1 });

async function counter(engine: MetaEngine): Promise<number> {
  const [value] = await engine.read([{ kind: 'counter', name: 'usedSpace' }]);
  return value;
}

/** The error of what must fail. */
async function failure(attempt: Promise<unknown>): Promise<FsError> {
  const error: unknown = await attempt.then(
    () => undefined,
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof FsError, `it did not fail as it should: ${String(error)}`);
  return error;
}

/** A connection on which a transaction stays open. */
async function openTransaction(kind: SqlKind, port: number) {
  if (kind === 'postgres') {
    const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
    client.on('error', () => {});
    await client.connect();
    return { run: async (text: string): Promise<void> => void (await client.query(text)), end: () => client.end() };
  }
  const client = await createConnection({ host: '127.0.0.1', port, user: 'root', database: 'juicefs' });
  return { run: async (text: string): Promise<void> => void (await client.query(text)), end: () => client.end() };
}

const settings = {
  postgres: (...values: readonly string[]): string[] => values.flatMap((value) => ['-c', value]),
  mysql: (...values: readonly string[]): string[] => values.map((value) => `--${value}`),
};
const start = (kind: SqlKind, ...values: readonly string[]): Promise<Server & { url(): string }> =>
  kind === 'postgres' ? startPostgres(settings.postgres(...values)) : startMariadb(settings.mysql(...values));

for (const [name, kind] of sqlKinds)
  describe(name, () => {
    let server: SecureServer;
    let used = 0;
    before(async () => {
      // What is committed must outlive the process.
      const durable = kind === 'postgres' ? 'synchronous_commit=on' : 'innodb-flush-log-at-trx-commit=2';
      server = await startSecure(kind, settings[kind](durable));
      await makeUser(kind, server.port, 'client', 'word');
    });
    after(() => server.stop());

    async function volume(patience: number, url?: string): Promise<MetaEngine & AsyncDisposable> {
      const metaUrl = url ?? server.urlFor('client', 'word', '127.0.0.1', `table_prefix=f${++used}`);
      const engine = await openEngine(metaUrl, { environment: {}, patience });
      await engine.writeSetting('{}', { trash: true, nowNs: 1n });
      return Object.assign(engine, { [Symbol.asyncDispose]: () => engine.close() });
    }
    const table = (of: string): string => `jfs_f${used}_${of}`;

    test('a server that only reads is waited for, and told of; reading goes on', async () => {
      await using engine = await volume(20_000);
      const readOnly = (on: boolean): Promise<unknown> =>
        asAdministrator(
          kind,
          server.port,
          kind === 'postgres'
            ? `ALTER ROLE client SET default_transaction_read_only = ${on ? 'on' : 'off'}`
            : `SET GLOBAL read_only = ${on ? 1 : 0}`,
        );
      await readOnly(true);
      try {
        await using impatient = await openEngine(server.urlFor('client', 'word', '127.0.0.1', `table_prefix=f${used}`), {
          environment: {},
          patience: 300,
          readOnly: true,
        }).then((each) => Object.assign(each, { [Symbol.asyncDispose]: () => each.close() }));
        const error = await failure(impatient.commit(count));
        assert.deepEqual([error.code, error.retryable], ['EIO', true]);
        assert.match(error.message, /only reads: the metadata URL must lead to the primary/);
        assert.equal(await counter(impatient), 0);
        const waiting = engine.commit(count);
        await pause(300);
        await readOnly(false);
        assert.deepEqual(await waiting, { ok: true, results: [1] });
      } finally {
        await readOnly(false);
      }
    });

    test('a deadlock with another client, and a statement that somebody cancels, are begun anew', async () => {
      await using engine = await volume(60_000);
      const attr = (await engine.nodes([ROOT_INO]))[0];
      assert.ok(attr);
      for (const inode of [5, 6]) await engine.commit(write({ kind: 'putNode', ino: ino(inode), attr }));
      const other = await openTransaction(kind, server.port);
      const waits =
        kind === 'postgres'
          ? `SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'client' AND wait_event_type = 'Lock'`
          : `SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'`;
      const somebodyWaits = (): Promise<boolean> =>
        until('the client waits for a row', async () => Number((await asAdministrator(kind, server.port, waits))[0]?.[0]) > 0);
      const touch = (inode: number): Promise<void> =>
        other.run(`UPDATE ${table('node')} SET gid = gid + 1 WHERE inode = ${inode}`);
      const both = (sec: number) =>
        engine.commit(
          write(
            { kind: 'touchNode', ino: ino(5), sec, nsec: 0, nlink: 0 },
            { kind: 'touchNode', ino: ino(6), sec, nsec: 0, nlink: 0 },
          ),
        );
      await other.run('BEGIN');
      await touch(6);
      // Has 5, and waits for 6; then each waits for the other.
      const waiting = both(77);
      await somebodyWaits();
      const kept = await touch(5).then(
        () => true,
        () => false,
      );
      await other.run(kept ? 'COMMIT' : 'ROLLBACK');
      assert.equal((await waiting).ok, true);

      await other.run('BEGIN');
      await touch(5);
      const cancelled = both(78);
      await somebodyWaits();
      if (kind === 'postgres')
        await asAdministrator(
          kind,
          server.port,
          `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'client' AND wait_event_type = 'Lock'`,
        );
      else {
        const rows = await asAdministrator(
          kind,
          server.port,
          `SELECT id FROM information_schema.processlist WHERE user = 'client' AND command = 'Query'`,
        );
        assert.ok(rows.length > 0);
        for (const [id] of rows) await asAdministrator(kind, server.port, `KILL QUERY ${String(id)}`);
      }
      await pause(200);
      await other.run('COMMIT');
      await other.end();
      assert.equal((await cancelled).ok, true);
      const nodes = await engine.nodes([ino(5), ino(6)]);
      const touched = kept ? 1 : 0;
      assert.deepEqual(
        nodes.map((node) => [node?.mtime, node?.gid]),
        [
          [78, attr.gid + touched + 1],
          [78, attr.gid + touched],
        ],
      );
    });

    test('a right that is missing is an error that names it, at once', async () => {
      await using engine = await volume(20_000);
      await makeUser(kind, server.port, `reader${used}`, 'word');
      if (kind === 'postgres')
        await asAdministrator(
          kind,
          server.port,
          `REVOKE clients FROM reader${used}`,
          `GRANT USAGE ON SCHEMA public TO reader${used}`,
          `GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader${used}`,
        );
      else
        await asAdministrator(
          kind,
          server.port,
          `REVOKE ALL ON juicefs.* FROM reader${used}@'%'`,
          `GRANT SELECT ON juicefs.* TO reader${used}@'%'`,
        );
      const url = server.urlFor(`reader${used}`, 'word', '127.0.0.1', `table_prefix=f${used}`);
      const reader = await openEngine(url, { environment: {}, patience: 20_000, readOnly: true });
      assert.equal(await counter(reader), 0);
      const error = await failure(reader.commit(count));
      assert.equal(error.code, 'EIO');
      assert.match(error.message, /grant the user SELECT, INSERT, UPDATE/);
      await reader.close();
      assert.deepEqual(await engine.commit(count), { ok: true, results: [1] });
    });

    // The last one: the server is another process then.
    test('a server that is killed under load and started again loses nothing that it acknowledged, and nothing is done twice', async () => {
      await using engine = await volume(60_000);
      const state = { done: 0, read: 0, stopped: false };
      const work = async (): Promise<void> => {
        while (!state.stopped) {
          assert.ok((await engine.commit(count)).ok);
          state.done++;
        }
      };
      const look = async (): Promise<void> => {
        while (!state.stopped) {
          const before = state.done;
          assert.ok((await counter(engine)) >= before);
          state.read++;
        }
      };
      const all = [...Array.from({ length: 8 }, work), look(), look()];
      const goesOn = async (): Promise<void> => {
        const [done, read] = [state.done + 50, state.read + 20];
        while (state.done < done || state.read < read) await Promise.race([pause(20), ...all]);
      };
      await goesOn();
      const end = await restart(kind, server, () => pause(500));
      try {
        await goesOn();
        state.stopped = true;
        await Promise.all(all);
        assert.equal(await counter(engine), state.done);
      } finally {
        await end();
      }
    });
  });

for (const [name, kind] of sqlKinds)
  test(`${name}: with fewer connections than a client may make it works with those that there are, and who gets none is told why`, async () => {
    await using server = await (kind === 'postgres'
      ? start(kind, 'max_connections=6', 'superuser_reserved_connections=0', 'max_wal_senders=0')
      : start(kind, 'max-connections=10', 'extra-max-connections=1'));
    const engine = await openEngine(server.url(), { environment: {}, patience: 30_000 });
    await engine.writeSetting('{}', { trash: true, nowNs: 1n });
    const results = await Promise.all(Array.from({ length: 300 }, () => engine.commit(count)));
    assert.ok(results.every(({ ok }) => ok));
    assert.equal(await counter(engine), 300);
    // Takes what is left.
    const hold: (() => Promise<void>)[] = [];
    try {
      for (let more = 0; more < 12; more++) hold.push((await openTransaction(kind, server.port)).end);
    } catch {
      // Now there is none.
    }
    await assert.rejects(openEngine(server.url(), { environment: {}, patience: 300 }), (error: unknown) => {
      assert.ok(error instanceof UserError && error.code === 'MetaUnreachable' && error.retryable);
      assert.match(error.message, /raise max_connections of the server, or lower max_open_conns/);
      return true;
    });
    for (const end of hold) await end();
    await engine.close();
  });

test('PostgreSQL: a full disk is ENOSPC and says so, reading goes on, and so does writing when there is room', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can make a small disk');
  await using cleanup = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-small-'));
  cleanup.defer(() => rmSync(folder, { recursive: true, force: true }));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=20m', 'juicepod-test', folder], { stdio: 'pipe' });
  } catch {
    return t.skip('no file system can be mounted here');
  }
  cleanup.defer(() => void execFileSync('umount', ['-l', folder], { stdio: 'pipe' }));
  chownSync(folder, 65_534, 65_534);
  const server = cleanup.use(await startPostgres());
  await asAdministrator(
    'postgres',
    server.port,
    `CREATE TABLESPACE small LOCATION '${folder}'`,
    'CREATE DATABASE small TABLESPACE small',
  );
  const engine = await openEngine(server.url().replace(/postgres$/, 'small'), { environment: {}, patience: 20_000 });
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  await fillUp(engine, /No space left on device.*make room on the disk of the server/);
  execFileSync('mount', ['-o', 'remount,size=60m', folder], { stdio: 'pipe' });
  assert.deepEqual(await engine.commit(count), { ok: true, results: [1] });
  await engine.commit(write({ kind: 'putXattr', ino: ino(1), name: 'user.after', value: Buffer.alloc(60_000, 1) }));
  await engine.close();
});

/** Writes what does not compress until there is no room, which `message` says. What was written before can be read. */
async function fillUp(engine: MetaEngine, message: RegExp): Promise<void> {
  // The key stream of a cipher.
  const value = (number: number): Buffer =>
    createCipheriv('aes-256-ctr', Buffer.alloc(32, 'juicepod'), Buffer.alloc(16, `${number}.`)).update(Buffer.alloc(60_000));
  for (let number = 0; ; number++) {
    assert.ok(number < 1000, 'it is never full');
    const put = write({ kind: 'putXattr', ino: ino(1), name: `user.${number}`, value: value(number) });
    try {
      await engine.commit(put);
    } catch (cause) {
      const error = await failure(Promise.reject(cause));
      assert.equal(error.code, 'ENOSPC', error.message);
      assert.match(error.message, message);
      assert.ok(number > 5);
      const [last, none] = await engine.read([
        { kind: 'xattr', ino: ino(1), name: `user.${number - 1}` },
        { kind: 'xattr', ino: ino(1), name: `user.${number}` },
      ]);
      assert.ok(last?.equals(value(number - 1)));
      assert.equal(none, undefined);
      return;
    }
  }
}

test('MariaDB: a full tablespace is ENOSPC and says so, and reading goes on', async () => {
  await using server = await startMariadb(['--innodb-data-file-path=ibdata1:12M:autoextend:max:24M']);
  const engine = await openEngine(server.url(), { environment: {}, patience: 20_000 });
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  await fillUp(engine, /is full.*make room on the disk of the server/);
  await engine.close();
});

test('MariaDB: a server that takes small packets only is refused at the start, with the setting that is to be changed', async () => {
  await using server = await startMariadb(['--max-allowed-packet=64K']);
  await assert.rejects(openEngine(server.url(), { environment: {}, patience: 5000 }), (error: unknown) => {
    assert.ok(error instanceof UserError && error.code === 'MetaSettings');
    assert.match(`${error.message} ${error.hint}`, /packets of 65536 bytes \(max_allowed_packet\).*Set max_allowed_packet = 64M/);
    return true;
  });
});

const names = ['user.a', 'user.A', 'user.ä', 'user.å', 'user.€', 'user.\u{1f600}', 'user.ß', 'user.ss'];

test('MariaDB: names are told apart to the byte whatever character set and collation the database was made with', async () => {
  await using server = await startMariadb(['--character-set-server=latin1', '--collation-server=latin1_swedish_ci']);
  await asAdministrator('mysql', server.port, 'ALTER DATABASE juicefs CHARACTER SET latin1 COLLATE latin1_swedish_ci');
  const engine = await openEngine(server.url(), { environment: {} });
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  const entries = [...names.map((text) => Buffer.from(text)), Buffer.from([0xff, 0xfe]), Buffer.from('A '), Buffer.from('A')];
  for (const [index, entry] of entries.entries())
    await engine.commit(write({ kind: 'putEntry', parent: ROOT_INO, name: entry, value: { ino: ino(10 + index), type: 1 } }));
  for (const text of names) await engine.commit(write({ kind: 'putXattr', ino: ino(10), name: text, value: Buffer.from(text) }));
  for (const [index, entry] of entries.entries())
    assert.equal((await engine.lookup(ROOT_INO, entry))?.value.ino, ino(10 + index));
  const values = await engine.read(names.map((text) => ({ kind: 'xattr', ino: ino(10), name: text }) as const));
  assert.deepEqual(values.map(String), names);
  await engine.close();
});

test('PostgreSQL: a database in another encoding takes every name of a file, and tells of a text that it cannot hold', async () => {
  await using server = await startPostgres();
  await asAdministrator('postgres', server.port, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
  const engine = await openEngine(server.url().replace(/postgres$/, 'latin'), { environment: {} });
  await engine.writeSetting('{}', { trash: true, nowNs: 1n });
  const entry = Buffer.from([0xff, 0xe2, 0x82, 0xac]);
  await engine.commit(write({ kind: 'putEntry', parent: ROOT_INO, name: entry, value: { ino: ino(10), type: 1 } }));
  assert.equal((await engine.lookup(ROOT_INO, entry))?.value.ino, ino(10));
  await engine.commit(write({ kind: 'putXattr', ino: ino(10), name: 'user.ä', value: Buffer.from('x') }));
  const error = await failure(engine.commit(write({ kind: 'putXattr', ino: ino(10), name: 'user.€', value: Buffer.from('x') })));
  assert.equal(error.code, 'EILSEQ');
  assert.match(error.message, /make the database with ENCODING UTF8/);
  await engine.close();
});
