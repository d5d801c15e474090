/**
 * What a client keeps of names and attributes (client-cache) while others change them: counted in requests to the server, and
 * compared with what is so, over lost and silent connections too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test, type TestContext } from 'node:test';
import { FsError } from '../../src/lib/errors.ts';
import { formatIno, type Ino, parseIno, ROOT_INO } from '../../src/lib/int64.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { type Meta, SYSTEM } from '../../src/meta/types.ts';
import { Line } from '../line.ts';
import { startRedis } from '../servers.ts';
import { ask, startCluster, until } from './servers.ts';

interface Place {
  url(database: number): string;
  readonly ports: readonly number[];
  stop(): Promise<void>;
}

const places: readonly (readonly [string, () => Promise<Place>])[] = [
  [
    'one server',
    async () => {
      const server = await startRedis();
      return { url: (database) => server.url(database), ports: [server.port], stop: () => server.stop() };
    },
  ],
  [
    'a Cluster',
    async () => {
      const cluster = await startCluster(0);
      return {
        url: (database) => cluster.url(database),
        ports: cluster.servers.map(({ port }) => port),
        stop: () => cluster.stop(),
      };
    },
  ],
];

for (const [name, start] of places)
  describe(`a cache of the client over ${name}`, () => {
    let place: Place;
    let used = 0;
    before(async () => {
      place = await start();
    });
    after(() => place.stop());

    const open = async (t: TestContext, url: string): Promise<Meta> => {
      const meta = await openMeta(url, { environment: {}, backgroundJobs: false, patience: 20_000 });
      await meta.newSession('/test');
      t.after(() => meta.close());
      return meta;
    };

    /** A client that changes things and one that keeps them, on a new volume. */
    async function two(t: TestContext, through?: number): Promise<{ readonly writer: Meta; readonly keeper: Meta }> {
      const database = ++used;
      const url = place.url(database);
      const engine = await openEngine(url, { environment: {} });
      const input = { name: 'testvol', storage: 'file', bucket: '/nowhere', trashDays: 0 };
      await formatVolume(engine, newFormat(input, systemRandom));
      await engine.close();
      const cached = `${through === undefined ? url : `redis://127.0.0.1:${through}/${database}`}?client-cache=true`;
      return { writer: await open(t, url), keeper: await open(t, cached) };
    }

    const requests = async (): Promise<number> => {
      let sum = 0;
      for (const port of place.ports) {
        const stats = await ask(port, (redis) => redis.info('commandstats'));
        for (const [, calls] of stats.matchAll(/cmdstat_(?:get|mget|hget|evalsha|hmget):calls=(\d+)/g)) sum += Number(calls);
      }
      return sum;
    };

    /** What a client says of a name: size and mode, or that it is not there. */
    async function look(meta: Meta, parent: Ino, file: string): Promise<string> {
      try {
        const { ino, attr } = await meta.lookup(SYSTEM, parent, Buffer.from(file));
        return `${formatIno(ino)} ${attr.mode} ${attr.length} ${attr.nlink}`;
      } catch (error) {
        if (error instanceof FsError && error.code === 'ENOENT') return 'none';
        throw error;
      }
    }

    /** Looks until nothing is asked any more: the one that hears of changes has begun. */
    async function warm(keeper: Meta, files: readonly string[]): Promise<void> {
      await until('a cache that is used', async () => {
        const first = await requests();
        for (const file of files) await look(keeper, ROOT_INO, file);
        return (await requests()) === first;
      });
    }

    test('names of the root directory are looked up at the start, as many as were asked for', async (t) => {
      const { writer } = await two(t);
      const files = Array.from({ length: 40 }, (_, n) => `file-${n}`);
      for (const file of files) await writer.create(SYSTEM, ROOT_INO, Buffer.from(file), 0o644, 0, true);
      for (const preload of [10, 40]) {
        const engine = await openEngine(`${place.url(used)}?client-cache=true&client-cache-preload=${preload}`, {
          environment: {},
          readOnly: true,
        });
        t.after(() => engine.close());
        // This asks nothing.
        const known = (): number =>
          files.filter((file) => engine.known?.lookup(ROOT_INO, Buffer.from(file)) !== undefined).length;
        await until(`${preload} names that are known`, () => Promise.resolve(known() >= preload));
        assert.equal(known(), preload);
      }
    });

    test('a thousand looks at fifty names and their attributes cost no request, and neither do names that are not there', async (t) => {
      const { writer, keeper } = await two(t);
      const files = Array.from({ length: 50 }, (_, n) => `file-${n}`);
      const inos: Ino[] = [];
      for (const file of files.slice(0, 40))
        inos.push((await writer.create(SYSTEM, ROOT_INO, Buffer.from(file), 0o644, 0, true)).ino);
      await warm(keeper, files);
      const quiet = await requests();
      for (let n = 0; n < 20; n++)
        for (const [at, file] of files.entries()) {
          const found = await look(keeper, ROOT_INO, file);
          assert.equal(found === 'none', at >= 40);
          const ino = inos[at];
          if (ino !== undefined) await keeper.getattr(SYSTEM, ino);
        }
      // Heartbeats and statistics of two clients may fall into it.
      const cost = (await requests()) - quiet;
      assert.ok(cost < 50, `${cost} requests`);
      const plain = await requests();
      for (let n = 0; n < 20; n++) for (const file of files) await look(writer, ROOT_INO, file);
      assert.ok((await requests()) - plain >= 1000);
    });

    test('random changes by one client are known to the other, at once where it opens the file', async (t) => {
      const { writer, keeper } = await two(t);
      const files = ['a', 'b', 'c', 'd', 'e'];
      await warm(keeper, files);
      const random = mulberry(used);
      for (let n = 0; n < 300; n++) {
        const file = files[Math.floor(random() * files.length)] ?? 'a';
        const other = files[Math.floor(random() * files.length)] ?? 'b';
        const by = random() < 0.8 ? writer : keeper;
        try {
          const found = await writer.lookup(SYSTEM, ROOT_INO, Buffer.from(file));
          const kind = random();
          if (kind < 0.3) await by.setattr(SYSTEM, found.ino, { mode: 0o600 + (n % 64) });
          else if (kind < 0.5) await by.truncate(SYSTEM, found.ino, n);
          else if (kind < 0.7) await by.unlink(SYSTEM, ROOT_INO, Buffer.from(file));
          else if (kind < 0.85) await by.rename(SYSTEM, ROOT_INO, Buffer.from(file), ROOT_INO, Buffer.from(other), 0);
          else await by.link(SYSTEM, found.ino, ROOT_INO, Buffer.from(other));
        } catch (error) {
          if (!(error instanceof FsError)) throw error;
          if (error.code === 'ENOENT') await by.create(SYSTEM, ROOT_INO, Buffer.from(file), 0o644, 0, false).catch(() => {});
        }
        const now = await Promise.all(files.map((each) => look(writer, ROOT_INO, each)));
        // What it has done itself it knows at once.
        if (by === keeper) assert.deepEqual(await Promise.all(files.map((each) => look(keeper, ROOT_INO, each))), now);
        for (const said of now) {
          if (said === 'none') continue;
          const [ino = '', mode, length] = said.split(' ');
          const attr = await keeper.open(SYSTEM, parseIno(ino), 0).catch(() => undefined);
          if (attr) assert.equal(`${attr.mode} ${attr.length}`, `${mode} ${length}`);
        }
        await until('what the other has done', async () => {
          const said = await Promise.all(files.map((each) => look(keeper, ROOT_INO, each)));
          return said.every((each, at) => each === now[at]);
        });
      }
    });
  });

