/**
 * What differs between the three databases that hold JuiceFS's tables. Statements are written once (statements.ts), with
 * numbered parameters `?1`, `?2`, …, each of which may occur several times.
 *
 * MySQL's and MariaDB's `UPDATE` answers no rows: there a statement that has to answer is two, apart by `APART`, and the
 * last one answers. Both stand in one transaction, in which the row is locked.
 */

/** Between statements that are sent as one. */
export const APART = ';\n';

/** Types of columns: whole numbers, numbers the database gives out, bytes, text, and text that is told apart to the letter. */
export type ColumnType =
  'i64' | 'i32' | 'serial64' | 'serial32' | 'bytes' | 'bytes255' | 'bytes4096' | 'text' | 'text255' | 'name255';

export interface Dialect {
  readonly kind: 'sqlite' | 'postgres' | 'mysql';
  readonly types: Readonly<Record<ColumnType, string>>;
  /** What all tables begin with, without the schema: `jfs_`, or `jfs_<table_prefix>_`. */
  readonly prefix: string;
  /** A name as it is written in a statement. */
  quote(name: string): string;
  /** A table of the volume. */
  table(name: string): string;
  /** A column of bytes, as bytes. */
  bytes(expression: string): string;
  /** The same where there are many rows, as bytes or hexadecimal digits, whichever costs less. */
  manyBytes(expression: string): string;
  /** A number as text. */
  text(expression: string): string;
  /** Bytes after bytes. */
  joined(left: string, right: string): string;
  /** The whole part of a quotient of two numbers that are not negative. */
  quotient(left: string, right: string): string;
  /** Fails where this number is 0 and not 1, as nothing else does (`guarded`, session.ts). */
  oneOrFail(number: string): string;
  /** Makes a row, or changes the one with the same key: `own` is a column of that, `given` one of the new row. */
  upsert(
    table: string,
    columns: readonly string[],
    values: string,
    keys: readonly string[],
    set: (own: (column: string) => string, given: (column: string) => string) => string,
  ): string;
  /** Makes a row where there is none with its key. */
  insertMissing(table: string, columns: readonly string[], values: string, keys: readonly string[]): string;
  /** The statement, answering an expression of the row it wrote. */
  returning(statement: string, expression: string, table: string, where: string): string;
  /** The column is one of the members of a parameter, which is a list that is not empty. */
  oneOf(column: string, parameter: string): string;
  /** What is put behind a SELECT to lock what it finds: against others that lock, or only against those that change. */
  readonly forUpdate: string;
  readonly forShare: string;
}

const insert = (table: string, columns: readonly string[], values: string): string =>
  `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${values})`;

/** What SQLite and PostgreSQL have in common. */
const onConflict = {
  upsert: (
    table: string,
    columns: readonly string[],
    values: string,
    keys: readonly string[],
    set: (own: (column: string) => string, given: (column: string) => string) => string,
  ): string =>
    `${insert(`${table} AS own`, columns, values)} ON CONFLICT (${keys.join(', ')}) DO UPDATE SET ${set(
      (column) => `own.${column}`,
      (column) => `excluded.${column}`,
    )}`,
  insertMissing: (table: string, columns: readonly string[], values: string, keys: readonly string[]): string =>
    `${insert(table, columns, values)} ON CONFLICT (${keys.join(', ')}) DO NOTHING`,
  returning: (statement: string, expression: string): string => `${statement} RETURNING ${expression}`,
  quotient: (left: string, right: string): string => `${left} / ${right}`,
  oneOrFail: (number: string): string => `1 / ${number}`,
};

