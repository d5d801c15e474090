/** The key of an encrypted volume in its format, on every engine: how it is stored, and put under another passphrase. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UserError } from '../../src/lib/errors.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { envelopeOf, rotatePassphrase } from '../../src/meta/encryption.ts';
import type { MetaEngine, Transaction } from '../../src/meta/engine.ts';
import { parseFormat, redacted, serialiseFormat } from '../../src/meta/format.ts';
import { changedFormat, type EncryptionInput, type FormatInput, newFormat } from '../../src/meta/format-input.ts';
import { decryptSecrets } from '../../src/meta/format-secrets.ts';
import { formatVolume } from '../../src/meta/open.ts';
import { changeSetting } from '../../src/meta/setting.ts';
import { openEncryptionKey } from '../../src/object/rsa-key.ts';
import { describeEngines, openUrl } from './engines.ts';

const golden = (form: string): string => readFileSync(join(import.meta.dirname, '../golden/keys', `rsa-${form}.pem`), 'utf8');
const PASS = 'golden-pass';
const sealed = golden('pkcs8-aes256');

const failsWith =
  (code: string, pattern = /./) =>
  (error: unknown) =>
    error instanceof UserError && error.code === code && pattern.test(error.message) && !/golden-|PRIVATE/.test(String(error));

const make = (encryption?: EncryptionInput, more: Partial<FormatInput> = {}) =>
  newFormat({ name: 'vol', bucket: '/b', ...more, ...(encryption ? { encryption } : {}) }, systemRandom);

test('the format of an encrypted volume holds the key as it was given, and not in the clear', () => {
  for (const algorithm of ['aes256gcm-rsa', 'chacha20-rsa'] as const) {
    const format = make({ key: sealed, passphrase: PASS, algorithm }, { secretKey: 's3-secret' });
    assert.deepEqual([format.encryptAlgo, format.keyEncrypted], [algorithm, true]);
    assert.ok(!/PRIVATE|s3-secret/.test(serialiseFormat(format)));
    assert.equal(decryptSecrets(format).encryptKey, sealed);
    assert.equal(envelopeOf(format, PASS)?.algorithm, algorithm);
    assert.doesNotMatch(serialiseFormat(redacted(decryptSecrets(format))), /PRIVATE|s3-secret/);
  }
  assert.equal(envelopeOf(make(), PASS), undefined);
});

test('a key that does not open makes no format', () => {
  assert.throws(() => make({ key: sealed }), failsWith('PassphraseMissing'));
  assert.throws(() => make({ key: sealed, passphrase: 'golden-nope' }), failsWith('PassphraseWrong'));
  assert.throws(() => make({ key: 'golden-no-key' }), failsWith('EncryptionKeyInvalid'));
});

test('while a passphrase is rotated, either of two opens the volume, and none that is another', () => {
  const format = make({ key: sealed, passphrase: PASS });
  for (const passphrases of [[PASS], [PASS, 'next'], ['next', PASS]]) assert.ok(envelopeOf(format, passphrases));
  assert.throws(() => envelopeOf(format, ['next', 'other']), failsWith('PassphraseWrong'));
  for (const none of [[], undefined, '', ['']]) assert.throws(() => envelopeOf(format, none), failsWith('PassphraseMissing'));
});

test('encryption stays as it was made; the same key again is no change', () => {
  const old = decryptSecrets(make({ key: sealed, passphrase: PASS }));
  const again = (encryption: EncryptionInput) => changedFormat(old, { encryption, trashDays: 3 }, systemRandom);
  for (const form of ['pkcs8-aes256', 'pkcs1-aes256', 'pkcs1']) {
    const next = again({ key: golden(form), passphrase: PASS });
    assert.deepEqual([decryptSecrets(next).encryptKey, next.trashDays, next.keyEncrypted], [sealed, 3, true], form);
  }
  assert.throws(
    () => again({ key: sealed, passphrase: PASS, algorithm: 'chacha20-rsa' }),
    failsWith('EncryptionFixed', /aes256gcm-rsa, not chacha20-rsa/),
  );
  const plain = decryptSecrets(make());
  assert.throws(
    () => changedFormat(plain, { encryption: { key: sealed, passphrase: PASS } }, systemRandom),
    failsWith('EncryptionFixed', /not encrypted/),
  );
});

describeEngines('the passphrase of a volume', (database) => {
  const engines: MetaEngine[] = [];
  after(() => Promise.all(engines.map((engine) => engine.close())));
  const volume = async (encryption?: EncryptionInput): Promise<MetaEngine> => {
    const engine = await openUrl(database.newUrl());
    engines.push(engine);
    assert.ok(await formatVolume(engine, make(encryption, { secretKey: 's3-secret' })));
    return engine;
  };
  const formatOf = async (engine: MetaEngine) => decryptSecrets(parseFormat((await engine.readSetting()) ?? ''));
  const opens = async (engine: MetaEngine, passphrase: string | undefined): Promise<boolean> => {
    const { encryptKey } = await formatOf(engine);
    try {
      openEncryptionKey(encryptKey, passphrase);
      return true;
    } catch {
      return false;
    }
  };
  const rotate = (engine: MetaEngine, oldPassphrase: string | undefined, newPassphrase: string) =>
    rotatePassphrase(engine, { oldPassphrase, newPassphrase }, systemRandom);

  test('is changed: what was sealed before opens with the new one, and nothing else of the format is another', async () => {
    for (const form of ['pkcs1', 'pkcs1-aes256', 'pkcs8-aes256']) {
      const engine = await volume({ key: golden(form), ...(form === 'pkcs1' ? {} : { passphrase: PASS }) });
      const before = await formatOf(engine);
      const envelope = envelopeOf(before, PASS);
      assert.ok(envelope);
      const object = envelope.seal(Buffer.from('written before'), Buffer.alloc(1000));
      assert.equal(await rotate(engine, form === 'pkcs1' ? undefined : PASS, 'next'), true);
      assert.deepEqual([await opens(engine, PASS), await opens(engine, 'next')], [false, true]);
      const now = await formatOf(engine);
      assert.deepEqual({ ...now, encryptKey: '' }, { ...before, encryptKey: '' });
      assert.equal(parseFormat((await engine.readSetting()) ?? '').keyEncrypted, true);
      assert.equal((await envelopeOf(now, 'next')?.open(object, Buffer.alloc(14)))?.toString(), 'written before');
      assert.equal(await rotate(engine, PASS, 'next'), false, 'done already');
    }
  });

  test('is left alone where it cannot be changed', async () => {
    const engine = await volume({ key: sealed, passphrase: PASS });
    const before = await engine.readSetting();
    await assert.rejects(rotate(engine, 'golden-nope', 'next'), failsWith('PassphraseWrong'));
    await assert.rejects(rotate(engine, undefined, 'next'), failsWith('PassphraseMissing'));
    await assert.rejects(rotate(engine, PASS, ''), failsWith('PassphraseInvalid'));
    assert.equal(await engine.readSetting(), before);
    await assert.rejects(rotate(await volume(), PASS, 'next'), failsWith('NotEncrypted'));
    const empty = await openUrl(database.newUrl());
    engines.push(empty);
    await assert.rejects(rotate(empty, PASS, 'next'), failsWith('NoVolume'));
  });

  test('is the old one or the new one after a crash at any moment, and again ends it', async () => {
    const engine = await volume({ key: sealed, passphrase: PASS });
    const crash = new Error('killed');
    const dying = (applied: boolean): MetaEngine =>
      new Proxy(engine, {
        get(target, name) {
          if (name === 'commit')
            return async (transaction: Transaction) => {
              if (applied) await target.commit(transaction);
              throw crash;
            };
          const member: unknown = Reflect.get(target, name, target);
          return typeof member === 'function' ? (member as (...all: unknown[]) => unknown).bind(target) : member;
        },
      });
    await assert.rejects(rotate(dying(false), PASS, 'next'), crash);
    assert.deepEqual([await opens(engine, PASS), await opens(engine, 'next')], [true, false]);
    await assert.rejects(rotate(dying(true), PASS, 'next'), crash);
    assert.deepEqual([await opens(engine, PASS), await opens(engine, 'next')], [false, true]);
    assert.equal(await rotate(engine, PASS, 'next'), false);
  });

  test('is changed beside others who change the format, and no change is lost', async () => {
    const engine = await volume({ key: sealed, passphrase: PASS });
    const capacities = async (): Promise<void> => {
      for (let capacity = 1; capacity <= 10; capacity++) await changeSetting(engine, (format) => ({ ...format, capacity }));
    };
    // Of several who rotate at once one wins, and the others find that their old passphrase is none any more.
    const rotations = ['one', 'two', 'three'].map((next) => rotate(engine, PASS, next));
    const [, ...results] = await Promise.allSettled([capacities(), ...rotations]);
    const won = ['one', 'two', 'three'].filter((_, index) => results[index]?.status === 'fulfilled');
    assert.equal(won.length, 1);
    assert.equal(await opens(engine, won[0]), true);
    assert.equal((await formatOf(engine)).capacity, 10);
  });
});
