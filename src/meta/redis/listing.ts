/**
 * A second connection to Redis, for directory listings alone: their replies are the longest there are, and their cost is that of
 * taking them apart. Here an entry becomes one object and one view of the received bytes (0.05 µs; by way of ioredis's decoder
 * 0.4 µs, a third of a whole listing: bench/client.ts, readdir).
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
import { readInoBE } from '../../lib/int64.ts';
import type { NamedEntry } from '../engine.ts';
import { ENTRY } from '../records.ts';
import type { NodeType } from '../types.ts';
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
const STAR = 42;
const DOLLAR = 36;
const PLUS = 43;

/** Not all of the reply is there yet. */
class Short extends Error {}
const short = new Short('short');

/**
 * Takes one reply apart after the other. Bytes are gathered in a buffer of the reply's own, since names are views of it. A
 * reply that is not whole is begun again behind the last entry that was.
 */
class Replies {
  #buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER);
  #at = 0;
  #end = 0;
  #cursor: string | undefined;
  #left = 0;
  #entries: NamedEntry[] = [];

  /** Throws where this is no reply that is expected here. */
  push(chunk: Buffer, onReply: (page: Page | undefined) => void): void {
    if (this.#end + chunk.length > this.#buffer.length) this.#grow(chunk.length);
    chunk.copy(this.#buffer, this.#end);
    this.#end += chunk.length;
    try {
      while (this.#at < this.#end) onReply(this.#reply());
    } catch (error) {
      if (error !== short) throw error;
      return;
    }
    // Whole replies only: the next one gets a buffer of its own.
    this.#buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER);
    this.#at = this.#end = 0;
  }

  #grow(bytes: number): void {
    const needed = this.#end - this.#at + bytes;
    if (needed > MAX_REPLY) throw new Error('the reply is too long');
    const larger = Buffer.allocUnsafeSlow(Math.max(needed * 2, FIRST_BUFFER));
    this.#buffer.copy(larger, 0, this.#at, this.#end);
    this.#buffer = larger;
    this.#end -= this.#at;
    this.#at = 0;
  }

  /** `+OK` (undefined), or a listing. */
  #reply(): Page | undefined {
    if (this.#cursor === undefined) {
      const start = this.#at;
      try {
        if (this.#buffer[this.#at] === PLUS) {
          const end = this.#buffer.indexOf(CR, this.#at);
          if (end < 0 || end + 2 > this.#end) throw short;
          this.#at = end + 2;
          return undefined;
        }
        if (this.#number(STAR) !== 2) throw new Error('not a page');
        const cursor = this.#bytes();
        this.#left = this.#number(STAR);
        this.#entries = [];
        this.#cursor = cursor.toString('latin1');
      } catch (error) {
        if (error === short) this.#at = start;
        throw error;
      }
    }
    for (; this.#left > 0; this.#left -= 2) {
      const start = this.#at;
      try {
        const name = this.#bytes();
        if (this.#number(DOLLAR) !== ENTRY) throw new Error('not a directory entry');
        const at = this.#at;
        if (at + ENTRY + 2 > this.#end) throw short;
        this.#entries.push({ name, type: (this.#buffer[at] ?? 0) as NodeType, ino: readInoBE(this.#buffer, at + 1) });
        this.#at = at + ENTRY + 2;
      } catch (error) {
        if (error === short) this.#at = start;
        throw error;
      }
    }
    const page = { cursor: this.#cursor, entries: this.#entries };
    this.#cursor = undefined;
    return page;
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

  #bytes(): Buffer {
    const length = this.#number(DOLLAR);
    const from = this.#at;
    if (from + length + 2 > this.#end) throw short;
    this.#at = from + length + 2;
    return this.#buffer.subarray(from, from + length);
  }
}

function command(...parts: readonly string[]): string {
  return `*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`;
}

type Waiting = (page: Page | undefined) => void;

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
    const socket = this.#socket ?? this.#connect();
    if (!socket || this.#waiting.length >= MAX_WAITING) return Promise.resolve(undefined);
    this.#cancelIdle();
    socket.ref();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      socket.write(command('HSCAN', key, cursor, 'COUNT', String(count)));
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
      this.#waiting.push(() => undefined);
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
      this.#replies.push(chunk, (page) => {
        const waiting = this.#waiting.shift();
        if (!waiting) throw new Error('the server sent what nobody asked for');
        waiting(page);
      });
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
    for (const each of waiting) each(undefined);
  }
}
