/** `juicepod debug`: what is in the archive, and that no secret is, wherever the mount had one. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { bin, inScratch, refuses, run, succeeds, until } from '../cli/command.ts';
import { cannotInteroperate, mountOfficial, run as official } from '../interop/official.ts';
import { cannotMount, freshVolume } from '../mounted.ts';
import { startRedis, startS3 } from '../servers.ts';
import { scrape } from './scrape.ts';

/** Unpacks an archive; answers its files by name, without the folder that they lie in. */
function unpack(archive: Buffer): ReadonlyMap<string, string> {
  const list = execFileSync('tar', ['-tzf', '-'], { input: archive }).toString().trimEnd().split('\n');
  return new Map(
    list.map((name) => [
      name.slice(name.indexOf('/') + 1),
      execFileSync('tar', ['-xzOf', '-', name], { input: archive, maxBuffer: 1 << 27 }).toString(),
    ]),
  );
}

const SHORT = ['--stats-sec', '1', '--profile-sec', '1'];

test('the archive holds what helps, and none of the secrets that the mount was given', { skip: cannotMount }, async () => {
  const password = 'canary-database-9f1c';
  const passphrase = 'canary-passphrase-77aa';
  await using redis = await startRedis(['--requirepass', password]);
  await using s3 = await startS3();
  await inScratch(async (folder) => {
    const url = `redis://:${password}@127.0.0.1:${redis.port}/1`;
    const keys = ['--access-key', s3.accessKey, '--secret-key', s3.secretKey];
    await succeeds(['format', url, 'vol-a', '--storage', 's3', '--bucket', `${s3.endpoint}/blocks`, ...keys]);
    const log = join(folder, 'log');
    const target = join(folder, 'mnt');
    const env = { JFS_RSA_PASSPHRASE: passphrase, SECRET_KEY: s3.secretKey };
    await succeeds(['mount', url, target, '-d', '--log', log, '--cache-dir', join(folder, 'cache')], { env });
    try {
      writeFileSync(join(target, 'file'), 'content');
      // As if something had told them, and something of another's.
      appendFileSync(log, `failed for ${password}, ${s3.secretKey} and ${passphrase}\n`);
      appendFileSync(log, '{"message":"x","secretKey":"canary-unknown-1"}\nmysql://u:canary-unknown-2@(h)/d\nlast line\n');
      const said = JSON.parse(
        await succeeds(['debug', target, '--out-dir', join(folder, 'out'), ...SHORT, '--output', 'json']),
      ) as {
        bundle: string;
        files: string[];
      };
      assert.deepEqual(readdirSync(join(folder, 'out')), [basename(said.bundle)]);
      const files = unpack(readFileSync(said.bundle));
      assert.equal(files.size, said.files.length);
      for (const [name, wanted] of [
        ['system.json', /"juicepod": "\d/],
        ['mounts.json', /JuiceFS:vol-a/],
        ['config.json', /"Name": "vol-a"/],
        ['stats.0s.txt', /^juicefs_uptime /m],
        ['stats.1s.txt', /^juicefs_uptime /m],
        ['metrics.txt', /^# TYPE juicefs_uptime gauge$/m],
        ['heap.json', /"used_heap_size":\d+/],
        ['client.1s.cpuprofile', /^\{"nodes":\[/],
        ['log.txt', /last line\n$/],
        ['client/status.txt', /^VmRSS:/m],
        ['client/limits.txt', /^Max open files/m],
        ['client/cmdline.txt', /serve /],
        ['parent/cmdline.txt', /supervise /],
        ['client/files.txt', /\/dev\/fuse|socket/],
        ['cache-disk.json', /"bavail":/],
      ] as const)
        assert.match(files.get(name) ?? '', wanted, name);
      assert.match(files.get('log.txt') ?? '', /failed for \*\*\*, \*\*\* and \*\*\*/);
      const all = [...files].map(([name, text]) => `${name}\n${text}`).join('\n');
      for (const secret of [password, passphrase, s3.secretKey, s3.accessKey, 'canary'])
        assert.ok(!all.includes(secret), `${secret} is in ${[...files].find(([, text]) => text.includes(secret))?.[0]}`);

      const limited = unpack(
        spawnSync(bin, ['debug', target, '--out-dir', '-', '--limit', '1', '--stats-sec', '0', '--profile-sec', '0'], {
          maxBuffer: 1 << 27,
        }).stdout,
      );
      assert.equal(limited.get('log.txt'), 'last line\n');
      assert.ok(![...limited.keys()].some((name) => name.endsWith('.cpuprofile')));

      const out = join(folder, 'interrupted');
      const { code } = await run(['debug', target, '--out-dir', out], {
        onStart: (child) => void until('it has begun', () => existsSync(out)).then(() => child.kill('SIGINT')),
      });
      assert.equal(code, 130);
      assert.deepEqual(readdirSync(out), []);
      await refuses(['debug', target, '--out-dir', join(log, 'below')], /--out-dir: .* is no folder/);
      await refuses(['debug', folder], /is not the root of a mounted volume/);
    } finally {
      await succeeds(['umount', target]);
    }
  });
});

test(
  'a mount that serves no metrics, and one of the official client, are told of as far as they can',
  { skip: cannotInteroperate },
  async () => {
    await using quiet = await freshVolume('sqlite', { mount: ['--metrics', 'none'] });
    const archive = (target: string): ReadonlyMap<string, string> =>
      unpack(
        spawnSync(bin, ['debug', target, '--out-dir', '-', '--stats-sec', '0', '--profile-sec', '1'], { maxBuffer: 1 << 27 })
          .stdout,
      );
    const files = archive(quiet.folder);
    assert.match(files.get('missing.txt') ?? '', /client\.cpuprofile: the client serves no metrics/);
    assert.match(files.get('stats.0s.txt') ?? '', /^juicefs_uptime /m);
    await inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'meta.db')}`;
      await official(['format', url, 'testvol', '--bucket', join(folder, 'store')]);
      await using theirs = await mountOfficial(url, join(folder, 'mnt'), ['--cache-dir', join(folder, 'cache')]);
      // It answers before it serves metrics.
      await until('it serves metrics', () => scrape(theirs.folder).then(Boolean, () => false));
      const other = archive(theirs.folder);
      assert.match(other.get('metrics.txt') ?? '', /juicefs_go_/);
      assert.match(other.get('config.json') ?? '', /testvol/);
      assert.match(other.get('missing.txt') ?? '', /cpuprofile: 404/);
    });
  },
);
