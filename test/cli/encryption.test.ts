/** Encrypted volumes on the command line: made, mounted, rotated, refused; and no passphrase or key is ever shown. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, fuseMounts, startMount } from '../mounted.ts';
import { commandLines, inScratch, refuses, refusesInJson, run, succeeds } from './command.ts';

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
