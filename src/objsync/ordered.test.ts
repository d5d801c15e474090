import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { ino } from '../lib/int64.ts';
import { type Name, ordered } from './ordered.ts';

async function* each(names: readonly Name[]): AsyncGenerator<Name> {
  yield* names;
}

async function collect(names: readonly Name[], run: number): Promise<Name[]> {
  const found: Name[] = [];
  for await (const batch of ordered(each(names), run)) found.push(...batch);
  return found;
}

test('names come in the order of their bytes, each with its reference, whether they fit into memory or not', async () => {
  const byte = fc.integer({ min: 1, max: 255 }).map((value) => String.fromCharCode(value));
  const name = fc.record({
    key: fc.string({ unit: byte, minLength: 1, maxLength: 300 }),
    ref: fc.option(fc.integer({ min: 0, max: 2 ** 52 }), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(name, { selector: ({ key }) => key, maxLength: 400 }),
      fc.integer({ min: 1, max: 100 }),
      async (found, run) => {
        const names = found.map(({ key, ref }): Name => (ref === undefined ? { key } : { key, ref: ino(ref) }));
        const expected = names.toSorted((a, b) => Buffer.compare(Buffer.from(a.key, 'latin1'), Buffer.from(b.key, 'latin1')));
        assert.deepEqual(await collect(names, run), expected);
      },
    ),
    { numRuns: 60 },
  );
});

test('a million names cost a few megabytes, and who stops early leaves nothing behind', async () => {
  async function* many(): AsyncGenerator<Name> {
    for (let index = 0; index < 1_000_000; index++) yield { key: `some/directory/${(index * 7_919) % 1_000_003}` };
  }
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
  const before = process.memoryUsage();
  let most = 0;
  let count = 0;
  let last = '';
  for await (const batch of ordered(many())) {
    for (const { key } of batch) {
      if (key <= last) assert.fail(`${key} came after ${last}`);
      last = key;
    }
    count += batch.length;
    if (count % 500_000 < 1024) {
      gc();
      const { heapUsed, external } = process.memoryUsage();
      most = Math.max(most, heapUsed + external - before.heapUsed - before.external);
    }
  }
  assert.equal(count, 1_000_000);
  assert.ok(most < 16 * 1024 * 1024, `${most} bytes`);
  for await (const batch of ordered(many())) {
    assert.ok(batch.length > 0);
    break;
  }
});
