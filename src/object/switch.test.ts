import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryObjectStore } from './memory.ts';
import { ObjectError, type ObjectStore } from './store.ts';
import { type Refusal, SwitchableStore } from './switch.ts';

/** A store over `shared` whose keys can be taken away, and which counts what it was asked. */
function keyed(shared: ObjectStore) {
  const state = { valid: true, closed: 0, calls: 0 };
  const check = (): void => {
    state.calls++;
    if (!state.valid) throw new ObjectError('AccessDenied', 'InvalidAccessKeyId', { keysRefused: true });
  };
  const store: ObjectStore = {
    description: shared.description,
    create: () => shared.create(),
    async put(key, body) {
      check();
      await shared.put(key, body);
    },
    async get(key, options) {
      check();
      return shared.get(key, options);
    },
    async head(key) {
      check();
      return shared.head(key);
    },
    async delete(key) {
      check();
      await shared.delete(key);
    },
    async *list(prefix, options) {
      for await (const info of shared.list(prefix, options)) {
        check();
        yield info;
      }
    },
    async close() {
      state.closed++;
    },
  };
  return { store, state };
}

test('a refused request is made once more with the keys that its refusal brought', async () => {
  const shared = new MemoryObjectStore();
  const [first, second] = [keyed(shared), keyed(shared)];
  const refusals: Refusal[] = [];
  const store: SwitchableStore = new SwitchableStore(first.store, async (refusal) => {
    refusals.push(refusal);
    store.switchTo(second.store);
  });
  await store.put('a', Buffer.from('1'));
  first.state.valid = false;
  await store.put('b', Buffer.from('2'));
  assert.equal((await store.get('b')).toString(), '2');
  assert.deepEqual(
    refusals.map(({ worked, error }) => [worked, error.keysRefused]),
    [[true, true]],
  );
  assert.deepEqual([first.state.closed, second.state.closed], [1, 0]);
});

test('without other keys the refusal is answered after one attempt, and says that they never worked', async () => {
  const { store: only, state } = keyed(new MemoryObjectStore());
  state.valid = false;
  const worked: boolean[] = [];
  const store = new SwitchableStore(only, async (refusal) => void worked.push(refusal.worked));
  await assert.rejects(store.get('a'), { code: 'AccessDenied' });
  assert.deepEqual(worked, [false]);
  assert.equal(state.calls, 1);
});

test('other errors are no reason to look for keys', async () => {
  const store = new SwitchableStore(new MemoryObjectStore(), () => assert.fail('nothing was refused'));
  await assert.rejects(store.get('missing'), { code: 'NotFound' });
});

test('a request that is under way ends with the store it began with, which is closed after it', async () => {
  const shared = new MemoryObjectStore();
  await shared.put('a', Buffer.from('1'));
  const [first, second] = [keyed(shared), keyed(shared)];
  const gate = Promise.withResolvers<void>();
  const slow: ObjectStore = {
    ...first.store,
    async get(key) {
      await gate.promise;
      return first.store.get(key);
    },
  };
  const store = new SwitchableStore(slow);
  const reading = store.get('a');
  store.switchTo(second.store);
  await store.head('a');
  assert.deepEqual([first.state.closed, second.state.calls], [0, 1]);
  gate.resolve();
  assert.equal((await reading).toString(), '1');
  await Promise.resolve();
  assert.deepEqual([first.state.closed, first.state.calls], [1, 1]);
});

test('a listing that is refused midway goes on behind the last key', async () => {
  const shared = new MemoryObjectStore();
  for (const key of ['a', 'b', 'c', 'd']) await shared.put(key, Buffer.from(key));
  const [first, second] = [keyed(shared), keyed(shared)];
  const store: SwitchableStore = new SwitchableStore(first.store, async () => store.switchTo(second.store));
  const keys: string[] = [];
  for await (const { key } of store.list('')) {
    keys.push(key);
    if (key === 'b') first.state.valid = false;
  }
  assert.deepEqual(keys, ['a', 'b', 'c', 'd']);
  assert.equal(first.state.closed, 1);
});

test('an upload in parts ends with the store it began with, which is closed after it', async () => {
  const shared = new MemoryObjectStore();
  const [first, second] = [keyed(shared), keyed(shared)];
  const parts: string[] = [];
  const inParts: ObjectStore = {
    ...first.store,
    partLimits: { minBytes: 1, maxBytes: 10, maxCount: 10 },
    upload: async (key) => ({
      part: async (number, body) => void (parts[number] = body.toString()),
      complete: () => shared.put(key, Buffer.from(parts.join(''))),
      abort: async () => {},
    }),
  };
  const store = new SwitchableStore(inParts);
  assert.equal(store.partLimits?.maxBytes, 10);
  const upload = await store.upload?.('a');
  await upload?.part(0, Buffer.from('one'));
  store.switchTo(second.store);
  assert.equal(store.upload, undefined);
  await upload?.part(1, Buffer.from('two'));
  assert.equal(first.state.closed, 0);
  await upload?.complete();
  await upload?.abort();
  assert.equal(first.state.closed, 1);
  assert.equal((await shared.get('a')).toString(), 'onetwo');
});
