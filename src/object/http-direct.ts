/**
 * Requests for whole blocks over sockets of our own. GET: the kernel's read puts the body where the caller wants it, with no
 * buffer of the socket in between. Everything that is not a body of known length goes the long way (see answer-body.ts). PUT: head
 * and body in one write; opening a connection costs little, as stores that keep none want it for each block.
 *
 * As `exchange`, and with the same promise: once the answer is settled the caller's buffers are not touched again, neither the
 * one that is filled nor the one that is sent: an answer that came before the body was sent ends the connection. Nothing is
 * repeated here, not even where a kept connection turns out to be dead: see retry.ts.
 *
 * Bounds: `connections` sockets; requests over that wait in order, bounded by the callers; each socket has a buffer of 16 KiB.
 */
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import type { Clock } from '../lib/clock.ts';
import { AnswerBody } from './answer-body.ts';
import { type AnswerHead, Chunks, parseHead } from './http-answer.ts';
import { describe, type ExchangeAnswer, type ExchangeRequest } from './http-exchange.ts';
import { lookupHost } from './loopback.ts';
import { ObjectError } from './store.ts';

export interface DirectOptions {
  readonly origin: string;
  readonly connections: number;
  readonly connectTimeoutMs: number;
  /** An idle connection is kept no longer than this, nor than two seconds less than the server says. */
  readonly keepAliveMs: number;
  readonly clock: Clock;
}

/** The longest head of an answer; also what is read at once where the body cannot go to its place. */
const SCRATCH = 16 * 1024;
/** A connection the server is about to close is not used again. */
const KEEP_ALIVE_MARGIN_MS = 2000;
const NONE = Buffer.alloc(0);

export class DirectClient {
  readonly #options: DirectOptions;
  readonly #url: URL;
  readonly #connections = new Set<Connection>();
  /** Used last, used first. */
  readonly #idle: Connection[] = [];
  readonly #waiting: (() => void)[] = [];
  #session: Buffer | undefined;
  #closed = false;

  constructor(options: DirectOptions) {
    this.#options = options;
    this.#url = new URL(options.origin);
  }

