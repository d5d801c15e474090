/**
 * Hydration: the volume's tree, or the selected part of it, into an empty directory, before the application starts.
 *
 * First the tree is walked: each name becomes a row of the base (memory stays bounded), sizes are added up and compared with what the
 * pod may use. Then directories are made, files filled (many at a time; large ones region by region, see content.ts), further names
 * of a file linked, and at last directories get their modes and times, from the leaves up. A process that dies on the way is followed
 * by one that goes on where the base says; files that were under way are made anew.
 */
import { closeSync, fstatSync, ftruncateSync, linkSync, mkdirSync, readdirSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SyncPlan } from '../api/plan.ts';
import { isErrno } from '../fuse/libc.ts';
import { UserError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { SYSTEM } from '../meta/types.ts';
import { type Base, ROOT_ROW, type Row } from './base.ts';
import { type Contents, isGone } from './content.ts';
import { Crowd } from './crowd.ts';
import { FileWriter } from './file-writer.ts';
import { look, setMtime } from './local.ts';
import { create, madeAt, remove } from './make.ts';
import { below, isOwnName } from './names.ts';
import { Kind, type Print } from './print.ts';
import type { Selection } from './selection.ts';
import { dress, localMode } from './transfer.ts';
import { entryOf, type VolumeSide } from './volume-side.ts';
import type { FileToWrite } from './write-files.ts';

const MIB = 2 ** 20;
/** What the disk allots a file of at least one byte. */
const DISK_BLOCK = 4096;
/** Files larger than this may be sparse: what they hold is looked up. */
const MAYBE_SPARSE = 16 * MIB;
const FOLDERS_AT_ONCE = 16;
const FILES_AT_ONCE = 64;
/** Files up to this size are made many in one go. */
const SMALL_FILE = 64 * 1024;
/** Files larger than this are filled by the thread that makes the small ones. */
const LARGE_FILE = 16 * MIB;
const BATCH_FILES = 128;
const BATCH_BYTES = MIB;
const BATCHES_AT_ONCE = 4;
const PAGE = 256;
/** Changes of the base are committed after so many files. */
const COMMIT = 500;

export interface HydrateParts {
  readonly base: Base;
  /** Absolute; what the application will see. */
  readonly root: string;
  readonly volume: VolumeSide;
  readonly contents: Contents;
  readonly selection: Selection;
  /** For messages: the volume as people name it. */
  readonly title: string;
  readonly limitMiB: number | undefined;
  readonly share: NonNullable<SyncPlan['share']>;
  readonly report: HydrateReport;
}

export interface HydrateReport {
  walked(files: number, directories: number, bytes: number): void;
  bytes(count: number): void;
  file(): void;
  owner(path: Buffer): void;
  skipped(path: Buffer): void;
  /** It has an access control list, which does not come along. */
  acl(path: Buffer): void;
}

const shownBytes = (bytes: number): string =>
  bytes >= 1024 * MIB ? `${(bytes / 1024 / MIB).toFixed(1)} GiB` : `${Math.ceil(bytes / MIB)} MiB`;

const onDisk = (bytes: number): number => Math.ceil(bytes / DISK_BLOCK) * DISK_BLOCK;

export class Hydration {
  readonly #with: HydrateParts;
  readonly #signal: AbortSignal | undefined;
  /** Of batches that have ended. */
  readonly #buffers: ArrayBuffer[] = [];
  #uncommitted = 0;

  constructor(parts: HydrateParts, signal?: AbortSignal) {
    this.#with = parts;
    this.#signal = signal;
  }

  /** Does what is left to do. Throws UserError `TooLarge` where it cannot fit; nothing was downloaded then. */
  async run(): Promise<void> {
    const { base } = this.#with;
    if (base.state('hydrated') === 'yes') return;
    try {
      if (base.state('walked') !== 'yes') await this.#walk();
      await this.#makeDirectories();
      await this.#fill();
      this.#finishDirectories();
      base.setState('hydrated', 'yes');
    } finally {
      base.commit();
    }
  }

  // ------------------------------------------------------------------------------------------------- the walk

  async #walk(): Promise<void> {
    const { base, root, volume } = this.#with;
    base.clear();
    // What an earlier attempt made; the application has not been here yet.
    for (const name of readdirSync(root, { encoding: 'buffer' }))
      rmSync(below(Buffer.from(root), name), { recursive: true, force: true });
    base.begin();
    const attr = await volume.meta.getattr(SYSTEM, volume.root);
    base.put({
      parent: 0,
      name: Buffer.alloc(0),
      kind: Kind.Directory,
      local: undefined,
      remote: entryOf(volume.root, attr).print,
      digest: undefined,
    });
    const total = { files: 0, directories: 0, bytes: 0 };
    for (let after = 0; ;) {
      const page = base.ofKind(Kind.Directory, after, FOLDERS_AT_ONCE);
      if (page.length === 0) break;
      after = page.at(-1)?.id ?? after;
      await Promise.all(page.map((row) => this.#list(row, total)));
    }
    this.#prune(total);
    this.#checkSize(total.bytes);
    base.setState('walked', 'yes');
    base.commit();
    this.#with.report.walked(total.files, total.directories, total.bytes);
  }

  async #list(folder: Row, total: { files: number; directories: number; bytes: number }): Promise<void> {
    const { base, volume, selection, contents, report } = this.#with;
    const path = base.path(folder.id) ?? Buffer.alloc(0);
    try {
      for await (const batch of volume.meta.readdir(SYSTEM, folder.remote.ino as Ino, true))
        for (const { name, ino, attr } of batch) {
          this.#signal?.throwIfAborted();
          if (!attr || isOwnName(name)) continue;
          const entry = entryOf(ino, attr);
          const child = below(path, name);
          const wanted = selection.all || selection.wants(child);
          if (!wanted && !(entry.kind === Kind.Directory && selection.mayContain(child))) continue;
          if (entry.kind === Kind.Other) {
            report.skipped(child);
            continue;
          }
          if (wanted && attr.accessAcl + attr.defaultAcl > 0) report.acl(child);
          const { size } = entry.print;
          if (entry.kind === Kind.Directory) total.directories++;
          else total.files++;
          if (entry.kind === Kind.File && (entry.nlink === 1 || base.firstName(ino) === null))
            total.bytes += onDisk(size > MAYBE_SPARSE ? Math.min(size, await contents.dataBytes(ino, size)) : size);
          else total.bytes += entry.kind === Kind.Directory ? DISK_BLOCK : 0;
          base.put({
            parent: folder.id,
            name,
            kind: entry.kind,
            local: undefined,
            remote: entry.print,
            digest: undefined,
            keep: wanted,
          });
        }
    } catch (error) {
      // Removed since its parent was listed.
      if (!isGone(error)) throw error;
      base.remove(folder.id);
    }
  }

  /** Directories that hold nothing that is wanted are not made. */
  #prune(total: { directories: number }): void {
    const { base, selection } = this.#with;
    if (selection.all) return;
    for (let before = Number.MAX_SAFE_INTEGER; ;) {
      const page = base.directoriesBackwards(before, PAGE);
      if (page.length === 0) return;
      before = page.at(-1)?.id ?? 0;
      for (const row of page)
        if (!row.keep && row.id !== ROOT_ROW && !base.hasChildren(row.id)) {
          base.remove(row.id);
          total.directories--;
        }
    }
  }

  #checkSize(bytes: number): void {
    const { root, limitMiB, title, selection } = this.#with;
    const { bavail, bsize } = statfsSync(root);
    const free = bavail * bsize;
    const limit = limitMiB === undefined ? Number.POSITIVE_INFINITY : limitMiB * MIB;
    if (bytes <= limit && bytes <= free) return;
    const most = Math.min(limit, free);
    throw new UserError(
      'TooLarge',
      `${selection.all ? 'the volume' : 'what is selected of the volume'} ${title} needs ${shownBytes(bytes)} on the pod's disk, and ${
        limit <= free ? `its limit is ${shownBytes(most)}` : `only ${shownBytes(most)} are free there`
      }; nothing was downloaded`,
      {
        hint: 'Select less (subPath, or the globs include and exclude of the volume in the annotation), give the pod more ephemeral storage, or use mode fuse.',
      },
    );
  }

  // ------------------------------------------------------------------------------------------------- the tree

  #path(row: Row): Buffer {
    const { base, root } = this.#with;
    return below(below(Buffer.from(root), base.path(row.parent) ?? Buffer.alloc(0)), row.name);
  }

  async #makeDirectories(): Promise<void> {
    const { base } = this.#with;
    for (let after = ROOT_ROW; ;) {
      const page = base.ofKind(Kind.Directory, after, PAGE, true);
      if (page.length === 0) return;
      after = page.at(-1)?.id ?? after;
      for (const row of page)
        try {
          mkdirSync(this.#path(row), 0o700);
        } catch (error) {
          if (!isErrno(error, 'EEXIST')) throw error;
        }
      await new Promise(setImmediate);
    }
  }

  async #fill(): Promise<void> {
    const { base } = this.#with;
    const single = new Crowd(FILES_AT_ONCE);
    const batches = new Crowd(BATCHES_AT_ONCE);
    await using writer = new FileWriter(base.count().pending > BATCH_FILES);
    let batch: Row[] = [];
    let bytes = 0;
    let going = true;
    const send = async (): Promise<void> => {
      const rows = batch;
      batch = [];
      bytes = 0;
      if (rows.length > 0) going = await batches.add(() => this.#small(rows, writer));
    };
    for (let after = 0; going;) {
      const page = base.plannedFiles(after, PAGE);
      if (page.length === 0) break;
      after = page.at(-1)?.id ?? after;
      for (const row of page) {
        this.#signal?.throwIfAborted();
        if (!going) break;
        if (row.remote.size > SMALL_FILE) going = await single.add(() => this.#one(row, writer));
        else {
          if (bytes + row.remote.size > BATCH_BYTES || batch.length === BATCH_FILES) await send();
          batch.push(row);
          bytes += row.remote.size;
        }
      }
    }
    await send();
    const ends = await Promise.allSettled([single.ended(), batches.ended()]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    // Further names of files that are there now, and symbolic links.
    await this.#pending(Kind.File, 1, (row) => this.#link(row));
    await this.#pending(Kind.Symlink, FILES_AT_ONCE, (row) => this.#one(row));
  }

  async #pending(kind: Kind, atOnce: number, make: (row: Row) => Promise<void>): Promise<void> {
    const { base } = this.#with;
    const crowd = new Crowd(atOnce);
    for (let after = 0, going = true; going;) {
      const page = base.ofKind(kind, after, PAGE, true);
      going = page.length > 0;
      after = page.at(-1)?.id ?? after;
      for (const row of page) {
        this.#signal?.throwIfAborted();
        going = going && (await crowd.add(() => make(row)));
      }
    }
    await crowd.ended();
  }

  /** Small files, all in one go. */
  async #small(rows: readonly Row[], writer: FileWriter): Promise<void> {
    const { contents, share, report } = this.#with;
    const data = this.#buffers.pop() ?? new ArrayBuffer(BATCH_BYTES);
    let end = 0;
    const placed = rows.map((row) => {
      const from = end;
      end += row.remote.size;
      return { row, from, ino: row.remote.ino as Ino, target: Buffer.from(data, from, row.remote.size) };
    });
    const found = await contents.gather(placed, this.#signal, (count) => report.bytes(count));
    const whole = placed.flatMap(({ row, from }, at) => {
      const content = found[at];
      return content ? [{ row, from, content, path: this.#path(row) }] : [];
    });
    const files = whole.map(({ row: { remote }, from, path }): FileToWrite => {
      const { size, uid, gid, mtimeNs } = remote;
      return { path: path.toString('latin1'), from, size, mode: localMode(remote.mode, share), uid, gid, mtimeNs };
    });
    const { data: back, written } = await writer.write({ data, files });
    this.#buffers.push(back);
    for (const [at, { row, content, path }] of whole.entries()) {
      const made = written[at];
      if (!made) continue;
      if (made.ownerLost) report.owner(path);
      this.#note(row, made.print, { ...row.remote, slices: content.slices }, content.digest);
    }
    for (const [at, row] of rows.entries()) if (!found[at]) await this.#one(row);
  }

  async #one(row: Row, writer?: FileWriter): Promise<void> {
    const { base, volume, contents, share, report } = this.#with;
    const path = this.#path(row);
    const { remote } = row;
    let print: Print = remote;
    let digest: Buffer;
    try {
      if (row.kind === Kind.Symlink) {
        digest = await volume.meta.readlink(SYSTEM, remote.ino as Ino);
        remove(path);
        symlinkSync(digest, path);
      } else {
        const fd = await create(path);
        try {
          const sink = remote.size > LARGE_FILE && writer ? (file: number) => writer.sink(file) : undefined;
          const progress = (count: number): void => report.bytes(count);
          const content = await contents.download(remote.ino as Ino, remote.size, fd, this.#signal, progress, sink);
          if (fstatSync(fd).size < remote.size) ftruncateSync(fd, remote.size);
          digest = content.digest;
          print = { ...remote, slices: content.slices };
        } finally {
          closeSync(fd);
        }
      }
    } catch (error) {
      if (!isGone(error)) throw error;
      // Removed in the volume since the walk.
      remove(path);
      base.remove(row.id);
      return;
    }
    dress(path, row.kind, remote, localMode(remote.mode, share), () => report.owner(path));
    this.#note(row, madeAt(path), print, digest);
  }

  async #link(row: Row): Promise<void> {
    const { base } = this.#with;
    const first = base.row(base.firstName(row.remote.ino));
    if (!first?.local || first.id === row.id) return this.#one(row);
    const path = this.#path(row);
    remove(path);
    linkSync(this.#path(first), path);
    const made = madeAt(path);
    this.#note(row, made, first.remote, first.digest);
    // A further name changes the ctime of the first.
    base.hydrated(first.id, made, first.remote, first.digest);
  }

  #note(row: Row, made: Print, remote: Print, digest: Buffer | undefined): void {
    const { base, report } = this.#with;
    base.begin();
    base.hydrated(row.id, made, remote, digest);
    if (++this.#uncommitted >= COMMIT) {
      base.commit();
      this.#uncommitted = 0;
    }
    report.file();
  }

  /** Modes that forbid writing, and times, which every entry made changes, come last; children before their parents. */
  #finishDirectories(): void {
    const { base, root, share, report } = this.#with;
    base.begin();
    for (let before = Number.MAX_SAFE_INTEGER; ;) {
      const page = base.directoriesBackwards(before, PAGE);
      if (page.length === 0) return;
      before = page.at(-1)?.id ?? 0;
      for (const row of page) {
        const path = row.id === ROOT_ROW ? Buffer.from(root) : this.#path(row);
        try {
          dress(path, Kind.Directory, row.remote, localMode(row.remote.mode, share), () => report.owner(path));
          setMtime(path, row.remote.mtimeNs);
        } catch (error) {
          // The tree's root may be the pod's: then its mode stays as the kubelet made it.
          if (row.id !== ROOT_ROW || !isErrno(error, 'EPERM')) throw error;
        }
        const found = look(path);
        if (found) base.hydrated(row.id, found.print, row.remote, undefined);
      }
    }
  }
}

/** Where the state of a mount lies, beside its tree. */
export const stateFolder = (target: string): string => join(dirname(target), 'state');
