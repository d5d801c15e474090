/**
 * Very many names, written straight into a volume's database past the client: Redis commands in its own format, rows in the SQL
 * tables; a minute or so for five million. One file in SLICED_EACH has 100 bytes in a block that is there, the others are empty.
 *
 * Names are not in the order in which they were made, so that a listing in the order of names finds its rows all over the table.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { createConnection } from 'mysql2/promise';
import { Client } from 'pg';
import { blockKey } from '../src/chunk/key.ts';
import { type Ino, ino, ROOT_INO } from '../src/lib/int64.ts';
import type { Write } from '../src/meta/engine.ts';
import { openEngine } from '../src/meta/open.ts';
import { encodeAttr, encodeEntry, encodeSlices } from '../src/meta/records.ts';
import { Keys } from '../src/meta/redis/keys.ts';
import { type Attr, NodeType } from '../src/meta/types.ts';
import type { EngineName } from '../test/servers.ts';

export const PREFIX = 'a-name-of-some-length-';
export const SLICED_EACH = 100;
const LENGTH = 100;
/** Names in one command or statement. */
const PER_COMMAND = 500;
const PER_STATEMENT = 50_000;
/** Bytes that wait to be sent at most. */
const MOST_WAITING = 4 << 20;

export interface Directory {
  /** Below the root. */
  readonly name: string;
  readonly count: number;
  /** Of the directory; its files have those behind, and slices the same numbers as their files. */
  readonly ino: number;
}

const time = Math.floor(Date.now() / 1000);

function node(type: NodeType, parent: Ino, length: number): Attr {
  const zero = { flags: 0, rdev: 0, accessAcl: 0, defaultAcl: 0, tier: 0, uid: 0, gid: 0 };
  const times = { atime: time, atimensec: 0, mtime: time, mtimensec: 0, ctime: time, ctimensec: 0 };
  const directory = type === NodeType.Directory;
  return { ...zero, ...times, type, mode: directory ? 0o755 : 0o644, nlink: directory ? 2 : 1, length, parent };
}

const slicesOf = (id: number): Buffer => encodeSlices([{ pos: 0, id, size: LENGTH, off: 0, len: LENGTH }]);
const isSliced = (at: number): boolean => at % SLICED_EACH === 0;

/** The files of a directory, all but the directory itself. */
type Fill = (url: string, directory: Directory) => Promise<void>;

const LINE = Buffer.from('\r\n');

/** Adds a command of bytes and texts to `parts`. */
function command(parts: Buffer[], ...words: readonly (string | Buffer)[]): void {
  parts.push(Buffer.from(`*${words.length}\r\n`));
  for (const word of words) parts.push(Buffer.from(`$${Buffer.byteLength(word)}\r\n`), Buffer.from(word), LINE);
}

const redis: Fill = async (url, directory) => {
  const { hostname, port, pathname } = new URL(url);
  const socket = connect(Number(port), hostname);
  const heard = { answers: 0, failure: '' };
  socket.on('data', (bytes) => {
    for (const line of bytes.toString('latin1').split('\n')) if (line.startsWith('-')) heard.failure ||= line;
    for (const byte of bytes) if (byte === 10) heard.answers++;
  });
  const keys = new Keys();
  const parent = ino(directory.ino);
  const [empty, full] = [0, LENGTH].map((length) => encodeAttr(node(NodeType.File, parent, length)));
  let asked = 1;
  let parts: Buffer[] = [];
  command(parts, 'SELECT', pathname.slice(1));
  for (let from = 0; from < directory.count; from += PER_COMMAND) {
    const nodes: (string | Buffer)[] = ['MSET'];
    const entries: (string | Buffer)[] = ['HSET', keys.directory(parent)];
    for (let at = from; at < Math.min(directory.count, from + PER_COMMAND); at++) {
      const number = ino(directory.ino + 1 + at);
      nodes.push(keys.node(number), (isSliced(at) ? full : empty) as Buffer);
      entries.push(PREFIX + at, encodeEntry({ type: NodeType.File, ino: number }));
      if (!isSliced(at)) continue;
      command(parts, 'RPUSH', keys.chunk(number, 0), slicesOf(number));
      asked++;
    }
    command(parts, ...nodes);
    command(parts, ...entries);
    asked += 2;
    socket.write(Buffer.concat(parts));
    parts = [];
    if (socket.writableLength > MOST_WAITING) await once(socket, 'drain');
    if (heard.failure) throw new Error(`redis: ${heard.failure}`);
  }
  while (heard.answers < asked && !heard.failure) await once(socket, 'data');
  socket.destroy();
  if (heard.failure) throw new Error(`redis: ${heard.failure}`);
};