  /** Sends the request; fails as `exchange` does. */
  exchange(request: ExchangeRequest): Promise<ExchangeAnswer> {
    return new Promise((resolve, reject) => {
      const { signal } = request;
      let connection: Connection | undefined;
      let settled = false;
      const settle = (error: Error | undefined, answer?: ExchangeAnswer): void => {
        if (settled) return;
        settled = true;
        cancelTimer();
        signal?.removeEventListener('abort', onAbort);
        if (!error && answer) return resolve(answer);
        // Before anyone hears of the failure: a destroyed socket writes nowhere.
        connection?.destroy();
        const place = this.#waiting.indexOf(begin);
        if (place >= 0) this.#waiting.splice(place, 1);
        reject(error ?? new ObjectError('Unavailable', `no answer from ${request.origin}`));
      };
      const onAbort = (): void =>
        settle(signal?.reason instanceof Error ? signal.reason : new DOMException('aborted', 'AbortError'));
      const cancelTimer = this.#options.clock.timer(request.timeoutMs, () =>
        settle(new ObjectError('Timeout', `${request.origin} did not finish its answer within ${request.timeoutMs} ms`)),
      );
      const begin = (): void => {
        if (this.#closed) return settle(describe(request.origin, new Error('the store was closed')));
        connection = this.#idle.pop() ?? this.#open();
        connection.send(head, request, settle);
      };
      if (signal?.aborted) return onAbort();
      let head = '';
      try {
        head = requestHead(request, this.#url.host);
      } catch (error) {
        return settle(describe(request.origin, error as Error));
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      if (this.#idle.length > 0 || this.#connections.size < this.#options.connections) begin();
      else this.#waiting.push(begin);
    });
  }

  close(): void {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0)) waiting();
    for (const connection of this.#connections) connection.fail(new Error('the store was closed'));
  }

  #open(): Connection {
    const { connectTimeoutMs, keepAliveMs, clock, origin } = this.#options;
    const { hostname, port, protocol } = this.#url;
    const host = hostname.replace(/^\[|\]$/g, '');
    const connection: Connection = new Connection(
      (onread) => {
        if (protocol !== 'https:')
          return connectTcp({ host, port: Number(port || 80), noDelay: true, keepAlive: true, lookup: lookupHost, onread });
        // `onread` is taken by tls.connect (see its documentation); only its type does not say so.
        const options: ConnectionOptions & { readonly onread: OnRead } = {
          host,
          port: Number(port || 443),
          lookup: lookupHost,
          ...(isIP(host) ? {} : { servername: host }),
          ALPNProtocols: ['http/1.1'],
          ...(this.#session ? { session: this.#session } : {}),
          onread,
        };
        const socket = connectTls(options);
        socket.on('session', (session: Buffer) => (this.#session = session));
        return socket.setNoDelay(true).setKeepAlive(true);
      },
      {
        clock,
        keepAliveMs,
        connectTimeoutMs,
        origin,
        onIdle: () => {
          this.#idle.push(connection);
          this.#waiting.shift()?.();
        },
        onClose: () => {
          this.#connections.delete(connection);
          const index = this.#idle.indexOf(connection);
          if (index >= 0) this.#idle.splice(index, 1);
          if (this.#connections.size < this.#options.connections) this.#waiting.shift()?.();
        },
      },
    );
    this.#connections.add(connection);
    return connection;
  }
}

interface ConnectionHost {
  readonly origin: string;
  readonly clock: Clock;
  readonly keepAliveMs: number;
  readonly connectTimeoutMs: number;
  onIdle(): void;
  onClose(): void;
}

type Settle = (error: Error | undefined, answer?: ExchangeAnswer) => void;
type OnRead = { readonly buffer: () => Buffer; readonly callback: (bytes: number, buffer: Uint8Array) => boolean };

/** One socket, with at most one request under way. */
class Connection {
  readonly #host: ConnectionHost;
  readonly #socket: Socket;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH);
  /** Where the next read of the socket goes: the scratch buffer, or the caller's. */
  #place: Buffer;
  #scratched = 0;
  #request: ExchangeRequest | undefined;
  #settle: Settle | undefined;
  #head: AnswerHead | undefined;
  #body: AnswerBody | undefined;
  #chunks: Chunks | undefined;
  /** Bytes of the body that are still to come; NaN where that is not known. */
  #left = 0;
  #cancelTimer: () => void;
  #destroyed = false;

  constructor(open: (onread: OnRead) => Socket, host: ConnectionHost) {
    this.#host = host;
    this.#place = this.#scratch;
    this.#socket = open({ buffer: () => this.#place, callback: (bytes) => this.#read(bytes) });
    this.#cancelTimer = host.clock.timer(host.connectTimeoutMs, () =>
      this.fail(new ObjectError('Timeout', `no connection to ${host.origin} within ${host.connectTimeoutMs} ms`)),
    );
    const connected = (): void => this.#cancelTimer();
    this.#socket.on('connect', connected).on('secureConnect', connected);
    this.#socket.on('error', (error) => this.fail(error));
    this.#socket.on('end', () => this.#ended());
    this.#socket.on('close', () => this.fail(new Error('the connection was closed')));
  }

  send(head: string, request: ExchangeRequest, settle: Settle): void {
    if (this.#socket.readyState === 'open') this.#cancelTimer();
    this.#request = request;
    this.#settle = settle;
    this.#socket.ref();
    this.#socket.cork();
    this.#socket.write(head, 'latin1');
    if (request.body) this.#socket.write(request.body);
    this.#socket.uncork();
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#cancelTimer();
    this.#settle = undefined;
    this.#body = undefined;
    this.#place = this.#scratch;
    this.#socket.destroy();
    this.#host.onClose();
  }

  /** Ends the connection, and the request that is under way on it. */
  fail(error: Error): void {
    const settle = this.#settle;
    this.destroy();
    settle?.(describe(this.#host.origin, error));
  }

  /** The server ends the connection: the end of a body without a length, else a failure. */
  #ended(): void {
    const answer = this.#answer();
    if (answer && Number.isNaN(this.#left) && !this.#chunks) {
      const settle = this.#settle;
      this.destroy();
      settle?.(undefined, answer);
    } else this.fail(new Error('the server closed the connection before the end of its answer'));
  }

  #answer(): ExchangeAnswer | undefined {
    return this.#head && this.#body && { status: this.#head.status, headers: this.#head.headers, body: this.#body.bytes };
  }

  /** So many bytes have come into `#place`. */
  #read(bytes: number): boolean {
    if (this.#destroyed) return true;
    try {
      if (!this.#settle) throw new Error('the server sent what nobody asked for');
      if (this.#place !== this.#scratch && this.#body && this.#scratched === 0) {
        this.#body.filled(bytes);
        this.#left -= bytes;
      } else this.#take(bytes);
      this.#next();
    } catch (error) {
      this.fail(error as Error);
    }
    return true;
  }

  /** What came into the scratch buffer: of a head, or of a body that has no place yet. */
  #take(bytes: number): void {
    if (this.#body) return this.#push(this.#scratch.subarray(0, bytes));
    const filled = this.#scratched + bytes;
    for (let at = 0; ;) {
      const end = this.#scratch.subarray(0, filled).indexOf('\r\n\r\n', at, 'latin1');
      if (end < 0) {
        if (at > 0) this.#scratch.copyWithin(0, at, filled);
        this.#scratched = filled - at;
        if (this.#scratched === SCRATCH) throw new Error(`the answer has a head of more than ${SCRATCH} bytes`);
        return;
      }
      const head = parseHead(this.#scratch.toString('latin1', at, end));
      at = end + 4;
      if (head.status < 200) continue;
      this.#scratched = 0;
      this.#head = head;
      this.#left = head.length;
      this.#chunks = head.chunked ? new Chunks() : undefined;
      this.#body = new AnswerBody(this.#request!, head.status, head.length);
      if (filled > at) this.#push(this.#scratch.subarray(at, filled));
      return;
    }
  }

  #push(bytes: Buffer): void {
    const body = this.#body!;
    let used = bytes.length;
    if (this.#chunks) used = this.#chunks.feed(bytes, (data) => body.push(data));
    else if (Number.isNaN(this.#left)) body.push(bytes);
    else {
      used = Math.min(used, this.#left);
      body.push(bytes.subarray(0, used));
      this.#left -= used;
    }
    if (used < bytes.length) throw new Error('the server sent more than its answer');
  }

  /** After every read: the answer is whole, or where the next bytes go. */
  #next(): void {
    if (!this.#body) {
      this.#place = this.#scratched > 0 ? this.#scratch.subarray(this.#scratched) : this.#scratch;
      return;
    }
    if (this.#chunks ? this.#chunks.done : this.#left === 0) return this.#finish();
    const room = this.#left > 0 ? this.#body.room : undefined;
    this.#place = room ? (room.length > this.#left ? room.subarray(0, this.#left) : room) : this.#scratch;
  }

  #finish(): void {
    const answer = this.#answer();
    const settle = this.#settle;
    const hint = this.#head?.keepAliveMs;
    this.#settle = undefined;
    this.#request = undefined;
    this.#head = undefined;
    this.#body = undefined;
    this.#chunks = undefined;
    this.#place = this.#scratch;
    const keep = Math.min(this.#host.keepAliveMs, hint === undefined ? Infinity : hint - KEEP_ALIVE_MARGIN_MS);
    if (keep <= 0 || this.#socket.writableLength > 0) this.destroy();
    else {
      this.#cancelTimer = this.#host.clock.timer(keep, () => this.destroy());
      this.#socket.unref();
      this.#host.onIdle();
    }
    settle?.(undefined, answer ?? { status: 0, headers: {}, body: NONE });
  }
}

/** Throws where a header cannot be sent. */
function requestHead(request: ExchangeRequest, host: string): string {
  let head = `${request.method} ${request.path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n`;
  if (request.body) head += `content-length: ${request.body.length}\r\n`;
  for (const name in request.headers) head += `${name}: ${request.headers[name]}\r\n`;
  const lines = (request.body ? 4 : 3) + Object.keys(request.headers).length;
  // A line break in a value would begin a header, or a request, of its own.
  if (/[^\t\r\n\x20-\xff]/.test(head) || head.split(/\r\n|\r|\n/).length !== lines + 1)
    throw new Error('a header has characters that cannot be sent');
  return `${head}\r\n`;
}
