/**
 * Walks over Redis collections of any size by cursor, a batch at a time. A member may come twice, none is left out: where
 * another server answers than before (a failover, a restart), the walk begins anew.
 */
import type { RedisConnection } from './connection.ts';
import { pairs } from './reads.ts';

type Page = readonly [cursor: string, items: readonly Buffer[]];

/** One step from `cursor`; the walk has ended where the next cursor is `0`. */
export async function scanPage(
  connection: RedisConnection,
  command: string,
  key: readonly string[],
  cursor: string,
  options: readonly (string | number)[],
): Promise<Page> {
  const [next, items] = (await connection.call(command, ...key, cursor, ...options)) as readonly [Buffer, readonly Buffer[]];
  return [next.toString(), items];
}

async function* pages(
  connection: RedisConnection,
  command: string,
  key: readonly string[],
  options: readonly (string | number)[],
): AsyncIterable<readonly Buffer[]> {
  for (let cursor = '0', server = connection.server; ;) {
    const [next, items] = await scanPage(connection, command, key, cursor, options);
    const same = cursor === '0' || server === connection.server;
    server = connection.server;
    if (items.length > 0) yield items;
    cursor = same ? next : '0';
    if (same && cursor === '0') return;
  }
}

/** Fields and values of a hash, or with ZSCAN members and scores of a sorted set. */
export async function* scanHash(
  connection: RedisConnection,
  key: string,
  batch: number,
  command: 'HSCAN' | 'ZSCAN' = 'HSCAN',
): AsyncIterable<readonly (readonly [field: Buffer, value: Buffer])[]> {
  for await (const items of pages(connection, command, [key], ['COUNT', batch])) yield pairs(items);
}

/** Members of a sorted set and their scores. */
export async function* scanSorted(
  connection: RedisConnection,
  key: string,
  batch: number,
): AsyncIterable<readonly (readonly [member: Buffer, score: Buffer])[]> {
  for await (const items of pages(connection, 'ZSCAN', [key], ['COUNT', batch])) yield pairs(items);
}

/** Names of keys that match a glob pattern, in batches of about a thousand. */
export function scanKeyBatches(connection: RedisConnection, pattern: string): AsyncIterable<readonly Buffer[]> {
  return pages(connection, 'SCAN', [], ['MATCH', pattern, 'COUNT', 1000]);
}

/** Names of keys that match a glob pattern. */
export async function* scanKeys(connection: RedisConnection, pattern: string): AsyncIterable<string> {
  for await (const items of scanKeyBatches(connection, pattern)) for (const item of items) yield item.toString();
}

/** Members of a set. */
export async function* scanMembers(connection: RedisConnection, key: string): AsyncIterable<string> {
  for await (const items of pages(connection, 'SSCAN', [key], ['COUNT', 1000])) for (const item of items) yield item.toString();
}
