/**
 * The binary dump of a volume: all records as they are, in segments (messages.ts). Smaller and faster than JSON, and it keeps what JSON does
 * not: statistics of directories, references, usage of quotas, removed files that are still open.
 *
 * Not a snapshot: made while the volume is in use, parts of it may disagree. Memory: SEGMENT bytes for each kind of record, and what the sink has not written yet.
 */
import { RECORD_KINDS } from '../bulk.ts';
import type { MetaEngine } from '../engine.ts';
import { serialiseFormat } from '../format.ts';
import { readSetting } from '../setting.ts';
import { bulkOf, type DumpOptions, withoutSecrets } from './json-dump.ts';
import { footerSchema, FORMAT_SEGMENT, formatSchema, MAGIC, messagesOf, type Segment, VERSION } from './messages.ts';
import { encode, Writer } from './protobuf.ts';
import type { Sink } from './sink.ts';

/** A segment is written when it has so many bytes. */
const SEGMENT = 512 * 1024;
/** For the record that makes it full; longer ones are rare. */
const ROOM = 4096;
const HEADER = 12;

interface Info {
  readonly offsets: number[];
  count: number;
}

interface Open {
  readonly segment: Segment;
  writer: Writer;
  count: number;
}

/** Writes the dump. Throws UserError where the database holds no volume. */
export async function dumpBinary(engine: MetaEngine, sink: Sink, options: DumpOptions = {}): Promise<void> {
  const bulk = bulkOf(engine);
  const { format } = await readSetting(engine);
  const setting = options.keepSecrets ? format : withoutSecrets(format, ['secretKey', 'sessionToken', 'encryptKey']);
  const out = new SegmentWriter(sink, options);
  await out.format(Buffer.from(serialiseFormat(setting)));
  for await (const batch of bulk.records(RECORD_KINDS)) {
    options.signal?.throwIfAborted();
    for (const [segment, message] of messagesOf(batch)) {
      const full = out.add(segment, message);
      if (full) await full;
    }
  }
  await out.finish();
}

class SegmentWriter {
  readonly #sink: Sink;
  readonly #options: DumpOptions;
  readonly #infos = new Map<string, Info>();
  readonly #open = new Map<number, Open>();
  #position = 0;

  constructor(sink: Sink, options: DumpOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  format(data: Buffer): Promise<void> {
    return this.#write(FORMAT_SEGMENT, 'format', 1, encode(formatSchema, { data }));
  }

  /** Undefined where nothing has to be waited for. */
  add(segment: Segment, message: Parameters<Writer['message']>[2]): Promise<void> | undefined {
    let open = this.#open.get(segment.field);
    if (!open) this.#open.set(segment.field, (open = { segment, writer: new Writer(), count: 0 }));
    open.writer.message(segment.field, segment.schema, message);
    open.count++;
    return open.writer.length < SEGMENT ? undefined : this.#close(open);
  }

  async #close(open: Open): Promise<void> {
    const { segment, writer, count } = open;
    // There will be more: with room for all of it at once, for what is left behind at each doubling lies about until V8 looks.
    open.writer = new Writer(writer.length < SEGMENT ? 0 : SEGMENT + ROOM);
    open.count = 0;
    await this.#write(segment.type, segment.name, count, writer.take());
  }

  async #write(type: number, name: string, count: number, message: Buffer): Promise<void> {
    const info = this.#infos.get(name) ?? { offsets: [], count: 0 };
    this.#infos.set(name, info);
    info.offsets.push(this.#position);
    info.count += count;
    const header = Buffer.alloc(HEADER);
    header.writeUInt32BE(type, 0);
    header.writeBigUInt64BE(BigInt(message.length), 4);
    this.#position += HEADER + message.length;
    await this.#sink(header);
    await this.#sink(message);
    this.#options.onProgress?.(count);
  }

  async finish(): Promise<void> {
    for (const open of this.#open.values()) if (open.count > 0) await this.#close(open);
    const footer = new Writer();
    footer.raw(encode(footerSchema, { magic: MAGIC, version: VERSION }));
    for (const [name, { offsets, count }] of this.#infos) {
      const packed = new Writer(offsets.length * 10);
      for (const offset of offsets) packed.varint(offset);
      const info = new Writer(offsets.length * 10 + 32);
      info.bytes(1, packed.take());
      info.tag(2, 0);
      info.varint(count);
      const pair = new Writer();
      pair.bytes(1, Buffer.from(name));
      pair.bytes(2, info.take());
      footer.bytes(3, pair.take());
    }
    const end = Buffer.alloc(4);
    end.writeUInt32BE(MAGIC);
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(footer.length));
    await this.#sink(Buffer.concat([end, footer.take(), length]));
  }
}
