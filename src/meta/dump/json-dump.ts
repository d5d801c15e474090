/**
 * The JSON dump of a volume, or of a directory of it: what `juicefs dump` writes, streamed. Read it again with json-load.ts, or with the
 * official client.
 *
 * Not a snapshot: what changes meanwhile may be in it as before or as after. Memory: in each directory from the root to where the dump
 * is, a few batches of entries; names of a directory are put in order as long as they are no more than SORTED.
 *
 * Source: the JuiceFS format, JSON dump (pkg/meta/dump.go of 1.4.1).
 */
import { FsError, UserError } from '../../lib/errors.ts';
import { formatIno, type Ino, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import { Acls } from '../acls.ts';
import type { Bulk, RecordOf, XattrRecord } from '../bulk.ts';
import type { MetaEngine, NamedEntry } from '../engine.ts';
import { type Format, REMOVED, serialiseFormat } from '../format.ts';
import { Listed } from '../namespace.ts';
import { resolvePath } from '../paths.ts';
import { readSetting } from '../setting.ts';
import { type Attr, CHUNK_SIZE, NodeType } from '../types.ts';
import { inOrder, type Sink, TextSink } from './sink.ts';
import { aclText, attrText, chunkText, escapeBytes, goString, missingAttr } from './text.ts';

export interface DumpOptions {
  /** Keeps SecretKey and SessionToken (as they are stored). @default false */
  readonly keepSecrets?: boolean;
  /** Requests that are out at once, 1 to 50. @default 10 */
  readonly threads?: number;
  /** Told how many entries (of a binary dump: records) were written since it was last told. */
  readonly onProgress?: (count: number) => void;
  /** Told of what is damaged in the volume; the dump goes on. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

export interface JsonDumpOptions extends DumpOptions {
  /** Only what is below this directory, which becomes the root. @default the whole volume */
  readonly directory?: string;
  /** @default false */
  readonly skipTrash?: boolean;
}

/** Entries described at once: all that are out die young then, and nothing of them is left to the collector of the old. */
const BATCH = 40;
/** Names read at once. */
const NAMES = 1000;
/** Directories of up to so many names are in order, as they are in a dump of the official client. */
const SORTED = 10_000;
/** Beyond so many chunks (64 GiB) a file's lists are searched for instead of tried one by one. */
const CHUNKS_TO_TRY = 1024;
const CHUNKS_PER_READ = 64;

/** An entry, with what is needed to write it. */
interface Described {
  readonly name: string;
  readonly ino: Ino;
  readonly attr: Attr;
  readonly head: readonly string[];
  /** The first chunk of a file; empty where there is none. */
  readonly first: Buffer;
}

export function bulkOf(engine: MetaEngine): Bulk {
  if (engine.bulk) return engine.bulk;
  throw new UserError('NoDump', `${engine.description} cannot be dumped or loaded.`);
}

/** The setting as a dump has it. */
export function withoutSecrets(format: Format, names: readonly ('secretKey' | 'sessionToken' | 'encryptKey')[]): Format {
  const removed = names.filter((name) => format[name] !== '').map((name) => [name, REMOVED] as const);
  return { ...format, ...(Object.fromEntries(removed) as Partial<Format>) };
}

/** Writes the dump. Throws UserError where the database holds no volume, or the volume no such directory. */
export async function dumpJson(engine: MetaEngine, sink: Sink, options: JsonDumpOptions = {}): Promise<void> {
  await new JsonDump(engine, sink, options).run();
}

class JsonDump {
  readonly #engine: MetaEngine;
  readonly #bulk: Bulk;
  readonly #out: TextSink;
  readonly #options: JsonDumpOptions;
  readonly #acls: Acls;
  readonly #ahead: number;

  constructor(engine: MetaEngine, sink: Sink, options: JsonDumpOptions) {
    this.#engine = engine;
    this.#bulk = bulkOf(engine);
    this.#out = new TextSink(sink);
    this.#options = options;
    this.#acls = new Acls(engine);
    this.#ahead = Math.min(Math.max(Math.floor(options.threads ?? 10), 1), 50) - 1;
  }

  async run(): Promise<void> {
    const { directory = '/', skipTrash = false, keepSecrets = false } = this.#options;
    const { format } = await readSetting(this.#engine);
    const root = await resolvePath(this.#engine, directory);
    const setting = serialiseFormat(keepSecrets ? format : withoutSecrets(format, ['secretKey', 'sessionToken']));
    await this.#out.write(`{\n  "Setting": ${indented(setting, 1)},`);
    await this.#counters(format);
    await this.#sustained();
    await this.#delfiles();
    await this.#quotas(root === ROOT_INO);
    await this.#top('FSTree', root);
    if (root === ROOT_INO && !skipTrash) {
      await this.#out.write(',');
      await this.#top('Trash', TRASH_INO);
    }
    await this.#out.write('\n}\n');
    await this.#out.flush();
  }

  async #counters(format: Format): Promise<void> {
    const values = new Map<string, number>();
    for await (const batch of this.#bulk.records(['counter']))
      if (batch.kind === 'counter') for (const { name, value } of batch.rows) values.set(name, value);
    const last = format.changeLog ? await this.#bulk.lastChange() : 0;
    const lines = [
      ['usedSpace', 'usedSpace'],
      ['usedInodes', 'totalInodes'],
      ['nextInodes', 'nextInode'],
      ['nextChunk', 'nextChunk'],
      ['nextSession', 'nextSession'],
      ['nextTrash', 'nextTrash'],
    ].map(([name, counter = '']) => `    "${name}": ${values.get(counter) ?? 0}`);
    if (last > 0) lines.push(`    "lastChangelog": ${last}`);
    await this.#out.write(`\n  "Counters": {\n${lines.join(',\n')}\n  },`);
  }

  /** A list, item by item. */
  async #list<K extends 'sustained' | 'delfile'>(name: string, kind: K, text: (row: RecordOf[K]) => string): Promise<void> {
    await this.#out.write(`\n  "${name}": [`);
    let some = false;
    for await (const batch of this.#bulk.records([kind]))
      for (const row of batch.rows) {
        await this.#out.write(`${some ? ',' : ''}\n    ${text(row as RecordOf[K])}`);
        some = true;
      }
    await this.#out.write(some ? '\n  ],' : '],');
  }

  async #sustained(): Promise<void> {
    await this.#list('Sustained', 'sustained', ({ sid, inos }) => {
      const list = inos.map((ino) => `        ${formatIno(ino)}`).join(',\n');
      return `{\n      "sid": ${sid},\n      "inodes": [\n${list}\n      ]\n    }`;
    });
  }

  async #delfiles(): Promise<void> {
    await this.#list(
      'DelFiles',
      'delfile',
      ({ ino, length, time }) =>
        `{\n      "inode": ${formatIno(ino)},\n      "length": ${length},\n      "expire": ${time}\n    }`,
    );
  }

  /** Those with a limit, by kind. They are few: each is what somebody has set. */
  async #quotas(whole: boolean): Promise<void> {
    const found = { directory: new Map<string, string>(), user: new Map<string, string>(), group: new Map<string, string>() };
    for await (const batch of this.#bulk.records(['quota'])) {
      if (batch.kind !== 'quota') continue;
      for (const { quota, limits } of batch.rows) {
        if ((limits.space === -1 && limits.inodes === -1) || (quota.kind !== 'directory' && !whole)) continue;
        const id = quota.kind === 'directory' ? formatIno(quota.id) : String(quota.id);
        found[quota.kind].set(id, `{\n      "maxSpace": ${limits.space},\n      "maxInodes": ${limits.inodes}\n    }`);
      }
    }
    for (const [name, quotas] of [
      ['Quotas', found.directory],
      ['UserQuotas', found.user],
      ['GroupQuotas', found.group],
    ] as const) {
      if (quotas.size === 0) continue;
      const lines = [...quotas].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([id, text]) => `    "${id}": ${text}`);
      await this.#out.write(`\n  "${name}": {\n${lines.join(',\n')}\n  },`);
    }
  }

  /** Named as a whole number where it is known: of a volume of any size. */
  async #top(name: string, ino: Ino): Promise<void> {
    const entry = { name: Buffer.from(name), ino, type: NodeType.Directory };
    const [described] = await this.#describe([entry]);
    if (!described) return;
    await this.#directory(described, 1);
  }

  async #directory(directory: Described, depth: number): Promise<void> {
    const prefix = '  '.repeat(depth);
    const field = `\n${prefix}  `;
    const head = `\n${prefix}"${directory.name}": {${field}${directory.head.join(`,${field}`)},${field}"entries": {`;
    await this.#out.write(head);
    let some = false;
    for await (const batch of inOrder(this.#entries(directory.ino), this.#ahead, (entries) => this.#describe(entries)))
      for (const entry of batch) {
        this.#options.signal?.throwIfAborted();
        const comma = some ? this.#out.write(',') : undefined;
        if (comma) await comma;
        some = true;
        if (entry.attr.type === NodeType.Directory) await this.#directory(entry, depth + 2);
        else await this.#leaf(entry, depth + 2);
      }
    await this.#out.write(`${field}}\n${prefix}}`);
    this.#options.onProgress?.(1);
  }

  async #leaf(entry: Described, depth: number): Promise<void> {
    const prefix = '  '.repeat(depth);
    const field = `\n${prefix}  `;
    const written = this.#out.write(`\n${prefix}"${entry.name}": {${field}${entry.head.join(`,${field}`)}`);
    if (written) await written;
    if (entry.attr.type === NodeType.File && entry.attr.length > 0) await this.#chunks(entry, field);
    await this.#out.write(`\n${prefix}}`);
    this.#options.onProgress?.(1);
  }

  /** One chunk stands on a line with its name, several have a line each. */
  async #chunks({ ino, attr, first }: Described, field: string): Promise<void> {
    let waiting = first.length > 0 ? chunkText(0, first) : undefined;
    let count = 0;
    if (attr.length > CHUNK_SIZE)
      for await (const indexes of this.#furtherChunks(ino, attr.length)) {
        const lists = await this.#engine.read(indexes.map((index) => ({ kind: 'chunk', ino, index }) as const));
        for (const [at, records] of lists.entries()) {
          if (records.length === 0) continue;
          if (waiting !== undefined) await this.#out.write(`${count++ === 0 ? `,${field}"chunks": [` : ','}${field}  ${waiting}`);
          waiting = chunkText(indexes[at] ?? 0, records);
        }
      }
    if (waiting === undefined) return;
    if (count === 0) await this.#out.write(`,${field}"chunks": [${waiting}]`);
    else await this.#out.write(`,${field}  ${waiting}${field}]`);
  }

  /** Numbers of a file's chunks behind the first, in order. */
  async *#furtherChunks(ino: Ino, length: number): AsyncGenerator<readonly number[]> {
    const count = Math.ceil(length / CHUNK_SIZE);
    let all: number[] = [];
    if (count <= CHUNKS_TO_TRY) all = Array.from({ length: count - 1 }, (_, at) => at + 1);
    else for await (const index of this.#engine.scanChunks(ino)) if (index > 0 && index < count) all.push(index);
    all.sort((a, b) => a - b);
    for (let from = 0; from < all.length; from += CHUNKS_PER_READ) yield all.slice(from, from + CHUNKS_PER_READ);
  }

  /** The entries of a directory, batch by batch, in the order of their names unless they are too many. */
  async *#entries(directory: Ino): AsyncGenerator<readonly NamedEntry[]> {
    const listed = new Listed();
    let first: NamedEntry[] | undefined = [];
    for await (const found of this.#engine.scanEntries(directory, NAMES)) {
      this.#options.signal?.throwIfAborted();
      const fresh = listed.fresh(found);
      if (!first) {
        yield* batches(fresh);
        continue;
      }
      first.push(...fresh);
      if (first.length <= SORTED) continue;
      yield* batches(first);
      first = undefined;
    }
    if (first) yield* batches(first.toSorted((a, b) => Buffer.compare(a.name, b.name)));
  }

  async #describe(entries: readonly NamedEntry[]): Promise<readonly Described[]> {
    const inos = entries.map(({ ino }) => ino);
    const links = entries.filter(({ type }) => type === NodeType.Symlink);
    const files = entries.filter(({ type }) => type === NodeType.File);
    const [attrs, xattrs, values] = await Promise.all([
      this.#engine.nodes(inos),
      this.#bulk.xattrs(inos),
      this.#engine.read([
        ...links.map(({ ino }) => ({ kind: 'symlink', ino }) as const),
        ...files.map(({ ino }) => ({ kind: 'chunk', ino, index: 0 }) as const),
      ]),
    ]);
    const bytesOf = new Map([...links, ...files].map(({ ino }, at) => [ino, values[at]]));
    return Promise.all(
      entries.map(async ({ name, ino, type }, at) => {
        let attr = attrs[at];
        // The trash of a volume that has none is told as the official client tells it.
        if (!attr && ino !== TRASH_INO) this.#warn(`inode ${formatIno(ino)} (${name.toString()}) is named and is not there`);
        attr ??= missingAttr(type);
        const bytes = bytesOf.get(ino);
        const head = [`"attr": ${attrText(ino, attr)}`];
        if (attr.type === NodeType.Symlink) {
          if (!bytes) this.#warn(`the target of the symbolic link ${formatIno(ino)} (${name.toString()}) is not there`);
          else if (bytes.length > 0) head.push(`"symlink": "${escapeBytes(bytes)}"`);
        }
        const pairs = xattrs[at] ?? [];
        if (pairs.length > 0) head.push(`"xattrs": ${xattrsText(pairs)}`);
        for (const [field, id] of [
          ['posix_acl_access', attr.accessAcl],
          ['posix_acl_default', attr.defaultAcl],
        ] as const)
          if (id !== 0) head.push(...(await this.#acl(field, id)));
        const first = attr.type === NodeType.File && attr.length > 0 ? (bytes ?? (await this.#firstChunk(ino))) : Buffer.alloc(0);
        return { name: escapeBytes(name), ino, attr, head, first };
      }),
    );
  }

  async #firstChunk(ino: Ino): Promise<Buffer> {
    const [records] = await this.#engine.read([{ kind: 'chunk', ino, index: 0 }]);
    return records;
  }

  async #acl(field: string, id: number): Promise<readonly string[]> {
    try {
      return [`"${field}": ${aclText(await this.#acls.rule(id))}`];
    } catch (error) {
      if (!(error instanceof FsError) || error.retryable) throw error;
      this.#warn(`the access control list ${id} is not there`);
      return [];
    }
  }

  #warn(message: string): void {
    this.#options.onWarning?.(message);
  }
}

function* batches(entries: readonly NamedEntry[]): Generator<readonly NamedEntry[]> {
  for (let from = 0; from < entries.length; from += BATCH) yield entries.slice(from, from + BATCH);
}

function xattrsText(pairs: readonly XattrRecord[]): string {
  const sorted = pairs.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return `[${sorted.map(({ name, value }) => `{"name":${goString(name)},"value":${goString(escapeBytes(value))}}`).join(',')}]`;
}

/** The text of a setting, a member a line, indented as a member of a dump. */
function indented(text: string, depth: number): string {
  let level = depth;
  return text
    .split('\n')
    .map((line, at) => {
      if (/^[}\]]/.test(line)) level--;
      const result = at === 0 ? line : '  '.repeat(level) + line;
      if (/[{[]$/.test(line)) level++;
      return result;
    })
    .join('\n');
}
