/**
 * Tables and indexes of a volume on an SQL server are those that the official client makes there: it looks for them by name and
 * type, and works on ours. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createConnection } from 'mysql2/promise';
import { Client } from 'pg';
import { openEngine } from '../../src/meta/open.ts';
import { startMariadb, startPostgres } from '../servers.ts';
import { juicefs } from '../tools.ts';
import { run } from './official.ts';

const skip = juicefs() === undefined && 'JUICEFS_BIN names no official client';

/** The table of ours that the official client does not have. */
const OURS = 'juicepod_commit';

/** Facts of both sets of tables, told apart by prefix, which is then taken away. */
function sides(rows: readonly Readonly<Record<string, unknown>>[]): Readonly<Record<'ours' | 'theirs', readonly string[]>> {
  const of = (side: string): string[] =>
    rows
      .map((row) => JSON.stringify(row))
      .filter((text) => text.includes(`jfs_${side}_`) && !text.includes(OURS))
      .map((text) => text.replaceAll(`jfs_${side}_`, ''))
      .toSorted();
  return { ours: of('ours'), theirs: of('theirs') };
}

async function formatBoth(url: string): Promise<void> {
  const engine = await openEngine(`${url}?table_prefix=ours`, { environment: {} });
  assert.ok(await engine.writeSetting('{}', { trash: true, nowNs: 0n }));
  await engine.close();
  await run(['format', `${url}?table_prefix=theirs`, 'theirs', '--bucket', '/nowhere'], { JFS_NO_CHECK_OBJECT_STORAGE: '1' });
}

describe('tables of a new volume', { skip }, () => {
  test('are those of the official client in PostgreSQL', async () => {
    await using server = await startPostgres();
    await formatBoth(server.url());
    const client = new Client(server.url());
    await client.connect();
    try {
      const columns = await client.query(
        `SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable, column_default
         FROM information_schema.columns WHERE table_schema = 'public'`,
      );
      const indexes = await client.query(`SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'`);
      for (const { rows } of [columns, indexes]) {
        const { ours, theirs } = sides(rows as Record<string, unknown>[]);
        assert.deepEqual(ours, theirs);
        assert.ok(ours.length > 20);
      }
    } finally {
      await client.end();
    }
  });

  test('are those of the official client in MariaDB', async () => {
    await using server = await startMariadb();
    await formatBoth(server.url());
    const client = await createConnection({ host: '127.0.0.1', port: server.port, user: 'root', database: 'juicefs' });
    try {
      for (const query of [
        `SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default, extra, collation_name
         FROM information_schema.columns WHERE table_schema = 'juicefs'`,
        `SELECT table_name, index_name, non_unique, seq_in_index, column_name FROM information_schema.statistics
         WHERE table_schema = 'juicefs'`,
      ]) {
        const [rows] = await client.query(query);
        // Names of extended attributes are told apart to the letter in ours, in theirs by the collation of the database.
        const { ours, theirs } = sides(
          (rows as Record<string, unknown>[]).map((row) =>
            String(row['table_name']).endsWith('_xattr') && row['column_name'] === 'name' && 'collation_name' in row
              ? { ...row, collation_name: '' }
              : row,
          ),
        );
        assert.deepEqual(ours, theirs);
        assert.ok(ours.length > 20);
      }
    } finally {
      await client.end();
    }
  });
});
