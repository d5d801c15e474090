/**
 * Whole files in the cache directory, one plain local file for each, for the kernel to read in place of ours (FUSE passthrough):
 * `<cache-dir>/<UUID>/whole/<slot>/`, beside the blocks of `raw`. A slot is one mount's alone: files that are being read are changed in
 * place when the volume's file changes. It is locked (flock) while a client lives.
 *
 * | name | what |
 * |---|---|
 * | `INODE.KEY.CRC` | complete; KEY (hex, `-`) names a state of the file, CRC is the CRC-32C of all of it, 8 hex digits |
 * | `INODE.live` | changed in place under its readers; dropped with the last of them |
 * | `INODE.sums` | beside such a file: what of it is in the volume (src/vfs/live.ts) |
 * | `INODE.tmp` | being made |
 *
 * Bounds: `maxBytes`, of which what is being read is never dropped, and the share of the disk that stays free. What an earlier client
 * left is used after its sum was verified. As with blocks: nothing here is the reason that a read fails.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, rmdir, stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../lib/clock.ts';
import { crc32c } from '../lib/crc32c.ts';
import { messageOf } from '../lib/errors.ts';
import { formatIno, type Ino, parseIno } from '../lib/int64.ts';
import { libc } from '../lib/libc.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { writeFully } from '../lib/write-fully.ts';
import { isUsed } from './users.ts';

/** A slot that nobody has locked, and that was not used for so long, is of a mount that is gone. */
const ABANDONED_MS = 3_600_000;
const VERIFY_BYTES = 1 << 20;
const LOCK_EX_NB = 6;

export interface WholeFolderOptions {
  /** `<cache-dir>/<UUID>`. */
  readonly root: string;
  /** What tells this mount from others of the machine. */
  readonly mount: string;
  readonly maxBytes: number;
  /** The share of the disk that stays free, 0 to 1. */
  readonly freeRatio: number;
  /** Programs of this mount may write to the files: what a program has mapped stays in use, open or not. @default false */
  readonly writable?: boolean;
  /** Files that programs have open through an earlier client. */
  readonly held?: Iterable<Ino>;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface WholeFile {
  readonly path: string;
  /** The state that it has; undefined where it was changed in place. */
  readonly key: string | undefined;
  readonly bytes: number;
}

interface Kept extends WholeFile {
  bytes: number;
  readonly crc: number;
  /** The kernel reads it. */
  pinned: boolean;
  verified: boolean;
}

const NAME = /^(\d{1,19})\.(?:(?<key>[0-9a-f-]{1,128})\.(?<crc>[0-9a-f]{8})|live|sums|tmp)$/;

export class WholeFolder {
  readonly maxBytes: number;
  readonly writable: boolean;
  /** What programs of an earlier client still have mapped, at the start. */
  readonly mapped: Ino[] = [];
  readonly #folder: string;
  readonly #lock: number;
  readonly #freeRatio: number;
  readonly #logger: Logger;
  /** Least recently opened first. */
  readonly #files = new Map<Ino, Kept>();
  #bytes = 0;
  #reserved = 0;
  readonly counters = { made: 0, evicted: 0, damaged: 0 };

  private constructor(options: WholeFolderOptions, folder: string, lock: number) {
    this.maxBytes = options.maxBytes;
    this.writable = options.writable ?? false;
    this.#folder = folder;
    this.#lock = lock;
    this.#freeRatio = options.freeRatio;
    this.#logger = options.logger ?? nullLogger;
  }

  /** Opens a mount's slot and takes in what is there. Undefined where there can be none: another client has it, or the disk cannot be used. */
  static async open(options: WholeFolderOptions): Promise<WholeFolder | undefined> {
    const { logger = nullLogger, clock = systemClock } = options;
    const slots = join(options.root, 'whole');
    const slot = createHash('sha256').update(options.mount).digest('hex').slice(0, 16);
    const folder = join(slots, slot);
    let lock: number | undefined;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      lock = lockFolder(folder);
      if (lock === undefined) {
        logger.info('another client keeps whole files for a mount of the same name; this one keeps none', { folder });
        return undefined;
      }
      await dropAbandoned(slots, slot, clock);
      if (options.writable) await requireLeases(folder);
      const opened = new WholeFolder(options, folder, lock);
      await opened.#scan(new Set(options.held ?? []));
      return opened;
    } catch (error) {
      if (lock !== undefined) closeSync(lock);
      logger.warn('no whole files can be kept in the cache directory', { folder, error: messageOf(error) });
      return undefined;
    }
  }

  get count(): number {
    return this.#files.size;
  }

  /** Bytes of all of them, complete and being made. */
  get bytes(): number {
    return this.#bytes + this.#reserved;
  }

  /** The file in exactly this state, sound; from then on it is the most recently used. */
  find(ino: Ino, key: string): WholeFile | undefined {
    const file = this.#files.get(ino);
    if (!file?.verified || file.key !== key) return undefined;
    this.#files.delete(ino);
    this.#files.set(ino, file);
    return file;
  }

