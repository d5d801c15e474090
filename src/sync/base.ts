/**
 * The base: what both sides were when they were last equal, one row a name, as a tree (a directory that moves takes its rows along).
 * It lies in an SQLite file beside the application's files, so its memory is that of SQLite's page cache (8 MiB) however
 * many files there are, and a sidecar that follows goes on from it.
 *
 * A crash of the process loses at most the rows of an open transaction. A base that is older than the truth is harmless:
 * what was done and not noted looks as if both sides had changed, equal contents are then taken as they are.
 */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { decodePrint, encodePrint, type Kind, type Print } from './print.ts';

/** The row of the tree's root. */
export const ROOT_ROW = 1;
const CACHE_KIB = 8192;
/** Paths of directories kept in memory. */
const MAX_PATHS = 10_000;

const schema = `
CREATE TABLE IF NOT EXISTS node (
  id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL, kind INTEGER NOT NULL,
  lino INTEGER, rino INTEGER NOT NULL, local BLOB, remote BLOB NOT NULL, digest BLOB, keep INTEGER NOT NULL DEFAULT 1,
  UNIQUE (parent, name)) STRICT;
CREATE INDEX IF NOT EXISTS node_lino ON node (lino);
CREATE INDEX IF NOT EXISTS node_rino ON node (rino);
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sent (rino INTEGER PRIMARY KEY, local BLOB NOT NULL, remote BLOB NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS held (name TEXT PRIMARY KEY, path BLOB NOT NULL, print BLOB NOT NULL) STRICT;
`;

export interface Row {
  readonly id: number;
  readonly parent: number;
  readonly name: Buffer;
  readonly kind: Kind;
  /** Absent: planned, not hydrated yet. */
  readonly local: Print | undefined;
  readonly remote: Print;
  /** Of a file: its content's (see content.ts); of a symbolic link: its target. */
  readonly digest: Buffer | undefined;
}

export interface NewRow extends Omit<Row, 'id'> {
  /** False for a directory that is only there for what may be below it. @default true */
  readonly keep?: boolean;
}

type Raw = Readonly<Record<string, unknown>>;

const bytes = (value: unknown): Buffer => {
  const array = value as Uint8Array;
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
};

function rowOf(raw: Raw): Row {
  return {
    id: raw['id'] as number,
    parent: raw['parent'] as number,
    name: bytes(raw['name']),
    kind: raw['kind'] as Kind,
    local: raw['local'] === null ? undefined : decodePrint(bytes(raw['local'])),
    remote: decodePrint(bytes(raw['remote'])),
    digest: raw['digest'] === null ? undefined : bytes(raw['digest']),
  };
}

