/**
 * Live and ready checks, and a small HTTP server for them and the metrics.
 *
 * Live means "a restart would not help". An API server that is away is therefore no live failure: a restarted process
 * would only have lost its caches. Checks are synchronous and look at what is in memory.
 */
import { type Server, createServer } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Health, HealthCheck } from './types.ts';

const LAG_EVERY_MS = 1000;
const MAX_LAG_MS = 5000;
const MAX_SKEW_MS = 5 * 60_000;

function run(checks: ReadonlyMap<string, HealthCheck>): Record<string, string> {
  const failures: Record<string, string> = {};
  for (const [name, check] of checks) {
    try {
      const failure = check();
      if (failure !== undefined) failures[name] = failure;
    } catch (error) {
      failures[name] = messageOf(error);
    }
  }
  return failures;
}

export function createHealth(): Health {
  const liveChecks = new Map<string, HealthCheck>();
  const readyChecks = new Map<string, HealthCheck>();
  return {
    addLive: (name, check) => void liveChecks.set(name, check),
    addReady: (name, check) => void readyChecks.set(name, check),
    live: () => run(liveChecks),
    ready: () => ({ ...run(liveChecks), ...run(readyChecks) }),
  };
}

/**
 * Adds live checks of the process itself: timers more than 5 s late, and wall and monotonic clock more than 5 minutes apart
 * (a machine that slept: connections and leases are not what they seem). Answers how to stop looking.
 */
export function watchProcess(health: Health, clock: Clock = systemClock): () => void {
  let lag = 0;
  let cancel: () => void = () => {};
  const tick = (): void => {
    const planned = clock.monotonic() + LAG_EVERY_MS;
    cancel = clock.timer(LAG_EVERY_MS, () => {
      lag = clock.monotonic() - planned;
      tick();
    });
  };
  tick();
  const wall = clock.now();
  const monotonic = clock.monotonic();
  health.addLive('event-loop', () => (lag > MAX_LAG_MS ? `timers are ${Math.round(lag)} ms late` : undefined));
  health.addLive('clock', () => {
    const skew = clock.now() - wall - (clock.monotonic() - monotonic);
    return Math.abs(skew) > MAX_SKEW_MS ? `wall and monotonic clock are ${Math.round(skew / 1000)} s apart` : undefined;
  });
  return () => cancel();
}

export interface HealthServerOptions {
  readonly health: Health;
  readonly metrics: Registry;
  /** More metrics, as text of whole lines: made piece by piece as they are read, where all of them at once would be large. */
  readonly moreMetrics?: () => Iterable<string>;
  readonly port: number;
  /** @default all addresses */
  readonly host?: string;
}

function* chain(first: string, rest: Iterable<string>): Generator<string, void, undefined> {
  yield first;
  yield* rest;
}

/** Serves /livez, /readyz, /healthz (as /livez) and /metrics. Resolves when it listens. */
export async function serveHealth(options: HealthServerOptions): Promise<Server> {
  const { health, metrics } = options;
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?', 1)[0];
    const answer = (code: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(code, { 'content-type': type });
      response.end(text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return answer(405, 'only GET\n');
    if (path === '/metrics') {
      metrics.metrics().then(
        (text) => {
          if (!options.moreMetrics) return answer(200, text, metrics.contentType);
          response.writeHead(200, { 'content-type': metrics.contentType });
          // Who asked and went away ends it: nobody is left to tell.
          pipeline(Readable.from(chain(text, options.moreMetrics())), response).catch(() => {});
        },
        (error: unknown) => answer(500, `${messageOf(error)}\n`),
      );
      return;
    }
    const isReady = path === '/readyz';
    if (!isReady && path !== '/livez' && path !== '/healthz')
      return answer(404, 'not found; there are /livez, /readyz, /healthz and /metrics\n');
    const failures = Object.entries(isReady ? health.ready() : health.live());
    if (failures.length === 0) return answer(200, 'ok\n');
    answer(503, failures.map(([name, failure]) => `${name}: ${failure}\n`).join(''));
  });
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return server;
}
