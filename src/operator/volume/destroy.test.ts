import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../kube/testing/fake-clock.ts';
import { MemoryObjectStore } from '../../object/memory.ts';
import { ObjectError, type ObjectStore } from '../../object/store.ts';
import { deleteObjects } from './destroy.ts';

async function filled(count: number): Promise<MemoryObjectStore> {
  const store = new MemoryObjectStore();
  for (let index = 0; index < count; index++) await store.put(`chunks/${index}`, Buffer.from('x'));
  await store.put('juicefs_uuid', Buffer.from('u'));
  return store;
}

async function keys(store: ObjectStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list('')) found.push(key);
  return found;
}

const signal = new AbortController().signal;

test('all objects go but the marker, at most sixteen at a time', async () => {
  const store = await filled(200);
  let running = 0;
  let most = 0;
  const watched: ObjectStore = Object.assign(Object.create(store) as ObjectStore, {
    async delete(key: string) {
      most = Math.max(most, ++running);
      await new Promise((done) => setImmediate(done));
      await store.delete(key);
      running--;
    },
    list: store.list.bind(store),
  });
  assert.equal(await deleteObjects(watched, new FakeClock(), signal), true);
  assert.deepEqual(await keys(store), ['juicefs_uuid']);
  assert.ok(most > 1 && most <= 16, `${most} at a time`);
});

test('it stops when its time is over, and the next call goes on', async () => {
  const store = await filled(50);
  const clock = new FakeClock();
  let deleted = 0;
  const slow: ObjectStore = Object.assign(Object.create(store) as ObjectStore, {
    async delete(key: string) {
      if (++deleted === 20) clock.freeze(31_000);
      await store.delete(key);
    },
    list: store.list.bind(store),
  });
  assert.equal(await deleteObjects(slow, clock, signal), false);
  const left = (await keys(store)).length;
  assert.ok(left > 1 && left < 51, `${left} left`);
  assert.equal(await deleteObjects(slow, clock, signal), true);
  assert.deepEqual(await keys(store), ['juicefs_uuid']);
});

test('a deletion that is refused fails the whole, after which nothing is still running', async () => {
  const store = await filled(40);
  const refusing: ObjectStore = Object.assign(Object.create(store) as ObjectStore, {
    delete: (key: string) => (key === 'chunks/3' ? Promise.reject(new ObjectError('AccessDenied', 'no')) : store.delete(key)),
    list: store.list.bind(store),
  });
  await assert.rejects(deleteObjects(refusing, new FakeClock(), signal), { code: 'AccessDenied' });
});
