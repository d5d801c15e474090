/**
 * Unix sockets that carry descriptors (SCM_RIGHTS), through koffi: Node's own sockets drop them. Calls block; they are used
 * where the other side answers at once or a timeout is set. Source: unix(7), cmsg(3); the layouts are those of 64-bit Linux.
 */
import { closeSync } from 'node:fs';
import { UserError } from '../lib/errors.ts';
import { addressOf, lastErrno, program, SystemError } from './libc.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const EINTR = 4;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
/** Descriptors in one message, at most; the kernel's own limit is 253. */
const MOST_DESCRIPTORS = 16;

const calls = {
  socket: program.func('int socket(int domain, int type, int protocol)') as (...args: number[]) => number,
  socketpair: program.func('int socketpair(int domain, int type, int protocol, void *pair)') as (
    domain: number,
    type: number,
    protocol: number,
    pair: Buffer,
  ) => number,
  bind: program.func('int bind(int fd, void *address, unsigned int length)') as (fd: number, at: Buffer, n: number) => number,
  connect: program.func('int connect(int fd, void *address, unsigned int length)') as (
    fd: number,
    at: Buffer,
    n: number,
  ) => number,
  listen: program.func('int listen(int fd, int backlog)') as (...args: number[]) => number,
  accept4: program.func('int accept4(int fd, void *address, void *length, int flags)') as (
    fd: number,
    address: null,
    length: null,
    flags: number,
  ) => number,
  setsockopt: program.func('int setsockopt(int fd, int level, int name, void *value, unsigned int length)') as (
    fd: number,
    level: number,
    name: number,
    value: Buffer,
    length: number,
  ) => number,
  sendmsg: program.func('long sendmsg(int fd, void *message, int flags)') as (fd: number, m: Buffer, flags: number) => number,
  recvmsg: program.func('long recvmsg(int fd, void *message, int flags)') as (fd: number, m: Buffer, flags: number) => number,
};

function check(call: string, result: number): number {
  if (result < 0) throw new SystemError(call, lastErrno());
  return result;
}

function addressFor(path: string): Buffer {
  const name = Buffer.from(path);
  if (name.length > 107)
    throw new UserError('SOCKET_PATH', `the socket path is too long (${name.length} bytes, at most 107): ${path}`, {
      hint: 'choose a shorter directory for the socket',
    });
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  return address;
}

/** Two connected sockets, both closed on exec; with 'packets' each read gives what one write sent. */
export function socketPair(kind: 'stream' | 'packets' = 'stream'): [number, number] {
  const pair = Buffer.alloc(8);
  check('socketpair', calls.socketpair(AF_UNIX, (kind === 'stream' ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, pair));
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

/** Listens at a path that nobody uses; non-blocking. */
export function listenAt(path: string): number {
  const fd = check('socket', calls.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const address = addressFor(path);
  try {
    check(`bind to ${path}`, calls.bind(fd, address, address.length));
    check(`listen at ${path}`, calls.listen(fd, 16));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Reads and writes on the socket give up after so long. */
export function setTimeouts(fd: number, ms: number): void {
  const value = Buffer.alloc(16);
  value.writeBigInt64LE(BigInt(Math.floor(ms / 1000)), 0);
  value.writeBigInt64LE(BigInt((ms % 1000) * 1000), 8);
  check('setsockopt', calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, value, 16));
  check('setsockopt', calls.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, value, 16));
}

/** The next connection, or undefined where none waits. */
export function accept(listener: number): number | undefined {
  const fd = calls.accept4(listener, null, null, SOCK_CLOEXEC);
  return fd < 0 ? undefined : fd;
}

/** Connects; the error carries the system's code (ENOENT, ECONNREFUSED: nobody listens). */
export function connectTo(path: string): number {
  const fd = check('socket', calls.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const address = addressFor(path);
  try {
    check(`connect to ${path}`, calls.connect(fd, address, address.length));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** One struct msghdr with its one vector, used anew by each call: calls block and do not nest. */
const message = Buffer.from(new ArrayBuffer(56));
const vector = Buffer.from(new ArrayBuffer(16));

function fill(data: Buffer, control: Buffer | undefined): void {
  message.fill(0);
  vector.writeBigUInt64LE(addressOf(data), 0);
  vector.writeBigUInt64LE(BigInt(data.length), 8);
  message.writeBigUInt64LE(addressOf(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  if (control) {
    message.writeBigUInt64LE(addressOf(control), 32);
    message.writeBigUInt64LE(BigInt(control.length), 40);
  }
}

/** A signal handler of this process (a profiler's, say) may run while a call waits: then the call is made again. */
function retried(name: string, call: () => number): number {
  for (;;) {
    const result = call();
    if (result >= 0 || lastErrno() !== EINTR) return check(name, result);
  }
}

/** Sends all the bytes; the descriptors go along with the first of them. The caller keeps (and closes) its own copies. */
export function send(fd: number, data: Buffer, descriptors: readonly number[] = []): void {
  if (descriptors.length > MOST_DESCRIPTORS) throw new RangeError(`${descriptors.length} descriptors in one message`);
  let control: Buffer | undefined;
  if (descriptors.length > 0) {
    control = Buffer.alloc(16 + ((descriptors.length * 4 + 7) & ~7));
    control.writeBigUInt64LE(BigInt(16 + descriptors.length * 4), 0);
    control.writeInt32LE(SOL_SOCKET, 8);
    control.writeInt32LE(SCM_RIGHTS, 12);
    for (const [index, descriptor] of descriptors.entries()) control.writeInt32LE(descriptor, 16 + index * 4);
  }
  for (let sent = 0; sent < data.length;) {
    fill(data.subarray(sent), sent === 0 ? control : undefined);
    sent += retried('sendmsg', () => calls.sendmsg(fd, message, MSG_NOSIGNAL));
  }
}

export interface Received {
  /** 0 at the end of the stream. */
  readonly bytes: number;
  /** The receiver owns them; they are closed on exec. */
  readonly descriptors: readonly number[];
}

/** Reads what is there, up to the buffer's length, with any descriptors. */
export function receive(fd: number, into: Buffer): Received {
  const control = Buffer.alloc(16 + MOST_DESCRIPTORS * 4);
  fill(into, control);
  const bytes = retried('recvmsg', () => calls.recvmsg(fd, message, MSG_CMSG_CLOEXEC));
  const used = Number(message.readBigUInt64LE(40));
  const descriptors: number[] = [];
  if (used >= 16 && control.readInt32LE(8) === SOL_SOCKET && control.readInt32LE(12) === SCM_RIGHTS) {
    const end = Math.min(Number(control.readBigUInt64LE(0)), used);
    for (let at = 16; at + 4 <= end; at += 4) descriptors.push(control.readInt32LE(at));
  }
  return { bytes, descriptors };
}
