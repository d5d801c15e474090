/**
 * Notifications to the kernel: "forget what you cached". The kernel takes locks for them that a caller may hold while it
 * waits for our answer (the directory's for an entry, a page's for data), so the thread that answers must never write one
 * itself: they go through libuv's thread pool, one at a time, in order. (Attributes alone are an exception, see request.ts.)
 *
 * At most `LIMIT` wait; more are dropped, which only means that the kernel keeps an entry for the rest of its lifetime.
 */
import { write } from 'node:fs';
import { type Ino, writeInoLE } from '../lib/int64.ts';
import { Notify, OUT_HEADER } from './constants.ts';
import type { Notifier } from './types.ts';

const LIMIT = 16_384;

function message(code: number, body: number): Buffer {
  const bytes = Buffer.alloc(OUT_HEADER + body);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeInt32LE(code, 4);
  return bytes;
}

/** FUSE_NOTIFY_RESEND: the header alone. */
export const resendMessage = (): Buffer => message(Notify.RESEND, 0);

const INVALIDATE_INODE_BODY = 24;
export const INVALIDATE_INODE_BYTES = OUT_HEADER + INVALIDATE_INODE_BODY;

/** struct fuse_notify_inval_inode_out. */
export function invalidateInodeMessage(ino: Ino, offset: number, length: number): Buffer {
  const bytes = message(Notify.INVAL_INODE, INVALIDATE_INODE_BODY);
  writeInoLE(bytes, ino, OUT_HEADER);
  bytes.writeBigInt64LE(BigInt(offset), OUT_HEADER + 8);
  bytes.writeBigInt64LE(BigInt(length), OUT_HEADER + 16);
  return bytes;
}

/** struct fuse_notify_inval_entry_out, the name and a zero byte. */
function invalidateEntryMessage(parent: Ino, name: Buffer): Buffer {
  const bytes = message(Notify.INVAL_ENTRY, 16 + name.length + 1);
  writeInoLE(bytes, parent, OUT_HEADER);
  bytes.writeUInt32LE(name.length, OUT_HEADER + 8);
  name.copy(bytes, OUT_HEADER + 16);
  return bytes;
}

/** A notifier that writes to an open session. `refused` hears of errors other than "unknown node" and "session over". */
export function createNotifier(fd: number, refused: (error: Error) => void): Notifier & { close(): void } {
  const queue: { readonly bytes: Buffer; readonly done: (() => void) | undefined }[] = [];
  let head = 0;
  let writing = false;
  let closed = false;
  const next = (): void => {
    const entry = queue[head];
    if (!entry || closed) {
      for (; head < queue.length; head++) queue[head]?.done?.();
      queue.length = head = 0;
      writing = false;
      return;
    }
    head++;
    writing = true;
    write(fd, entry.bytes, (error) => {
      if (error && !['ENOENT', 'ENODEV', 'ENOTDIR', 'ECONNABORTED'].includes(error.code ?? '')) refused(error);
      entry.done?.();
      next();
    });
  };
  const send = (bytes: Buffer, done: (() => void) | undefined): void => {
    if (closed || queue.length - head >= LIMIT) return done?.();
    queue.push({ bytes, done });
    if (!writing) next();
  };
  return {
    invalidateInode: (ino, offset, length, done) => send(invalidateInodeMessage(ino, offset, length), done),
    invalidateEntry: (parent, name, done) => send(invalidateEntryMessage(parent, name), done),
    close: () => void (closed = true),
  };
}
