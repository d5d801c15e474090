/**
 * A volume as a side, straight from its metadata and blocks, without a mount. Keys are paths from the root of the volume; a prefix of
 * the place is part of every path here. Whoever runs it owns what is made.
 *
 * A file is written under a name beside its own (`.jfs.<name>.tmp.<number>`), in slices, and renamed when it is whole.
 */
import type { ChunkStore } from '../chunk/types.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { errno, FsError, toErrno } from '../lib/errors.ts';
import { type Ino, ROOT_INO } from '../lib/int64.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { type Attr, CHUNK_SIZE, type Context, type Meta, NodeType, type Piece } from '../meta/types.ts';
import { temporaryName } from '../object/temporary-name.ts';
import type { Name } from './ordered.ts';
import {
  bytesOf,
  type Entry,
  type FileSide,
  Gone,
  type ListOptions,
  PART_BYTES,
  type PartWriter,
  type Permissions,
  type Side,
  writeWhole,
} from './side.ts';
import { type Directory, levelOf, type Tree, walk } from './walk.ts';

/** Links that lead to links, as Linux counts them. */
const MAX_LINKS = 40;
/** Tries of a read whose blocks were gone: the list was old. */
const TRIES = 5;
const PAUSE_MS = 200;
/** Names that the root of a mount shows and that are no files. Source: JuiceFS pkg/vfs/internal.go. */
const VIRTUAL = new Set([
  '.control',
  '.accesslog',
  '.stats',
  '.config',
  '.trash',
  '.jfs.control',
  '.jfs.accesslog',
  '.jfs.stats',
  '.jfs.config',
]);

const isCode = (error: unknown, ...codes: readonly string[]): boolean => error instanceof FsError && codes.includes(error.code);

interface Node {
  readonly ino: Ino;
  readonly attr: Attr;
}

type Top = Directory & { readonly node: Node };

export interface VolumePlace {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  readonly name: string;
  /** Before every key: empty, or a path without `/` at its beginning. Bytes as Latin-1. */
  readonly prefix: string;
  /** Ends the session. */
  readonly close: () => Promise<void>;
  readonly inPlace?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
}

export class VolumeFiles implements Side, Tree, FileSide {
  readonly description: string;
  readonly files = this;
  readonly #place: VolumePlace;
  readonly #meta: Meta;
  readonly #clock: Clock;
  readonly #who: Context = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, pid: process.pid };
  readonly #umask = process.umask();
  /** Temporary names in use. */
  readonly #writing = new Set<string>();

  constructor(place: VolumePlace) {
    this.#place = place;
    this.#meta = place.meta;
    this.#clock = place.clock ?? systemClock;
    this.description = `jfs://${place.name}/${bytesOf(place.prefix).toString('utf8')}`;
  }

  async *list(prefix: string, options: ListOptions): AsyncGenerator<Entry> {
    const top = await this.#top(prefix);
    if (!top) return;
    yield* this.#itself(prefix, top, options);
    yield* walk(this, top, prefix, options);
  }

  async *level(prefix: string, options: ListOptions): AsyncGenerator<Entry> {
    const top = await this.#top(prefix);
    if (!top) return;
    yield* this.#itself(prefix, top, options);
    yield* levelOf(this, top, options);
  }

