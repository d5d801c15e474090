/**
 * HTTP to one API server over undici.
 *
 * One Agent for all calls (client-node opens a TLS connection per call), replaced when the certificates change; the old one
 * ends with its last call. HTTP/1.1: a watch has a connection of its own, and a stalled one holds up nothing else.
 * Bounds: 64 connections; 20 requests per second with bursts of 30; 30 s per attempt; 5 attempts, 30 s apart at most.
 *
 * Tried again: any method after 429 (the server has not begun), GET after 502, 503, 504 and lost connections, anything once
 * after 401 with credentials read anew. A write whose answer was lost is not repeated here: the reconciler looks again.
 */
import type { Registry } from 'prom-client';
import { Agent, type Dispatcher, ProxyAgent, request as send } from 'undici';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { ApiError, apiErrorFrom, isTooLargeResourceVersion } from './errors.ts';
import type { ClusterAccess, Credentials, TlsMaterial } from './kubeconfig.ts';
import { type KitMetrics, kitMetrics } from './metrics.ts';
import { TokenBucket, backoffDelay } from './rate-limiter.ts';
import type { Transport, TransportRequest } from './types.ts';

const MAX_CONNECTIONS = 64;
const ATTEMPTS = 5;
const MAX_WAIT_MS = 30_000;
const RETRY_AFTER_DEFAULT_MS = 1000;
const DEFAULT_TIMEOUT_MS = 30_000;
/** Answers of proxies and load balancers are kept this far for the message. */
const MAX_ERROR_BODY = 64 << 10;
const retryBackoff = { baseMs: 100, maxMs: 5000, jitter: 0.5 } as const;

export interface TransportOptions {
  /** @default 20 */
  readonly requestsPerSecond?: number;
  /** @default 30 */
  readonly burst?: number;
  /** First word of the User-Agent; the API server's audit log and field managers show it. @default 'juicepod' */
  readonly userAgent?: string;
  readonly metrics?: Registry;
  readonly clock?: Clock;
  readonly random?: Random;
}

interface Answer {
  readonly statusCode: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  readonly body: Dispatcher.ResponseData['body'];
}

const retriedStatus = (method: string, status: number): boolean =>
  status === 429 || (method === 'GET' && (status === 502 || status === 503 || status === 504));

/** Retry-After in milliseconds: seconds, or a date. */
export function retryAfterMs(header: string | string[] | undefined, nowMs: number): number | undefined {
  const value = Array.isArray(header) ? header[0] : header;
  if (value === undefined) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isFinite(wait) ? Math.max(0, Math.min(wait, MAX_WAIT_MS)) : undefined;
}

export class HttpTransport implements Transport {
  readonly server: string;
  readonly #access: ClusterAccess;
  readonly #base: string;
  readonly #host: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #bucket: TokenBucket;
  readonly #metrics: KitMetrics | undefined;
  readonly #userAgent: string;
  readonly #agents = new Set<Dispatcher>();
  #agent: Dispatcher | undefined;
  #agentTls: TlsMaterial | undefined;
  #closed = false;

  constructor(access: ClusterAccess, options: TransportOptions = {}) {
    const url = new URL(access.server);
    this.#access = access;
    this.server = url.origin;
    this.#host = url.host;
    this.#base = url.pathname.replace(/\/+$/, '');
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#bucket = new TokenBucket(this.#clock, options.requestsPerSecond ?? 20, options.burst ?? 30);
    this.#metrics = options.metrics && kitMetrics(options.metrics);
    this.#userAgent = `${options.userAgent ?? 'juicepod'} (${process.platform}/${process.arch}) node/${process.versions.node}`;
  }

