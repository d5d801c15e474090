/**
 * As much of protobuf's wire format as a binary dump needs: messages whose fields are numbered 1, 2, … in the order in which they are
 * listed, written as Go writes them (fields that are zero or empty are left out).
 *
 * Source: protobuf.dev, encoding; the messages themselves in messages.ts.
 */
import { type Ino, inoFromBigInt, inoToBigInt } from '../../lib/int64.ts';

/** `u64`, `i64`: whole numbers below 2^53; `ino`: an inode; `inos`: a packed list of them. */
export type FieldType = 'u64' | 'i64' | 'ino' | 'inos' | 'string' | 'bytes';
export type Schema = readonly (readonly [name: string, type: FieldType])[];
export type Value = number | string | Buffer | readonly Ino[];
export type Message = Readonly<Record<string, Value>>;

const VARINT = 0;
const FIXED_64 = 1;
const BYTES = 2;
const FIXED_32 = 5;

const isVarint = (type: FieldType): boolean => type === 'u64' || type === 'i64' || type === 'ino';

/** Bytes that grow. */
export class Writer {
  #buffer: Buffer;
  #end = 0;

  constructor(size = 4096) {
    this.#buffer = Buffer.allocUnsafe(size);
  }

  get length(): number {
    return this.#end;
  }

  #room(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#end + bytes));
    this.#buffer.copy(larger, 0, 0, this.#end);
    this.#buffer = larger;
  }

  varint(value: number | bigint): void {
    this.#room(10);
    let rest = typeof value === 'bigint' || value < 0 ? BigInt.asUintN(64, BigInt(value)) : value;
    if (typeof rest === 'bigint') {
      for (; rest > 0x7fn; rest >>= 7n) this.#buffer[this.#end++] = Number(rest & 0x7fn) | 0x80;
      this.#buffer[this.#end++] = Number(rest);
      return;
    }
    for (; rest > 0x7f; rest = Math.floor(rest / 128)) this.#buffer[this.#end++] = (rest % 128) | 0x80;
    this.#buffer[this.#end++] = rest;
  }

  ino(value: Ino): void {
    this.varint(value < 0 ? inoToBigInt(value) : value);
  }

  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  tag(field: number, wire: number): void {
    this.varint(field * 8 + wire);
  }

  bytes(field: number, bytes: Uint8Array): void {
    this.tag(field, BYTES);
    this.varint(bytes.length);
    this.raw(bytes);
  }

  /** A field of type message. */
  message(field: number, schema: Schema, message: Message): void {
    this.bytes(field, encode(schema, message));
  }

  /** What was written; it is not copied. */
  take(): Buffer {
    return this.#buffer.subarray(0, this.#end);
  }
}

/** A message as bytes. */
export function encode(schema: Schema, message: Message): Buffer {
  const writer = new Writer(64);
  for (const [index, [name, type]] of schema.entries()) {
    const value = message[name];
    const field = index + 1;
    if (value === undefined || value === 0 || value === '') continue;
    if (typeof value === 'number') {
      writer.tag(field, VARINT);
      if (type === 'ino') writer.ino(value as Ino);
      else writer.varint(value);
    } else if (typeof value === 'string') writer.bytes(field, Buffer.from(value));
    else if (Buffer.isBuffer(value)) {
      if (value.length > 0) writer.bytes(field, value);
    } else if (value.length > 0) {
      const packed = new Writer(value.length * 10);
      for (const ino of value) packed.ino(ino);
      writer.bytes(field, packed.take());
    }
  }
  return writer.take();
}

/** Takes bytes apart. Throws RangeError where they end too early or hold a number that is too large. */
export class Reader {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get ended(): boolean {
    return this.at >= this.#bytes.length;
  }

  /** 64 bits. */
  varint(): bigint {
    let low = 0;
    for (let shift = 0; shift < 49; shift += 7) {
      const byte = this.#byte();
      low += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new RangeError('a number of more than 64 bits');
  }

  #byte(): number {
    const byte = this.#bytes[this.at++];
    if (byte === undefined) throw new RangeError('it ends too early');
    return byte;
  }

  /** An unsigned number below 2^53. */
  number(): number {
    const value = this.varint();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`the number ${value} is not below 2^53`);
    return Number(value);
  }

  signed(): number {
    const value = Number(BigInt.asIntN(64, this.varint()));
    if (!Number.isSafeInteger(value)) throw new RangeError(`the number ${value} is not below 2^53`);
    return value;
  }

  ino(): Ino {
    return inoFromBigInt(this.varint());
  }

  bytes(): Buffer {
    const length = this.number();
    if (this.at + length > this.#bytes.length) throw new RangeError('it ends too early');
    const bytes = this.#bytes.subarray(this.at, this.at + length);
    this.at += length;
    return bytes;
  }

  /** Passes over a field of a type that is not known. */
  skip(wire: number): void {
    if (wire === VARINT) this.varint();
    else if (wire === BYTES) this.bytes();
    else if (wire === FIXED_64 || wire === FIXED_32) this.at += wire === FIXED_64 ? 8 : 4;
    else throw new RangeError(`a field of the unknown wire type ${wire}`);
    if (this.at > this.#bytes.length) throw new RangeError('it ends too early');
  }

  /** Number and wire type of the next field. */
  field(): readonly [field: number, wire: number] {
    const tag = this.number();
    return [Math.floor(tag / 8), tag % 8];
  }
}

const empty: Readonly<Record<FieldType, Value>> = { u64: 0, i64: 0, ino: 0, inos: [], string: '', bytes: Buffer.alloc(0) };

/** Reads a message; fields that are not there are zero or empty, unknown ones are passed over. Throws RangeError. */
export function decode(schema: Schema, bytes: Buffer): Message {
  const message: Record<string, Value> = {};
  for (const [name, type] of schema) message[name] = empty[type];
  const reader = new Reader(bytes);
  while (!reader.ended) {
    const [field, wire] = reader.field();
    const [name, type] = schema[field - 1] ?? [];
    if (name === undefined || type === undefined || (type !== 'inos' && wire !== (isVarint(type) ? VARINT : BYTES))) {
      reader.skip(wire);
      continue;
    }
    message[name] = valueOf(reader, type, wire, message[name]);
  }
  return message;
}

function valueOf(reader: Reader, type: FieldType, wire: number, before: Value | undefined): Value {
  switch (type) {
    case 'u64':
      return reader.number();
    case 'i64':
      return reader.signed();
    case 'ino':
      return reader.ino();
    case 'string':
      return reader.bytes().toString('utf8');
    case 'bytes':
      return reader.bytes();
    default: {
      const list = [...(before as readonly Ino[])];
      // Packed, or one by one.
      if (wire === VARINT) return [...list, reader.ino()];
      const packed = new Reader(reader.bytes());
      while (!packed.ended) list.push(packed.ino());
      return list;
    }
  }
}
