/** The reader beside JSON.parse, over documents cut at random places. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { UserError } from '../../lib/errors.ts';
import { JsonReader } from './reader.ts';

async function* pieces(text: string, cuts: readonly number[]): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text);
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    yield bytes.subarray(from, place);
    from = place;
  }
}

/** The document, entered as far down as `depth` and taken whole from there on. */
async function build(reader: JsonReader, shape: unknown, depth: number): Promise<unknown> {
  if (depth === 0 || typeof shape !== 'object' || shape === null) return JSON.parse(await reader.value());
  if (Array.isArray(shape)) {
    const list: unknown[] = [];
    await reader.enter('list');
    for (let at = 0; await reader.item(); at++) list.push(await build(reader, shape[at], depth - 1));
    return list;
  }
  const object: Record<string, unknown> = {};
  await reader.enter('object');
  for (let key = await reader.key(); key !== undefined; key = await reader.key())
    Object.defineProperty(object, key, {
      value: await build(reader, (shape as Record<string, unknown>)[key], depth - 1),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  return object;
}

const documents = fc.json({ maxDepth: 5 }).map((text) => `[${text}]`);
const cuts = fc.array(fc.nat(1000), { maxLength: 10 });

test('a document comes out as JSON.parse has it, wherever it is cut and however deep it is entered', async () => {
  await fc.assert(
    fc.asyncProperty(documents, cuts, fc.nat(5), fc.boolean(), async (text, places, depth, spaced) => {
      const shape: unknown = JSON.parse(text);
      const written = spaced ? ` ${JSON.stringify(shape, undefined, 2)}\n` : text;
      const reader = new JsonReader(pieces(written, places));
      assert.deepEqual(await build(reader, shape, depth), shape);
      await reader.end();
    }),
    { numRuns: 500 },
  );
});

test('a document that is cut off is an error, wherever that is', async () => {
  const text = '{"a": [1, {"b": "c"}], "d": {"e": "\\"}"}}';
  for (let length = 0; length < text.length; length++) {
    const reader = new JsonReader(pieces(text.slice(0, length), []));
    await assert.rejects(
      async () => {
        await reader.enter('object');
        for (let key = await reader.key(); key !== undefined; key = await reader.key()) await reader.skip();
      },
      (error) => error instanceof UserError && /ends in the middle/.test(error.message),
    );
  }
});

test('what is no JSON is refused with its place', async () => {
  const reader = new JsonReader(pieces('{"a" 1}', []));
  await reader.enter('object');
  await assert.rejects(reader.key(), /wanted ":", found "1" at byte 5/);
});
