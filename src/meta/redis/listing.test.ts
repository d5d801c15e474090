import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../lib/clock.ts';
import { ino } from '../../lib/int64.ts';
import { type Attr, NodeType } from '../types.ts';
import { encodeAttr, encodeEntry } from '../records.ts';
import type { RedisUrl } from '../url.ts';
import { ListingConnection } from './listing.ts';

const servers: Server[] = [];
after(() => servers.forEach((server) => server.close()));

/** A server that answers each request with what `answer` gives, in pieces. */
async function serve(answer: (request: string, socket: Socket) => readonly Buffer[]): Promise<RedisUrl> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      for (const request of data.toString('latin1').split(/(?=\*\d+\r\n)/))
        for (const piece of answer(request, socket)) socket.write(piece);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    kind: 'redis',
    host: '127.0.0.1',
    port,
    database: 3,
    username: 'ann',
    password: 'geheim',
    readTimeout: 2000,
    writeTimeout: 2000,
    minRetryBackoff: 20,
    maxRetryBackoff: 1000,
  };
}

const bulk = (data: Buffer): Buffer => Buffer.concat([Buffer.from(`$${data.length}\r\n`), data, Buffer.from('\r\n')]);

interface Entry {
  readonly name: Buffer;
  readonly ino: number;
}

function pageOf(cursor: string, entries: readonly Entry[]): Buffer {
  return Buffer.concat([
    Buffer.from('*2\r\n'),
    bulk(Buffer.from(cursor)),
    Buffer.from(`*${entries.length * 2}\r\n`),
    ...entries.flatMap((each) => [bulk(each.name), bulk(encodeEntry({ type: NodeType.File, ino: ino(each.ino) }))]),
  ]);
}

function cut(data: Buffer, places: readonly number[]): Buffer[] {
  const at = [0, ...places.map((place) => place % (data.length + 1)).toSorted((a, b) => a - b), data.length];
  return at.slice(1).map((end, index) => data.subarray(at[index], end));
}

test('however a reply is cut, the page has its names, types and inodes', async () => {
  const entry = fc.record({ name: fc.uint8Array({ minLength: 1, maxLength: 40 }), ino: fc.integer({ min: 1, max: 2 ** 52 }) });
  const pages = fc.array(fc.record({ cursor: fc.nat().map(String), entries: fc.array(entry, { maxLength: 30 }) }), {
    minLength: 1,
    maxLength: 4,
  });
  await fc.assert(
    fc.asyncProperty(pages, fc.array(fc.nat(), { maxLength: 12 }), async (wanted, places) => {
      const replies = wanted.map(({ cursor, entries }) => ({
        cursor,
        entries: entries.map(({ name, ino: number }) => ({ name: Buffer.from(name), ino: number })),
      }));
      let next = 0;
      const seen: string[] = [];
      const url = await serve((request) => {
        const [, , verb] = request.split('\r\n');
        seen.push(verb ?? '');
        if (verb !== 'HSCAN') return [Buffer.from('+OK\r\n')];
        const reply = replies[next++];
        return reply ? cut(pageOf(reply.cursor, reply.entries), places) : [];
      });
      const connection = new ListingConnection(url, systemClock);
      try {
        const found = await Promise.all(replies.map((_reply, index) => connection.page('d1', String(index), 100)));
        assert.deepEqual(
          found.map(
            (page) =>
              page && { cursor: page.cursor, entries: page.entries.map(({ name, ino: number }) => ({ name, ino: number })) },
          ),
          replies,
        );
        assert.deepEqual(seen.slice(0, 2), ['AUTH', 'SELECT']);
      } finally {
        connection.close();
      }
    }),
    { numRuns: 60 },
  );
});

