/**
 * One of the two places that objects are copied between: a folder, a volume, or an object store.
 *
 * Keys are bytes, held as Latin-1 text: any name a file system has can be one, and comparing texts compares bytes, which is the order
 * that all sides list in. A key that ends with `/` is a directory (in an object store: what stands for one); a directory is listed
 * before what lies in it. The empty key is the place itself.
 */
import type { Ino } from '../lib/int64.ts';

export interface Entry {
  readonly key: string;
  /** Bytes; 0 for a directory. */
  readonly size: number;
  /** Milliseconds since the epoch, with a fraction. */
  readonly mtimeMs: number;
  readonly isDirectory: boolean;
  /** A symbolic link that was not followed. */
  readonly isLink: boolean;
  /** Where the side has them. */
  readonly permissions?: Permissions;
  /** The side's own, by which it finds the object again. */
  readonly ref?: Ino;
}

export interface Permissions {
  /** 07777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface ListOptions {
  /** First and last key; empty for no bound. */
  readonly start: string;
  readonly end: string;
  /** Symbolic links are shown as what they lead to. */
  readonly followLinks: boolean;
  readonly signal: AbortSignal;
}

/** An object that is written in parts of equal length, side by side. It has its name only when it is finished. */
export interface PartWriter {
  part(number: number, body: Buffer): Promise<void>;
  finish(): Promise<void>;
  /** Leaves nothing behind. Never fails. */
  abort(): Promise<void>;
}

export interface Side {
  /** For people; never a secret. */
  readonly description: string;
  /** What only file systems have: permissions, times that can be set, symbolic links. */
  readonly files?: FileSide;
  /** Everything whose key begins with `prefix`, in key order. */
  list(prefix: string, options: ListOptions): AsyncIterable<Entry>;
  /** The directory `prefix` and what lies directly in it, likewise. Absent: only whole lists are to be had. */
  level?(prefix: string, options: ListOptions): AsyncIterable<Entry>;
  /** Undefined where there is nothing of this name. */
  head(key: string, followLinks: boolean, signal: AbortSignal): Promise<Entry | undefined>;
  /** Bytes of an object; fewer only at its end. Throws `Gone` where it is not there any more. */
  read(entry: Entry, offset: number, length: number, signal: AbortSignal): Promise<Buffer>;
  /** Bytes of a part for an object of this size: a multiple of 1 MiB. */
  partBytes(size: number): number;
  /** Writes an object whole, or makes a directory. */
  put(key: string, body: Buffer, signal: AbortSignal): Promise<void>;
  begin(key: string, size: number, signal: AbortSignal): Promise<PartWriter>;
  /** Removes an object or an empty directory; false for a directory that is not empty. What is not there is removed. */
  remove(key: string, signal: AbortSignal): Promise<boolean>;
  close(): Promise<void>;
}

export interface FileSide {
  setTime(key: string, mtimeMs: number): Promise<void>;
  setPermissions(key: string, permissions: Permissions): Promise<void>;
  readLink(entry: Entry): Promise<Buffer>;
  /** Puts a link in the place of what has the name. */
  makeLink(key: string, target: Buffer): Promise<void>;
}

/** Writes an object whole by way of the writer that was begun for it. */
export async function writeWhole(writer: PartWriter, body: Buffer): Promise<void> {
  try {
    if (body.length > 0) await writer.part(0, body);
    await writer.finish();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** The object is not there any more, or cannot be one here: it is passed over, and that is no failure. */
export class Gone extends Error {
  override readonly name = 'Gone';
}

export const MIB = 1024 * 1024;
/** Up to so many bytes an object is written in one piece; parts are at least as long. */
export const PART_BYTES = 8 * MIB;

export const bytesOf = (key: string): Buffer => Buffer.from(key, 'latin1');
/** A key for people: UTF-8 where it is, and nothing that a terminal would act on. */
export function shown(key: string): string {
  const text = bytesOf(key).toString('utf8');
  // oxlint-disable-next-line no-control-regex
  return /[\u0000-\u001f\u007f\ufffd]/.test(text) ? JSON.stringify(key) : text;
}
/** The key of a text as people type it. */
export const keyOf = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

/** Orders keys as all sides list them. */
export const byKey = (a: { readonly key: string }, b: { readonly key: string }): number =>
  a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
