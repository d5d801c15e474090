/** Walks over Redis collections of any size by cursor, a batch at a time. A member may come twice, none is left out. */
import type { RedisConnection } from './connection.ts';

type Page = readonly [cursor: Buffer, items: readonly Buffer[]];

async function* pages(
  connection: RedisConnection,
  command: string,
  key: readonly string[],
  options: readonly (string | number)[],
): AsyncIterable<readonly Buffer[]> {
  let cursor = '0';
  do {
    const [next, items] = (await connection.call(command, ...key, cursor, ...options)) as Page;
    if (items.length > 0) yield items;
    cursor = next.toString();
  } while (cursor !== '0');
}

/** Fields and values of a hash, by turns: what costs least where there are many. */
export function scanFields(connection: RedisConnection, key: string, batch: number): AsyncIterable<readonly Buffer[]> {
  return pages(connection, 'HSCAN', [key], ['COUNT', batch]);
}

/** Fields and values of a hash, in pairs. */
export async function* scanHash(
  connection: RedisConnection,
  key: string,
  batch: number,
): AsyncIterable<readonly (readonly [field: Buffer, value: Buffer])[]> {
  for await (const items of scanFields(connection, key, batch)) {
    const fields: (readonly [Buffer, Buffer])[] = [];
    for (let at = 0; at + 1 < items.length; at += 2) fields.push([items[at] as Buffer, items[at + 1] as Buffer]);
    yield fields;
  }
}

/** Names of keys that match a glob pattern. */
export async function* scanKeys(connection: RedisConnection, pattern: string): AsyncIterable<string> {
  for await (const items of pages(connection, 'SCAN', [], ['MATCH', pattern, 'COUNT', 1000]))
    for (const item of items) yield item.toString();
}

/** Members of a set. */
export async function* scanMembers(connection: RedisConnection, key: string): AsyncIterable<string> {
  for await (const items of pages(connection, 'SSCAN', [key], ['COUNT', 1000])) for (const item of items) yield item.toString();
}
