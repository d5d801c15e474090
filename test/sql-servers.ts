/** SQL servers with TLS, users and certificates, for tests of what they let in. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdtempSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import { Client } from 'pg';
import { type Server, startMariadb, startPostgres } from './servers.ts';
import { ensureDebian } from './tools.ts';
import { removeFolder } from './remove-folder.ts';

export type SqlKind = 'postgres' | 'mysql';
export const sqlKinds = [
  ['PostgreSQL', 'postgres'],
  ['MariaDB', 'mysql'],
] as const;

/** Whoever runs the servers. */
const SERVER_USER = 65_534;

/** Carries out statements as the administrator of a server without TLS for him; answers the rows of the last one. */
export async function asAdministrator(kind: SqlKind, port: number, ...texts: readonly string[]): Promise<readonly unknown[][]> {
  let rows: unknown[][] = [];
  if (kind === 'postgres') {
    const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
    client.on('error', () => {});
    await client.connect();
    try {
      for (const text of texts) ({ rows } = await client.query<unknown[]>({ text, rowMode: 'array' }));
    } finally {
      await client.end().catch(() => {});
    }
    return rows;
  }
  const client = await createConnection({ host: '127.0.0.1', port, user: 'root', database: 'juicefs', rowsAsArray: true });
  try {
    for (const text of texts) [rows] = (await client.query(text)) as unknown as [unknown[][]];
  } finally {
    await client.end();
  }
  return rows;
}

/**
 * Kills a server and starts it again, on the same data and port. PostgreSQL is told to end without finishing anything, as the first
 * process of several, which must all be gone. Answers what ends the new one.
 */
