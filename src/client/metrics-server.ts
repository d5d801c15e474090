/**
 * Where Prometheus finds the figures of a client: `/metrics`, of all its mounts, at an address (official: `--metrics`, 127.0.0.1:9567).
 * And what `juicepod debug` asks of it, from this machine only: `/debug/heap` and `/debug/cpu-profile?seconds=N`, which hold no data
 * and no secret (a heap snapshot would, and there is none).
 *
 * A client serves its mounts also where the address cannot be had: the client before may still be ending, so it is tried again.
 * Bounds: MOST_CONNECTIONS at a time, one profile at a time, of at most LONGEST_PROFILE_SECONDS.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { getHeapSpaceStatistics, getHeapStatistics } from 'node:v8';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { exposition, type Family, type Labelled, type Labels } from '../lib/metrics.ts';
import { SESSION_VERSION } from '../meta/sessions.ts';
import { cpuProfile } from './cpu-profile.ts';

export const PREFIX = 'juicefs_';
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
const MOST_CONNECTIONS = 64;
const LONGEST_PROFILE_SECONDS = 300;
/** Pause before an address that could not be had is tried again, milliseconds. */
const RETRY_MS = 5000;

export interface MetricsAddress {
  /** Empty: all addresses. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** Where the port cannot be had, a free one is taken. */
  readonly otherwiseAny?: boolean;
}

/** What a mount tells of itself. */
export interface Measured {
  readonly volume: string;
  readonly mountPoint: string;
  readonly families: () => readonly Family[];
}

export interface MetricsServerOptions {
  readonly address: MetricsAddress;
  /** Labels of all samples; may replace those that there are. */
  readonly customLabels?: Labels;
  readonly logger: Logger;
  /** @default systemClock */
  readonly clock?: Clock;
}

export class MetricsServer implements Disposable {
  readonly #options: MetricsServerOptions;
  readonly #mounts = new Set<Measured>();
  #server: Server | undefined;
  #cancel: () => void = () => {};
  #warned = false;
  #closed = false;
  #profiling = false;

  /** Begins to listen; whether that worked is in `address`. */
  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#listen(options.address.port);
  }

  /** Tells of a mount until the returned function is called. */
  add(mount: Measured): () => void {
    this.#mounts.add(mount);
    return () => void this.#mounts.delete(mount);
  }

  /** `host:port`; undefined while it does not listen. */
  get address(): string | undefined {
    const bound = this.#server?.address() as AddressInfo | null | undefined;
    if (!bound) return undefined;
    return bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#cancel();
    this.#server?.close();
    this.#server?.closeAllConnections();
  }

  #listen(port: number): void {
    const { address, logger, clock = systemClock } = this.#options;
    const server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        logger.warn('a request for metrics failed', { error: messageOf(error) });
        response.destroy();
      });
    });
    server.maxConnections = MOST_CONNECTIONS;
    server.requestTimeout = 10_000;
    server.keepAliveTimeout = 65_000;
    server.on('error', (error) => {
      if (this.#closed) return;
      this.#server = undefined;
      if (address.otherwiseAny && port !== 0 && (error as NodeJS.ErrnoException).code === 'EADDRINUSE') return this.#listen(0);
      if (!this.#warned) logger.warn('metrics cannot be served there, trying again', { ...address, error: messageOf(error) });
      this.#warned = true;
      this.#cancel = clock.timer(RETRY_MS, () => this.#listen(port));
    });
    server.on('listening', () => logger.debug('serving metrics', { address: this.address }));
    // A process that has nothing else to do may end.
    server.unref();
    this.#server = server;
    server.listen({ port, ...(address.host === '' ? {} : { host: address.host }) });
  }

  #groups(): readonly Labelled[] {
    return Array.from(this.#mounts, ({ volume, mountPoint, families }) => ({
      labels: {
        vol_name: volume,
        mp: mountPoint,
        instance: hostname(),
        juicefs_version: SESSION_VERSION,
        ...this.#options.customLabels,
      },
      families: families(),
    }));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const give = (code: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(code, { 'content-type': type });
      response.end(text);
    };
    const url = new URL(request.url ?? '/', 'http://client');
    if (request.method !== 'GET' && request.method !== 'HEAD') return give(405, 'only GET\n');
    if (url.pathname === '/metrics') {
      response.writeHead(200, { 'content-type': CONTENT_TYPE });
      // Who asked and went away ends it: nobody is left to tell.
      return pipeline(Readable.from(exposition(PREFIX, this.#groups())), response).catch(() => {});
    }
    if (!url.pathname.startsWith('/debug/')) return give(404, 'not found; there is /metrics\n');
    if (!isLocal(request)) return give(403, 'only from this machine\n');
    if (url.pathname === '/debug/heap')
      return give(200, JSON.stringify({ ...getHeapStatistics(), spaces: getHeapSpaceStatistics() }), 'application/json');
    if (url.pathname !== '/debug/cpu-profile') return give(404, 'not found; there are /debug/heap and /debug/cpu-profile\n');
    const seconds = Number(url.searchParams.get('seconds') ?? '30');
    if (!(seconds > 0 && seconds <= LONGEST_PROFILE_SECONDS))
      return give(400, `seconds: wanted a number above 0, up to ${LONGEST_PROFILE_SECONDS}\n`);
    if (this.#profiling) return give(409, 'a profile is being taken already\n');
    this.#profiling = true;
    const ended = new AbortController();
    response.once('close', () => ended.abort());
    try {
      give(200, await cpuProfile(seconds * 1000, this.#options.clock ?? systemClock, ended.signal), 'application/json');
    } finally {
      this.#profiling = false;
    }
  }
}

function isLocal(request: IncomingMessage): boolean {
  const address = request.socket.remoteAddress ?? '';
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}
