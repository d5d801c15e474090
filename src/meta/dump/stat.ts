/** What is in a binary dump, without loading it: how many of what, and single segments as `juicefs load --stat --offset` shows them. */
import { open } from 'node:fs/promises';
import { formatIno, type Ino } from '../../lib/int64.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { BinaryReader, type Footer, parseFooter } from './binary-read.ts';
import { isCompressed } from './files.ts';
import type { Message, Schema } from './protobuf.ts';

export interface Summary {
  readonly version: number;
  /** By name. Offsets are where segments begin. */
  readonly segments: readonly { readonly name: string; readonly count: number; readonly offsets: readonly number[] }[];
}

/** The footer of a plain file, without reading what is before it. */
async function footerOf(path: string): Promise<Footer> {
  const file = await open(path).catch((cause: unknown) => {
    throw new UserError('FileUnreadable', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  });
  try {
    const { size } = await file.stat();
    const tail = Buffer.alloc(8);
    if (size >= 8) await file.read(tail, 0, 8, size - 8);
    const length = Number(tail.readBigUInt64BE());
    if (size < 8 || length > size - 8)
      throw new UserError('DumpDamaged', `${path} is no whole binary dump: it has no footer.`, {
        hint: 'Only dumps made with --binary can be looked at; check that the file was copied to its end.',
      });
    const footer = Buffer.alloc(length);
    await file.read(footer, 0, length, size - 8 - length);
    return parseFooter(footer, size - 8 - length);
  } finally {
    await file.close();
  }
}

/** What its footer says; `plain`: the file is not encrypted. */
export async function summaryOf(path: string, source: () => AsyncIterable<Uint8Array>, plain: boolean): Promise<Summary> {
  let footer: Footer | undefined;
  if (plain && !isCompressed(path)) footer = await footerOf(path);
  else for await (const part of new BinaryReader(source()).parts()) if (part.part === 'footer') ({ footer } = part);
  const segments = Array.from(footer?.infos ?? [], ([name, { count, offsets }]) => ({ name, count, offsets }));
  return { version: footer?.version ?? 0, segments: segments.toSorted((a, b) => (a.name < b.name ? -1 : 1)) };
}

/** Passes over the beginning of a source. */
async function* from(source: AsyncIterable<Uint8Array>, offset: number): AsyncGenerator<Uint8Array> {
  let left = offset;
  for await (const piece of source) {
    if (left < piece.length) yield piece.subarray(left);
    left = Math.max(0, left - piece.length);
  }
}

/** A message as protobuf's JSON has it: 64-bit numbers as text, bytes in Base64. */
function plainMessage(schema: Schema, message: Message): Record<string, unknown> {
  const entries = schema.flatMap(([name, type]): (readonly [string, unknown])[] => {
    const value = message[name];
    if (value === undefined || value === 0 || value === '') return [];
    if (typeof value === 'number') return [[name, type === 'ino' ? formatIno(value as Ino) : String(value)] as const];
    if (typeof value === 'string') return [[name, value] as const];
    if (Buffer.isBuffer(value)) return value.length === 0 ? [] : [[name, value.toString('base64')] as const];
    return value.length === 0 ? [] : [[name, value.map(formatIno)] as const];
  });
  return Object.fromEntries(entries);
}

/** The segment that begins at `offset`, as text. */
export async function segmentText(source: AsyncIterable<Uint8Array>, offset: number): Promise<string> {
  const lists: Record<string, unknown[]> = {};
  let name = '';
  let setting: string | undefined;
  for await (const part of new BinaryReader(from(source, offset), offset).parts(true)) {
    if (part.part === 'segment') ({ name } = part);
    else if (part.part === 'setting') setting = part.text;
    else if (part.part === 'record') (lists[part.segment.list] ??= []).push(plainMessage(part.segment.schema, part.message));
  }
  return `Segment: ${name}\nValue: ${setting ?? JSON.stringify(lists, undefined, 2)}`;
}
