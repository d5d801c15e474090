/** Azure blobs against Azurite, whole; and what an address or a key that cannot be right is told. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AzureObjectStore } from '../../src/object/azure.ts';
import { parseContainer } from '../../src/object/azure-account.ts';
import { openObjectStore } from '../../src/object/open.ts';
import { ObjectError } from '../../src/object/store.ts';
import { startAzurite } from '../object-servers.ts';
import { azurite, cannotHave } from '../tools.ts';
import { conformance, keys } from './conformance.ts';

const missing = await cannotHave(azurite);
let server: Awaited<ReturnType<typeof startAzurite>>;
before(async () => {
  if (missing) return;
  server = await startAzurite();
});
after(() => server?.stop());

const open = (container: string, more: { pageSize?: number; storageClass?: string } = {}): AzureObjectStore =>
  new AzureObjectStore({
    address: parseContainer(`https://${container}`, {}, { AZURE_STORAGE_CONNECTION_STRING: server.connection }),
    ...more,
  });

conformance('Azure blobs', { make: () => open('conformance', { pageSize: 7 }), parts: true, skip: missing });

test('keys with characters that need encoding are the same blob in every call', { skip: missing }, async () => {
  const store = open('conformance');
  for (const key of ['odd/a b', 'odd/a+b', 'odd/a&b=c', "odd/(a)'!*", 'odd/100%', 'odd/<ü>']) {
    await store.put(key, Buffer.from(key));
    assert.equal((await store.get(key)).toString(), key);
    assert.equal((await store.head(key))?.key, key);
    assert.ok((await keys(store, 'odd/')).includes(key), key);
  }
  await store.close();
});

test('a volume is opened from the words of its format, with the tier that it names', { skip: missing }, async () => {
  const environment = { AZURE_STORAGE_CONNECTION_STRING: server.connection };
  const store = openObjectStore({ storage: 'wasb', bucket: 'https://by-format', name: 'vol', storageClass: 'Cool', environment });
  await store.create();
  await store.put('chunks/0/0/1_0_2', Buffer.from('hi'));
  const raw = open('by-format');
  assert.equal((await raw.get('vol/chunks/0/0/1_0_2')).toString(), 'hi');
  await raw.close();
  await store.close();
});

test(
  'a wrong key is AccessDenied, and a container that is not there NoSuchBucket, said without the key',
  { skip: missing },
  async () => {
    const wrong = Buffer.from('hunter2hunter2').toString('base64');
    const connection = server.connection.replace(/AccountKey=[^;]*/, `AccountKey=${wrong}`);
    const refused = new AzureObjectStore({
      address: parseContainer('conformance', {}, { AZURE_STORAGE_CONNECTION_STRING: connection }),
    });
    await assert.rejects(refused.get('x'), (error) => {
      assert.ok(error instanceof ObjectError);
      assert.equal(error.code, 'AccessDenied');
      assert.ok(!error.message.includes(wrong) && !error.message.includes('hunter2'));
      return true;
    });
    await refused.close();
    const none = open('not-there');
    await assert.rejects(none.put('x', Buffer.from('x')), { code: 'NoSuchBucket' });
    await none.close();
  },
);

test('addresses and keys as JuiceFS spells them', { skip: missing }, () => {
  const given = { accountName: 'acct', accountKey: 'a2V5' };
  assert.equal(parseContainer('https://box', given, {}).origin, 'https://acct.blob.core.windows.net');
  assert.equal(parseContainer('https://box.core.chinacloudapi.cn', given, {}).origin, 'https://acct.blob.core.chinacloudapi.cn');
  assert.equal(parseContainer('box.blob.core.windows.net', given, {}).origin, 'https://acct.blob.core.windows.net');
  assert.equal(parseContainer('box', { accountName: 'acct', sas: '?sv=1&sig=x' }, {}).sas, 'sv=1&sig=x');
  for (const [bucket, keysGiven, environment, says] of [
    ['https://box', {}, {}, /needs the name of the account/],
    ['https://box', { accountName: 'a', accountKey: 'no base64!' }, {}, /not base64/],
    ['https://B_O_X', given, {}, /no name of a container/],
    ['https://box', {}, { AZURE_STORAGE_CONNECTION_STRING: 'AccountName=a' }, /needs AccountName and AccountKey/],
  ] as const)
    assert.throws(() => parseContainer(bucket, keysGiven, environment), says);
});