/** A generator of numbers from 0 to 1 that can be repeated. */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('news that do not come', () => {
  let server: Awaited<ReturnType<typeof startRedis>>;
  before(async () => {
    server = await startRedis();
  });
  after(() => server.stop());

  for (const what of ['is lost', 'is there, and silent'] as const)
    test(`when the connection that brings news ${what}, nothing is kept that has changed meanwhile`, async (t) => {
      const line = await Line.start(server.port);
      const url = `redis://127.0.0.1:${line.port}/1`;
      const direct = await openEngine(server.url(1), { environment: {} });
      await direct.reset();
      await formatVolume(direct, newFormat({ name: 'testvol', storage: 'file', bucket: '/nowhere', trashDays: 0 }, systemRandom));
      await direct.close();
      const writer = await openMeta(server.url(1), { environment: {}, backgroundJobs: false });
      await writer.newSession('/w');
      const keeper = await openMeta(`${url}?client-cache=true`, { environment: {}, readOnly: true, patience: 20_000 });
      t.after(async () => {
        await keeper.close();
        await writer.close();
        await line.cut();
      });
      const { ino } = await writer.create(SYSTEM, ROOT_INO, Buffer.from('x'), 0o600, 0, true);
      await until('a cache that is used', async () => {
        const before = await ask(server.port, (redis) => redis.info('commandstats'));
        await keeper.getattr(SYSTEM, ino);
        const gets = (text: string): string => /cmdstat_get:calls=(\d+)/.exec(text)?.[1] ?? '';
        return gets(before) === gets(await ask(server.port, (redis) => redis.info('commandstats')));
      });
      let silent = false;
      if (what === 'is lost') await line.cut();
      else {
        // Only the one that brings news sends them.
        line.silences = (data) => data.includes('ping') && (silent = true);
        await until('the silence', () => Promise.resolve(silent));
      }
      await writer.setattr(SYSTEM, ino, { mode: 0o640 });
      await line.mend();
      await until('the new mode', async () => (await keeper.getattr(SYSTEM, ino)).mode === 0o640);
      await writer.setattr(SYSTEM, ino, { mode: 0o604 });
      await until('the newer mode', async () => (await keeper.getattr(SYSTEM, ino)).mode === 0o604);
    });
});
