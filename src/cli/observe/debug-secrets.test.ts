import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knownSecrets, withoutSecrets } from './debug-secrets.ts';

test('what a process was given in secret is known, wherever it stood', () => {
  const settings = {
    metaUrl: 'redis://:p%40ss-1@host/1',
    storage: { accessKey: 'access-2', secretKey: 'secret-3', bucket: 'b-4' },
  };
  const environment = {
    JUICEPOD_MOUNT: JSON.stringify(settings),
    META_PASSWORD: 'password-5',
    JFS_RSA_PASSPHRASE: 'phrase-6',
    SOME_TOKEN: 'true',
    SHORT_SECRET: 'abc',
    PATH: '/usr/bin',
  };
  const documents = [JSON.stringify({ encryption: { passphrase: 'phrase-7' }, storage: { sessionToken: 'token-8' } }), 'no JSON'];
  assert.deepEqual([...knownSecrets(environment, documents)].toSorted(), [
    'access-2',
    'p%40ss-1',
    'p@ss-1',
    'password-5',
    'phrase-6',
    'phrase-7',
    'secret-3',
    'token-8',
  ]);
});

test('known secrets are taken out in every spelling, and what looks like one though nobody knows it', () => {
  const secrets = ['p@ss "1"', 'key/2+='];
  const hidden = (text: string): string => withoutSecrets(text, secrets);
  assert.equal(hidden('failed for p@ss "1" at key/2+='), 'failed for *** at ***');
  assert.equal(hidden(JSON.stringify({ said: 'p@ss "1"' })), '{"said":"***"}');
  assert.equal(hidden('http://host/?q=key%2F2%2B%3D'), 'http://host/?q=***');
  assert.equal(
    hidden('mysql://user:unknown@(host)/db and redis://:other@host'),
    'mysql://user:***@(host)/db and redis://:***@host',
  );
  assert.equal(
    hidden('{"SecretKey": "unknown", "Name": "vol", "EncryptKey":"-"}'),
    '{"SecretKey": "***", "Name": "vol", "EncryptKey":"***"}',
  );
  assert.equal(
    hidden('mount --secret-key unknown --bucket b password=unknown&x=1'),
    'mount --secret-key *** --bucket b password=***&x=1',
  );
  assert.equal(hidden('AKIAABCDEFGHIJKLMNOP'), '***');
  assert.equal(hidden('a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb'), 'a\n***\nb');
  const harmless = 'juicefs_used_space 4096\nserving /mnt/data of redis://host/1, key count 5';
  assert.equal(hidden(harmless), harmless);
});
