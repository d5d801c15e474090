/**
 * Loads a JSON dump, ours or the official client's, into an empty database of any engine; streamed (see tree.ts for what is held).
 *
 * Kept: everything of the tree, files whose data still waits to be deleted, limits of quotas. Made anew: what tree.ts makes, and the usage
 * of quotas. Counters go on behind the dumped ones. Not in a JSON dump: files without a name that were open, slices of compacted files
 * that waited to be deleted, locks, sessions.
 *
 * Source: the JuiceFS format, JSON dump (loadEntries in pkg/meta/dump.go of 1.4.1).
 */
import { UserError } from '../../lib/errors.ts';
import { formatIno, type Ino, isTrash, parseIno, ROOT_INO, TRASH_INO } from '../../lib/int64.ts';
import type { AclRule } from '../acl-rule.ts';
import type { Bulk, RecordOf } from '../bulk.ts';
import type { DirStat, MetaEngine } from '../engine.ts';
import { type Format, parseFormat, serialiseFormat } from '../format.ts';
import { MAX_NAME } from '../names.ts';
import { NO_LIMITS, type QuotaLimits, type QuotaUsage } from '../quota.ts';
import type { SliceRecord } from '../records.ts';
import { statOf } from '../stats.ts';
import { type Attr, NodeType } from '../types.ts';
import { type Loaded, loadInto, type LoadOptions } from './guard.ts';
import { JsonReader } from './reader.ts';
import { parseAcl, parseAttr, parseChunk, unescapeBytes } from './text.ts';
import { type TreeTotals, TreeWriter } from './tree.ts';

/** Slices of one file that are held; those of a file with more are written as they are read. */
const SLICES_HELD = 10_000;
const ROWS = 1000;

/** The volume of a JSON dump. Throws UserError where the database is not empty, or the dump is damaged; nothing is left then. */
export function loadJson(engine: MetaEngine, source: AsyncIterable<Uint8Array>, options: LoadOptions = {}): Promise<Loaded> {
  return loadInto(engine, options, (bulk) => new JsonLoad(engine, bulk, source, options).run());
}

/** What an entry is for the directory that it lies in. */
interface Child {
  readonly ino: Ino;
  readonly attr: Attr;
  /** Of everything below, itself included. */
  readonly usage: QuotaUsage;
}

type Xattrs = readonly { readonly name: string; readonly value: Buffer }[];

