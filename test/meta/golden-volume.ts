/** Golden volumes: the tree their manifest describes, loading their keys into a Redis, and reading their blocks. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { Redis } from 'ioredis';
import { uncompressSync } from 'lz4-napi';
import { createConnection } from 'mysql2/promise';
import { Client } from 'pg';
import type { Format } from '../../src/meta/format.ts';
import { CHUNK_SIZE, type Meta, type Piece } from '../../src/meta/types.ts';
import type { Ino } from '../../src/lib/int64.ts';

export const goldenRoot = resolve(import.meta.dirname, '..', 'golden');

export interface ManifestEntry {
  readonly path: string;
  /** As text: the inodes of the trash are above 2^53. */
  readonly ino: string;
  readonly type: string;
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
  readonly rdev?: number;
  readonly target?: string;
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly sha256?: string;
}

/** A byte string of the golden files. */
export function goldenBytes(text: string): Buffer {
  return text.startsWith('hex:') ? Buffer.from(text.slice(4), 'hex') : Buffer.from(text);
}

/** The tree of a volume as an application saw it, by path (Latin-1 of its bytes). */
export function readManifest(volume: string): ReadonlyMap<string, ManifestEntry> {
  const text = readFileSync(join(goldenRoot, volume, 'manifest.json'), 'utf8').replace(/("ino": )(\d+)/g, '$1"$2"');
  const { tree } = JSON.parse(text) as { readonly tree: readonly ManifestEntry[] };
  return new Map(tree.map((entry) => [goldenBytes(entry.path).toString('latin1'), entry]));
}

/** Writes the keys of a volume into an empty Redis database. */
export async function loadRedis(volume: string, url: string): Promise<void> {
  const redis = new Redis(url);
  try {
    const lines = readFileSync(join(goldenRoot, volume, 'redis.jsonl'), 'utf8')
      .trim()
      .split('\n');
    for (const line of lines) {
      const { key, type, value } = JSON.parse(line) as { readonly key: string; readonly type: string; readonly value: unknown };
      const name = goldenBytes(key);
      if (type === 'string') await redis.set(name, goldenBytes(value as string));
      else if (type === 'list') await redis.rpush(name, ...(value as string[]).map(goldenBytes));
      else if (type === 'set') await redis.sadd(name, ...(value as string[]).map(goldenBytes));
      else {
        const pairs = (value as (readonly [string, string | number])[]).map(
          ([a, b]) => [goldenBytes(a), goldenBytes(String(b))] as const,
        );
        if (type === 'hash') await redis.hset(name, ...pairs.flat());
        else if (type === 'zset') await redis.zadd(name, ...pairs.flatMap(([member, score]) => [score, member]));
        else throw new Error(`key ${key} has the unknown type ${type}`);
      }
    }
  } finally {
    redis.disconnect();
  }
}

/** Columns that hold bytes; the others hold numbers or text. */
const byteColumns: Readonly<Record<string, readonly string[]>> = {
  jfs_acl: ['named_users', 'named_groups'],
  jfs_chunk: ['slices'],
  jfs_delslices: ['slices'],
  jfs_delegation_token: ['token'],
  jfs_edge: ['name'],
  jfs_plock: ['records'],
  jfs_session2: ['info'],
  jfs_symlink: ['target'],
  jfs_xattr: ['value'],
};

/** Makes the tables of a volume in an empty database of PostgreSQL or MariaDB, as the official client had them, with all rows. */
export async function loadTables(volume: 'postgres-full' | 'mysql-full', port: number): Promise<void> {
  const schema = readFileSync(join(goldenRoot, volume, 'schema.sql'), 'utf8');
  // Numbers above 2^53 stay text.
  const text = readFileSync(join(goldenRoot, volume, 'rows.json'), 'utf8').replace(/(": )(\d{16,})\b/g, '$1"$2"');
  const tables = JSON.parse(text) as Readonly<Record<string, readonly Readonly<Record<string, string | number | null>>[]>>;
  const rows = Object.entries(tables).flatMap(([table, all]) =>
    all.map((row) => ({
      table,
      columns: Object.keys(row),
      values: Object.entries(row).map(([column, value]) =>
        typeof value === 'string' && byteColumns[table]?.includes(column) ? goldenBytes(value) : value,
      ),
    })),
  );
  if (volume === 'postgres-full') {
    const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
    await client.connect();
    await client.query(schema);
    for (const { table, columns, values } of rows) {
      const parameters = columns.map((_, index) => `$${index + 1}`).join(', ');
      await client.query(
        `INSERT INTO ${table} (${columns.map((name) => `"${name}"`).join(', ')}) VALUES (${parameters})`,
        values,
      );
    }
    await client.end();
    return;
  }
  const client = await createConnection({ host: '127.0.0.1', port, user: 'root', database: 'juicefs', multipleStatements: true });
  await client.query(schema);
  for (const { table, columns, values } of rows)
    await client.query(`INSERT INTO ${table} (${columns.map((name) => `\`${name}\``).join(', ')}) VALUES (?)`, [values]);
  await client.end();
}

function fnv1a(text: string): number {
  let hash = 0x811c_9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x0100_0193) >>> 0;
  return hash;
}

/** Reads the blocks of a volume from its golden store, decompressed. */
export class GoldenStore {
  readonly #folder: string;
  readonly #format: Format;

  constructor(volume: string, format: Format) {
    this.#folder = join(goldenRoot, volume, 'store');
    this.#format = format;
  }

  #block(id: number, index: number, length: number): Buffer {
    const { name, hashPrefix, shards, compression } = this.#format;
    const million = Math.floor(id / 1_000_000);
    const place = hashPrefix
      ? `${(id % 256).toString(16).toUpperCase().padStart(2, '0')}/${million}`
      : `${million}/${Math.floor(id / 1000)}`;
    const key = `${name}/chunks/${place}/${id}_${index}_${length}`;
    const shard = shards > 1 ? String(fnv1a(key) % shards) : '';
    const stored = readFileSync(join(this.#folder, shard, key));
    if (compression === 'zstd') return zstdDecompressSync(stored);
    if (compression !== 'lz4') return stored;
    const size = Buffer.alloc(4);
    size.writeUInt32LE(length);
    return uncompressSync(Buffer.concat([size, stored]));
  }

  /** The bytes that a piece shows. */
  read(piece: Piece): Buffer {
    if (piece.id === 0) return Buffer.alloc(piece.len);
    const blockSize = this.#format.blockSize * 1024;
    const parts: Buffer[] = [];
    for (let at = piece.off; at < piece.off + piece.len;) {
      const index = Math.floor(at / blockSize);
      const start = index * blockSize;
      const end = Math.min(start + blockSize, piece.size);
      const take = Math.min(end, piece.off + piece.len);
      parts.push(this.#block(piece.id, index, end - start).subarray(at - start, take - start));
      at = take;
    }
    return Buffer.concat(parts);
  }
}

/** The content of a file in order, piece by piece; at most one chunk of zeros at a time. */
export async function* contentOf(meta: Meta, store: GoldenStore, ino: Ino, length: number): AsyncGenerator<Buffer> {
  for (let index = 0; index * CHUNK_SIZE < length; index++) {
    const end = Math.min(CHUNK_SIZE, length - index * CHUNK_SIZE);
    let at = 0;
    for (const piece of await meta.readChunk(ino, index)) {
      if (piece.pos >= end) break;
      const bytes = store.read(piece).subarray(0, end - piece.pos);
      yield bytes;
      at = piece.pos + bytes.length;
    }
    if (at < end) yield Buffer.alloc(end - at);
  }
}
