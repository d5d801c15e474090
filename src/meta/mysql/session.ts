/**
 * Connections to MySQL or MariaDB (`mysql2`). Statements that are sent together go as one text, with their values written
 * into it: the protocol has no other way to send several in one round trip. The server carries them out one after the other, and
 * none behind one that fails. (MySQL, "Multiple Statement Execution Support".)
 *
 * Values in a text: numbers in decimal, bytes as X'…', and strings as the driver escapes them; so nothing of a value is ever
 * taken for a part of the statement. The session's SQL mode is set here and has no NO_BACKSLASH_ESCAPES, on which that rests.
 */
import { connect, isIP, type Socket } from 'node:net';
import { userInfo } from 'node:os';
import { type Connection, createConnection, escape, type QueryError } from 'mysql2';
import type { Clock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { APART } from '../sql/dialect.ts';
import type { Row, SqlValue } from '../sql/rows.ts';
import { ANSWER_TIMEOUT, type Answer, LOCK_TIMEOUT, type Session, type Statement } from '../sql/session.ts';
import { tlsMembers } from '../sql/tls.ts';
import { describeServerUrl, type ServerUrl } from '../url-server.ts';

/** What every connection is set to: as the tables' types want it, and the isolation that transaction.ts rests on. */
const SETTINGS: readonly Statement[] = [
  'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
  `SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', SESSION innodb_lock_wait_timeout = ${LOCK_TIMEOUT / 1000}, SESSION default_storage_engine = InnoDB`,
  'SELECT @@max_allowed_packet',
].map((text) => ({ text, values: [] }));

/**
 * Bytes that the server must take in one packet: a value is twice as long in a statement, and several go together. The least that
 * MySQL has had by default.
 */
const SMALLEST_PACKET = 4 << 20;

function literal(value: SqlValue | readonly SqlValue[] | undefined): string {
  if (value === undefined) throw new TypeError('a statement was not given all of its values');
  if (value === null) return 'NULL';
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError(`not a whole number: ${value}`);
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (typeof value === 'string') return escape(value);
  if (value instanceof Uint8Array) return `X'${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}'`;
  return value.map((each) => literal(each)).join(', ');
}

/** The statement with its values in it. */
export function render({ text, values }: Statement): string {
  return text.replaceAll(/\?(\d+)/g, (_, number: string) => literal(values[Number(number) - 1]));
}

/** What `mysql2` answers for one statement: rows, or what was done. */
type Result = readonly Row[] | { readonly affectedRows: number };

/** What a query of `mysql2` 3 has gathered: the results of its statements so far, and the number of the one that is being answered. */
interface Gathered {
  readonly _rows: readonly Result[];
  readonly _resultIndex: number;
}

const answerOf = (result: Result | undefined): Answer =>
  result === undefined || 'affectedRows' in result
    ? { rows: [], changed: result?.affectedRows ?? 0 }
    : { rows: result, changed: 0 };

class MysqlSession implements Session {
  readonly #connection: Connection;
  readonly #clock: Clock;
  #broken = false;

  constructor(connection: Connection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
    connection.on('error', () => (this.#broken = true));
    connection.on('end', () => (this.#broken = true));
  }

  get broken(): boolean {
    return this.#broken;
  }

  async run(statements: readonly Statement[]): Promise<readonly Answer[]> {
    const { answers, error } = await this.runUntilError(statements);
    if (error !== undefined) throw error;
    return answers;
  }

  async runUntilError(
    statements: readonly Statement[],
  ): Promise<{ readonly answers: readonly Answer[]; readonly error: unknown }> {
    const { results, error } = await this.#query(statements.map(render).join(APART));
    const answers: Answer[] = [];
    let last = -1;
    for (const { text } of statements) {
      last += text.split(APART).length;
      if (last >= results.length) break;
      answers.push(answerOf(results[last]));
    }
    return { answers, error };
  }

  /** Sends the text; answers what was carried out, and the error that ended it. */
  #query(sql: string): Promise<{ readonly results: readonly Result[]; readonly error: unknown }> {
    return new Promise((resolve) => {
      const giveUp = this.#clock.timer(ANSWER_TIMEOUT, () => {
        this.end();
        const error = Object.assign(new Error(`no answer within ${ANSWER_TIMEOUT / 1000} s`), { fatal: true });
        resolve({ results: [], error });
      });
      const query = this.#connection.query({ sql, rowsAsArray: true }, (error: QueryError | null) => {
        giveUp();
        const { _rows: results, _resultIndex: failed } = query as unknown as Gathered;
        if (!error) return resolve({ results, error: undefined });
        if (error.fatal) this.#broken = true;
        // The driver puts the text there, and with it all values.
        delete (error as { sql?: string }).sql;
        resolve({ results: results.slice(0, failed), error });
      });
    });
  }

  end(): void {
    this.#broken = true;
    this.#connection.destroy();
  }
}

/**
 * A socket that says whom it leads to. The driver leaves the name in the certificate to Node where the host is an address, and
 * Node, which is not told that address, would take a certificate for `localhost`.
 */
function socketTo(host: string, port: number): Socket {
  const socket = connect({ host, port, keepAlive: true, noDelay: true });
  if (isIP(host) !== 0) Object.assign(socket, { _host: host });
  return socket;
}

/** Sets a connection up. Throws UserError where the server is set up so that it cannot be used. */
async function settle(session: Session, url: ServerUrl): Promise<void> {
  const answers = await session.run(SETTINGS);
  const packet = Number(answers.at(-1)?.rows[0]?.[0]);
  if (packet < SMALLEST_PACKET)
    throw new UserError(
      'MetaSettings',
      `MySQL at ${describeServerUrl(url)} takes packets of ${packet} bytes (max_allowed_packet); ${SMALLEST_PACKET} are needed at least`,
      { hint: 'Set max_allowed_packet = 64M on the server.' },
    );
}

function connectOnce(url: ServerUrl, clock: Clock, encrypted: boolean): Promise<Session> {
  const connection = createConnection({
    ...(url.socket === undefined
      ? { host: url.host, port: url.port, stream: () => socketTo(url.host, url.port) }
      : { socketPath: url.socket }),
    user: url.username ?? userInfo().username,
    ...(url.password === undefined ? {} : { password: url.password }),
    database: url.database,
    ...(encrypted ? { ssl: { ...tlsMembers(url.tls), verifyIdentity: url.tls.verify === 'name' } } : {}),
    connectTimeout: url.connectTimeout,
    charset: 'utf8mb4',
    multipleStatements: true,
    supportBigNumbers: true,
    // 64-bit numbers that would be rounded come as text, and are refused.
    bigNumberStrings: false,
    flags: ['FOUND_ROWS'],
    enableKeepAlive: true,
  });
  const session = new MysqlSession(connection, clock);
  return new Promise((resolve, reject) => {
    connection.connect((error) => {
      if (error) {
        session.end();
        reject(error);
        return;
      }
      settle(session, url).then(
        () => resolve(session),
        (problem: unknown) => {
          session.end();
          reject(problem);
        },
      );
    });
  });
}

/** Makes a connection, encrypted or not as the URL has it. */
export async function connectMysql(url: ServerUrl, clock: Clock): Promise<Session> {
  const { mode } = url.tls;
  if (url.socket !== undefined || mode === 'off') return connectOnce(url, clock, false);
  try {
    return await connectOnce(url, clock, true);
  } catch (error) {
    if (mode === 'preferred' && /secure connection|HANDSHAKE_NO_SSL/.test(messageOf(error)))
      return connectOnce(url, clock, false);
    throw error;
  }
}