class JsonLoad {
  readonly #engine: MetaEngine;
  readonly #bulk: Bulk;
  readonly #reader: JsonReader;
  readonly #options: LoadOptions;
  readonly #quotas = {
    directory: new Map<Ino, QuotaLimits>(),
    user: new Map<number, QuotaLimits>(),
    group: new Map<number, QuotaLimits>(),
  };
  #format: Format | undefined;
  #counters: Readonly<Record<string, number>> | undefined;
  #tree: TreeWriter | undefined;
  #root = false;

  constructor(engine: MetaEngine, bulk: Bulk, source: AsyncIterable<Uint8Array>, options: LoadOptions) {
    this.#engine = engine;
    this.#bulk = bulk;
    this.#reader = new JsonReader(source);
    this.#options = options;
  }

  #damaged(what: string): UserError {
    return new UserError('DumpDamaged', `The dump cannot be loaded: ${what} (at byte ${this.#reader.position}).`, {
      hint: 'Take another dump. Nothing is left of this one in the database.',
    });
  }

  async run(): Promise<string> {
    const reader = this.#reader;
    await reader.enter('object');
    for (let key = await reader.key(); key !== undefined; key = await reader.key()) await this.#member(key);
    await reader.end();
    if (!this.#format || !this.#counters) throw this.#damaged(`it holds no ${this.#format ? 'Counters' : 'Setting'}`);
    if (!this.#root) throw this.#damaged('it holds no FSTree');
    const totals = await this.#writer().finish();
    await this.#ownerQuotas(totals);
    await this.#putCounters(totals, this.#counters);
    return serialiseFormat(this.#format);
  }

  async #member(name: string): Promise<void> {
    const reader = this.#reader;
    switch (name) {
      case 'Setting':
        this.#format = parseFormat(await reader.value());
        return;
      case 'Counters':
        this.#counters = (JSON.parse(await reader.value()) ?? {}) as Readonly<Record<string, number>>;
        return;
      case 'DelFiles':
        return this.#delfiles();
      case 'Sustained':
        return this.#sustained();
      case 'Quotas':
        return this.#limits((id, limits) => this.#quotas.directory.set(parseIno(id), limits));
      case 'UserQuotas':
        return this.#limits((id, limits) => this.#quotas.user.set(Number(id), limits));
      case 'GroupQuotas':
        return this.#limits((id, limits) => this.#quotas.group.set(Number(id), limits));
      case 'FSTree':
        this.#root = true;
        await this.#entry(ROOT_INO, ROOT_INO);
        return;
      case 'Trash':
        if (!(await reader.isNull())) await this.#entry(ROOT_INO, TRASH_INO);
        return;
      default:
        return reader.skip();
    }
  }

  /** Made when the first entry comes, for it depends on the setting, which stands before. */
  #writer(): TreeWriter {
    if (!this.#format) throw this.#damaged('its Setting should stand before everything else');
    const owners = this.#format.userGroupQuota || this.#quotas.user.size > 0 || this.#quotas.group.size > 0;
    return (this.#tree ??= new TreeWriter(this.#engine, this.#bulk, owners));
  }

  async #delfiles(): Promise<void> {
    const reader = this.#reader;
    if (await reader.isNull()) return;
    await reader.enter('list');
    let rows: RecordOf['delfile'][] = [];
    while (await reader.item()) {
      const text = await reader.value();
      const { length = 0, expire = 0 } = JSON.parse(text) as { readonly length?: number; readonly expire?: number };
      const inode = /"inode"\s*:\s*(\d+)/.exec(text)?.[1];
      if (inode === undefined) throw this.#damaged(`a member of DelFiles has no inode: ${text.slice(0, 200)}`);
      rows.push({ ino: parseIno(inode), length, time: expire });
      if (rows.length < ROWS) continue;
      await this.#bulk.put({ kind: 'delfile', rows });
      rows = [];
    }
    if (rows.length > 0) await this.#bulk.put({ kind: 'delfile', rows });
  }

  async #sustained(): Promise<void> {
    const reader = this.#reader;
    if (await reader.isNull()) return;
    await reader.enter('list');
    let files = 0;
    while (await reader.item())
      files += (JSON.parse(await reader.value()) as { readonly inodes?: unknown[] }).inodes?.length ?? 0;
    if (files > 0)
      this.#options.onWarning?.(
        `${files} removed files that were still open are not in a JSON dump; \`juicefs gc --delete\` removes their blocks`,
      );
  }

  async #limits(set: (id: string, limits: QuotaLimits) => void): Promise<void> {
    const reader = this.#reader;
    if (await reader.isNull()) return;
    await reader.enter('object');
    for (let id = await reader.key(); id !== undefined; id = await reader.key()) {
      const { maxSpace = -1, maxInodes = -1 } = JSON.parse(await reader.value()) as Readonly<Record<string, number>>;
      if (!/^\d+$/.test(id)) throw this.#damaged(`a quota should be of a number, found ${JSON.stringify(id)}`);
      set(id, { space: maxSpace, inodes: maxInodes });
    }
  }

  /** One entry and everything below it. `fixed`: the inode it has, whatever the dump says (its root may have been any directory). */
  async #entry(parent: Ino, fixed?: Ino): Promise<Child> {
    this.#options.signal?.throwIfAborted();
    const reader = this.#reader;
    const tree = this.#writer();
    let found: { readonly ino: Ino; readonly attr: Attr } | undefined;
    let target: Buffer | undefined;
    let xattrs: Xattrs = [];
    let access: AclRule | undefined;
    let byDefault: AclRule | undefined;
    let below = { stat: { length: 0, space: 0, inodes: 0 } as DirStat, usage: { space: 0, inodes: 0 } as QuotaUsage, links: 0 };
    let chunks: { readonly index: number; readonly slices: readonly SliceRecord[] }[] = [];
    await reader.enter('object');
    for (let key = await reader.key(); key !== undefined; key = await reader.key()) {
      if (key === 'attr') {
        found = parseAttr(await reader.value());
        if (fixed !== undefined) found = { ...found, ino: fixed };
      } else if (key === 'symlink') target = unescapeBytes(JSON.parse(await reader.value()) as string);
      else if (key === 'xattrs') xattrs = readXattrs(await reader.value());
      else if (key === 'posix_acl_access') access = parseAcl(await reader.value());
      else if (key === 'posix_acl_default') byDefault = parseAcl(await reader.value());
      else if (key !== 'chunks' && key !== 'entries') await reader.skip();
      else if (!found) throw this.#damaged(`${key} stands before attr`);
      else if (await reader.isNull()) continue;
      else if (key === 'entries') below = await this.#entries(found.ino);
      else chunks = await this.#chunks(found.ino);
    }
    if (!found) throw this.#damaged('an entry has no attr');
    this.#options.onProgress?.(1);
    const { ino } = found;
    const acls = { accessAcl: await tree.acl(access), defaultAcl: await tree.acl(byDefault) };
    if (found.attr.type !== NodeType.Directory) {
      const length = found.attr.type === NodeType.File ? found.attr.length : (target?.length ?? 0);
      const attr = { ...found.attr, ...acls, length };
      const isLink = attr.type === NodeType.Symlink;
      await tree.file({ ino, attr, parent, target: isLink ? (target ?? Buffer.alloc(0)) : undefined, xattrs, chunks });
      return { ino, attr, usage: statOf(attr) };
    }
    const attr = { ...found.attr, ...acls, length: 4096, parent, nlink: 2 + (isTrash(ino) ? 0 : below.links) };
    // What stands for the trash of a volume that has none.
    const noTrash = ino === TRASH_INO && attr.mode === 0 && attr.ctime === 0 && below.stat.inodes === 0;
    if (!noTrash) await tree.directory(ino, attr, this.#format?.dirStats ? below.stat : undefined, xattrs);
    const limits = this.#quotas.directory.get(ino);
    if (limits) await tree.row('quota', { quota: { kind: 'directory', id: ino }, limits, used: below.usage });
    return { ino, attr, usage: { space: below.usage.space + 4096, inodes: below.usage.inodes + 1 } };
  }

  async #entries(directory: Ino): Promise<{ readonly stat: DirStat; readonly usage: QuotaUsage; readonly links: number }> {
    const reader = this.#reader;
    const stat = { length: 0, space: 0, inodes: 0 };
    const usage = { space: 0, inodes: 0 };
    let links = 0;
    await reader.enter('object');
    for (let key = await reader.key(); key !== undefined; key = await reader.key()) {
      const name = unescapeBytes(key);
      if (name.length === 0 || name.length > MAX_NAME || name.includes(47) || name.includes(0))
        throw this.#damaged(
          `directory ${formatIno(directory)} holds a name that cannot be: ${JSON.stringify(key.slice(0, 300))}`,
        );
      const { ino, attr, usage: used } = await this.#entry(directory);
      await this.#writer().entry(directory, name, { type: attr.type, ino });
      const own = statOf(attr);
      stat.length += own.length;
      stat.space += own.space;
      stat.inodes += own.inodes;
      usage.space += used.space;
      usage.inodes += used.inodes;
      if (attr.type === NodeType.Directory) links++;
    }
    return { stat, usage, links };
  }

  /** The chunks of a file; those of a file with very many are written at once, and none is answered. */
  async #chunks(ino: Ino): Promise<{ readonly index: number; readonly slices: readonly SliceRecord[] }[]> {
    const reader = this.#reader;
    let chunks: { readonly index: number; readonly slices: readonly SliceRecord[] }[] = [];
    let held = 0;
    let wanted: boolean | undefined;
    await reader.enter('list');
    while (await reader.item()) {
      const chunk = parseChunk(await reader.value());
      chunks.push(chunk);
      held += chunk.slices.length;
      if (held < SLICES_HELD) continue;
      wanted ??= await this.#writer().isNew(ino);
      if (wanted) await this.#writer().chunks(ino, chunks);
      chunks = [];
      held = 0;
    }
    if (wanted === undefined) return chunks;
    if (wanted) await this.#writer().chunks(ino, chunks);
    return [];
  }

  /** Where owners are counted, each has a record, with limits or without; else those that the dump names. */
  async #ownerQuotas({ users, groups }: TreeTotals): Promise<void> {
    for (const [kind, usage] of [
      ['user', users],
      ['group', groups],
    ] as const) {
      const limits = this.#quotas[kind];
      const ids = new Set([...limits.keys(), ...(this.#format?.userGroupQuota ? usage.keys() : [])]);
      const rows = Array.from(ids, (id) => ({
        quota: { kind, id },
        limits: limits.get(id) ?? NO_LIMITS,
        used: usage.get(id) ?? { space: 0, inodes: 0 },
      }));
      if (rows.length > 0) await this.#bulk.put({ kind: 'quota', rows });
    }
  }

  async #putCounters(totals: TreeTotals, dumped: Readonly<Record<string, number>>): Promise<void> {
    const known = (name: string): number => {
      const value = dumped[name] ?? 0;
      return Number.isSafeInteger(value) ? value : 0;
    };
    const rows = [
      { name: 'usedSpace', value: totals.usedSpace },
      { name: 'totalInodes', value: totals.totalInodes },
      { name: 'nextInode', value: Math.max(totals.nextInode, known('nextInodes')) },
      { name: 'nextChunk', value: Math.max(totals.nextChunk, known('nextChunk')) },
      { name: 'nextSession', value: known('nextSession') },
      { name: 'nextTrash', value: Math.max(totals.nextTrash, known('nextTrash')) },
    ];
    await this.#bulk.put({ kind: 'counter', rows });
  }
}

function readXattrs(text: string): Xattrs {
  const found = (JSON.parse(text) ?? []) as readonly { readonly name?: string; readonly value?: string }[];
  return found.map(({ name = '', value = '' }) => ({ name, value: unescapeBytes(value) }));
}