  /** What there is of a file, in whatever state. */
  get(ino: Ino): WholeFile | undefined {
    return this.#files.get(ino);
  }

  /** The kernel reads it from now on, or (false) no more: then one that was changed in place goes. */
  pin(ino: Ino, pinned: boolean): void {
    const file = this.#files.get(ino);
    if (!file) return;
    file.pinned = pinned;
    if (!pinned && file.key === undefined) void this.drop(ino);
  }

  /** Verifies what an earlier client left. False where there is no such file, or it is damaged: it is dropped. */
  async verify(ino: Ino, key: string, signal: AbortSignal): Promise<boolean> {
    const file = this.#files.get(ino);
    if (!file || file.key !== key || file.pinned) return false;
    if (file.verified) return true;
    try {
      if ((await sumOf(file.path, file.bytes, signal)) === file.crc) return (file.verified = true);
      this.counters.damaged++;
      this.#logger.warn('a whole file in the cache is damaged and is not used', { path: file.path });
    } catch (error) {
      signal.throwIfAborted();
      this.#logger.warn('a whole file in the cache cannot be read', { path: file.path, error: messageOf(error) });
    }
    await this.drop(ino);
    return false;
  }

  /**
   * Makes a whole file: `fill` writes all of it, in order or with holes, and answers its CRC-32C and the state it has, or undefined where it
   * came to nothing. False also where there is no room. It is on the disk before it has its name.
   */
  async make(
    ino: Ino,
    bytes: number,
    fill: (
      write: (data: Buffer, at: number) => Promise<void>,
    ) => Promise<{ readonly key: string; readonly crc: number } | undefined>,
  ): Promise<boolean> {
    if (this.#files.get(ino)?.pinned || !(await this.#room(bytes))) return false;
    this.#reserved += bytes;
    const temporary = join(this.#folder, `${formatIno(ino)}.tmp`);
    try {
      const file = await open(temporary, 'w', 0o600);
      let filled: { readonly key: string; readonly crc: number } | undefined;
      try {
        await file.truncate(bytes);
        filled = await fill((data, at) => writeFully(file, data, at));
        if (filled) await file.datasync();
      } finally {
        await file.close();
      }
      if (!filled || this.#files.get(ino)?.pinned) return false;
      await this.drop(ino);
      const path = join(this.#folder, `${formatIno(ino)}.${filled.key}.${hex(filled.crc)}`);
      await rename(temporary, path);
      this.#add(ino, { path, bytes, ...filled, pinned: false, verified: true });
      this.counters.made++;
      return true;
    } finally {
      this.#reserved -= bytes;
      await unlink(temporary).catch(() => undefined);
    }
  }

  /** The file is about to be changed in place, under its readers: it loses its name, for it is in no state that could be found
   * again. `bytes`: how long it will be. Throws where there is no room for that. */
  async change(ino: Ino, bytes: number): Promise<string> {
    const file = this.#files.get(ino);
    if (!file) throw new Error(`no whole file of inode ${formatIno(ino)} is kept`);
    if (bytes > file.bytes && !(await this.#room(bytes - file.bytes)))
      throw new Error(`the file has grown from ${file.bytes} to ${bytes} bytes, and the cache has no room for it`);
    this.#bytes += bytes - file.bytes;
    file.bytes = bytes;
    if (file.key === undefined) return file.path;
    const path = join(this.#folder, `${formatIno(ino)}.live`);
    // Who has the file open can go on where somebody has emptied the cache directory.
    await rename(file.path, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    const now = this.#files.get(ino);
    if (!now?.pinned) {
      await unlink(path).catch(() => undefined);
      await this.drop(ino);
      throw new Error(`nobody reads the whole file of inode ${formatIno(ino)} any more`);
    }
    this.#files.set(ino, { ...now, path, key: undefined });
    return path;
  }

  /** Programs have made it longer, or shorter. */
  resized(ino: Ino, bytes: number): void {
    const file = this.#files.get(ino);
    if (!file) return;
    this.#bytes += bytes - file.bytes;
    file.bytes = bytes;
  }

  /** Where it is noted what of a file that is changed in place is in the volume. */
  sumsPath(ino: Ino): string {
    return join(this.#folder, `${formatIno(ino)}.sums`);
  }

  /** The same bytes have another state: their attributes alone have changed. */
  async rekey(ino: Ino, key: string): Promise<void> {
    const file = this.#files.get(ino);
    if (!file || file.key === undefined) return;
    const path = join(this.#folder, `${formatIno(ino)}.${key}.${hex(file.crc)}`);
    await rename(file.path, path);
    const now = this.#files.get(ino);
    if (now) this.#files.set(ino, { ...now, path, key });
  }

  /** Forgets a file; who reads it reads on. */
  async drop(ino: Ino): Promise<void> {
    const file = this.#files.get(ino);
    if (!file) return;
    this.#files.delete(ino);
    this.#bytes -= file.bytes;
    const paths = file.key === undefined ? [file.path, this.sumsPath(ino)] : [file.path];
    await Promise.all(paths.map((path) => unlink(path).catch(() => undefined)));
  }

  /** Drops what is too much, for the bound or for the disk. */
  async tend(): Promise<void> {
    if (this.#files.size > 0) await this.#room(0);
  }

  /** Ends; what is there stays for the next client. */
  close(): void {
    closeSync(this.#lock);
  }

  async #room(bytes: number): Promise<boolean> {
    if (bytes > this.maxBytes) return false;
    for (;;) {
      const over = this.bytes + bytes > this.maxBytes;
      if (!over && !(await this.#diskLow(bytes))) return true;
      const victim = this.#victim();
      if (victim === undefined) return false;
      await this.drop(victim);
      this.counters.evicted++;
    }
  }

  async #diskLow(bytes: number): Promise<boolean> {
    const info = await statfs(this.#folder);
    const inodesLow = info.files > 0 && info.ffree / info.files < this.#freeRatio;
    return inodesLow || info.bavail * info.bsize - bytes < this.#freeRatio * info.blocks * info.bsize;
  }

  #victim(): Ino | undefined {
    for (const [ino, { pinned }] of this.#files) if (!pinned) return ino;
    return undefined;
  }

  #add(ino: Ino, file: Kept): void {
    this.#files.set(ino, file);
    this.#bytes += file.bytes;
  }

  /** Takes in what is there: what is held is there for its readers, of the rest what was complete. */
  async #scan(held: ReadonlySet<Ino>): Promise<void> {
    const names = await readdir(this.#folder);
    for (const name of names) {
      const path = join(this.#folder, name);
      const match = NAME.exec(name);
      if (!match || name.endsWith('.sums')) continue;
      const ino = parseIno(match[1] ?? '');
      const { key, crc } = match.groups ?? {};
      const mapped = this.writable && !name.endsWith('.tmp') && !held.has(ino) && isMapped(path);
      const pinned = held.has(ino) || mapped;
      const live = name.endsWith('.live') && pinned;
      if ((key === undefined && !live) || (this.#files.has(ino) && !live)) {
        await rm(path, { force: true });
        continue;
      }
      if (live) await this.drop(ino);
      if (mapped) this.mapped.push(ino);
      const { size: bytes } = await stat(path);
      this.#add(ino, { path, key, bytes, crc: Number.parseInt(crc ?? '0', 16), pinned, verified: false });
    }
    for (const name of names) {
      const ino = name.endsWith('.sums') ? NAME.exec(name)?.[1] : undefined;
      const file = ino === undefined ? undefined : this.#files.get(parseIno(ino));
      if (ino !== undefined && (!file || file.key !== undefined)) await rm(join(this.#folder, name), { force: true });
    }
    await this.tend();
  }
}

/** Whether a program has it mapped, or open. */
function isMapped(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    return isUsed(fd);
  } finally {
    closeSync(fd);
  }
}

/** Throws where it cannot be told who has a file of the folder open. */
async function requireLeases(folder: string): Promise<void> {
  const path = join(folder, '1.tmp');
  const file = await open(path, 'w', 0o600);
  await file.close();
  const fd = openSync(path, 'r');
  try {
    const alone = !isUsed(fd);
    const other = openSync(path, 'r');
    const told = isUsed(fd);
    closeSync(other);
    if (!alone || !told) throw new Error('the file system does not tell who has a file open');
  } finally {
    closeSync(fd);
    await unlink(path);
  }
}

const hex = (crc: number): string => (crc >>> 0).toString(16).padStart(8, '0');

async function sumOf(path: string, bytes: number, signal: AbortSignal): Promise<number | undefined> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(Math.min(VERIFY_BYTES, bytes));
    let sum = 0;
    for (let at = 0; at < bytes;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, bytes - at), at);
      if (bytesRead === 0) return undefined;
      sum = crc32c(buffer.subarray(0, bytesRead), sum);
      at += bytesRead;
    }
    return sum;
  } finally {
    await file.close();
  }
}

/** Locks a folder for as long as this process lives; undefined where another one has it. */
function lockFolder(folder: string): number | undefined {
  const flock = libc()?.program.func('int flock(int fd, int operation)') as
    ((fd: number, operation: number) => number) | undefined;
  if (!flock) throw new Error('folders cannot be locked here');
  const fd = openSync(folder, 'r');
  if (flock(fd, LOCK_EX_NB) === 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Slots of mounts that are gone. */
async function dropAbandoned(slots: string, own: string, clock: Clock): Promise<void> {
  for (const name of await readdir(slots)) {
    const folder = join(slots, name);
    if (name === own || clock.now() - (await stat(folder)).mtimeMs < ABANDONED_MS) continue;
    const lock = lockFolder(folder);
    if (lock === undefined) continue;
    for (const file of await readdir(folder)) if (NAME.test(file)) await unlink(join(folder, file)).catch(() => undefined);
    await rmdir(folder).catch(() => undefined);
    closeSync(lock);
  }
}