/** SQLite: names, link targets and values are BLOB, and `||` answers TEXT whatever it is given. */
export function sqliteDialect(prefix: string): Dialect {
  const bytes = (expression: string): string => `CAST(${expression} AS BLOB)`;
  const quote = (name: string): string => `\`${name}\``;
  return {
    kind: 'sqlite',
    types: {
      i64: 'INTEGER',
      i32: 'INTEGER',
      serial64: 'INTEGER PRIMARY KEY AUTOINCREMENT',
      serial32: 'INTEGER PRIMARY KEY AUTOINCREMENT',
      bytes: 'BLOB',
      bytes255: 'BLOB',
      bytes4096: 'BLOB',
      text: 'TEXT',
      text255: 'TEXT',
      name255: 'TEXT',
    },
    prefix,
    quote,
    table: (name) => quote(prefix + name),
    bytes,
    // node:sqlite makes a buffer of its own for each value of bytes, some 300 bytes that V8 does not know of.
    manyBytes: (expression) => `hex(${expression})`,
    text: (expression) => `CAST(${expression} AS TEXT)`,
    joined: (left, right) => bytes(`${left} || ${right}`),
    ...onConflict,
    // Nothing is locked one by one, and lists are not bound.
    oneOf: (column, parameter) => `${column} IN (${parameter})`,
    forUpdate: '',
    forShare: '',
  };
}

/** PostgreSQL 10 or newer. With `schema` that is where the tables are, else the first of the connection's search path. */
export function postgresDialect(prefix: string, schema?: string): Dialect {
  const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  return {
    kind: 'postgres',
    types: {
      i64: 'BIGINT',
      i32: 'INTEGER',
      serial64: 'BIGSERIAL PRIMARY KEY',
      serial32: 'SERIAL PRIMARY KEY',
      bytes: 'BYTEA',
      bytes255: 'BYTEA',
      bytes4096: 'BYTEA',
      text: 'TEXT',
      text255: 'VARCHAR(255)',
      name255: 'VARCHAR(255)',
    },
    prefix,
    quote,
    table: (name) => (schema === undefined ? '' : `${quote(schema)}.`) + quote(prefix + name),
    bytes: (expression) => expression,
    manyBytes: (expression) => expression,
    text: (expression) => `CAST(${expression} AS TEXT)`,
    joined: (left, right) => `${left} || ${right}`,
    ...onConflict,
    oneOf: (column, parameter) => `${column} = ANY(${parameter})`,
    forUpdate: ' FOR UPDATE',
    forShare: ' FOR SHARE',
  };
}

/** MySQL 5.7 or newer, and MariaDB. */
export function mysqlDialect(prefix: string): Dialect {
  const quote = (name: string): string => `\`${name.replaceAll('`', '``')}\``;
  return {
    kind: 'mysql',
    types: {
      i64: 'BIGINT',
      i32: 'INT',
      serial64: 'BIGINT PRIMARY KEY AUTO_INCREMENT',
      serial32: 'INT PRIMARY KEY AUTO_INCREMENT',
      bytes: 'BLOB',
      bytes255: 'VARBINARY(255)',
      bytes4096: 'VARBINARY(4096)',
      text: 'TEXT',
      text255: 'VARCHAR(255)',
      // Whatever the database was made with: by the usual collations user.A is user.a.
      name255: 'VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    },
    prefix,
    quote,
    table: (name) => quote(prefix + name),
    bytes: (expression) => expression,
    manyBytes: (expression) => expression,
    text: (expression) => `CAST(${expression} AS CHAR)`,
    joined: (left, right) => `CONCAT(${left}, ${right})`,
    quotient: (left, right) => `${left} DIV ${right}`,
    // A quotient by 0 is NULL there; a number above the largest of the largest type is an error.
    oneOrFail: (number) => `18446744073709551615 + (1 - ${number})`,
    upsert: (table, columns, values, _keys, set) =>
      `${insert(table, columns, values)} ON DUPLICATE KEY UPDATE ${set(
        (column) => column,
        (column) => `VALUES(${column})`,
      )}`,
    insertMissing: (table, columns, values, [key = '']) =>
      `${insert(table, columns, values)} ON DUPLICATE KEY UPDATE ${key} = ${key}`,
    returning: (statement, expression, table, where) => `${statement}${APART}SELECT ${expression} FROM ${table} WHERE ${where}`,
    oneOf: (column, parameter) => `${column} IN (${parameter})`,
    forUpdate: ' FOR UPDATE',
    forShare: ' LOCK IN SHARE MODE',
  };
}
