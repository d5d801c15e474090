/** Encrypted volumes on the command line: made, mounted, rotated, refused; and no passphrase or key is ever shown. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatMountConfig, type MountConfig } from '../../src/api/mount.ts';
import { cannotMount, fuseMounts, startMount } from '../mounted.ts';
import { bin, commandLines, inScratch, refuses, refusesInJson, run, succeeds, until } from './command.ts';

const keys = join(import.meta.dirname, '../golden/keys');
const sealed = join(keys, 'rsa-pkcs8-aes256.pem');
const clear = join(keys, 'rsa-pkcs8.pem');
const PASS = 'golden-pass';
const NEXT = 'n3xt-s3cr3t';
/** The environment of a command that is given these passphrases; none is inherited from whoever runs the tests. */
const given = (passphrase = '', next = '') => ({
  env: { JFS_RSA_PASSPHRASE: passphrase, ...(next === '' ? {} : { JFS_RSA_NEW_PASSPHRASE: next }) },
});

/** All objects of a volume, one behind the other. */
function stored(folder: string): Buffer {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Buffer.concat(files.map((entry) => readFileSync(join(entry.parentPath, entry.name))));
}

test('an encrypted volume is mounted with its passphrase, and goes on while that is rotated', { skip: cannotMount }, async () => {
  for (const algorithm of ['aes256gcm-rsa', 'chacha20-rsa'])
    await inScratch(async (folder) => {
      const url = `sqlite3://${join(folder, 'meta.db')}`;
      const objects = join(folder, 'objects');
      const format = ['format', url, 'vol-a', '--bucket', objects, '--encrypt-rsa-key', sealed, '--encrypt-algo', algorithm];
      const made = await succeeds(format, given(PASS));
      assert.match(made, new RegExp(`encrypted +${algorithm}; mount with its passphrase in JFS_RSA_PASSPHRASE`));
      const shown = [made, await succeeds(format, given(PASS)), await succeeds(['status', url, '--output', 'json'])];

      assert.match(await succeeds(['status', url]), new RegExp(`encrypted +${algorithm}`));
      const target = join(folder, 'mnt');
      const options = (passphrase: string) => ({ mount: ['--log', join(folder, 'log')], ...given(passphrase) });
      const text = 'what nobody else may read; '.repeat(10_000);
      const first = await startMount(url, target, folder, options(PASS));
      writeFileSync(join(target, 'file'), text);
      const rotated = await succeeds(['rotate-passphrase', url], given(PASS, NEXT));
      assert.match(rotated, /is under the new passphrase/);
      writeFileSync(join(target, 'later'), text);
      assert.equal(readFileSync(join(target, 'file'), 'utf8'), text);
      shown.push(rotated, readFileSync(join(target, '.config'), 'utf8'));
      const lines = commandLines().map((line) => line.text);
      await first.unmount();
      assert.ok(!stored(objects).includes('nobody else'));

      const mount = ['mount', url, target, '--cache-dir', join(folder, 'other')];
      shown.push(await refuses(mount, /the encryption key does not open with the passphrase that was given/, given(PASS)));
      shown.push(await refuses(mount, /under a passphrase, and none was given\n.*JFS_RSA_PASSPHRASE/, given()));
      await refusesInJson(mount, 'PassphraseWrong', given(PASS));
      await refusesInJson(mount, 'PassphraseMissing', given());
      assert.deepEqual(fuseMounts(folder), []);

      const again = await startMount(url, target, folder, options(NEXT));
      for (const name of ['file', 'later']) assert.equal(readFileSync(join(target, name), 'utf8'), text);
      await again.unmount();
      shown.push(readFileSync(join(folder, 'mount.log'), 'utf8'), ...lines);
      for (const [index, output] of shown.entries())
        assert.doesNotMatch(output, /golden-pass|n3xt-s3cr3t|PRIVATE KEY/, `output ${index}`);
    });
});

