/**
 * What the engine over SQL servers needs of a driver: connections that carry several statements in one round trip, and what
 * an error means.
 */
import type { Dialect } from './dialect.ts';
import type { Row, SqlValue } from './rows.ts';

export interface Statement {
  /** With parameters `?1`, `?2`, …; see dialect.ts. Statements are few, and the same again and again. */
  readonly text: string;
  /** A list stands for its members (`oneOf`). */
  readonly values: readonly (SqlValue | readonly SqlValue[])[];
}

export interface Answer {
  readonly rows: readonly Row[];
  /** Rows that were found by an UPDATE or DELETE. */
  readonly changed: number;
}

/** One connection. Who has it has it alone. */
export interface Session {
  /**
   * Sends the statements together and answers for each. Rejects with the first error; in a transaction, what follows it has
   * then done nothing, and nothing is committed.
   */
  run(statements: readonly Statement[]): Promise<readonly Answer[]>;
  /**
   * As `run`, but what is behind a statement that fails is skipped, whatever that is, and what was answered before is told with the
   * error (undefined where there is none). Never rejects.
   */
  runUntilError(statements: readonly Statement[]): Promise<{ readonly answers: readonly Answer[]; readonly error: unknown }>;
  /** The connection is gone. */
  readonly broken: boolean;
  /** Closes it; what is under way fails. */
  end(): void;
}

/**
 * What an error means. `guarded`: a check did not hold (at-once.ts). `lost`: there is no connection, or none that can write; the same may succeed on the next one.
 * `conflict`: another transaction was in the way (a deadlock, a key that both made); it succeeds when repeated. `full`: the
 * server has no room. `range`: a value does not fit its column, `text`: it has letters that the column cannot hold. `missing`: there is no such table.
 */
export type Fault = 'guarded' | 'lost' | 'conflict' | 'refused' | 'full' | 'range' | 'text' | 'missing' | 'other';

export interface Driver {
  /** For people; never a secret. */
  readonly description: string;
  /** The server's name for people: PostgreSQL, MySQL. */
  readonly product: string;
  readonly dialect: Dialect;
  /** Statements around those that make tables, so that one client at a time does that. */
  readonly exclusively: { readonly begin: readonly string[]; readonly end: readonly string[] };
  /** Answers table and column for each column of the tables with the volume's prefix, and what it is given. */
  readonly columns: string;
  readonly columnsOf: readonly SqlValue[];
  connect(): Promise<Session>;
  faultOf(error: unknown): Fault;
  /** What to do about an error, as the rest of a sentence; undefined where its own words have to do. */
  adviceOf(error: unknown): string | undefined;
  /** Announces a subject to everybody who listens; to be sent outside of a transaction. Absent: the server cannot. */
  readonly announce?: (subject: string) => Statement;
  /** Listens on a connection of its own: `heard` gets each subject, `ended` is called once when the connection is gone. */
  readonly listen?: (heard: (subject: string) => void, ended: () => void) => Promise<Listening>;
}

export interface Listening {
  /** Closes the connection; nothing is called any more. */
  end(): void;
}

/** How long the server may take to answer what was sent together, ms; the connection is given up then. */
export const ANSWER_TIMEOUT = 60_000;
/** How long a statement waits for a row that another transaction has locked, ms; it is repeated then. */
export const LOCK_TIMEOUT = 10_000;

/** What a program did to a socket, where it is what an error tells of. */
export function isNetworkError(error: unknown): boolean {
  const { syscall, code } = (error ?? {}) as { readonly syscall?: unknown; readonly code?: unknown };
  return (
    typeof syscall === 'string' ||
    (typeof code === 'string' && /^(ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|ENOTFOUND|EAI_)/.test(code)) ||
    // Of TLS: a certificate that is being replaced, on either side.
    (typeof code === 'string' && /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|ERR_TLS|ERR_SSL)/.test(code)) ||
    (error instanceof AggregateError && error.errors.some((each) => isNetworkError(each)))
  );
}
