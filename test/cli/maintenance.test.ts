/** `juicepod gc`, `fsck`, `restore` and `destroy` as a person or a script runs them: what they print, what they refuse, how they end. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { blockKey } from '../../src/chunk/key.ts';
import { ROOT_INO } from '../../src/lib/int64.ts';
import { readFormat } from '../../src/meta/open.ts';
import { serialiseFormat } from '../../src/meta/format.ts';
import { hourName } from '../../src/meta/trash.ts';
import { openWorld, root, settle, type World } from '../maintenance/world.ts';
import { openUrl } from '../meta/engines.ts';
import { startRedis } from '../servers.ts';
import { inScratch, refuses, refusesInJson, run, succeeds, until } from './command.ts';

const json = async <T>(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<T> =>
  JSON.parse(await succeeds([...args, '--output', 'json'], { env })) as T;

const NO_AGE = { JFS_GC_SKIPPEDTIME: '0' };

async function inWorld(
  body: (world: World, folder: string) => Promise<void>,
  format: NonNullable<Parameters<typeof openWorld>[2]>['format'] = {},
): Promise<void> {
  await inScratch(async (folder) => {
    const ends: (() => unknown)[] = [];
    const bucket = join(folder, 'store');
    const after = (end: () => unknown): void => void ends.push(end);
    try {
      const options = { format: { bucket, ...format } };
      await body(await openWorld({ after }, `sqlite3://${join(folder, 'meta.db')}`, options), folder);
    } finally {
      for (const end of ends.toReversed()) await end();
    }
  });
}

const put = (folder: string, key: string): void => {
  const path = join(folder, 'store/maintained', key);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, 'x');
};

test('gc tells of garbage, deletes it when told to, and leaves what is young', async () => {
  await inWorld(async (world, folder) => {
    await world.file(ROOT_INO, 'file', 100_000);
    await settle(world);
    put(folder, blockKey(4242, 0, 100, false));
    const young = await succeeds(['gc', world.url]);
    assert.match(young, /^valid +0 /m);
    assert.match(young, /^too young to tell +3 /m);
    assert.match(young, /^Objects younger than 3600 s are too young to tell/m);
    const { stdout, stderr } = await run(['gc', world.url], { env: NO_AGE });
    assert.match(stdout, /^valid +2 +97\.7 KiB$/m);
    assert.match(stdout, /^leaked +1 +1 B$/m);
    assert.match(stderr, /1 objects are leaked\n.*--delete/);
    const found = await json<{ leaked: unknown; cleaned: { leaked: number } }>(['gc', world.url], NO_AGE);
    assert.deepEqual([found.leaked, found.cleaned.leaked], [{ objects: 1, bytes: 1 }, 0]);
    assert.match(await succeeds(['gc', world.url, '--delete', '--compact'], { env: NO_AGE }), /^Deleted: 1 leaked objects\.$/m);
    assert.match(await succeeds(['gc', world.url], { env: NO_AGE }), /^leaked +0 /m);
    await succeeds(['fsck', world.url]);
  });
});

test('two who collect garbage at once are not in each other’s way', async () => {
  await inWorld(async (world, folder) => {
    await world.file(ROOT_INO, 'file', 100_000);
    await settle(world);
    for (let id = 1000; id < 1400; id++) put(folder, blockKey(id, 0, 100, false));
    const args = ['gc', world.url, '--delete', '--compact'];
    await Promise.all([1, 2, 3].map(() => succeeds(args, { env: NO_AGE })));
    assert.deepEqual((await world.keys()).length, 2);
    await succeeds(['fsck', world.url]);
  });
});

test('fsck ends with 1 and names what is broken, whatever the name is made of', async () => {
  await inWorld(async (world, folder) => {
    const directory = await world.mkdir(ROOT_INO, 'a\nb');
    await world.file(directory, 'not \xff utf', 100_000);
    await world.file(directory, 'whole', 10);
    await settle(world);
    assert.match(
      await succeeds(['fsck', world.url]),
      /^Found 3 blocks \(97\.7 KiB\) of 2 slices\.\nNothing is lost or broken\.$/m,
    );
    assert.match(await succeeds(['fsck', world.url, '--path', '/', '-r']), /^Checked 2 directories and 2 files\.$/m);
    const [first = ''] = (await world.keys()).filter((key) => key.endsWith('_65536'));
    rmSync(join(folder, 'store/maintained', first));
    for (const options of [[], ['--path', '/', '--recursive', '--repair'], ['--path', '/a\nb', '-r']]) {
      const { code, stdout, stderr } = await run(['fsck', world.url, ...options]);
      assert.equal(code, 1);
      assert.match(stdout, new RegExp(`^lost: ${first}$`, 'm'));
      assert.match(stdout, /^\d+ +1 +\/a%0Ab\/not %FF utf$/m);
      assert.match(stderr, /^juicepod: 1 blocks are lost, 1 files broken\n {2}Bring/);
    }
    const { code, stdout } = await run(['fsck', world.url, '-o', 'json']);
    assert.equal(code, 1);
    const { broken } = JSON.parse(stdout) as { broken: readonly { path: string; blocks: number }[] };
    assert.deepEqual(
      broken.map(({ path, blocks }) => [path, blocks]),
      [['/a%0Ab/not %FF utf', 1]],
    );
  });
});

test('fsck mends a directory only when told to, and then ends with 0', async () => {
  await inWorld(async (world) => {
    const directory = await world.mkdir(ROOT_INO, 'd');
    await settle(world);
    const [attr] = await world.engine.nodes([directory]);
    assert.ok(attr);
    await world.engine.commit({ checks: [], writes: [{ kind: 'removeNode', ino: directory }] });
    const { code, stdout, stderr } = await run(['fsck', world.url, '--path', '/d']);
    assert.equal(code, 1);
    assert.match(stdout, /^\/d: a directory without attributes$/m);
    assert.match(stderr, /1 problems in the tree of names\n.*--path \/d --repair$/m);
    assert.match(
      await succeeds(['fsck', world.url, '--path', '/d', '--repair', '--repair-dir-mode', '0700']),
      /^\/d: a directory without attributes \(repaired\)$/m,
    );
    const [mended] = await world.engine.nodes([directory]);
    assert.deepEqual([mended?.mode, mended?.nlink], [0o700, 2]);
    await succeeds(['fsck', world.url, '--path', '/', '-r', '--sync-dir-stat']);
  });
});

test('restore puts back what was removed, and tells of what is in the way', async () => {
  await inWorld(
    async (world) => {
      await world.file(ROOT_INO, 'kept', 10);
      await world.file(ROOT_INO, 'gone', 10);
      for (const name of ['kept', 'gone']) await world.meta.unlink(root, ROOT_INO, Buffer.from(name));
      await world.file(ROOT_INO, 'kept', 20);
      const hour = hourName(world.clock.now());
      await settle(world);
      await refuses(['restore', world.url, '2001-01-01-00'], new RegExp(`no hour "2001-01-01-00"\\n.*${hour}`));
      assert.match(
        await succeeds(['restore', world.url, hour]),
        /in the trash itself, 0 put back into directories .*\n +2 belong .*--put-back/,
      );
      const { code, stdout, stderr } = await run(['restore', world.url, hour, '--put-back', '--threads', '2']);
      assert.equal(code, 1);
      assert.match(stdout, /1 restored\.\n +in the way: \d+-\d+-kept: /);
      assert.match(stderr, /^juicepod: 1 could not be restored/);
      const again = await run(['restore', world.url, hour, '--put-back', '-o', 'json']);
      const [report] = JSON.parse(again.stdout) as { restored: number; conflicts: number }[];
      assert.deepEqual([report?.restored, report?.conflicts], [0, 1]);
    },
    { trashDays: 1 },
  );
});

test('destroy wants the UUID, an unmounted volume and a yes, and then leaves nothing of it', async () => {
  await inWorld(async (world, folder) => {
    await world.file(ROOT_INO, 'file', 10);
    const { uuid } = world.format;
    const neighbour = join(folder, 'store/maintained2/chunks/0/0/1_0_1');
    mkdirSync(dirname(neighbour), { recursive: true });
    writeFileSync(neighbour, 'x');
    await refuses(
      ['destroy', world.url, 'e94d66a8-2339-4abd-b8d8-6812df737892', '--yes'],
      /with another UUID.*\n.*juicepod status/,
    );
    await refuses(['destroy', world.url, uuid, '--yes'], /"maintained" is mounted: .*:\/mnt \(session \d+\)/);
    await settle(world);
    await refuses(['destroy', world.url, uuid], /would be deleted for ever: 1 files .*\n.*--yes/);
    assert.equal((await world.keys()).length, 1, 'nothing was deleted');
    assert.match(await succeeds(['destroy', world.url, uuid, '--yes']), /Destroyed the volume "maintained": 2 objects/);
    assert.deepEqual(await world.keys(), []);
    assert.ok(existsSync(neighbour));
    await refusesInJson(['destroy', world.url, uuid, '--yes'], 'NoVolume');
  });
});

test('on Redis, destroy leaves the keys of others', async () => {
  await inScratch(async (folder) => {
    await using redis = await startRedis();
    const url = redis.url(3);
    const made = await json<{ format: { UUID: string } }>(['format', url, 'vol-a', '--bucket', join(folder, 'store')]);
    const { parseMetaUrl } = await import('../../src/meta/url.ts');
    const { RedisConnection } = await import('../../src/meta/redis/connection.ts');
    const { systemClock } = await import('../../src/lib/clock.ts');
    const { nullLogger } = await import('../../src/lib/log.ts');
    const parsed = parseMetaUrl(url);
    assert.equal(parsed.kind, 'redis');
    const connection = new RedisConnection(parsed, { clock: systemClock, logger: nullLogger, patience: 5000 });
    await connection.open();
    try {
      for (const key of ['mine', 'i', 'setting2', 'dx', 'c1_']) await connection.call('SET', key, 'kept');
      await succeeds(['destroy', url, made.format.UUID, '-y']);
      const keys = (await connection.call('KEYS', '*')) as Buffer[];
      assert.deepEqual(keys.map(String).toSorted(), ['c1_', 'dx', 'i', 'mine', 'setting2']);
    } finally {
      connection.close();
    }
  });
});

test('interrupted half-way, destroy says so, keeps the metadata, and goes on when it is run again', async () => {
  await inWorld(async (world, folder) => {
    await settle(world);
    const store = join(folder, 'store/maintained/chunks/0/0');
    for (let id = 1; id <= 15_000; id++) put(folder, blockKey(id % 1000, Math.floor(id / 1000), 65_536, false));
    const before = readdirSync(store).length;
    const { uuid } = world.format;
    const { code, stderr } = await run(['destroy', world.url, uuid, '--yes'], {
      onStart: (child) => void until('objects go', () => readdirSync(store).length < before).then(() => child.kill('SIGINT')),
    });
    assert.equal(code, 130, stderr);
    assert.match(stderr, /^juicepod: interrupted\n/);
    assert.ok(readdirSync(store).length > 0);
    await succeeds(['status', world.url]);
    await succeeds(['destroy', world.url, uuid, '--yes']);
    assert.deepEqual(readdirSync(store), []);
    await refusesInJson(['status', world.url], 'NoVolume');
  });
});

test('what is asked for wrongly is refused in a sentence', async () => {
  await inWorld(async (world, folder) => {
    await world.file(ROOT_INO, 'file', 10);
    await settle(world);
    const { url } = world;
    await refuses(['gc', url, '--threads', '0'], /--threads: wanted a number from 1 to 1000, found "0"/);
    await refuses(['gc', url], /JFS_GC_SKIPPEDTIME: wanted a number/, { env: { JFS_GC_SKIPPEDTIME: 'soon' } });
    await refuses(
      ['fsck', url, '--path', 'relative'],
      /--path: wanted a path from the root of the volume on, found "relative"\n.*--path \/projects/,
    );
    await refuses(['fsck', url, '--repair'], /--repair is for the tree of names: say which part of it with --path/);
    await refuses(['fsck', url, '--path', '/nowhere/x'], /the volume has no \/nowhere\/x \(there is no nowhere\)/);
    await refuses(['fsck', url, '--path', '/file/x'], /\/file\/x: \/file is no directory/);
    await refuses(['fsck', url, '--path', '/', '--repair-dir-mode', '999'], /--repair-dir-mode: wanted octal permissions/);
    await refuses(['restore', url, 'x'], /the trash has no hour "x"\n +It is empty/);
    await refuses(
      ['mount', url, join(folder, 'mnt'), '--skip-jobs', 'trash,all'],
      /--skip-jobs: wanted some of sessions, files, slices, trash, changelog, found "all"/,
    );
    await Promise.all(
      [['gc'], ['fsck'], ['restore', '2026-01-01-00'], ['destroy', 'uuid']].map(async ([name = '', ...more]) => {
        await refusesInJson([name, `sqlite3://${join(folder, 'none.db')}`, ...more], 'NoDatabase');
        await refuses([name, 'redis://127.0.0.1:1/0', ...more], /Redis at redis:\/\/127\.0\.0\.1:1\/0 does not answer/);
      }),
    );
    const engine = await openUrl(url);
    const format = await readFormat(engine);
    assert.ok(format);
    await engine.writeSetting(serialiseFormat({ ...format, metaVersion: 2 }));
    await engine.close();
    for (const command of [['gc'], ['fsck'], ['restore', '2026-01-01-00'], ['destroy', format.uuid]]) {
      const [name = '', ...more] = command;
      await refusesInJson([name, url, ...more], 'MetaVersionTooNew');
    }
  });
});
