/** What is particular to Redis: outages, answers that are lost, a server that is full, foreign spellings of a record. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import { FsError, UserError } from '../../src/lib/errors.ts';
import { ino, ROOT_INO } from '../../src/lib/int64.ts';
import type { Check, MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { encodeAttr } from '../../src/meta/records.ts';
import { openRedis } from '../../src/meta/redis/open.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine, openMeta } from '../../src/meta/open.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { plainFile } from '../../src/meta/testing/sample.ts';
import { type Attr, NodeType, SYSTEM } from '../../src/meta/types.ts';
import { parseMetaUrl, type RedisUrl } from '../../src/meta/url.ts';
import { Line } from '../line.ts';
import { freePort, startRedis } from '../servers.ts';

let server: Awaited<ReturnType<typeof startRedis>>;
before(async () => {
  server = await startRedis();
});
after(() => server.stop());

function parse(url: string): RedisUrl {
  const parsed = parseMetaUrl(url);
  assert.ok(parsed.kind === 'redis');
  return parsed;
}

async function withLine(
  options: { readonly patience: number },
  run: (engine: MetaEngine, line: Line) => Promise<void>,
): Promise<void> {
  await using line = await Line.start(server.port);
  const engine = await openRedis(parse(`redis://127.0.0.1:${line.port}/1`), options);
  try {
    await run(engine, line);
  } finally {
    await engine.reset().catch(() => {});
    await engine.close();
  }
}

const file: Attr = { ...plainFile, atime: 1, mtime: 1, ctime: 1 };

const count = (delta: number): Transaction => ({ checks: [], writes: [{ kind: 'addCounter', name: 'usedSpace', delta }] });

async function counter(engine: MetaEngine): Promise<number> {
  const [value] = await engine.read([{ kind: 'counter', name: 'usedSpace' }]);
  return value;
}

test('a commit whose answer is lost is neither done twice nor reported as failed', async () => {
  await withLine({ patience: 10_000 }, async (engine, line) => {
    await engine.commit(count(0));
    let lost = 0;
    line.loses = (data) => data.includes('EVALSHA') && lost++ < 5;
    for (let done = 1; done <= 20; done++) assert.deepEqual(await engine.commit(count(7)), { ok: true, results: [done * 7] });
    assert.ok(lost > 5);
    assert.equal(await counter(engine), 140);
  });
});

test('commits that are out together when the connection goes are each done once', async () => {
  await withLine({ patience: 10_000 }, async (engine, line) => {
    await engine.commit(count(0));
    let lost = 0;
    line.loses = (data) => data.includes('EVALSHA') && lost++ === 0;
    const results = await Promise.all(Array.from({ length: 600 }, () => engine.commit(count(1))));
    assert.ok(results.every((result) => result.ok));
    assert.equal(await counter(engine), 600);
  });
});

test('operations wait while the server is away, and go on when it is back', async () => {
  await withLine({ patience: 20_000 }, async (engine, line) => {
    await engine.commit(count(1));
    await line.cut();
    const waiting = [engine.commit(count(1)), counter(engine), engine.lookup(ROOT_INO, Buffer.from('x'))] as const;
    await new Promise((resolve) => setTimeout(resolve, 300));
    await line.mend();
    const [committed, , found] = await Promise.all(waiting);
    assert.deepEqual(committed, { ok: true, results: [2] });
    assert.equal(found, undefined);
    await engine.reset();
    await engine.close();
  });
});

test('an operation gives up after its patience, in a sentence that names the server, and the next one works again', async () => {
  await withLine({ patience: 400 }, async (engine, line) => {
    await line.cut();
    await assert.rejects(engine.commit(count(1)), (error: unknown) => {
      assert.ok(error instanceof FsError);
      assert.equal(error.code, 'EIO');
      assert.match(error.message, /Redis at redis:\/\/127\.0\.0\.1:\d+\/1 does not answer: .*ECONNREFUSED/);
      return true;
    });
    await line.mend();
    // The connection is made anew after a pause of at most a second.
    for (let attempt = 0; ; attempt++) {
      const result = await engine.commit(count(1)).catch((error: unknown) => {
        if (attempt > 20) throw error;
      });
      if (result) break;
    }
    assert.equal(await counter(engine), 1);
    await engine.reset();
    await engine.close();
  });
});

test('a mount ends though the server is away', async () => {
  await using line = await Line.start(server.port);
  const url = `redis://127.0.0.1:${line.port}/2`;
  const engine = await openEngine(url);
  await formatVolume(engine, newFormat({ name: 'test-volume', bucket: '/nowhere' }, systemRandom));
  await engine.close();
  const meta = await openMeta(url, { patience: 3_600_000, closeGrace: 100, heartbeat: 10 });
  await meta.newSession('/mnt');
  await line.cut();
  const made = meta.mkdir(SYSTEM, ROOT_INO, Buffer.from('d'), 0o755, 0);
  await Promise.all([assert.rejects(made, { code: 'EIO' }), meta.close()]);
});

test('a server that is not there is reported with what to check', async () => {
  const port = await freePort();
  // Also where there was time for one attempt only.
  for (const patience of [15, 200])
    await assert.rejects(openRedis(parse(`redis://:secret@127.0.0.1:${port}/1`), { patience }), (error: unknown) => {
      assert.ok(error instanceof UserError);
      assert.equal(error.code, 'MetaUnreachable');
      assert.match(error.message, /ECONNREFUSED/);
      assert.doesNotMatch(`${error.message} ${String(error.stack)}`, /secret/);
      return true;
    });
});

test('a wrong password is reported at once and not repeated in the message', async () => {
  const guarded = await startRedis(['--requirepass', 'right']);
  try {
    for (const user of [':wrong@', '']) {
      const url = parse(`redis://${user}127.0.0.1:${guarded.port}/1`);
      await assert.rejects(openRedis(url, { patience: 60_000 }), (error: unknown) => {
        assert.ok(error instanceof UserError);
        assert.equal(error.code, 'MetaRefused');
        assert.doesNotMatch(error.message, /wrong/);
        return true;
      });
    }
    const engine = await openRedis(parse(`redis://:right@127.0.0.1:${guarded.port}/1`));
    assert.equal(await engine.readSetting(), undefined);
    await engine.close();
  } finally {
    await guarded.stop();
  }
});

test('a server that would drop keys is told not to, and a full one answers ENOSPC to what adds but lets things be removed', async () => {
  const small = await startRedis(['--maxmemory-policy', 'allkeys-lru']);
  const admin = new Redis(small.port, '127.0.0.1');
  const engine = await openRedis(parse(small.url(0)));
  try {
    assert.deepEqual(await admin.config('GET', 'maxmemory-policy'), ['maxmemory-policy', 'noeviction']);
    const name = Buffer.from('name');
    const put: Transaction = {
      checks: [],
      writes: [
        { kind: 'putNode', ino: ino(2), attr: file },
        { kind: 'putEntry', parent: ROOT_INO, name, value: { type: NodeType.File, ino: ino(2) } },
      ],
    };
    assert.ok((await engine.commit(put)).ok);
    await admin.config('SET', 'maxmemory', '1');
    await assert.rejects(engine.commit(put), { code: 'ENOSPC' });
    const remove: Transaction = {
      checks: [],
      writes: [
        { kind: 'removeEntry', parent: ROOT_INO, name },
        { kind: 'removeNode', ino: ino(2) },
        { kind: 'addDelfile', ino: ino(2), length: 5, time: 1 },
      ],
    };
    assert.ok((await engine.commit(remove)).ok);
    assert.equal(await engine.lookup(ROOT_INO, name), undefined);
    assert.deepEqual(await engine.scanDelfiles(2, 10), [{ ino: ino(2), length: 5 }]);
  } finally {
    await engine.close();
    admin.disconnect();
    await small.stop();
  }
});

test('scripts that the server has forgotten are loaded again', async () => {
  await withLine({ patience: 5000 }, async (engine) => {
    const admin = new Redis(server.port, '127.0.0.1');
    assert.deepEqual(await engine.commit(count(1)), { ok: true, results: [1] });
    await admin.script('FLUSH');
    assert.deepEqual(await engine.commit(count(1)), { ok: true, results: [2] });
    assert.equal(await engine.lookup(ROOT_INO, Buffer.from('x')), undefined);
    admin.disconnect();
  });
});

test('a node that an older client wrote in another length is compared by what it means', async () => {
  await withLine({ patience: 5000 }, async (engine) => {
    const admin = new Redis({ port: server.port, host: '127.0.0.1', db: 1 });
    await admin.set('i2', encodeAttr(file).subarray(0, 71));
    const [attr] = await engine.read([{ kind: 'node', ino: ino(2) }]);
    assert.deepEqual(attr, file);
    for (const scope of ['access', 'all'] as const) {
      const check: Check = { kind: 'node', ino: ino(2), expect: attr, scope };
      assert.ok((await engine.commit({ checks: [check], writes: [] })).ok, scope);
      const other: Check = { ...check, expect: { ...file, uid: 5 } };
      assert.equal((await engine.commit({ checks: [other], writes: [] })).ok, false);
    }
    admin.disconnect();
  });
});

test('the keys of a new volume are those of the official client, and our own begin with a letter it does not know', async () => {
  await withLine({ patience: 5000 }, async (engine) => {
    const admin = new Redis({ port: server.port, host: '127.0.0.1', db: 1 });
    await engine.writeSetting('{}', { trash: true, nowNs: 1_700_000_000_500_000_000n });
    const keys = (await admin.keys('*')).toSorted();
    const [ours, ...theirs] = keys.toReversed();
    assert.match(ours ?? '', /^zcommit:/);
    assert.deepEqual(theirs, ['setting', 'i9223372032828243968', 'i1']);
    assert.ok((await admin.ttl(ours ?? '')) > 0);
    const root = await admin.getBuffer('i1');
    assert.equal(
      root?.toString('hex'),
      '0021ff0000000000000000' + '000000006553f10000000000'.repeat(3) + '00000002000000000000100000000000000000000000000100',
    );
    admin.disconnect();
  });
});
