/**
 * What a client and the holder say to each other over a unix socket: one request and one answer a connection, each a frame
 * of u32 length (little-endian) and that much JSON, with descriptors along the first byte. The holder outlives many versions
 * of the client, so this only ever grows: unknown members are ignored, an unknown operation is answered with an error.
 *
 * | request | descriptors | answer |
 * |---|---|---|
 * | take {target} | | {ok, init, state} with [session, journal]; without `init` where nothing is held |
 * | put {target, init, state} | [session, journal] | {ok} |
 * | state {target, state} | | {ok} |
 * | drop {target, unmount} | | {ok}: closes its descriptors; with `unmount` ends the mount too |
 * | watch | | {ok}; the connection stays open until the holder ends, and nothing more is sent |
 *
 * `init` and `state` are base64; `state` is at most 1 MiB and means nothing to the holder.
 */
import { closeSync } from 'node:fs';
import { receive, send } from '../fuse/socket.ts';

export const MOST_STATE = 1 << 20;
const MOST_FRAME = 2 << 20;

export interface HolderRequest {
  readonly op: 'take' | 'put' | 'state' | 'drop' | 'watch';
  readonly target?: string;
  readonly init?: string;
  readonly state?: string;
  readonly unmount?: boolean;
}

export interface HolderAnswer {
  readonly ok: boolean;
  readonly error?: string;
  readonly init?: string;
  readonly state?: string;
}

export interface Frame<T> {
  readonly message: T;
  /** The receiver's, to be closed by it. */
  readonly descriptors: readonly number[];
}

/** The bytes of a frame. */
export function encodeFrame(message: HolderRequest | HolderAnswer): Buffer {
  const body = Buffer.from(JSON.stringify(message));
  if (body.length > MOST_FRAME) throw new RangeError(`a message of ${body.length} bytes for the holder, at most ${MOST_FRAME}`);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length, 0);
  return Buffer.concat([head, body]);
}

/** Sends a frame; the socket blocks. */
export function sendFrame(fd: number, message: HolderRequest | HolderAnswer, descriptors: readonly number[] = []): void {
  send(fd, encodeFrame(message), descriptors);
}

/** Reads a frame; the socket blocks. Throws where the other side ends early, or sends something else. */
export function receiveFrame<T extends HolderRequest | HolderAnswer>(fd: number): Frame<T> {
  const descriptors: number[] = [];
  const fill = (into: Buffer): Buffer => {
    for (let at = 0; at < into.length;) {
      const part = receive(fd, into.subarray(at));
      descriptors.push(...part.descriptors);
      if (part.bytes === 0) throw new Error('the connection ended in the middle of a message');
      at += part.bytes;
    }
    return into;
  };
  try {
    const length = fill(Buffer.alloc(4)).readUInt32LE(0);
    if (length > MOST_FRAME) throw new RangeError(`a message of ${length} bytes, at most ${MOST_FRAME}`);
    const message: unknown = JSON.parse(fill(Buffer.alloc(length)).toString());
    if (typeof message !== 'object' || message === null) throw new TypeError('a message that is not an object');
    return { message: message as T, descriptors };
  } catch (error) {
    for (const descriptor of descriptors) closeSync(descriptor);
    throw error;
  }
}
