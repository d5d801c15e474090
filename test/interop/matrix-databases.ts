/** One server of each kind with as many databases on it as are asked for: volumes of their own, without a server for each. */
import { createConnection } from 'mysql2/promise';
import { join } from 'node:path';
import { Client } from 'pg';
import { type EngineName, startMariadb, startPostgres, startRedis } from '../servers.ts';

export interface Databases extends AsyncDisposable {
  /** The metadata URL of a database that nobody has used yet. */
  newUrl(): Promise<string>;
}

/** Starts the server; `folder` is where databases that are files go. */
export async function startDatabases(engine: EngineName, folder: string): Promise<Databases> {
  let used = 0;
  if (engine === 'sqlite')
    return { newUrl: async () => `sqlite3://${join(folder, `${++used}.db`)}`, [Symbol.asyncDispose]: async () => {} };
  if (engine === 'redis') {
    const server = await startRedis(['--databases', '100']);
    return { newUrl: async () => server.url(++used), [Symbol.asyncDispose]: () => server.stop() };
  }
  const server = await (engine === 'postgres' ? startPostgres() : startMariadb());
  const create = async (name: string): Promise<void> => {
    if (engine === 'postgres') {
      const client = new Client({ host: '127.0.0.1', port: server.port, user: 'postgres', database: 'postgres' });
      await client.connect();
      await client.query(`CREATE DATABASE ${name}`);
      return client.end();
    }
    const client = await createConnection({ host: '127.0.0.1', port: server.port, user: 'root' });
    await client.query(`CREATE DATABASE ${name}`);
    return client.end();
  };
  return {
    async newUrl() {
      const name = `matrix${++used}`;
      await create(name);
      return server.url().replace(/\w+$/, name);
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}