test(
  'the client of a pod takes the passphrase from volume.json, and while it is rotated tries both',
  { skip: cannotMount },
  async () => {
    await inScratch(async (folder) => {
      const path = (name: string): string => join(folder, name);
      const url = `sqlite3://${path('meta.db')}`;
      const { format } = JSON.parse(
        await succeeds(
          ['format', url, 'vol-a', '--bucket', path('objects'), '--encrypt-rsa-key', sealed, '--output', 'json'],
          given(PASS),
        ),
      ) as { format: { UUID: string } };
      const target = path('mnt');
      const configure = (encryption?: MountConfig['encryption']): void =>
        writeFileSync(
          path('volume.json'),
          formatMountConfig({ name: 'vol-a', uuid: format.UUID, metaUrl: url, ...(encryption ? { encryption } : {}) }),
        );
      const mounts = [{ id: '0', volume: 'default/vol-a', config: path('volume.json'), target, subPath: '', readOnly: false }];
      const times = { attrTTL: 1, entryTTL: 1, dirEntryTTL: 1, negativeTTL: 0 };
      const limits = { bufferMiB: 300, readaheadMiB: 32, maxUploads: 20, maxDownloads: 200 };
      writeFileSync(path('plan.json'), JSON.stringify({ version: 1, mounts, ...times, ...limits, logLevel: 'info' }));

      let log = '';
      const processes: ChildProcess[] = [];
      const start = (...args: string[]): ChildProcess => {
        const child = spawn(bin, args, { env: { ...process.env, JFS_RSA_PASSPHRASE: PASS }, stdio: ['ignore', 'pipe', 'pipe'] });
        processes.push(child);
        for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (log += data.toString()));
        return child;
      };
      const end = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = new Promise((done) => child.once('exit', done));
        child.kill(signal);
        await ended;
      };
      const client = async (): Promise<ChildProcess> => {
        const serving = (): number => log.split('"serving"').length;
        const before = serving();
        const child = start('mount', '--plan', path('plan.json'), '--socket', path('hold.sock'));
        // Not by a look at the mount point: without a client it would stop this process.
        await until('the client serves, or ends', () => serving() > before || child.exitCode !== null);
        return child;
      };
      try {
        start('hold', '--socket', path('hold.sock'), '--mount', target);
        await until('the holder is there', () => existsSync(path('hold.sock')));
        // A pod's volumes have a passphrase each: what lies in the environment is none of theirs.
        configure();
        assert.equal((await client()).exitCode, 1);
        assert.match(log, /under a passphrase, and none was given/);
        configure({ passphrase: NEXT });
        assert.equal((await client()).exitCode, 1);
        configure({ passphrase: NEXT, previous: PASS });
        const first = await client();
        writeFileSync(join(target, 'file'), 'written before');
        await succeeds(['rotate-passphrase', url], given(PASS, NEXT));
        await end(first, 'SIGKILL');
        await client();
        assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'written before');
        writeFileSync(join(target, 'file'), 'written after');
        assert.equal(readFileSync(join(target, 'file'), 'utf8'), 'written after');
      } finally {
        for (const child of processes.toReversed()) await end(child, 'SIGTERM');
      }
      assert.deepEqual(fuseMounts(folder), []);
      assert.doesNotMatch(log, /golden-pass|n3xt-s3cr3t|PRIVATE KEY/);
    });
  },
);

test('a passphrase is rotated from a file or the environment; once it is, there is nothing to do', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    const bucket = ['--bucket', join(folder, 'objects')];
    await succeeds(['format', url, 'vol-a', ...bucket, '--encrypt-rsa-key', sealed], given(PASS));
    const file = join(folder, 'next');
    writeFileSync(file, `${NEXT}\n`);
    const rotate = ['rotate-passphrase', url];
    await refuses(rotate, /no new passphrase was given\n.*JFS_RSA_NEW_PASSPHRASE/, given(PASS));
    await refuses(
      [...rotate, '--new-passphrase-file', join(folder, 'none')],
      /--new-passphrase-file: .*cannot be read/,
      given(PASS),
    );
    await refusesInJson([...rotate, '--new-passphrase-file', file], 'PassphraseWrong', given('other'));
    assert.deepEqual(JSON.parse(await succeeds([...rotate, '--new-passphrase-file', file, '--output', 'json'], given(PASS))), {
      rotated: true,
    });
    assert.match(await succeeds(rotate, given(PASS, NEXT)), /already. Nothing was changed/);
    writeFileSync(file, 'two\nlines\n');
    await refusesInJson([...rotate, '--new-passphrase-file', file], 'PassphraseInvalid', given(NEXT));

    const other = `sqlite3://${join(folder, 'other.db')}`;
    await refuses(['rotate-passphrase', `${other}x`], /other\.dbx/, given(PASS, NEXT));
    await succeeds(['format', other, 'vol-b', ...bucket]);
    await refusesInJson(['rotate-passphrase', other], 'NotEncrypted', given(PASS, NEXT));
  });
});

