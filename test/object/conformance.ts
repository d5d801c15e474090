/** The promises that every object store keeps, whatever it is: one suite, run against each of them. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as fc from 'fast-check';
import { ObjectError, type ObjectStore } from '../../src/object/store.ts';

export interface Kind {
  readonly make: () => ObjectStore;
  /** What an object is longer in the store than it was when it was given. @default 0 */
  readonly more?: number;
  /** Why it cannot be had here. @default false */
  readonly skip?: string | false;
  /** It can write objects in parts. @default false */
  readonly parts?: boolean;
}

export async function keys(store: ObjectStore, prefix: string, from?: string): Promise<string[]> {
  const found: string[] = [];
  for await (const info of store.list(prefix, from === undefined ? {} : { after: from })) found.push(info.key);
  return found;
}

export function conformance(kind: string, { make, more = 0, parts = false, skip = false }: Kind): void {
  describe(`object store: ${kind}`, { skip }, () => {
    let store: ObjectStore;
    before(async () => {
      store = make();
      await store.create();
    });
    after(() => store?.close());

    test('making what is there already is success', async () => {
      await store.create();
      await store.create();
    });

    test('bytes of any length come back, whole and in ranges', async () => {
      for (const size of [0, 1, 4095, 70_000, 4 * 1024 * 1024 + 1]) {
        const body = Buffer.alloc(size, 'The quick brown fox. ');
        const key = `sizes/${size}`;
        await store.put(key, body);
        assert.ok(body.equals(await store.get(key)), `${size} bytes, whole`);
        const into = Buffer.alloc(size + 10, 0xee);
        const view = await store.get(key, { into });
        assert.equal(view.buffer, into.buffer);
        assert.ok(view.equals(body), `${size} bytes, into a buffer`);
        assert.ok(into.subarray(size).equals(Buffer.alloc(10, 0xee)), 'nothing behind is touched');
        for (const [offset, length] of [
          [0, 1],
          [0, size],
          [1, 2],
          [size - 1, 10],
          [size, 1],
          [size + 5, 5],
          [2, undefined],
          [3, 0],
        ] as const) {
          if (offset < 0) continue;
          const part = await store.get(key, length === undefined ? { offset } : { offset, length });
          const expected = body.subarray(offset, length === undefined ? undefined : offset + length);
          assert.ok(expected.equals(part), `${size} bytes from ${offset}, ${length}: found ${part.length}`);
        }
      }
    });

    test('head tells size and time, and undefined for what is not there', async () => {
      const begun = Date.now();
      await store.put('heads/a', Buffer.from('abc'));
      const info = await store.head('heads/a');
      assert.equal(info?.key, 'heads/a');
      assert.equal(info.size, 3 + more);
      assert.ok(Math.abs(info.modified - begun) < 60_000);
      assert.equal(await store.head('heads/none'), undefined);
      assert.equal(await store.head('heads/a/below'), undefined);
    });

    test('reading what is not there fails with NotFound', async () => {
      for (const key of ['none', 'none/below/that', 'sizes/0/below'])
        await assert.rejects(
          store.get(key),
          (error) => error instanceof ObjectError && error.code === 'NotFound' && !error.retryable,
          key,
        );
    });

    test('an object is written again, deleted, and deleted again', async () => {
      await store.put('again', Buffer.from('one'));
      await store.put('again', Buffer.from('other'));
      assert.equal((await store.get('again')).toString(), 'other');
      await store.delete('again');
      assert.equal(await store.head('again'), undefined);
      await store.delete('again');
      await store.delete('never/was');
    });

    test('a listing is in key order, complete over many pages, and resumes after any key', async () => {
      const names = [
        'b',
        'a/1',
        'a/10',
        'a/2',
        'a-1',
        'a0',
        'a/b/c',
        'a/b-',
        'a/b0',
        ...Array.from({ length: 30 }, (_, i) => `n/${i}_0_${i}`),
      ];
      for (const name of names) await store.put(`list/${name}`, Buffer.from(name));
      const all = names.map((name) => `list/${name}`).toSorted((a, b) => (a < b ? -1 : 1));
      assert.deepEqual(await keys(store, 'list/'), all);
      for (const prefix of ['list/a', 'list/a/', 'list/a/b', 'list/n/1', 'list/zzz', 'list/b'])
        assert.deepEqual(
          await keys(store, prefix),
          all.filter((key) => key.startsWith(prefix)),
          prefix,
        );
      for (const after of [...all, 'list/a/', 'list/c', 'list/n/', 'a', 'z'])
        assert.deepEqual(
          await keys(store, 'list/', after),
          all.filter((key) => key > after),
          `after ${after}`,
        );
    });

    test('a listing tells sizes', async () => {
      await store.put('listed/x', Buffer.alloc(1234));
      for await (const info of store.list('listed/')) assert.equal(info.size, 1234 + more);
    });

    test('a buffer that is too short is an error, not a short answer', async () => {
      await store.put('long', Buffer.alloc(100));
      await assert.rejects(store.get('long', { into: Buffer.alloc(99) }), ObjectError);
    });

    test('an aborted call ends with the reason', async () => {
      const reason = new Error('enough');
      await assert.rejects(store.get('long', { signal: AbortSignal.abort(reason) }));
    });

    test('random puts, gets and deletes agree with a map', async () => {
      const model = new Map<string, Buffer>();
      const step = fc.record({
        key: fc.constantFrom('r/1', 'r/2', 'r/d/3', 'r/d/4'),
        what: fc.constantFrom('put', 'delete', 'get', 'list'),
        body: fc.uint8Array({ maxLength: 50 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
          for (const { key, what, body } of steps) {
            if (what === 'put') {
              await store.put(key, Buffer.from(body));
              model.set(key, Buffer.from(body));
            } else if (what === 'delete') {
              await store.delete(key);
              model.delete(key);
            } else if (what === 'list') assert.deepEqual(await keys(store, 'r/'), [...model.keys()].toSorted());
            else {
              const expected = model.get(key);
              if (expected) assert.ok(expected.equals(await store.get(key)));
              else await assert.rejects(store.get(key), { code: 'NotFound' });
            }
          }
        }),
        { numRuns: 15 },
      );
    });

    test('a level shows what lies directly there and what leads further down, each once and in key order', async (t) => {
      const level = store.level?.bind(store);
      if (!level) return t.diagnostic('it has no levels');
      const names = [
        'a',
        'b/',
        'b/1',
        'b/2/x',
        'b-',
        'b0',
        'c/d/e',
        'ü/x',
        'z',
        ...Array.from({ length: 20 }, (_, index) => `m/${index}`),
      ];
      // What stands for a directory is empty: some servers take nothing else.
      for (const name of names) await store.put(`level/${name}`, Buffer.from(name.endsWith('/') ? '' : 'x'));
      const of = async (prefix: string): Promise<string[]> => {
        const found: string[] = [];
        for await (const { key } of level(prefix)) found.push(key);
        return found;
      };
      assert.deepEqual(
        await of('level/'),
        ['a', 'b-', 'b/', 'b0', 'c/', 'm/', 'z', 'ü/'].map((name) => `level/${name}`),
      );
      assert.deepEqual(await of('level/b/'), ['level/b/', 'level/b/1', 'level/b/2/']);
      assert.equal((await of('level/m/')).length, 20);
      assert.deepEqual(await of('level/none/'), []);
    });

    if (!parts) return;

    test('an object written in parts is whole, in the order of the parts, and not there before', async () => {
      assert.ok(store.upload && store.partLimits);
      const size = Math.max(store.partLimits.minBytes, 1024);
      const bodies = [Buffer.alloc(size, 'first '), Buffer.alloc(size, 'second '), Buffer.from('last')];
      const upload = await store.upload('parts/object');
      await Promise.all([2, 0, 1].map((number) => upload.part(number, bodies[number]!)));
      await upload.part(1, bodies[1]!);
      assert.equal(await store.head('parts/object'), undefined);
      await upload.complete();
      assert.ok(Buffer.concat(bodies).equals(await store.get('parts/object')));
      assert.deepEqual(await keys(store, 'parts/'), ['parts/object']);
    });

    test('parts that are dropped leave nothing', async () => {
      const upload = await store.upload!('dropped/object');
      await upload.part(0, Buffer.from('never'));
      await upload.abort();
      assert.deepEqual(await keys(store, 'dropped/'), []);
      assert.equal(await store.head('dropped/object'), undefined);
    });
  });
}
