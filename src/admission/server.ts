/**
 * The webhook's HTTPS server: `/mutate` for the API server; `/healthz`, `/livez`, `/readyz` and `/metrics` for the rest.
 *
 * A review is answered from memory, within the call. Bodies are limited to 4 MiB (an object may have 1.5 MiB, and comes with
 * its options and the user's data), connections to 1024, a request to 10 s. What is not a review gets a 4xx; nothing
 * that comes in ends the process.
 */
import { fastify, type FastifyInstance } from 'fastify';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Health } from '../kube/types.ts';
import { denial, review, uidOf } from './review.ts';
import type { Cluster, Settings } from './settings.ts';

const BODY_LIMIT = 4 * 1024 * 1024;
const MUTATE_PATH = '/mutate';

/** PEM texts of a certificate (chain) and its private key. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

export interface ServerOptions {
  readonly cluster: Cluster;
  readonly settings: Settings;
  readonly keys: KeyPair;
  readonly health: Health;
  readonly metrics: Registry;
  readonly log: Logger;
  readonly clock?: Clock;
  /** False while the caches fill: reviews are refused with "try again". */
  readonly isReady: () => boolean;
}

export interface WebhookServer {
  /** The port it listens on. */
  readonly port: number;
  /** New connections get this certificate, live ones keep theirs. Throws where key and certificate do not fit; then nothing changes. */
  useKeys(keys: KeyPair): void;
  /** Stops accepting, lets running requests finish. */
  close(): Promise<void>;
}

const latencyBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

function instruments(registry: Registry) {
  const registers = [registry];
  const webhook = ['webhook'] as const;
  const requests = new Counter({
    name: 'controller_runtime_webhook_requests_total',
    help: 'Admission requests by HTTP status code',
    labelNames: ['webhook', 'code'],
    registers,
  });
  for (const code of ['200', '400', '413', '500']) requests.inc({ webhook: MUTATE_PATH, code }, 0);
  return {
    requests,
    latency: new Histogram({
      name: 'controller_runtime_webhook_latency_seconds',
      help: 'Time to answer an admission request',
      labelNames: webhook,
      buckets: latencyBuckets,
      registers,
    }),
    inFlight: new Gauge({
      name: 'controller_runtime_webhook_requests_in_flight',
      help: 'Admission requests being answered',
      labelNames: webhook,
      registers,
    }),
    decisions: new Counter({
      name: 'juice_admission_decisions_total',
      help: 'Pods by what was decided about them, and why',
      labelNames: ['action', 'reason'],
      registers,
    }),
  };
}

function probes(app: FastifyInstance, { health, metrics }: ServerOptions): void {
  const probe = (path: string, failures: () => Readonly<Record<string, string>>): void =>
    void app.get(path, (_, reply) => {
      const found = Object.entries(failures());
      const text = found.length === 0 ? 'ok\n' : found.map(([name, failure]) => `${name}: ${failure}\n`).join('');
      return reply
        .code(found.length === 0 ? 200 : 503)
        .type('text/plain; charset=utf-8')
        .send(text);
    });
  probe('/livez', () => health.live());
  probe('/healthz', () => health.live());
  probe('/readyz', () => health.ready());
  app.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.metrics()));
}

/** Starts to listen; port 0 takes a free one. */
export async function startServer(options: ServerOptions, port: number, host = '::'): Promise<WebhookServer> {
  const { cluster, settings, log, keys } = options;
  const clock = options.clock ?? systemClock;
  const counted = instruments(options.metrics);
  const app = fastify({
    https: { cert: keys.cert, key: keys.key, minVersion: 'TLSv1.2' },
    bodyLimit: BODY_LIMIT,
    requestTimeout: 10_000,
    // Longer than the API server's own 90 s, so that it, not we, ends idle connections: no request meets a closed one.
    keepAliveTimeout: 120_000,
    forceCloseConnections: 'idle',
    logger: false,
  });
  app.server.maxConnections = 1024;

  app.addHook('onRequest', (request, reply, done) => {
    if (request.url.startsWith(MUTATE_PATH)) {
      counted.inFlight.inc({ webhook: MUTATE_PATH });
      // Comes for requests that are given up, too.
      reply.raw.once('close', () => counted.inFlight.dec({ webhook: MUTATE_PATH }));
    }
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    if (request.url.startsWith(MUTATE_PATH)) {
      counted.requests.inc({ webhook: MUTATE_PATH, code: String(reply.statusCode) });
      counted.latency.observe({ webhook: MUTATE_PATH }, reply.elapsedTime / 1000);
    }
    done();
  });
  app.setErrorHandler(async (error, _, reply) => {
    const status = (error as { statusCode?: unknown }).statusCode;
    const code = typeof status === 'number' && status >= 400 && status < 500 ? status : 500;
    if (code === 500) log.error('a request failed', { error: messageOf(error) });
    return reply.code(code).send({ error: messageOf(error) });
  });

  app.post(MUTATE_PATH, async (request, reply) => {
    if (!options.isReady()) {
      const found = uidOf(request.body);
      if ('error' in found) return reply.code(400).send({ error: found.error });
      return denial(
        found.uid,
        503,
        'ServiceUnavailable',
        'the webhook of Juicepod has just started and does not know the volumes yet; try again',
      );
    }
    const started = clock.monotonic();
    const reviewed = review(request.body, cluster, settings);
    if (!reviewed.ok) return reply.code(400).send({ error: reviewed.error });
    const { outcome } = reviewed;
    counted.decisions.inc({ action: outcome.action, reason: outcome.reason });
    const { message: detail, ...rest } = outcome;
    const fields = { ...rest, detail, ms: Math.round((clock.monotonic() - started) * 100) / 100 };
    if (outcome.action === 'ignore') log.debug('pod left alone', fields);
    else if (outcome.action === 'refuse') log.warn('pod refused', fields);
    else log.info('pod injected', fields);
    return reviewed.body;
  });
  probes(app, options);

  await app.listen({ port, host });
  const address = app.server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    useKeys: ({ cert, key }) => app.server.setSecureContext({ cert, key, minVersion: 'TLSv1.2' }),
    close: () => app.close(),
  };
}