test('a key in the clear is put under the passphrase, and without one it is said what that means', async () => {
  await inScratch(async (folder) => {
    const bucket = ['--bucket', join(folder, 'objects')];
    const url = (name: string): string => `sqlite3://${join(folder, `${name}.db`)}`;
    const format = (name: string): string[] => ['format', url(name), name, ...bucket, '--encrypt-rsa-key', clear];
    assert.match(await succeeds(format('guarded'), given(PASS)), /mount with its passphrase/);
    await refusesInJson(['rotate-passphrase', url('guarded')], 'PassphraseMissing', given('', NEXT));
    assert.match(await succeeds(format('open'), given()), /its key has no passphrase: whoever reads the metadata/);
    assert.match(await succeeds(['rotate-passphrase', url('open')], given('', NEXT)), /under the new passphrase/);
    await refusesInJson(['rotate-passphrase', url('open')], 'PassphraseWrong', given(PASS, 'third'));
  });
});

test('encryption that cannot be is refused before anything is made', async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    const bucket = ['--bucket', join(folder, 'objects')];
    const format = (...more: string[]): string[] => ['format', url, 'vol-a', ...bucket, ...more];
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    const shown = [
      await refuses(format('--encrypt-rsa-key', sealed), /under a passphrase, and none was given/, given()),
      await refuses(format('--encrypt-rsa-key', sealed), /does not open with the passphrase/, given(NEXT)),
      await refuses(format('--encrypt-rsa-key', join(folder, 'none')), /--encrypt-rsa-key: .*cannot be read/, given()),
      await refuses(format('--encrypt-rsa-key', file('text', NEXT)), /PEM of a private RSA key; there is no PEM block/, given()),
      await refuses(format('--encrypt-algo', 'chacha20-rsa'), /not with which key.*\n.*--encrypt-rsa-key/, given()),
      await refuses(
        format('--encrypt-rsa-key', clear, '--encrypt-algo', 'sm4gcm'),
        /wanted aes256gcm-rsa or chacha20-rsa/,
        given(),
      ),
    ].join('');
    assert.doesNotMatch(shown, /golden-pass|n3xt-s3cr3t|PRIVATE KEY/);
    assert.match((await run(['status', url])).stderr, /holds no volume|no such|not exist/i);

    await succeeds(format());
    await refuses(format('--encrypt-rsa-key', clear), /is there already, and it is not encrypted/, given());
    await refusesInJson(format('--encrypt-rsa-key', clear), 'EncryptionFixed', given());
  });
});

test('a program that reads a file whose objects were tampered with is told EIO', { skip: cannotMount }, async () => {
  await inScratch(async (folder) => {
    const url = `sqlite3://${join(folder, 'meta.db')}`;
    const objects = join(folder, 'objects');
    await succeeds(
      ['format', url, 'vol-a', '--bucket', objects, '--encrypt-rsa-key', sealed, '--block-size', '64K'],
      given(PASS),
    );
    const options = { mount: ['--cache-dir', 'memory'], ...given(PASS) };
    const content = Buffer.alloc(200_000, 'content ');
    {
      await using mounted = await startMount(url, join(folder, 'mnt'), folder, options);
      for (const name of ['whole', 'changed']) writeFileSync(join(mounted.folder, name), content);
    }
    const blocks = readdirSync(join(objects, 'vol-a/chunks/0/0')).toSorted();
    assert.equal(blocks.length, 8);
    // The third block of the second file.
    const block = join(objects, 'vol-a/chunks/0/0', blocks.findLast((name) => name.includes('_2_')) ?? '');
    const bytes = readFileSync(block);
    bytes[bytes.length - 100]! ^= 1;
    writeFileSync(block, bytes);
    await using mounted = await startMount(url, join(folder, 'mnt'), folder, options);
    assert.ok((await readFile(join(mounted.folder, 'whole'))).equals(content));
    const file = await open(join(mounted.folder, 'changed'));
    // A read that begins before the block may end there; one in it has nothing to give.
    for (const offset of [131_072, 196_607])
      await assert.rejects(file.read(Buffer.alloc(100), 0, 100, offset), { code: 'EIO' }, `at ${offset}`);
    for (const offset of [70_000, 197_000]) {
      const { buffer } = await file.read(Buffer.alloc(1000), 0, 1000, offset);
      assert.ok(buffer.equals(content.subarray(offset, offset + 1000)), 'the blocks beside it are still read');
    }
    await file.close();
  });
});
