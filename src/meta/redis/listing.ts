/**
 * A second connection to Redis, for directory listings alone: their replies are the longest there are, and their cost is that of
 * taking them apart. Here an entry becomes one object and one view of the received bytes, and a node's attributes one object (0.05 µs; by way
 * of ioredis's decoder 0.4 µs, a third of a whole listing, and before V8 has compiled it many times that: bench/client.ts, readdir).
 *
 * It promises nothing: whatever fails (no connection within the time, an error reply, a reply that is no listing) is answered
 * with undefined, and the caller asks over the connection that waits, repeats and explains. After a failure it is left alone
 * for a second; unused for a minute, it is closed.
 *
 * Source of the protocol: RESP 2, redis.io.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Clock } from '../../lib/clock.ts';
import { inoOfWords } from '../../lib/int64.ts';
import type { NamedEntry } from '../engine.ts';
import { decodeAttrAt, ENTRY } from '../records.ts';
import type { Attr, NodeType } from '../types.ts';
import type { RedisUrl } from '../url-redis.ts';
import type { Place } from './place.ts';
import { tlsOptions } from './tls.ts';

export interface Page {
  /** `0`: there is no other. */
  readonly cursor: string;
  readonly entries: readonly NamedEntry[];
}

/** Longest reply that is taken, bytes: some 200 000 names of the longest kind. */
const MAX_REPLY = 64 * 1024 * 1024;
const FIRST_BUFFER = 128 * 1024;
const PAUSE_MS = 1000;
const IDLE_MS = 60_000;
/** Requests out at once; further ones go the other way. */
const MAX_WAITING = 64;

const CR = 13;
const LF = 10;
const STAR = 42;
const DOLLAR = 36;
const PLUS = 43;
/** `$9\r\n`, what stands before an entry's value, as one number. */
const ENTRY_HEADER = 0x24390d0a;
/** `$-1\r\n`, a node that is not there, and `$72\r\n`: records of nodes have lengths of two digits. */
const NODE_HEADER = 5;
const MINUS_ONE = 0x2d31;

/** What a request is answered with: `+OK`, a page of names, nodes. */
type Wanted = 'ok' | 'page' | 'nodes';

/** Attributes of nodes, in the order asked for. */
export type Nodes = readonly (Attr | undefined)[];

/** Not all of the reply is there yet. */
class Short extends Error {}
const short = new Short('short');

/**
 * Takes one reply apart after the other. Bytes are gathered in a buffer of the reply's own where names are views of it. A
 * reply that is not whole is gone on with behind the last entry, or node, that was.
 */
class Replies {
  #buffer: Buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER);
  #view = viewOf(this.#buffer);
  #at = 0;
  #end = 0;
  #begun: Wanted | undefined;
  #cursor = '';
  #left = 0;
  #entries: NamedEntry[] = [];
  #nodes: (Attr | undefined)[] = [];
  /** Names are views of the buffer. */
  #viewed = false;

