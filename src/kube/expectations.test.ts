import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compareVersions, createExpectations } from './expectations.ts';
import { IndexedStore } from './store.ts';
import { FakeClock } from './testing/fake-clock.ts';
import type { KubeObject } from './types.ts';

const object = (resourceVersion: string, uid = 'u1'): KubeObject => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 's', namespace: 'x', uid, resourceVersion },
});

test('a key waits until the store shows what was written for it, or a later state', () => {
  const store = new IndexedStore();
  const expectations = createExpectations(new FakeClock());
  assert.equal(expectations.waitMs('x/v'), 0);
  store.set('x/s', object('9'));
  expectations.wrote('x/v', store, object('10'));
  assert.ok(expectations.waitMs('x/v') > 0, 'version 9 is older than 10');
  assert.equal(expectations.waitMs('x/other'), 0);
  store.set('x/s', object('11'));
  assert.equal(expectations.waitMs('x/v'), 0);
  store.set('x/s', object('9'));
  assert.equal(expectations.waitMs('x/v'), 0, 'what was seen is forgotten');
});

test('a created object is awaited, another object of its name ends the wait, and so do 30 seconds', () => {
  const clock = new FakeClock();
  const store = new IndexedStore();
  const expectations = createExpectations(clock);
  expectations.wrote('x/v', store, object('10'));
  assert.ok(expectations.waitMs('x/v') > 0);
  store.set('x/s', object('5', 'u2'));
  assert.equal(expectations.waitMs('x/v'), 0);
  store.delete('x/s');
  expectations.wrote('x/v', store, object('10'));
  clock.tick(29_900);
  assert.equal(Math.round(expectations.waitMs('x/v')), 100);
  clock.tick(100);
  assert.equal(expectations.waitMs('x/v'), 0);
});

test('versions are compared as numbers of any length', () => {
  assert.ok(compareVersions('9', '10') < 0);
  assert.ok(compareVersions('18446744073709551615', '18446744073709551614') > 0);
  assert.equal(compareVersions('7', '7'), 0);
});