  /** The directory that holds what begins with a prefix. */
  async #top(prefix: string): Promise<Top | undefined> {
    const full = this.#place.prefix + prefix;
    const path = full.slice(0, full.lastIndexOf('/') + 1);
    const node = await this.#find(path, true);
    return node?.attr.type === NodeType.Directory ? { key: prefix, path, ref: node.ino, node } : undefined;
  }

  /** The directory, where the prefix names it. */
  #itself(prefix: string, { path, node }: Top, { start }: ListOptions): readonly Entry[] {
    return path === this.#place.prefix + prefix && prefix >= start ? [this.#entry(prefix, node)] : [];
  }

  directoryOf({ key, ref }: Entry): Directory {
    return { key, path: this.#place.prefix + key, ...(ref === undefined ? {} : { ref }) };
  }

  async *names(directory: Directory, { followLinks }: ListOptions): AsyncGenerator<Name> {
    const { prefix } = this.#place;
    for await (const batch of this.#meta.readdir(this.#who, directory.ref!, false))
      for (const { name, ino, type } of batch) {
        const path = directory.path + name.toString('latin1');
        if (this.#writing.has(path) || !path.startsWith(prefix)) continue;
        // A link that leads nowhere stays what it is: the copy will say so.
        const followed = followLinks && type === NodeType.Symlink ? await this.#find(path, true) : undefined;
        const isDirectory = (followed?.attr.type ?? type) === NodeType.Directory;
        yield { key: path.slice(prefix.length) + (isDirectory ? '/' : ''), ref: followed?.ino ?? ino };
      }
  }

  async look(names: readonly Name[]): Promise<readonly (Entry | undefined)[]> {
    const attributes = await this.#meta.attributes(names.map(({ ref }) => ref!));
    return names.map(({ key, ref }, index) => {
      const attr = attributes[index];
      return attr && this.#seen(key, { ino: ref!, attr });
    });
  }

  async identityOf({ ref }: Directory): Promise<string | undefined> {
    return String(ref);
  }

  /** Undefined for what cannot be copied. */
  #seen(key: string, node: Node): Entry | undefined {
    const { type } = node.attr;
    if (type !== NodeType.File && type !== NodeType.Directory && type !== NodeType.Symlink) return undefined;
    return this.#entry(key, node);
  }

  #entry(key: string, { ino, attr }: Node): Entry {
    const isDirectory = attr.type === NodeType.Directory;
    return {
      key,
      size: isDirectory ? 0 : attr.length,
      mtimeMs: attr.mtime * 1000 + attr.mtimensec / 1e6,
      isDirectory,
      isLink: attr.type === NodeType.Symlink,
      permissions: { mode: attr.mode & 0o7777, uid: attr.uid, gid: attr.gid },
      ref: ino,
    };
  }

  /** What a path leads to; undefined where that is nothing. A link at its end is followed where `follow` says so. */
  async #find(path: string, follow: boolean): Promise<Node | undefined> {
    const above: Node[] = [];
    let current: Node = { ino: ROOT_INO, attr: await this.#meta.getattr(this.#who, ROOT_INO) };
    const names = path.split('/').filter((name) => name !== '');
    for (let links = 0; names.length > 0;) {
      const name = names.shift()!;
      if (name === '.') continue;
      if (name === '..') {
        current = above.pop() ?? current;
        continue;
      }
      let found: Node;
      try {
        found = await this.#meta.lookup(this.#who, current.ino, bytesOf(name));
      } catch (error) {
        if (isCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
        throw error;
      }
      if (found.attr.type === NodeType.Symlink && (follow || names.length > 0)) {
        const target = (await this.#meta.readlink(this.#who, found.ino)).toString('latin1');
        // Where it begins with a slash it leads out of the volume.
        if (++links > MAX_LINKS || target.startsWith('/')) return undefined;
        names.unshift(...target.split('/').filter((part) => part !== ''));
        continue;
      }
      above.push(current);
      current = found;
    }
    return current;
  }

  async head(key: string, followLinks: boolean): Promise<Entry | undefined> {
    const path = this.#place.prefix + key;
    const node = await this.#find(path, followLinks || path.endsWith('/'));
    if (node && path.endsWith('/') && node.attr.type !== NodeType.Directory) return undefined;
    return node && this.#seen(key, node);
  }

  async read({ key, ref }: Entry, offset: number, length: number, signal: AbortSignal): Promise<Buffer> {
    const ino = ref ?? (await this.#find(this.#place.prefix + key, true))?.ino;
    if (ino === undefined) throw new Gone('it is not there any more');
    const [attr] = await this.#meta.attributes([ino]);
    if (attr?.type !== NodeType.File)
      throw new Gone(attr?.type === NodeType.Symlink ? 'it leads out of the volume, or nowhere' : 'it is not there any more');
    const body = Buffer.alloc(Math.max(0, Math.min(length, attr.length - offset)));
    for (let attempt = 1; ; attempt++)
      try {
        for (let done = 0; done < body.length;) {
          const index = Math.floor((offset + done) / CHUNK_SIZE);
          const from = offset + done - index * CHUNK_SIZE;
          const end = Math.min(CHUNK_SIZE, from + body.length - done);
          await this.#pieces(await this.#meta.readChunk(ino, index), from, body.subarray(done, done + end - from), signal);
          done += end - from;
        }
        return body;
      } catch (error) {
        if (toErrno(error) !== errno.ENOENT || attempt === TRIES) throw error;
        for (let index = Math.floor(offset / CHUNK_SIZE); index * CHUNK_SIZE < offset + length; index++)
          this.#meta.invalidateChunk(ino, index);
        await this.#clock.sleep(PAUSE_MS * (attempt - 1), signal);
      }
  }

  /** Fills `target` with a chunk's bytes from `from`. */
  async #pieces(pieces: readonly Piece[], from: number, target: Buffer, signal: AbortSignal): Promise<void> {
    target.fill(0);
    await Promise.all(
      pieces.map(async (piece) => {
        const begin = Math.max(piece.pos, from);
        const end = Math.min(piece.pos + piece.len, from + target.length);
        if (piece.id === 0 || begin >= end) return;
        const part = target.subarray(begin - from, end - from);
        await this.#place.chunks.fetch(piece, piece.off + begin - piece.pos, part, signal);
      }),
    );
  }

  partBytes(): number {
    return PART_BYTES;
  }

  async put(key: string, body: Buffer, signal: AbortSignal): Promise<void> {
    const path = this.#place.prefix + key;
    if (path === '' || path.endsWith('/')) {
      await this.#makeDirectory(path);
      return;
    }
    await writeWhole(await this.begin(key, body.length, signal), body);
  }

  async begin(key: string, _size: number, signal: AbortSignal): Promise<PartWriter> {
    const path = this.#place.prefix + key;
    if (VIRTUAL.has(path)) throw new Gone('a volume has a file of its own by that name');
    const cut = path.lastIndexOf('/') + 1;
    const name = path.slice(cut);
    const temporary = this.#place.inPlace ? name : temporaryName(name, this.#place.random ?? systemRandom);
    const parent = await this.#makeDirectory(path.slice(0, cut));
    const other = temporary !== name;
    if (other) this.#writing.add(path.slice(0, cut) + temporary);
    const { ino } = await this.#meta.create(this.#who, parent, bytesOf(temporary), 0o666, this.#umask, other);
    if (!other) await this.#meta.truncate(this.#who, ino, 0);
    let released = false;
    const release = async (): Promise<void> => {
      if (released) return;
      released = true;
      await this.#meta.release(ino);
    };
    return {
      part: (number, body) => this.#slice(ino, number * PART_BYTES, body, signal),
      finish: async () => {
        await release();
        if (other) await this.#meta.rename(this.#who, parent, bytesOf(temporary), parent, bytesOf(name), 0);
        this.#writing.delete(path.slice(0, cut) + temporary);
      },
      abort: async () => {
        await release().catch(() => {});
        if (other) await this.#meta.unlink(this.#who, parent, bytesOf(temporary)).catch(() => {});
        this.#writing.delete(path.slice(0, cut) + temporary);
      },
    };
  }

  /** Writes a part, which lies in one chunk, as one slice. */
  async #slice(ino: Ino, offset: number, body: Buffer, signal: AbortSignal): Promise<void> {
    const index = Math.floor(offset / CHUNK_SIZE);
    await this.#place.chunks.throttle(signal);
    const writer = this.#place.chunks.newSlice({ direct: true });
    try {
      const id = await this.#meta.newSliceId();
      writer.setId(id);
      writer.write(body, 0);
      await writer.finish(signal);
      const slice = { id, size: body.length };
      await this.#meta.writeSlice(this.#who, ino, index, offset - index * CHUNK_SIZE, slice, this.#clock.nowNs());
    } catch (error) {
      writer.abort();
      throw error;
    }
  }

  /** The directory of this path, made with those above it where it is missing. */
  async #makeDirectory(path: string): Promise<Ino> {
    const found = await this.#find(path, true);
    if (found) {
      if (found.attr.type !== NodeType.Directory) throw new FsError('ENOTDIR', `${bytesOf(path).toString()} is no directory`);
      return found.ino;
    }
    const bare = path.replace(/\/+$/, '');
    const cut = bare.lastIndexOf('/') + 1;
    const parent = await this.#makeDirectory(bare.slice(0, cut));
    try {
      return (await this.#meta.mkdir(this.#who, parent, bytesOf(bare.slice(cut)), 0o777, this.#umask)).ino;
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      return this.#makeDirectory(path);
    }
  }

  /** The directory and the name of a path that is there. */
  async #locate(key: string): Promise<{ readonly parent: Ino; readonly name: Buffer; readonly node: Node } | undefined> {
    const path = (this.#place.prefix + key).replace(/\/+$/, '');
    const cut = path.lastIndexOf('/') + 1;
    const [parent, node] = [await this.#find(path.slice(0, cut), true), await this.#find(path, false)];
    return parent && node && { parent: parent.ino, name: bytesOf(path.slice(cut)), node };
  }

  async remove(key: string): Promise<boolean> {
    const found = await this.#locate(key);
    if (!found || found.name.length === 0) return true;
    try {
      if (found.node.attr.type === NodeType.Directory) await this.#meta.rmdir(this.#who, found.parent, found.name);
      else await this.#meta.unlink(this.#who, found.parent, found.name);
    } catch (error) {
      if (isCode(error, 'ENOTEMPTY')) return false;
      if (!isCode(error, 'ENOENT')) throw error;
    }
    return true;
  }

  async setTime(key: string, mtimeMs: number): Promise<void> {
    const found = await this.#locate(key);
    if (!found) return;
    const sec = Math.floor(mtimeMs / 1000);
    const mtime = { sec, nsec: Math.min(999_999_999, Math.round((mtimeMs - sec * 1000) * 1e6)) };
    await this.#meta.setattr(this.#who, found.node.ino, { mtime });
  }

  async setPermissions(key: string, { mode, uid, gid }: Permissions): Promise<void> {
    const found = await this.#locate(key);
    if (!found) return;
    await this.#meta.setattr(this.#who, found.node.ino, { uid, gid });
    await this.#meta.setattr(this.#who, found.node.ino, { mode });
  }

  readLink({ ref }: Entry): Promise<Buffer> {
    if (ref === undefined) throw new Gone('it is not there any more');
    return this.#meta.readlink(this.#who, ref);
  }

  async makeLink(key: string, target: Buffer): Promise<void> {
    const path = this.#place.prefix + key;
    const cut = path.lastIndexOf('/') + 1;
    const parent = await this.#makeDirectory(path.slice(0, cut));
    const name = bytesOf(path.slice(cut));
    try {
      await this.#meta.symlink(this.#who, parent, name, target);
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      await this.#meta.unlink(this.#who, parent, name);
      await this.#meta.symlink(this.#who, parent, name, target);
    }
  }

  close(): Promise<void> {
    return this.#place.close();
  }
}