export async function restart(
  kind: SqlKind,
  { pid, port }: Server,
  whileAway: () => Promise<void>,
): Promise<() => Promise<void>> {
  const [command = '', ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  const cwd = readlinkSync(`/proc/${pid}/cwd`);
  process.kill(pid, kind === 'postgres' ? 'SIGQUIT' : 'SIGKILL');
  while (existsSync(`/proc/${pid}/exe`)) await pause(10);
  await whileAway();
  const child = spawn(command, args, {
    cwd,
    stdio: 'ignore',
    ...(process.getuid?.() === 0 ? { uid: SERVER_USER, gid: SERVER_USER } : {}),
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const ended = once(child, 'exit').then(() => process.off('exit', kill));
  for (let attempt = 0; ; attempt++) {
    try {
      await asAdministrator(kind, port, 'SELECT 1');
      break;
    } catch (error) {
      if (attempt > 600) throw error;
      await pause(50);
    }
  }
  return async () => {
    child.kill(kind === 'postgres' ? 'SIGQUIT' : 'SIGKILL');
    await ended;
  };
}

/** Makes a user with a password who may do everything that a client needs; `requires` is what MySQL asks of his connection. */
export function makeUser(kind: SqlKind, port: number, name: string, password: string, requires = 'NONE'): Promise<unknown> {
  return kind === 'postgres'
    ? asAdministrator(kind, port, `CREATE ROLE "${name}" LOGIN PASSWORD '${password}' IN ROLE clients`)
    : asAdministrator(
        kind,
        port,
        `CREATE USER '${name}'@'%' IDENTIFIED BY '${password}' REQUIRE ${requires}`,
        `GRANT ALL ON juicefs.* TO '${name}'@'%'`,
      );
}

export function setPassword(kind: SqlKind, port: number, name: string, password: string): Promise<unknown> {
  return asAdministrator(
    kind,
    port,
    kind === 'postgres' ? `ALTER ROLE "${name}" PASSWORD '${password}'` : `ALTER USER '${name}'@'%' IDENTIFIED BY '${password}'`,
  );
}

/** Ends the connections of a user, and counts them. */
export async function disconnect(kind: SqlKind, port: number, name: string): Promise<number> {
  if (kind === 'postgres') {
    const rows = await asAdministrator(
      kind,
      port,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${name}'`,
    );
    return rows.length;
  }
  const rows = await asAdministrator(kind, port, `SELECT id FROM information_schema.processlist WHERE user = '${name}'`);
  for (const [id] of rows) await asAdministrator(kind, port, `KILL ${String(id)}`).catch(() => {});
  return rows.length;
}

export interface SecureServer extends Server {
  readonly kind: SqlKind;
  /** The metadata URL for the administrator. */
  url(): string;
  /** The metadata URL for a user. */
  urlFor(user: string, password: string | undefined, host: string, options?: string): string;
  /** PEM files: the authority's, another authority's, and the certificate and key of the client `certified`. */
  readonly files: Readonly<Record<'ca' | 'other' | 'cert' | 'key', string>>;
  /** Gives the server a certificate for these names, as `subjectAltName` spells them. */
  certify(names: string): Promise<void>;
}

/** The tables belong to a role that all users have: PostgreSQL lets only owners change tables. */
const HBA = `local all all trust
host all postgres 127.0.0.1/32 trust
hostssl all certified all cert
hostssl all secure all scram-sha-256
hostnossl all secure all reject
host all all all scram-sha-256
`;

/**
 * A server with TLS whose users have passwords: administrators only are let in without, from 127.0.0.1. Its certificate is for
 * `localhost`, and for no address.
 */
export async function startSecure(kind: SqlKind, extra: readonly string[] = []): Promise<SecureServer> {
  ensureDebian('openssl');
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-secure-'));
  const path = (name: string): string => join(folder, name);
  const openssl = (...args: readonly string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  for (const name of ['ca', 'other'])
    openssl('req', '-x509', ...made, '-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', `/CN=${name}`);
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
  const sign = (name: string, subject: string, ...more: readonly string[]): void => {
    openssl(
      'req',
      '-x509',
      ...made,
      '-keyout',
      `${name}.new`,
      '-out',
      `${name}.crt`,
      '-subj',
      `/CN=${subject}`,
      ...signed,
      ...more,
    );
    copyFileSync(path(`${name}.new`), path(`${name}.key`));
  };
  const isRoot = process.getuid?.() === 0;
  const certifyFor = (names: string): void => {
    sign('server', 'server', '-addext', `subjectAltName=${names}`);
    chmodSync(path('server.key'), 0o600);
    if (isRoot) chownSync(path('server.key'), SERVER_USER, SERVER_USER);
  };
  sign('client', 'certified');
  certifyFor('DNS:localhost');
  writeFileSync(path('hba'), HBA);
  for (const name of ['hba', 'server.crt', 'ca.crt']) chmodSync(path(name), 0o644);
  chmodSync(folder, 0o755);
  const server = await (kind === 'postgres'
    ? startPostgres([
        ...['ssl=on', `ssl_cert_file=${path('server.crt')}`, `ssl_key_file=${path('server.key')}`].flatMap((each) => [
          '-c',
          each,
        ]),
        ...[`ssl_ca_file=${path('ca.crt')}`, `hba_file=${path('hba')}`].flatMap((each) => ['-c', each]),
        ...extra,
      ])
    : startMariadb([
        `--ssl-cert=${path('server.crt')}`,
        `--ssl-key=${path('server.key')}`,
        `--ssl-ca=${path('ca.crt')}`,
        ...extra,
      ]));
  if (kind === 'postgres')
    await asAdministrator(
      kind,
      server.port,
      'CREATE ROLE clients',
      'GRANT ALL ON SCHEMA public TO clients',
      'CREATE ROLE certified LOGIN IN ROLE clients',
    );
  const stop = async (): Promise<void> => {
    await server.stop();
    removeFolder(folder);
  };
  return {
    ...server,
    kind,
    stop,
    [Symbol.asyncDispose]: stop,
    urlFor(user, password, host, options = '') {
      const credentials = password === undefined ? user : `${user}:${encodeURIComponent(password)}`;
      const place = `${host}:${server.port}`;
      return kind === 'postgres'
        ? `postgres://${credentials}@${place}/postgres?${options}`
        : `mysql://${credentials}@(${place})/juicefs?${options}`;
    },
    files: { ca: path('ca.crt'), other: path('other.crt'), cert: path('client.crt'), key: path('client.key') },
    async certify(names) {
      certifyFor(names);
      await asAdministrator(kind, server.port, kind === 'postgres' ? 'SELECT pg_reload_conf()' : 'FLUSH SSL');
    },
  };
}