export class Base implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #paths = new Map<number, Buffer>();
  #open = false;

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    this.#database.exec('PRAGMA journal_mode = WAL');
    // Safe over a crash of the process; the disk of a pod does not outlive the machine's.
    this.#database.exec('PRAGMA synchronous = NORMAL');
    this.#database.exec(`PRAGMA cache_size = -${CACHE_KIB}`);
    // The container's root file system may be read-only: nothing is spilled elsewhere.
    this.#database.exec('PRAGMA temp_store = MEMORY');
    this.#database.exec(schema);
  }

  [Symbol.dispose](): void {
    this.commit();
    this.#database.close();
  }

  #sql(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) this.#statements.set(text, (statement = this.#database.prepare(text)));
    return statement;
  }

  /** Changes are one transaction from here to `commit`. */
  begin(): void {
    if (!this.#open) this.#database.exec('BEGIN');
    this.#open = true;
  }

  commit(): void {
    if (this.#open) this.#database.exec('COMMIT');
    this.#open = false;
  }

  state(key: string): string | undefined {
    return this.#sql('SELECT value FROM state WHERE key = ?').get(key)?.['value'] as string | undefined;
  }

  setState(key: string, value: string): void {
    this.#sql('INSERT OR REPLACE INTO state VALUES (?, ?)').run(key, value);
  }

  /** Forgets everything. */
  clear(): void {
    this.commit();
    this.#database.exec('DELETE FROM node; DELETE FROM state; DELETE FROM held; DELETE FROM sent');
    this.#paths.clear();
  }

  find(parent: number, name: Buffer): Row | undefined {
    const raw = this.#sql('SELECT * FROM node WHERE parent = ? AND name = ?').get(parent, name);
    return raw && rowOf(raw);
  }

  row(id: number): Row | undefined {
    const raw = this.#sql('SELECT * FROM node WHERE id = ?').get(id);
    return raw && rowOf(raw);
  }

  /** Rows of a directory behind `after` in the order of their names. */
  children(parent: number, after: Buffer | undefined, limit: number): readonly Row[] {
    return after
      ? this.#sql('SELECT * FROM node WHERE parent = ? AND name > ? ORDER BY name LIMIT ?').all(parent, after, limit).map(rowOf)
      : this.#sql('SELECT * FROM node WHERE parent = ? ORDER BY name LIMIT ?').all(parent, limit).map(rowOf);
  }

  hasChildren(parent: number): boolean {
    return this.#sql('SELECT 1 FROM node WHERE parent = ? LIMIT 1').get(parent) !== undefined;
  }

  /** Rows of one kind with ids above `after`, in their order: parents come before their children. */
  ofKind(kind: Kind, after: number, limit: number, pending = false): readonly Row[] {
    return this.#sql(`SELECT * FROM node WHERE id > ? AND kind = ? ${pending ? 'AND local IS NULL' : ''} ORDER BY id LIMIT ?`)
      .all(after, kind, limit)
      .map(rowOf);
  }

  /** Of the files that are planned, the first names, in the order of their ids behind `after`. */
  plannedFiles(after: number, limit: number): readonly Row[] {
    return this.#sql(
      `SELECT * FROM node WHERE id > ? AND kind = 1 AND local IS NULL
         AND NOT EXISTS (SELECT 1 FROM node AS other WHERE other.rino = node.rino AND other.id < node.id)
       ORDER BY id LIMIT ?`,
    )
      .all(after, limit)
      .map(rowOf);
  }

  /** Directories from the last to the first: children come before their parents. */
  directoriesBackwards(before: number, limit: number): readonly (Row & { readonly keep: boolean })[] {
    return this.#sql('SELECT * FROM node WHERE id < ? AND kind = 2 ORDER BY id DESC LIMIT ?')
      .all(before, limit)
      .map((raw) => ({ ...rowOf(raw), keep: raw['keep'] === 1 }));
  }

  count(): { readonly files: number; readonly directories: number; readonly pending: number } {
    const raw = this.#sql(
      'SELECT count(*) AS every, sum(kind = 2) AS directories, sum(kind <> 2 AND local IS NULL) AS pending FROM node WHERE id > 1',
    ).get();
    const directories = Number(raw?.['directories'] ?? 0);
    return { files: Number(raw?.['every'] ?? 0) - directories, directories, pending: Number(raw?.['pending'] ?? 0) };
  }

  /** Rows of the same file in the pod: its other names, or the one it had before it was renamed. At most 16. */
  byLocal(ino: number): readonly Row[] {
    return this.#sql('SELECT * FROM node WHERE lino = ? LIMIT 16').all(ino).map(rowOf);
  }

  /** Rows of the same file in the volume. At most 16. */
  byRemote(ino: number): readonly Row[] {
    return this.#sql('SELECT * FROM node WHERE rino = ? AND local IS NOT NULL LIMIT 16').all(ino).map(rowOf);
  }

  /** The first row of a file of the volume, hydrated or not. */
  firstName(rino: number): number {
    return this.#sql('SELECT min(id) AS id FROM node WHERE rino = ?').get(rino)?.['id'] as number;
  }

  /** Writes a row over whatever the name had, keeping its id (and so its children). Answers the id. */
  put(row: NewRow): number {
    const raw = this.#sql(
      `INSERT INTO node (parent, name, kind, lino, rino, local, remote, digest, keep) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (parent, name) DO UPDATE SET kind = excluded.kind, lino = excluded.lino, rino = excluded.rino,
         local = excluded.local, remote = excluded.remote, digest = excluded.digest RETURNING id`,
    ).get(
      row.parent,
      row.name,
      row.kind,
      row.local?.ino ?? null,
      row.remote.ino,
      row.local ? encodePrint(row.local) : null,
      encodePrint(row.remote),
      row.digest ?? null,
      row.keep === false ? 0 : 1,
    );
    return raw?.['id'] as number;
  }

  /** The name was hydrated. */
  hydrated(id: number, local: Print, remote: Print, digest: Buffer | undefined): void {
    this.#sql('UPDATE node SET lino = ?, local = ?, remote = ?, digest = ? WHERE id = ?').run(
      local.ino,
      encodePrint(local),
      encodePrint(remote),
      digest ?? null,
      id,
    );
  }

  /** A rename: the row and all below it are at a new place; whatever was noted of that place is forgotten. */
  move(id: number, parent: number, name: Buffer): void {
    const there = this.find(parent, name);
    if (there && there.id !== id) this.remove(there.id);
    this.#sql('UPDATE node SET parent = ?, name = ? WHERE id = ?').run(parent, name, id);
    this.#paths.clear();
  }

  /** Forgets a name and all below it. */
  remove(id: number): void {
    this.#sql(
      `WITH RECURSIVE tree (id) AS (SELECT ? UNION ALL SELECT node.id FROM node JOIN tree ON node.parent = tree.id)
       DELETE FROM node WHERE id IN tree`,
    ).run(id);
    this.#paths.clear();
  }

  /** The path of a directory's row; undefined where it or one above it is no longer there. */
  path(id: number): Buffer | undefined {
    const names: Buffer[] = [];
    let at = id;
    let known: Buffer | undefined;
    while (at !== ROOT_ROW) {
      known = this.#paths.get(at);
      if (known) break;
      const row = this.row(at);
      if (!row) return undefined;
      names.unshift(row.name);
      at = row.parent;
    }
    const slash = Buffer.from('/');
    const parts = known ? [known, ...names] : names;
    const path = Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [slash, part])));
    if (this.#paths.size >= MAX_PATHS) this.#paths.clear();
    this.#paths.set(id, path);
    return path;
  }

  /**
   * A file of the volume that is about to get its name: should the process die before that is noted as a row, the next one knows that it is
   * the pod's own.
   */
  sending(rino: number, local: Print, remote: Print, digest: Buffer): void {
    this.#sql('INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?)').run(rino, encodePrint(local), encodePrint(remote), digest);
  }

  sent(rino: number): { readonly local: Print; readonly remote: Print; readonly digest: Buffer } | undefined {
    const raw = this.#sql('SELECT * FROM sent WHERE rino = ?').get(rino);
    return (
      raw && { local: decodePrint(bytes(raw['local'])), remote: decodePrint(bytes(raw['remote'])), digest: bytes(raw['digest']) }
    );
  }

  /** Without a number: all. */
  forgetSent(rino?: number): void {
    if (rino === undefined) this.#database.exec('DELETE FROM sent');
    else this.#sql('DELETE FROM sent WHERE rino = ?').run(rino);
  }

  /** A file taken out of the tree, kept until nobody can be writing to it any more. */
  hold(name: string, path: Buffer, print: Print): void {
    this.#sql('INSERT OR REPLACE INTO held VALUES (?, ?, ?)').run(name, path, encodePrint(print));
  }

  held(): readonly { readonly name: string; readonly path: Buffer; readonly print: Print }[] {
    return this.#sql('SELECT * FROM held ORDER BY rowid LIMIT 10000')
      .all()
      .map((raw) => ({ name: raw['name'] as string, path: bytes(raw['path']), print: decodePrint(bytes(raw['print'])) }));
  }

  release(name: string): void {
    this.#sql('DELETE FROM held WHERE name = ?').run(name);
  }
}
