import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatMountConfig, type MountConfig, parseMountConfig } from './mount.ts';

const config: MountConfig = {
  name: 'datasets',
  uuid: 'faa27c8f-edab-4791-a4e0-1620b732b343',
  metaUrl: 'redis://user:p%40ss@redis:6379/1',
  storage: { secretKey: 'hidden', region: 'eu-west-1' },
};

test('parseMountConfig() reads what formatMountConfig() wrote', () => {
  assert.deepEqual(parseMountConfig(formatMountConfig(config)), config);
  const { storage: _, ...plain } = config;
  assert.deepEqual(parseMountConfig(formatMountConfig(plain)), plain);
  for (const backup of [{ interval: 3600 }, { interval: 1, skipTrash: true }])
    assert.deepEqual(parseMountConfig(formatMountConfig({ ...config, backup })), { ...config, backup });
  for (const encryption of [{ passphrase: 'open "sesame"' }, { passphrase: 'new', previous: 'old' }]) {
    const encrypted = { ...config, encryption };
    assert.deepEqual(parseMountConfig(formatMountConfig(encrypted)), encrypted);
  }
});

test('an authority’s certificate beside volume.json is found from its folder', () => {
  const url = 'rediss://redis:6379/1?tls-server-name=r&tls-ca-cert-file=';
  const both = 'postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=ca.crt&sslcert=tls.crt&sslkey=%2Fk';
  assert.equal(
    parseMountConfig(formatMountConfig({ ...config, metaUrl: both }), '/v/0').metaUrl,
    'postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=%2Fv%2F0%2Fca.crt&sslcert=%2Fv%2F0%2Ftls.crt&sslkey=%2Fk',
  );
  const read = (file: string): string | null =>
    new URL(
      parseMountConfig(formatMountConfig({ ...config, metaUrl: url + file }), '/etc/juicepod/volumes/0').metaUrl,
    ).searchParams.get('tls-ca-cert-file');
  assert.equal(read('ca.crt'), '/etc/juicepod/volumes/0/ca.crt');
  assert.equal(read('/etc/ca.crt'), '/etc/ca.crt');
  assert.equal(read('%2Fetc%2Fca.crt'), '/etc/ca.crt');
});

test('parseMountConfig() names what is missing and never shows a value', () => {
  const cases: readonly [string, RegExp][] = [
    ['{"secret', /not JSON/],
    ['[]', /not a JSON object/],
    ['{"name":"secret","uuid":"secret"}', /lacks metaUrl/],
    [JSON.stringify({ ...config, storage: { secretKey: 5, accessKey: 'secret' } }), /storage\.secretKey/],
    [JSON.stringify({ ...config, storage: 'secret' }), /storage/],
    [JSON.stringify({ ...config, encryption: 'secret' }), /encryption/],
    [JSON.stringify({ ...config, backup: 'secret' }), /backup/],
    [JSON.stringify({ ...config, backup: { interval: '1h' } }), /backup/],
    [JSON.stringify({ ...config, encryption: { passphrase: ['secret'] } }), /encryption\.passphrase/],
    [JSON.stringify({ ...config, encryption: { passphrase: 'secret', previous: '' } }), /encryption\.previous/],
  ];
  for (const [text, message] of cases)
    assert.throws(
      () => parseMountConfig(text),
      (error: Error) => message.test(error.message) && !/secret(?!Key)/.test(error.message),
    );
});
