/** `juicepod format` and `status` against real databases and stores: what is made, what is refused, and that no secret is shown. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { cannotMount } from '../mounted.ts';
import { freePort, startRedis, startS3 } from '../servers.ts';
import { inScratch, refuses, refusesInJson, run, succeeds } from './command.ts';

/** Changes the setting of a volume in a SQLite file, as another client might. */
function changeSetting(path: string, change: (setting: Record<string, unknown>) => void): void {
  using database = new DatabaseSync(path);
  const row = database.prepare("SELECT value FROM jfs_setting WHERE name = 'format'").get() as { value: string };
  const setting = JSON.parse(row.value) as Record<string, unknown>;
  change(setting);
  database.prepare("UPDATE jfs_setting SET value = ? WHERE name = 'format'").run(JSON.stringify(setting));
}

test('a volume is made once, found again, and changed only in what may change', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    const bucket = join(folder, 'objects');
    const made = JSON.parse(await succeeds(['format', url, 'vol-a', '--bucket', bucket, '--output', 'json'])) as {
      made: boolean;
      format: { UUID: string };
    };
    assert.equal(made.made, true);
    assert.equal(readFileSync(join(bucket, 'vol-a/juicefs_uuid'), 'utf8'), made.format.UUID);
    assert.deepEqual(readdirSync(join(bucket, 'vol-a/testing')), [], 'nothing of the checks is left');

    assert.match(await succeeds(['format', url, 'vol-a', '--bucket', bucket]), /^Found the volume "vol-a"/);
    const other = ['format', url, 'vol-b', '--bucket', bucket];
    await refuses(other, /holds the volume "vol-a" already, not "vol-b"/);
    await refusesInJson(other, 'OtherVolume');
    await refuses(['format', url, 'vol-a', '--block-size', '1M'], /cannot be changed in this: BlockSize from 4096 to 1024/);
    await refuses(['format', url, 'vol-a', '--compress', 'lz4'], /cannot be changed in this: Compression/);
    await succeeds(['format', url, 'vol-a', '--trash-days', '7']);
    await succeeds(['format', url, 'vol-a', '--trash-days', '3', '--no-update']);
    // What was made without a trash gets one when it is switched on.
    const untrashed = `sqlite3://${join(folder, 'untrashed.db')}`;
    const again = ['format', untrashed, 'vol-c', '--bucket', bucket, '--trash-days'];
    const trashRoots = (): number => {
      using database = new DatabaseSync(join(folder, 'untrashed.db'), { readOnly: true });
      return Number(database.prepare('SELECT count(*) AS n FROM jfs_node WHERE inode = 9223372032828243968').get()?.['n']);
    };
    await succeeds([...again, '0']);
    assert.equal(trashRoots(), 0);
    await succeeds([...again, '2']);
    assert.equal(trashRoots(), 1);
    const status = JSON.parse(await succeeds(['status', url, '--output', 'json'])) as {
      Setting: { UUID: string; TrashDays: number; Bucket: string };
      Sessions: unknown[];
    };
    assert.equal(status.Setting.UUID, made.format.UUID);
    assert.equal(status.Setting.TrashDays, 7);
    assert.equal(status.Setting.Bucket, `${bucket}/`);
    assert.deepEqual(status.Sessions, []);
  });
});

test('access control lists are asked for when a volume is made, or later, and keep clients out that do not know them', async () => {
  await inScratch(async (folder) => {
    const settings = async (url: string): Promise<unknown> => {
      const { Setting } = JSON.parse(await succeeds(['status', url, '--output', 'json'])) as { Setting: Record<string, unknown> };
      return [Setting['EnableACL'], Setting['MinClientVersion']];
    };
    const [made, changed, again] = ['made', 'changed', 'again'].map((name) => `sqlite3://${join(folder, name)}.db`) as [
      string,
      string,
      string,
    ];
    for (const [url, ...options] of [[made, '--enable-acl'], [changed], [again]] as const)
      await succeeds(['format', url, 'vol', '--bucket', join(folder, url.slice(-6, -3)), ...options]);
    assert.deepEqual(await settings(made), [true, '1.2.0-A']);
    assert.deepEqual(await settings(changed), [false, '1.1.0-A']);
    assert.match(await succeeds(['config', changed, '--enable-acl']), /EnableACL: false -> true/);
    assert.deepEqual(await settings(changed), [true, '1.2.0-A']);
    assert.match(await succeeds(['config', changed, '--enable-acl']), /Nothing is to be changed/);
    await succeeds(['format', again, 'vol', '--enable-acl']);
    assert.deepEqual(await settings(again), [true, '1.2.0-A']);
    await succeeds(['format', again, 'vol', '--trash-days', '2']);
    assert.deepEqual(await settings(again), [true, '1.2.0-A'], 'and stays');
  });
});