  /** `wanted` says what the next reply is to be. Throws where this is no reply that is expected here. */
  push(chunk: Buffer, wanted: () => Wanted, onReply: (reply: Page | Nodes | undefined) => void): void {
    if (this.#end + chunk.length > this.#buffer.length) this.#grow(chunk.length);
    chunk.copy(this.#buffer, this.#end);
    this.#end += chunk.length;
    try {
      while (this.#at < this.#end) onReply(this.#reply(this.#begun ?? wanted()));
    } catch (error) {
      if (error !== short) throw error;
      return;
    }
    // Whole replies only: the next one gets a buffer of its own.
    if (this.#viewed || this.#buffer.length > FIRST_BUFFER) this.#take(Buffer.allocUnsafeSlow(FIRST_BUFFER));
    this.#viewed = false;
    this.#at = this.#end = 0;
  }

  #take(buffer: Buffer): void {
    this.#buffer = buffer;
    this.#view = viewOf(buffer);
  }

  #grow(bytes: number): void {
    const needed = this.#end - this.#at + bytes;
    if (needed > MAX_REPLY) throw new Error('the reply is too long');
    const larger = Buffer.allocUnsafeSlow(Math.max(needed * 2, FIRST_BUFFER));
    this.#buffer.copy(larger, 0, this.#at, this.#end);
    this.#take(larger);
    this.#end -= this.#at;
    this.#at = 0;
  }

  #reply(wanted: Wanted): Page | Nodes | undefined {
    if (!this.#begun) {
      const start = this.#at;
      try {
        this.#begin(wanted);
      } catch (error) {
        if (error === short) this.#at = start;
        throw error;
      }
    }
    if (wanted === 'page') this.#takeEntries();
    else if (wanted === 'nodes') this.#takeNodes();
    this.#begun = undefined;
    if (wanted === 'ok') return undefined;
    return wanted === 'nodes' ? this.#nodes : { cursor: this.#cursor, entries: this.#entries };
  }

  /** What stands before entries or nodes. */
  #begin(wanted: Wanted): void {
    if (wanted === 'ok') {
      if (this.#buffer[this.#at] !== PLUS) throw new Error('refused');
      const end = this.#buffer.indexOf(CR, this.#at);
      if (end < 0 || end + 2 > this.#end) throw short;
      this.#at = end + 2;
    } else if (wanted === 'page') {
      if (this.#number(STAR) !== 2) throw new Error('not a page');
      const length = this.#number(DOLLAR);
      const from = this.#at;
      if (from + length + 2 > this.#end) throw short;
      this.#at = from + length + 2;
      this.#left = this.#number(STAR);
      this.#cursor = this.#buffer.toString('latin1', from, from + length);
      this.#entries = [];
      this.#viewed = true;
    } else {
      this.#left = this.#number(STAR);
      this.#nodes = [];
    }
    this.#begun = wanted;
  }

  /** `$4\r\nname\r\n$9\r\n` and the value, for each entry. Local variables: this is run before V8 has compiled it. */
  #takeEntries(): void {
    const buffer = this.#buffer;
    const view = this.#view;
    const end = this.#end;
    const entries = this.#entries;
    let at = this.#at;
    for (; this.#left > 0; this.#left -= 2) {
      let from = at + 1;
      let length = 0;
      for (let digit = 0; from < end && (digit = buffer[from] as number) !== CR; from++) {
        if (digit < 48 || digit > 57) throw new Error('not a number');
        length = length * 10 + digit - 48;
      }
      from += 2;
      const value = from + length + 6;
      if (value > end) break;
      if (buffer[at] !== DOLLAR || view.getUint32(value - 4) !== ENTRY_HEADER) throw new Error('not a directory entry');
      if (value + ENTRY + 2 > end) break;
      const ino = inoOfWords(view.getUint32(value + 1), view.getUint32(value + 5));
      entries.push({ name: buffer.subarray(from, from + length), type: buffer[value] as NodeType, ino });
      this.#at = at = value + ENTRY + 2;
    }
    if (this.#left > 0) throw short;
  }

  #takeNodes(): void {
    const buffer = this.#buffer;
    const view = this.#view;
    const end = this.#end;
    const nodes = this.#nodes;
    let at = this.#at;
    for (; this.#left > 0; this.#left--) {
      const from = at + NODE_HEADER;
      if (from > end) break;
      const digits = view.getUint16(at + 1);
      const length = ((digits >> 8) - 48) * 10 + (digits & 255) - 48;
      if (buffer[at] !== DOLLAR || buffer[at + 4] !== LF) throw new Error('not a node');
      if (digits === MINUS_ONE) {
        nodes.push(undefined);
        this.#at = at = from;
        continue;
      }
      if (from + length + 2 > end) break;
      nodes.push(decodeAttrAt(view, from, length));
      this.#at = at = from + length + 2;
    }
    if (this.#left > 0) throw short;
  }

  #number(sign: number): number {
    const buffer = this.#buffer;
    const end = this.#end;
    let at = this.#at;
    if (at < end && buffer[at] !== sign) throw new Error('not the expected reply');
    let value = 0;
    for (at++; ; at++) {
      if (at + 1 >= end) throw short;
      const digit = buffer[at] ?? 0;
      if (digit === CR) break;
      if (digit < 48 || digit > 57) throw new Error('not a number');
      value = value * 10 + digit - 48;
    }
    this.#at = at + 2;
    return value;
  }
}

function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
}

function command(...parts: readonly string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`;
}

interface Waiting {
  readonly wanted: Wanted;
  readonly resolve: (reply: Page | Nodes | undefined) => void;
}

export class ListingConnection {
  #url: RedisUrl;
  readonly #clock: Clock;
  readonly #place: Place | undefined;
  #socket: Socket | undefined;
  #replies = new Replies();
  /** First come, first answered; the greetings of a connection stand before all. */
  #waiting: Waiting[] = [];
  #notBefore = -Infinity;
  #cancelIdle = (): void => {};
  #closed = false;

  /** `place`: where the server is, where that can change; without an answer so far, nothing is asked here. */
  constructor(url: RedisUrl, clock: Clock, place?: Place) {
    this.#url = url;
    this.#clock = clock;
    this.#place = place;
    place?.onMove(() => this.#drop(this.#socket, false));
  }

  /** A page of the directory under `key`; undefined where it has to be had in the other way. Never fails. */
  page(key: string, cursor: string, count: number): Promise<Page | undefined> {
    return this.#ask('page', () => command('HSCAN', key, cursor, 'COUNT', String(count))) as Promise<Page | undefined>;
  }

  /** The nodes under `keys`; as `page`. */
  nodes(keys: readonly string[]): Promise<Nodes | undefined> {
    return this.#ask('nodes', () => command('MGET', ...keys)) as Promise<Nodes | undefined>;
  }

  #ask(wanted: Wanted, request: () => string): Promise<Page | Nodes | undefined> {
    const socket = this.#socket ?? this.#connect();
    if (!socket || this.#waiting.length >= MAX_WAITING) return Promise.resolve(undefined);
    this.#cancelIdle();
    socket.ref();
    return new Promise((resolve) => {
      this.#waiting.push({ wanted, resolve });
      socket.write(request());
    });
  }

  /** Goes on with other credentials for the same server: on the next connection, what is out goes the other way. */
  adopt(url: RedisUrl): void {
    this.#url = url;
    this.#notBefore = -Infinity;
    this.#drop(this.#socket, false);
  }

  close(): void {
    this.#closed = true;
    this.#drop(this.#socket);
  }

  #connect(): Socket | undefined {
    if (this.#closed || this.#clock.monotonic() < this.#notBefore) return undefined;
    const { socket: path, tls, username, password, database, cluster, readTimeout, writeTimeout } = this.#url;
    const address = this.#place ? this.#place.current : this.#url;
    if (!address) return undefined;
    const { host, port } = address;
    let socket: Socket;
    try {
      const where = path === undefined ? { host, port } : { path };
      socket = tls ? connectTls({ ...where, ...tlsOptions(tls, host) }) : connectTcp(where);
    } catch {
      this.#notBefore = this.#clock.monotonic() + PAUSE_MS;
      return undefined;
    }
    this.#socket = socket;
    this.#replies = new Replies();
    socket.setNoDelay(true);
    // As long as a request may take to be sent, and then an answer to come.
    socket.setTimeout(writeTimeout);
    socket.on('timeout', () => {
      if (this.#waiting.length > 0) this.#drop(socket);
    });
    socket.once(tls ? 'secureConnect' : 'connect', () => socket.setTimeout(readTimeout));
    socket.on('data', (chunk) => this.#read(socket, chunk));
    socket.on('error', () => this.#drop(socket));
    socket.on('close', () => this.#drop(socket));
    const greet = (...parts: readonly string[]): void => {
      this.#waiting.push({ wanted: 'ok', resolve: () => undefined });
      socket.write(command(...parts));
    };
    if (password !== undefined) greet('AUTH', ...(username === undefined ? [] : [username]), password);
    if (database !== 0 && !cluster) greet('SELECT', String(database));
    if (cluster && this.#place?.role === 'replica') greet('READONLY');
    return socket;
  }

  #read(socket: Socket, chunk: Buffer): void {
    if (socket !== this.#socket) return;
    try {
      this.#replies.push(
        chunk,
        () => {
          if (!this.#waiting[0]) throw new Error('the server sent what nobody asked for');
          return this.#waiting[0].wanted;
        },
        (reply) => this.#waiting.shift()?.resolve(reply),
      );
    } catch {
      return this.#drop(socket);
    }
    if (this.#waiting.length > 0) return;
    socket.unref();
    this.#cancelIdle();
    this.#cancelIdle = this.#clock.timer(IDLE_MS, () => this.#drop(socket, false));
  }

  #drop(socket: Socket | undefined, failed = true): void {
    if (!socket || socket !== this.#socket) return;
    this.#socket = undefined;
    this.#cancelIdle();
    socket.destroy();
    if (failed) this.#notBefore = this.#clock.monotonic() + PAUSE_MS;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve(undefined);
  }
}
