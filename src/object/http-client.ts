/**
 * The connections to one store: objects are read and written over sockets of our own (http-direct.ts), everything else goes over
 * undici, which is loaded with the first request that needs it: a volume in a directory does without.
 *
 * Open connections are bounded; requests over the bound wait in a queue, which its callers bound.
 */
import type { Pool } from 'undici';
import type { Clock } from '../lib/clock.ts';
import { DirectClient } from './http-direct.ts';
import { exchange, type ExchangeAnswer, type ExchangeRequest } from './http-exchange.ts';
import { lookupHost } from './loopback.ts';

export interface HttpOptions {
  /** Connections at most, of reads, of writes and of everything else. @default 128 */
  readonly connections?: number;
  /** Milliseconds. @default 10000 */
  readonly connectTimeoutMs?: number;
  readonly clock: Clock;
}

const CONNECTIONS = 128;
const CONNECT_TIMEOUT_MS = 10_000;
/** Below the idle limits of common stores and balancers (20 s and more): a reused connection is a live one. */
const KEEP_ALIVE_MS = 15_000;
/** Requests say how long they may take; this only ends what nobody waits for any more. */
const SOCKET_TIMEOUT_MS = 300_000;

export class HttpClient {
  readonly #origin: string;
  readonly #options: HttpOptions;
  #pool: Promise<Pool> | undefined;
  #reads: DirectClient | undefined;
  #writes: DirectClient | undefined;

  /** `origin` is `https://host:port`. Nothing is connected yet. */
  constructor(origin: string, options: HttpOptions) {
    this.#origin = origin;
    this.#options = options;
  }

  /** A GET whose body goes straight to where the caller wants it. Fails as `exchange` does. */
  read(request: ExchangeRequest): Promise<ExchangeAnswer> {
    this.#reads ??= this.#direct();
    return this.#reads.exchange(request);
  }

  /** Any other request. Fails as `exchange` does. */
  async send(request: ExchangeRequest): Promise<ExchangeAnswer> {
    if (request.method === 'PUT' && request.body) {
      this.#writes ??= this.#direct();
      return this.#writes.exchange(request);
    }
    this.#pool ??= this.#connect();
    return exchange(await this.#pool, this.#options.clock, request);
  }

  async close(): Promise<void> {
    this.#reads?.close();
    this.#writes?.close();
    const pool = await this.#pool;
    await pool?.destroy();
  }

  #direct(): DirectClient {
    return new DirectClient({
      origin: this.#origin,
      connections: this.#options.connections ?? CONNECTIONS,
      connectTimeoutMs: this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      clock: this.#options.clock,
    });
  }

  async #connect(): Promise<Pool> {
    const { default: Pool } = await import('undici/lib/dispatcher/pool.js');
    return new Pool(this.#origin, {
      connections: this.#options.connections ?? CONNECTIONS,
      pipelining: 1,
      allowH2: false,
      connect: { timeout: this.#options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS, lookup: lookupHost },
      headersTimeout: SOCKET_TIMEOUT_MS,
      bodyTimeout: SOCKET_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: 60_000,
    });
  }
}