test('a store that is in use, or cannot be written, takes no volume', async () => {
  await inScratch(async (folder) => {
    const objects = join(folder, 'objects');
    await succeeds(['format', `sqlite3://${join(folder, 'one.db')}`, 'vol-a', '--bucket', objects]);
    const again = ['format', `sqlite3://${join(folder, 'two.db')}`, 'vol-a', '--bucket', objects];
    await refuses(again, /holds objects already, the first is juicefs_uuid/);
    await refusesInJson(again, 'StorageInUse');
    writeFileSync(join(folder, 'file'), '');
    await refuses(['format', `sqlite3://${join(folder, 'three.db')}`, 'vol-c', '--bucket', join(folder, 'file')], /could not/);
    // The refused ones have left no volume behind.
    for (const name of ['two', 'three']) await refuses(['status', `sqlite3://${join(folder, `${name}.db`)}`], /holds no volume/);
  });
});

test('a store on a read-only file system takes no volume', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const place = join(folder, 'ro');
    mkdirSync(place);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=64k', 'tmpfs', place]);
    try {
      const args = ['format', `sqlite3://${join(folder, 'meta.db')}`, 'vol-a', '--bucket', join(place, 'objects')];
      await refuses(args, /could not .*read-only file system/i);
      await refusesInJson(args, 'StorageAccessDenied');
    } finally {
      execFileSync('umount', [place]);
    }
  });
});

test('a volume for newer clients, or with a key that is none, is refused by name and left alone', async () => {
  await inScratch(async (folder) => {
    const path = join(folder, 'meta.db');
    const url = `sqlite3://${path}`;
    await succeeds(['format', url, 'vol-a', '--bucket', join(folder, 'objects')]);
    const mount = ['mount', url, join(folder, 'mnt'), '--cache-dir', join(folder, 'cache')];
    for (const [change, wanted] of [
      [{ MetaVersion: 2 }, /layout version 2/],
      [{ MetaVersion: 1, MinClientVersion: '99.0.0' }, /99\.0\.0/],
      [{ MinClientVersion: '1.1.0-A', EncryptKey: 'x' }, /encryption key should be the PEM of a private RSA key/],
    ] as const) {
      changeSetting(path, (setting) => Object.assign(setting, change));
      await refuses(mount, wanted);
    }
    assert.equal(existsSync(join(folder, 'mnt/.stats')), false);
  });
});

test('a volume on Redis with a password and on S3 with keys is made and shown without any of them', async () => {
  await inScratch(async (folder) => {
    const password = 'rEdIs-PaSs-9173';
    await using redis = await startRedis(['--requirepass', password]);
    await using s3 = await startS3();
    const address = `127.0.0.1:${redis.port}/1`;
    const bucket = `${s3.endpoint}/made-by-format`;
    const keys = ['--access-key', s3.accessKey, '--secret-key', s3.secretKey];
    const format = ['format', `redis://:${password}@${address}`, 'vol-s3', '--storage', 's3', '--bucket', bucket];
    const wrong = await run(['format', `redis://:wrong@${address}`, 'vol-s3', '--storage', 's3', '--bucket', bucket, ...keys]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /refuses us: (WRONGPASS|NOAUTH)/);
    const denied = await run([...format, '--access-key', s3.accessKey, '--secret-key', 'wr0ng-SeCrEt']);
    assert.equal(denied.code, 1);
    assert.match(denied.stderr, /could not .*403.*\n.*--access-key/);
    const said = [wrong, denied];
    for (const output of ['text', 'json']) {
      said.push(await run([...format, ...keys, '--output', output]));
      said.push(await run(['status', `redis://${address}`, '--output', output], { env: { META_PASSWORD: password } }));
    }
    for (const { code } of said.slice(2)) assert.equal(code, 0);
    const all = said.map(({ stdout, stderr }) => stdout + stderr).join('\n');
    for (const secret of [password, s3.secretKey, 'wr0ng-SeCrEt', ':wrong@']) assert.ok(!all.includes(secret), secret);
    // The same keys from the environment.
    await succeeds(['format', `redis://127.0.0.1:${redis.port}/2`, 'vol-t', '--storage', 's3', '--bucket', bucket], {
      env: { META_PASSWORD: password, ACCESS_KEY: s3.accessKey, SECRET_KEY: s3.secretKey },
    });
    assert.ok(existsSync(join(s3.folder, 'made-by-format/vol-t/juicefs_uuid')));
    assert.deepEqual(readdirSync(folder), []);
  });
});

test('a database or store that nobody serves is named with its address, and no password', async () => {
  const port = await freePort();
  await refuses(['format', `redis://:hIdDeN@127.0.0.1:${port}/1`, 'vol-a'], new RegExp(`127\\.0\\.0\\.1:${port}.*ECONNREFUSED`));
  await inScratch(async (folder) => {
    const args = ['format', `sqlite3://${join(folder, 'meta.db')}`, 'vol-a', '--storage', 's3'];
    const bucket = ['--bucket', `http://127.0.0.1:${port}/bucket`, '--access-key', 'some', '--secret-key', 'hIdDeN'];
    const told = await refuses([...args, ...bucket], new RegExp(`127\\.0\\.0\\.1:${port}`));
    assert.ok(!told.includes('hIdDeN'));
  });
});