const NODE_COLUMNS = ['flags', 'mode', 'uid', 'gid', 'atime', 'mtime', 'ctime', 'atimensec', 'mtimensec', 'ctimensec', 'rdev'];
const LATER_COLUMNS = ['access_acl_id', 'default_acl_id', 'tier_id'];

interface Sql {
  readonly run: (statement: string) => Promise<unknown>;
  /** A table `n` of the numbers `i` from `from` to `to`. */
  readonly numbers: (from: number, to: number) => string;
  readonly text: string;
  readonly bytes: (hex: string) => string;
  readonly join: (a: string, b: string) => string;
}

async function sql({ run, numbers, text, bytes, join: joined }: Sql, { ino: parent, count }: Directory): Promise<void> {
  const first = parent + 1;
  const columns = [...NODE_COLUMNS, ...LATER_COLUMNS].join(', ');
  const values = [0, 0o644, 0, 0, time * 1e6, time * 1e6, time * 1e6, 0, 0, 0, 0, 0, 0, 0].join(', ');
  for (let from = 0; from < count; from += PER_STATEMENT) {
    const last = Math.min(count, from + PER_STATEMENT) - 1;
    const n = numbers(from, last);
    await run(`INSERT INTO jfs_node (inode, type, parent, nlink, length, ${columns})
      SELECT ${first} + i, 1, ${parent}, 1, CASE WHEN i % ${SLICED_EACH} = 0 THEN ${LENGTH} ELSE 0 END, ${values} FROM ${n}`);
    await run(`INSERT INTO jfs_edge (parent, name, inode, type)
      SELECT ${parent}, CAST(${joined(`'${PREFIX}'`, 'i')} AS ${text}), ${first} + i, 1 FROM ${n}`);
    const ids: number[] = [];
    for (let at = from; at <= last; at++) if (isSliced(at)) ids.push(first + at);
    const lists = ids.map((id) => `(${id}, 0, ${bytes(slicesOf(id).toString('hex'))})`);
    await run(`INSERT INTO jfs_chunk (inode, indx, slices) VALUES ${lists.join(', ')}`);
    await run(`INSERT INTO jfs_chunk_ref (chunkid, size, refs) VALUES ${ids.map((id) => `(${id}, ${LENGTH}, 1)`).join(', ')}`);
  }
}

const sqlite: Fill = async (url, directory) => {
  const database = new DatabaseSync(url.slice('sqlite3://'.length));
  database.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN');
  await sql(
    {
      run: async (statement) => database.exec(statement),
      numbers: (from, to) =>
        `(WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${to}) SELECT i FROM n) AS n`,
      text: 'BLOB',
      bytes: (hex) => `X'${hex}'`,
      join: (a, b) => `${a} || ${b}`,
    },
    directory,
  );
  database.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE); ANALYZE');
  database.close();
};

const postgres: Fill = async (url, directory) => {
  const client = new Client({ connectionString: url });
  await client.connect();
  await sql(
    {
      run: (statement) => client.query(statement),
      numbers: (from, to) => `generate_series(${from}, ${to}) AS n(i)`,
      text: 'bytea',
      bytes: (hex) => `'\\x${hex}'`,
      join: (a, b) => `${a} || ${b}::text`,
    },
    directory,
  );
  await client.query('ANALYZE');
  await client.end();
};

const mysql: Fill = async (url, directory) => {
  const { hostname, port, username, pathname } = new URL(url.replace(/\(([^)]*)\)/, '$1'));
  const client = await createConnection({ host: hostname, port: Number(port), user: username, database: pathname.slice(1) });
  await sql(
    {
      run: (statement) => client.query(statement),
      numbers: (from, to) => `(SELECT seq AS i FROM seq_${from}_to_${to}) AS n`,
      text: 'BINARY',
      bytes: (hex) => `X'${hex}'`,
      join: (a, b) => `CONCAT(${a}, ${b})`,
    },
    directory,
  );
  await client.query('ANALYZE TABLE jfs_edge, jfs_node, jfs_chunk, jfs_chunk_ref');
  await client.end();
};

