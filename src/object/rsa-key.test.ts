import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { UserError } from '../lib/errors.ts';
import {
  checkEncryptionKey,
  generateEncryptionKey,
  isPassphraseProtected,
  isSameKey,
  openEncryptionKey,
  rewrapEncryptionKey,
  storedEncryptionKey,
} from './rsa-key.ts';

/** One key in four forms, made with OpenSSL. */
const golden = (form: string): string =>
  readFileSync(join(import.meta.dirname, '../../test/golden/keys', `rsa-${form}.pem`), 'utf8');
const PASS = 'golden-pass';
const forms = ['pkcs1', 'pkcs8', 'pkcs1-aes256', 'pkcs8-aes256'] as const;

const failsWith = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof UserError && error.code === code && pattern.test(error.message);

test('all forms of PEM that JuiceFS takes are opened, and give the same key', () => {
  const wanted = openEncryptionKey(golden('pkcs1'), undefined);
  for (const form of forms) {
    assert.equal(isPassphraseProtected(golden(form)), form.includes('aes'));
    assert.ok(isSameKey(openEncryptionKey(golden(form), PASS), wanted), form);
    // As an editor or a Secret may hand it over.
    const dressed = `Bag Attributes: none\r\n\r\n${golden(form).replaceAll('\n', '\r\n')}\r\n`;
    assert.ok(isSameKey(openEncryptionKey(dressed, PASS), wanted), `${form} with CRLF and text before it`);
    checkEncryptionKey(golden(form), PASS);
  }
});

test('a passphrase that is missing or wrong is told apart, and not shown', () => {
  for (const form of ['pkcs1-aes256', 'pkcs8-aes256']) {
    for (const none of [undefined, ''])
      assert.throws(() => openEncryptionKey(golden(form), none), failsWith('PassphraseMissing', /under a passphrase, and none/));
    // Of many wrong ones some open to garbage whose padding happens to be right.
    for (let index = 0; index < 600; index++) {
      const wrong = `Wr0ng-${index}`;
      assert.throws(
        () => openEncryptionKey(golden(form), wrong),
        (error) => failsWith('PassphraseWrong', /does not open/)(error) && !JSON.stringify(error).includes(wrong),
      );
    }
  }
});

test('what is no private RSA key is refused with what it is', () => {
  const publicKey = createPublicKey(golden('pkcs1')).export({ type: 'spki', format: 'pem' }).toString();
  const { privateKey: ec } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const damaged = golden('pkcs8').replace(/\n(.{10})/, '\nAAAAAAAAAA');
  for (const [text, pattern] of [
    ['', /no PEM block in these 0 characters/],
    ['hunter2', /no PEM block in these 7 characters/],
    [golden('pkcs8').slice(0, 200), /"PRIVATE KEY" has no end/],
    [publicKey, /this is a block "PUBLIC KEY"/],
    [publicKey + golden('pkcs1'), /this is a block "PUBLIC KEY"/],
    [ec.export({ type: 'sec1', format: 'pem' }).toString(), /this is a block "EC PRIVATE KEY"/],
    [ec.export({ type: 'pkcs8', format: 'pem' }).toString(), /this one is of type ec/],
    [damaged, /this one cannot be read/],
  ] as const)
    assert.throws(() => checkEncryptionKey(text, PASS), failsWith('EncryptionKeyInvalid', pattern), text.slice(0, 40));
});

test('a key that is too short makes no volume, but opens one', () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  assert.throws(() => checkEncryptionKey(pem, undefined), failsWith('EncryptionKeyShort', /1024 bits; at least 2048/));
  assert.ok(isSameKey(openEncryptionKey(pem, undefined), privateKey));
});

test('a key that is made is a new one of 2048 bits, and its passphrase opens it', async () => {
  const [one, other] = await Promise.all([generateEncryptionKey('käse 1'), generateEncryptionKey('käse 1')]);
  checkEncryptionKey(one, 'käse 1');
  const key = openEncryptionKey(one, 'käse 1');
  assert.equal(key.asymmetricKeyDetails?.modulusLength, 2048);
  assert.ok(!isSameKey(key, openEncryptionKey(other, 'käse 1')));
  assert.throws(() => openEncryptionKey(one, 'käse 2'), failsWith('PassphraseWrong', /./));
});

test('a key under another passphrase is the same key, and the old passphrase opens it no more', async () => {
  const wanted = openEncryptionKey(golden('pkcs1'), undefined);
  for (const form of forms) {
    const wrapped = await rewrapEncryptionKey(golden(form), PASS, 'next');
    assert.ok(isPassphraseProtected(wrapped));
    assert.ok(isSameKey(openEncryptionKey(wrapped, 'next'), wanted), form);
    assert.throws(() => openEncryptionKey(wrapped, PASS), failsWith('PassphraseWrong', /./));
  }
  await assert.rejects(rewrapEncryptionKey(golden('pkcs8-aes256'), 'wrong', 'next'), failsWith('PassphraseWrong', /./));
});

test('a passphrase that some readers would cut is refused', async () => {
  const failure = failsWith('PassphraseInvalid', /one line of 1 to 1024 bytes/);
  for (const passphrase of ['', 'two\nlines', 'x\r', 'nul\0', 'ä'.repeat(513)]) {
    await assert.rejects(generateEncryptionKey(passphrase), failure);
    await assert.rejects(rewrapEncryptionKey(golden('pkcs1'), undefined, passphrase), failure);
  }
  const longest = 'ä'.repeat(512);
  openEncryptionKey(await rewrapEncryptionKey(golden('pkcs1'), undefined, longest), longest);
});

test('a key is stored as it was given, but never in the clear where there is a passphrase', () => {
  for (const form of ['pkcs1-aes256', 'pkcs8-aes256']) assert.equal(storedEncryptionKey(golden(form), PASS), golden(form));
  assert.equal(storedEncryptionKey(golden('pkcs1'), undefined), golden('pkcs1'));
  const stored = storedEncryptionKey(golden('pkcs1'), PASS);
  assert.ok(isPassphraseProtected(stored));
  assert.ok(isSameKey(openEncryptionKey(stored, PASS), openEncryptionKey(golden('pkcs1'), undefined)));
});
