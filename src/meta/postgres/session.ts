/**
 * Connections to PostgreSQL (`pg`, in its pipeline mode: statements are sent without waiting for the answers of earlier
 * ones). Statements are prepared once per connection, by a name that stands for their text.
 */
import { userInfo } from 'node:os';
import type { Duplex } from 'node:stream';
import { Client, type ClientConfig } from 'pg';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import {
  ANSWER_TIMEOUT,
  type Answer,
  isNetworkError,
  type Listening,
  LOCK_TIMEOUT,
  type Session,
  type Statement,
} from '../sql/session.ts';
import { tlsMembers } from '../sql/tls.ts';
import { Batch, type BatchAnswers, type Named } from './batch.ts';
import type { ServerUrl } from '../url-server.ts';

/** Numbers of PostgreSQL's types. */
const OID = { bytea: 17, int8: 20, int2: 21, int4: 23 } as const;

/** Columns as the rest reads them: whole numbers as numbers, bytes as Buffers, text as text. */
function parserOf(oid: number): (value: string) => unknown {
  if (oid === OID.int8 || oid === OID.int4 || oid === OID.int2) return Number;
  // `\x` and hexadecimal digits.
  if (oid === OID.bytea) return (value) => Buffer.from(value.slice(2), 'hex');
  return (value) => value;
}
const types = { getTypeParser: parserOf };

/** What every connection is set to. A client that stands still must not hold locks for ever. */
const SETTINGS = [
  `SET statement_timeout = ${ANSWER_TIMEOUT}`,
  `SET lock_timeout = ${LOCK_TIMEOUT}`,
  `SET idle_in_transaction_session_timeout = ${ANSWER_TIMEOUT}`,
  `SET default_transaction_isolation = 'read committed'`,
  `SET bytea_output = 'hex'`,
  `SET application_name = 'juicepod'`,
].join('; ');

/** Prepared statements by text: few, as the engine's statements are. */
const prepared = new Map<string, { readonly name: string; readonly text: string }>();

function preparedOf(text: string): { readonly name: string; readonly text: string } {
  let known = prepared.get(text);
  if (!known) {
    known = { name: `juicepod_${prepared.size + 1}`, text: text.replaceAll(/\?(\d+)/g, '$$$1') };
    prepared.set(text, known);
  }
  return known;
}

function tlsOf({ tls }: ServerUrl): NonNullable<ClientConfig['ssl']> {
  return { ...tlsMembers(tls), ...(tls.verify === 'authority' ? { checkServerIdentity: () => undefined } : {}) };
}

/** What has no values is not worth a name. */
const namedOf = ({ text, values }: Statement): Named => (values.length === 0 ? { name: '', text } : preparedOf(text));

/** The socket below, for which `pg` has no name. */
function streamOf(client: Client): Duplex {
  return (client as unknown as { readonly connection: { readonly stream: Duplex } }).connection.stream;
}

class PostgresSession implements Session {
  readonly #client: Client;
  readonly #clock: Clock;
  #broken = false;

  constructor(client: Client, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
    client.on('error', () => (this.#broken = true));
    client.on('end', () => (this.#broken = true));
  }

  /** Calls `heard` with what is announced on a channel, until it ends; then calls `ended`, once. */
  async listen(channel: string, heard: (payload: string) => void, ended: () => void): Promise<Listening> {
    const client = this.#client;
    client.on('notification', (notice) => {
      if (notice.channel === channel) heard(notice.payload ?? '');
    });
    await this.run([{ text: `LISTEN "${channel.replaceAll('"', '""')}"`, values: [] }]);
    let over = false;
    client.once('end', () => {
      if (!over) ended();
      over = true;
    });
    return {
      end: () => {
        over = true;
        this.end();
      },
    };
  }

  get broken(): boolean {
    return this.#broken;
  }

  async run(statements: readonly Statement[]): Promise<readonly Answer[]> {
    // The server ends a statement that takes too long; this is for one that does not answer at all.
    const giveUp = this.#clock.timer(ANSWER_TIMEOUT + 5000, () => this.end());
    try {
      // All of them in one packet: the server then does one after the other, without being woken for each.
      const stream = streamOf(this.#client);
      stream.cork();
      const queries = statements.map(({ text, values }) =>
        this.#client.query(
          values.length === 0
            ? { text, rowMode: 'array', types }
            : { ...preparedOf(text), values: [...values], rowMode: 'array', types },
        ),
      );
      stream.uncork();
      const answers = await Promise.allSettled(queries);
      return answers.map((answer): Answer => {
        if (answer.status === 'rejected') throw answer.reason;
        const { rows, rowCount } = answer.value;
        return { rows, changed: rowCount ?? 0 };
      });
    } finally {
      giveUp();
    }
  }

  async runUntilError(statements: readonly Statement[]): Promise<BatchAnswers> {
    const giveUp = this.#clock.timer(ANSWER_TIMEOUT + 5000, () => this.end());
    const stream = streamOf(this.#client);
    stream.cork();
    try {
      return await new Promise((settle) => {
        this.#client.query(new Batch(statements, namedOf, parserOf, settle));
        stream.uncork();
      });
    } finally {
      giveUp();
    }
  }

  end(): void {
    this.#broken = true;
    // Not in order: what is under way is not waited for.
    streamOf(this.#client).destroy();
  }
}

async function connectOnce(url: ServerUrl, clock: Clock, encrypted: boolean): Promise<PostgresSession> {
  const client = new Client({
    host: url.socket ?? url.host,
    port: url.port,
    database: url.database,
    user: url.username ?? userInfo().username,
    ...(url.password === undefined ? {} : { password: url.password }),
    ssl: encrypted ? tlsOf(url) : false,
    connectionTimeoutMillis: url.connectTimeout,
    keepAlive: true,
    pipeline: true,
  });
  const session = new PostgresSession(client, clock);
  try {
    await client.connect();
    await session.run([{ text: SETTINGS, values: [] }]);
    return session;
  } catch (error) {
    session.end();
    throw error;
  }
}

/** The server has no TLS, or will not have it otherwise. */
const withoutTls = /does not support SSL/;
const onlyWithTls = /no encryption|SSL off|pg_hba\.conf/;

/** Makes a connection, encrypted or not as the URL has it. */
export async function connectPostgres(url: ServerUrl, clock: Clock): Promise<PostgresSession> {
  const { mode } = url.tls;
  // Nothing listens in on a unix socket.
  if (url.socket !== undefined || mode === 'off') return connectOnce(url, clock, false);
  try {
    return await connectOnce(url, clock, mode !== 'allowed');
  } catch (error) {
    if (mode === 'preferred' && withoutTls.test(messageOf(error))) return connectOnce(url, clock, false);
    if (mode === 'allowed' && onlyWithTls.test(messageOf(error))) return connectOnce(url, clock, true);
    throw error;
  }
}

/** Whether an error of `pg` means that the connection is not there any more. */
export function isConnectionLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    isNetworkError(error) ||
    /Connection terminated|Connection ended|timeout expired|timeout exceeded|not queryable|Client was closed/i.test(error.message)
  );
}