const fills: Readonly<Record<EngineName, Fill>> = { redis, sqlite, postgres, mysql };

/** Makes a directory below the root with so many files, statistics and usage along, and its blocks in a folder `store`. */
export async function fill(engine: EngineName, url: string, store: string, directory: Directory): Promise<void> {
  await fills[engine](url, directory);
  const { name, count } = directory;
  const number = ino(directory.ino);
  const sliced = Math.ceil(count / SLICED_EACH);
  for (let at = 0; at < count; at += SLICED_EACH) {
    const path = join(store, blockKey(directory.ino + 1 + at, 0, LENGTH, false));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, Buffer.alloc(LENGTH, at));
  }
  const space = count * 4096;
  const entry = { type: NodeType.Directory, ino: number };
  const writes: readonly Write[] = [
    { kind: 'putDirStat', ino: number, value: { length: sliced * LENGTH, space, inodes: count } },
    { kind: 'putNode', ino: number, attr: node(NodeType.Directory, ROOT_INO, 4096) },
    { kind: 'putEntry', parent: ROOT_INO, name: Buffer.from(name), value: entry },
    { kind: 'addDirStat', ino: ROOT_INO, delta: { length: 0, space: 4096, inodes: 1 } },
    { kind: 'touchNode', ino: ROOT_INO, sec: time, nsec: 0, nlink: 1 },
    { kind: 'addCounter', name: 'usedSpace', delta: space + 4096 },
    { kind: 'addCounter', name: 'totalInodes', delta: count + 1 },
    { kind: 'addCounter', name: 'nextInode', delta: count + 10_000 },
    { kind: 'addCounter', name: 'nextChunk', delta: count + 10_000 },
  ];
  const opened = await openEngine(url);
  try {
    const { ok } = await opened.commit({ checks: [], writes });
    if (!ok) throw new Error(`${name} could not be made`);
  } finally {
    await opened.close();
  }
}

/** Puts a directory below the root into an hour of the trash that is long over. */
export async function intoTrash(url: string, { name, ino: number }: Directory, trash: Ino): Promise<void> {
  const hour = ino(trash + 1);
  const value = { type: NodeType.Directory, ino: hour };
  const kept = { type: NodeType.Directory, ino: ino(number) };
  const opened = await openEngine(url);
  try {
    const [attr, top] = await opened.nodes([ino(number), trash]);
    if (!attr) throw new Error(`${name} is not there`);
    // A volume that was made without a trash has no root of it.
    const missing: readonly Write[] = top
      ? []
      : [{ kind: 'putNode', ino: trash, attr: { ...node(NodeType.Directory, ROOT_INO, 4096), mode: 0o555 } }];
    const { ok } = await opened.commit({
      checks: [],
      writes: [
        ...missing,
        { kind: 'removeEntry', parent: ROOT_INO, name: Buffer.from(name) },
        { kind: 'touchNode', ino: ROOT_INO, sec: time, nsec: 0, nlink: -1 },
        { kind: 'addDirStat', ino: ROOT_INO, delta: { length: 0, space: -4096, inodes: -1 } },
        { kind: 'putNode', ino: hour, attr: { ...node(NodeType.Directory, trash, 4096), mode: 0o555 } },
        { kind: 'putDirStat', ino: hour, value: { length: 0, space: 4096, inodes: 1 } },
        { kind: 'putEntry', parent: trash, name: Buffer.from('2020-01-01-00'), value },
        { kind: 'putNode', ino: ino(number), attr: { ...attr, parent: hour } },
        { kind: 'putEntry', parent: hour, name: Buffer.from(`1-${number}-${name}`), value: kept },
        { kind: 'addCounter', name: 'usedSpace', delta: 4096 },
        { kind: 'addCounter', name: 'totalInodes', delta: 1 },
      ],
    });
    if (!ok) throw new Error(`${name} could not be put into the trash`);
  } finally {
    await opened.close();
  }
}
