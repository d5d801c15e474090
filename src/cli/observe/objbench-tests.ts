/** What a store must be able to do, tried one after the other. Source of the cases: `juicefs objbench`. */
import { messageOf } from '../../lib/errors.ts';
import { ObjectError, type ObjectStore } from '../../object/store.ts';

const MIB = 2 ** 20;
/** Four times the largest block. */
const BIG_BYTES = 64 * MIB;
const KEY = 'put_test_file';
const HELLO = Buffer.from('hello');

export interface Tried {
  readonly category: 'basic' | 'sync';
  readonly test: string;
  /** `pass`, or what was wrong. */
  readonly result: string;
}

function wanted(what: string, found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${what}: wanted ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
}

async function textOf(store: ObjectStore, key: string, offset?: number, length?: number): Promise<string> {
  const range = { ...(offset === undefined ? {} : { offset }), ...(length === undefined ? {} : { length }) };
  return (await store.get(key, range)).toString();
}

async function keysOf(store: ObjectStore, prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys;
}

type Case = readonly [category: Tried['category'], test: string, run: (store: ObjectStore) => Promise<void>];

/** With an object in it that is removed afterwards. */
const withHello =
  (run: (store: ObjectStore) => Promise<void>) =>
  async (store: ObjectStore): Promise<void> => {
    await store.put(KEY, HELLO);
    try {
      await run(store);
    } finally {
      await store.delete(KEY);
    }
  };

const cases: readonly Case[] = [
  [
    'basic',
    'create a bucket',
    async (store) => {
      await store.create();
      // One that is there is no failure.
      await store.create();
    },
  ],
  ['basic', 'put an object', withHello(() => Promise.resolve())],
  [
    'basic',
    'get an object',
    withHello(async (store) => {
      wanted('all of it', await textOf(store, KEY), 'hello');
      wanted('all of it as a range', await textOf(store, KEY, 0, 5), 'hello');
    }),
  ],
  [
    'basic',
    'get non-exist',
    async (store) => {
      const found = await store.get('not_exists_file').then(
        () => 'an object',
        (error: unknown) => (error instanceof ObjectError ? error.code : messageOf(error)),
      );
      wanted('an object that is not there', found, 'NotFound');
    },
  ],
  [
    'basic',
    'get partial object',
    withHello(async (store) => {
      wanted('the first byte', await textOf(store, KEY, 0, 1), 'h');
      wanted('the last byte', await textOf(store, KEY, 4, 1), 'o');
      wanted('the last three bytes', await textOf(store, KEY, 2, 3), 'llo');
      wanted('two bytes in the middle', await textOf(store, KEY, 2, 2), 'll');
      wanted('a range that goes beyond the end', await textOf(store, KEY, 4, 2), 'o');
    }),
  ],
  [
    'basic',
    'head an object',
    withHello(async (store) => {
      const info = await store.head(KEY);
      wanted('its key', info?.key, KEY);
      wanted('its size', info?.size, 5);
      wanted('one that is not there', await store.head('not_exists_file'), undefined);
    }),
  ],
  [
    'basic',
    'delete an object',
    async (store) => {
      await store.put(KEY, HELLO);
      await store.delete(KEY);
      wanted('it afterwards', await store.head(KEY), undefined);
    },
  ],
  ['basic', 'delete non-exist', (store) => store.delete(KEY)],
  [
    'basic',
    'list objects',
    withHello(async (store) => {
      wanted('all of them', (await keysOf(store, '')).join(), KEY);
      const keys = Array.from({ length: 100 }, (_, at) => `hashKey${at}`);
      try {
        for (const key of keys) await store.put(key, HELLO);
        wanted('a hundred, in order', (await keysOf(store, 'hashKey')).join(), keys.toSorted().join());
      } finally {
        for (const key of keys) await store.delete(key);
      }
    }),
  ],
  [
    'sync',
    'put a big object',
    async (store) => {
      try {
        await store.put(KEY, Buffer.alloc(BIG_BYTES, 'x'));
        wanted('its size', (await store.head(KEY))?.size, BIG_BYTES);
      } finally {
        await store.delete(KEY);
      }
    },
  ],
  [
    'sync',
    'put an empty object',
    async (store) => {
      try {
        await store.put('empty_test_file', Buffer.alloc(0));
        wanted('its size', (await store.head('empty_test_file'))?.size, 0);
      } finally {
        await store.delete('empty_test_file');
      }
    },
  ],
];

/** Tries everything; what fails is told and is no reason to leave the rest out. Ends early where the signal aborts. */
export async function tryStore(store: ObjectStore, signal: AbortSignal): Promise<readonly Tried[]> {
  const tried: Tried[] = [];
  for (const [category, test, run] of cases) {
    if (signal.aborted) return tried;
    const result = await run(store).then(
      () => 'pass',
      (error: unknown) => messageOf(error),
    );
    tried.push({ category, test, result });
  }
  return tried;
}
