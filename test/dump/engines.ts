/** What the tests of dump and load share: dumps in memory, loading them, and comparing volumes by them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dumpBinary } from '../../src/meta/dump/binary-dump.ts';
import { loadBinary } from '../../src/meta/dump/binary-load.ts';
import { BinaryReader } from '../../src/meta/dump/binary-read.ts';
import type { Loaded, LoadOptions } from '../../src/meta/dump/guard.ts';
import { dumpJson, type JsonDumpOptions } from '../../src/meta/dump/json-dump.ts';
import { loadJson } from '../../src/meta/dump/json-load.ts';
import type { Message } from '../../src/meta/dump/protobuf.ts';
import type { MetaEngine } from '../../src/meta/engine.ts';
import { goldenRoot } from '../meta/golden-volume.ts';

export type Form = 'json' | 'binary';
export const forms: readonly Form[] = ['json', 'binary'];

export const goldenDump = (volume: string, form: Form): Buffer =>
  readFileSync(join(goldenRoot, volume, form === 'json' ? 'dump.json' : 'dump.bin'));

/** A dump in memory. */
export async function dumpOf(engine: MetaEngine, form: Form, options: JsonDumpOptions = {}): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const sink = async (bytes: Buffer): Promise<void> => void pieces.push(Buffer.from(bytes));
  await (form === 'json' ? dumpJson(engine, sink, options) : dumpBinary(engine, sink, options));
  return Buffer.concat(pieces);
}

/** The bytes in pieces of this many. */
export async function* inPieces(bytes: Buffer, size = 1000): AsyncGenerator<Buffer> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size);
}

export const load = (engine: MetaEngine, form: Form, dump: Buffer, options: LoadOptions = {}): Promise<Loaded> =>
  (form === 'json' ? loadJson : loadBinary)(engine, inPieces(dump), options);

const isNothing = (list: string, { key, value }: Message): boolean =>
  list === 'counters' && (value === 0 || /Cleanup/.test(key as string));

const plain = (value: unknown): unknown => {
  if (Buffer.isBuffer(value)) return value.toString('latin1');
  return Array.isArray(value) ? value.map(String).toSorted() : value;
};

/** What is in a dump, in an order of its own: those of the same volume are equal. */
export async function contentOf(form: Form, dump: Buffer): Promise<unknown> {
  if (form === 'json') {
    const found = JSON.parse(dump.toString().replaceAll(/("inode": ?)(\d{16,})/g, '$1"$2"')) as Record<string, unknown>;
    const byInode = (list: unknown): unknown =>
      (list as { readonly inode?: number; readonly sid?: number; readonly inodes?: number[] }[])
        .map((each) => ({ ...each, ...(each.inodes ? { inodes: each.inodes.toSorted((a, b) => a - b) } : {}) }))
        .toSorted((a, b) => (a.inode ?? a.sid ?? 0) - (b.inode ?? b.sid ?? 0));
    return { ...found, DelFiles: byInode(found['DelFiles']), Sustained: byInode(found['Sustained']) };
  }
  const lists: Record<string, string[]> = {};
  for await (const part of new BinaryReader(inPieces(dump)).parts()) {
    if (part.part === 'setting') lists['format'] = [part.text];
    // Counters of jobs are not kept, and one that is not there is 0.
    if (part.part === 'record' && !isNothing(part.segment.list, part.message))
      (lists[part.segment.list] ??= []).push(
        JSON.stringify(Object.entries(part.message).map(([name, value]) => [name, plain(value)])),
      );
  }
  for (const list of Object.values(lists)) list.sort();
  return lists;
}