test('however replies are cut, nodes have their attributes, and those that are not there none', async () => {
  const small = fc.integer({ min: 0, max: 0xffff_ffff });
  const attr: fc.Arbitrary<Attr> = fc.record(
    {
      flags: fc.nat(255),
      type: fc.constantFrom(NodeType.File, NodeType.Directory, NodeType.Symlink),
      mode: fc.nat(0o7777),
      uid: small,
      gid: small,
      atime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      atimensec: fc.nat(999_999_999),
      mtime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      mtimensec: fc.nat(999_999_999),
      ctime: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      ctimensec: fc.nat(999_999_999),
      nlink: small,
      length: fc.integer({ min: 0, max: 2 ** 53 - 1 }),
      rdev: small,
      parent: fc.integer({ min: 0, max: 2 ** 53 - 1 }).map(ino),
      accessAcl: fc.constantFrom(0, 7),
      defaultAcl: fc.constantFrom(0, 8),
      tier: fc.constantFrom(0, 3),
    },
    { noNullPrototype: true },
  );
  const lists = fc.array(fc.array(fc.option(attr, { nil: undefined }), { maxLength: 30 }), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(lists, fc.array(fc.nat(), { maxLength: 12 }), async (wanted, places) => {
      let next = 0;
      const url = await serve((request) => {
        const [, , verb] = request.split('\r\n');
        if (verb === 'HSCAN') return cut(pageOf('0', [{ name: Buffer.from('a'), ino: 9 }]), places);
        if (verb !== 'MGET') return [Buffer.from('+OK\r\n')];
        const nodes = wanted[next++] ?? [];
        const values = nodes.map((node) => (node ? bulk(encodeAttr(node)) : Buffer.from('$-1\r\n')));
        return cut(Buffer.concat([Buffer.from(`*${nodes.length}\r\n`), ...values]), places);
      });
      const connection = new ListingConnection(url, systemClock);
      try {
        const [page, ...found] = await Promise.all([
          connection.page('d1', '0', 10),
          ...wanted.map((nodes) => connection.nodes(nodes.map((_node, index) => `i${index}`))),
        ]);
        assert.deepEqual(found, wanted);
        assert.deepEqual(
          page?.entries.map(({ name }) => name.toString()),
          ['a'],
        );
      } finally {
        connection.close();
      }
    }),
    { numRuns: 60 },
  );
});

test('a record of a node that is too short sends the caller the other way', async () => {
  const url = await serve((request) => [
    Buffer.from(request.includes('MGET') ? `*1\r\n$62\r\n${'x'.repeat(62)}\r\n` : '+OK\r\n'),
  ]);
  const connection = new ListingConnection(url, systemClock);
  assert.equal(await connection.nodes(['i1']), undefined);
  connection.close();
});

test('a page longer than any buffer comes whole', async () => {
  const entries = Array.from({ length: 20_000 }, (_, index) => ({
    name: Buffer.from(`name-${index}`.padEnd(100, 'x')),
    ino: index + 2,
  }));
  const url = await serve((request) => [request.includes('HSCAN') ? pageOf('0', entries) : Buffer.from('+OK\r\n')]);
  const connection = new ListingConnection(url, systemClock);
  const page = await connection.page('d1', '0', 100_000);
  assert.deepEqual(
    page?.entries.map(({ name, ino: number }) => ({ name, ino: number })),
    entries,
  );
  connection.close();
});

for (const [what, reply] of [
  ['an error', '-WRONGTYPE no hash\r\n'],
  ['something else', ':1\r\n'],
  ['a value that is no entry', '*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$3\r\nabc\r\n'],
  ['the end of the connection', undefined],
] as const)
  test(`${what} sends the caller the other way, and later requests too for a while`, async () => {
    let asked = 0;
    const url = await serve((request, socket) => {
      if (!request.includes('HSCAN')) return [Buffer.from('+OK\r\n')];
      asked++;
      if (reply !== undefined) return [Buffer.from(reply)];
      socket.destroy();
      return [];
    });
    const connection = new ListingConnection(url, systemClock);
    assert.equal(await connection.page('d1', '0', 10), undefined);
    assert.equal(await connection.page('d1', '0', 10), undefined);
    assert.equal(asked, 1, 'not asked again at once');
    connection.close();
  });

test('a refused password sends the caller the other way', async () => {
  const url = await serve(() => [Buffer.from('-WRONGPASS\r\n')]);
  const connection = new ListingConnection(url, systemClock);
  assert.equal(await connection.page('d1', '0', 10), undefined);
  connection.close();
});