  async request(request: TransportRequest): Promise<unknown> {
    return this.#attempts(request, async (answer, finish) => {
      const text = await answer.body.text();
      finish();
      if (text === '') return undefined;
      try {
        return JSON.parse(text) as unknown;
      } catch (error) {
        throw new ApiError(
          answer.statusCode,
          `${this.#what(request)} answered no JSON (${text.length} characters): is ${this.server} a Kubernetes API server?`,
          { cause: error },
        );
      }
    });
  }

  async stream(request: TransportRequest): Promise<AsyncIterable<Uint8Array>> {
    return this.#attempts(request, (answer, finish) => Promise.resolve(this.#body(answer, finish, request)));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#agents].map((agent) => agent.destroy()));
    this.#agents.clear();
  }

  async *#body(answer: Answer, finish: () => void, request: TransportRequest): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const chunk of answer.body) yield chunk as Uint8Array;
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      throw this.#unreachable(request, error);
    } finally {
      // Leaving the loop destroys the body, and with it the connection: a watch is not read to its end to save one.
      finish();
    }
  }

  async #attempts<R>(request: TransportRequest, use: (answer: Answer, finish: () => void) => Promise<R>): Promise<R> {
    const { signal, method } = request;
    let unauthorized = false;
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      if (this.#closed) throw new ApiError(0, `the client of ${this.server} is closed`, { reason: 'Closed' });
      const waited = await this.#bucket.take(signal);
      this.#metrics?.restLimiterSeconds.observe({ verb: method, host: this.#host }, waited / 1000);
      let failure: ApiError;
      let wait: number | undefined;
      try {
        return await this.#once(request, use);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        failure = error;
        if (error.code === 401 && !unauthorized) {
          unauthorized = true;
          this.#access.invalidate();
          continue;
        }
        // A call that ran into its timeout has had its time: only what was cut off is tried again. A version from the future
        // does not come by waiting a little more: the server has waited 3 s already.
        const again =
          !isTooLargeResourceVersion(error) &&
          (error.code === 0 ? method === 'GET' && error.reason === 'Unreachable' : retriedStatus(method, error.code));
        if (!again || attempt >= ATTEMPTS) throw error;
        if (error.code === 429) wait = error.retryAfterMs ?? RETRY_AFTER_DEFAULT_MS;
        else wait = error.retryAfterMs ?? backoffDelay(retryBackoff, attempt - 1, this.#random);
      }
      if (wait > MAX_WAIT_MS) throw failure;
      await this.#clock.sleep(wait, signal);
    }
  }

  async #once<R>(request: TransportRequest, use: (answer: Answer, finish: () => void) => Promise<R>): Promise<R> {
    const { method, signal, body } = request;
    const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const credentials = await this.#access.credentials();
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    let timedOut = false;
    const cancelTimer = this.#clock.timer(timeoutMs, () => {
      timedOut = true;
      controller.abort();
    });
    const finish = (): void => {
      cancelTimer();
      signal?.removeEventListener('abort', onAbort);
    };
    const started = this.#clock.monotonic();
    try {
      const answer = await send(`${this.server}${this.#base}${request.path}`, {
        dispatcher: this.#dispatcher(credentials),
        method,
        signal: controller.signal,
        headers: {
          ...credentials.headers,
          accept: request.accept ?? 'application/json',
          'user-agent': this.#userAgent,
          ...(body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      this.#count(method, String(answer.statusCode), started);
      if (answer.statusCode < 200 || answer.statusCode > 299) {
        const text = await bounded(answer.body);
        finish();
        throw apiErrorFrom(
          answer.statusCode,
          text,
          this.#what(request),
          retryAfterMs(answer.headers['retry-after'], this.#clock.now()),
        );
      }
      // A stream lives on: from here on only the caller's signal ends it.
      return await use(answer, () => {
        finish();
      }).finally(cancelTimer);
    } catch (error) {
      finish();
      if (error instanceof ApiError) throw error;
      if (signal?.aborted) throw signal.reason;
      this.#count(method, '<error>', started);
      if (timedOut)
        throw new ApiError(0, `${this.#what(request)} was not answered within ${timeoutMs} ms`, { reason: 'Timeout' });
      throw this.#unreachable(request, error);
    }
  }

  #count(method: string, code: string, started: number): void {
    this.#metrics?.restRequests.inc({ code, method, host: this.#host });
    this.#metrics?.restSeconds.observe({ verb: method, host: this.#host }, (this.#clock.monotonic() - started) / 1000);
  }

  #what(request: TransportRequest): string {
    const query = request.path.indexOf('?');
    return `${request.method} ${this.server}${query < 0 ? request.path : request.path.slice(0, query)}`;
  }

  #unreachable(request: TransportRequest, cause: unknown): ApiError {
    return new ApiError(0, `${this.#what(request)} failed: ${messageOf(cause)}`, { reason: 'Unreachable', cause });
  }

  #dispatcher(credentials: Credentials): Dispatcher {
    const { tls } = credentials;
    if (this.#agent && this.#agentTls === tls) return this.#agent;
    const old = this.#agent;
    const connect = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const common = { connections: MAX_CONNECTIONS, pipelining: 1, allowH2: false, keepAliveTimeout: 30_000 } as const;
    const { proxyUrl } = this.#access;
    const agent = proxyUrl
      ? new ProxyAgent({ ...common, uri: proxyUrl, requestTls: connect, proxyTunnel: true })
      : new Agent({ ...common, connect: { ...connect, timeout: 10_000, keepAliveInitialDelay: 15_000 } });
    this.#agents.add(agent);
    this.#agent = agent;
    this.#agentTls = tls;
    if (old) void old.close().then(() => this.#agents.delete(old));
    return agent;
  }
}

/** The start of a body as text; the rest is thrown away. */
async function bounded(body: Dispatcher.ResponseData['body']): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    parts.push(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (length > MAX_ERROR_BODY) break;
  }
  return Buffer.concat(parts).toString('utf8');
}
