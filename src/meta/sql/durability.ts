/** What of a server's settings may lose commits that it has answered. */
import type { Clock } from '../../lib/clock.ts';
import type { ServerUrl } from '../url-server.ts';
import type { Session } from './session.ts';

interface Setting {
  /** As a part of a SELECT. */
  readonly expression: string;
  readonly safe: (value: string) => boolean;
  readonly advice: string;
}

const settings: Readonly<Record<ServerUrl['kind'], readonly Setting[]>> = {
  postgres: [
    {
      expression: `current_setting('fsync')`,
      safe: (value) => value === 'on',
      advice: 'fsync is off: a crash of the machine may destroy the database; set fsync = on',
    },
    {
      expression: `current_setting('full_page_writes')`,
      safe: (value) => value === 'on',
      advice: 'full_page_writes is off: a crash of the machine may destroy pages; set full_page_writes = on',
    },
    {
      expression: `current_setting('synchronous_commit')`,
      safe: (value) => value !== 'off',
      advice: 'synchronous_commit is off: what was written last is lost with the server; set synchronous_commit = on',
    },
  ],
  mysql: [
    {
      expression: 'CAST(@@innodb_flush_log_at_trx_commit AS CHAR)',
      safe: (value) => value === '1',
      advice:
        'innodb_flush_log_at_trx_commit is not 1: what was written last is lost with the server or its machine; set innodb_flush_log_at_trx_commit = 1',
    },
  ],
};

async function connect(url: ServerUrl, clock: Clock): Promise<Session> {
  if (url.kind === 'postgres') return (await import('../postgres/session.ts')).connectPostgres(url, clock);
  return (await import('../mysql/session.ts')).connectMysql(url, clock);
}

/** Sentences, one for each setting that may lose what was written. Throws what connecting throws. */
export async function serverRisks(url: ServerUrl, clock: Clock): Promise<readonly string[]> {
  const session = await connect(url, clock);
  try {
    const asked = settings[url.kind];
    const [answer] = await session.run([{ text: `SELECT ${asked.map((each) => each.expression).join(', ')}`, values: [] }]);
    const row = answer?.rows[0] ?? [];
    return asked.flatMap(({ safe, advice }, index) => (safe(String(row[index])) ? [] : [advice]));
  } finally {
    session.end();
  }
}
