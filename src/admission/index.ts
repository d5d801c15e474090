/**
 * `juicepod webhook`: the process that admits pods. Any number of replicas; they share nothing but an authority.
 *
 * Start: certificate, HTTPS server (not ready), caches, ready. End, on the signal: not ready for a while, so that the API
 * server goes elsewhere; then running requests are finished and everything is closed.
 */
import { Counter, Gauge, Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { createManager } from '../kube/manager.ts';
import type { KubeClient } from '../kube/types.ts';
import { type CertificateSource, FileCertificates, keepCertificates, OwnAuthority } from './certs.ts';
import { bundlePublisher, secretStore, serverTime, watchCluster } from './cluster.ts';
import { startServer, type WebhookServer } from './server.ts';
import { defaultSettings, type Settings } from './settings.ts';

export { AnnotationError, parseVolumes } from '../api/annotation.ts';
export { type InjectOptions, type InjectReason, type InjectResult, injectFile } from './inject.ts';
export { platformNames } from './platforms/index.ts';
export { defaultSettings, type Settings } from './settings.ts';

export interface WebhookOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly settings?: Partial<Settings>;
  /** Namespace of the webhook's Service and of its authority's Secret. @default the client's */
  readonly namespace?: string;
  /** Volumes, policies and namespaces that are looked at. @default all */
  readonly namespaces?: readonly string[];
  /** @default 'juicepod-webhook' */
  readonly service?: string;
  /** The MutatingWebhookConfiguration whose caBundle is kept. @default 'juicepod-webhook' */
  readonly configuration?: string;
  /** @default 'juicepod-webhook-ca' */
  readonly secret?: string;
  /** Certificate and key from files that somebody else keeps, caBundle included. @default an authority of its own */
  readonly files?: { readonly cert: string; readonly key: string };
  /** Further DNS names or addresses for the certificate. */
  readonly names?: readonly string[];
  /** 0 takes a free one. @default 8443 */
  readonly port?: number;
  /** @default all addresses */
  readonly host?: string;
  readonly metrics?: Registry;
  readonly clock?: Clock;
  /** Between looks at the certificate, milliseconds. @default 10000 */
  readonly lookEveryMs?: number;
  /** How long the server still answers after the signal, milliseconds. @default 5000 */
  readonly drainMs?: number;
  readonly onListening?: (port: number) => void;
}

function sourceOf(options: WebhookOptions, clock: Clock): CertificateSource {
  const { client, log, files, names = [] } = options;
  if (files) return new FileCertificates(files.cert, files.key);
  const namespace = options.namespace ?? client.namespace;
  const host = `${options.service ?? 'juicepod-webhook'}.${namespace}`;
  return new OwnAuthority({
    secret: secretStore(client, namespace, options.secret ?? 'juicepod-webhook-ca'),
    publisher: bundlePublisher(client, options.configuration ?? 'juicepod-webhook'),
    names: [`${host}.svc`, host, `${host}.svc.cluster.local`, ...names],
    serverTime: serverTime(client),
    clock,
    log,
  });
}

function certificateMetrics(registry: Registry, source: CertificateSource) {
  const registers = [registry];
  return {
    looks: new Counter({ name: 'certwatcher_read_certificate_total', help: 'Looks at the certificate', registers }),
    errors: new Counter({ name: 'certwatcher_read_certificate_errors_total', help: 'Looks that failed', registers }),
    expiry: new Gauge({
      name: 'juice_webhook_certificate_expiry_seconds',
      help: 'End of the certificate in use, seconds since the epoch',
      registers,
      collect() {
        this.set((source.current?.notAfter ?? 0) / 1000);
      },
    }),
  };
}

/** Serves until the signal. Rejects where the caches cannot be filled or the port cannot be had. */
export async function runWebhook(options: WebhookOptions, signal: AbortSignal): Promise<void> {
  const { client, log } = options;
  const clock = options.clock ?? systemClock;
  const metrics = options.metrics ?? new Registry();
  const settings = { ...defaultSettings, ...options.settings };
  const { namespaces } = options;
  const manager = createManager({ client, log, clock, metrics, ...(namespaces ? { namespaces } : {}) });
  const cluster = watchCluster(manager);
  const source = sourceOf(options, clock);
  const counted = certificateMetrics(metrics, source);
  const { health } = manager;
  health.addReady('certificate', () => {
    const end = source.current?.notAfter;
    if (end === undefined) return 'there is none yet';
    return end > clock.now() + source.skewMs ? undefined : `it ended ${new Date(end).toISOString()}`;
  });
  let isEnding = false;
  health.addReady('shutdown', () => (isEnding ? 'the webhook is ending' : undefined));

  let server: Promise<WebhookServer> | undefined;
  let fail: (error: unknown) => void = () => {};
  const failed = new Promise<never>((_, reject) => (fail = reject));
  manager.runnable(
    async (running) => {
      const looking = keepCertificates(
        {
          source,
          clock,
          log,
          ...(options.lookEveryMs === undefined ? {} : { everyMs: options.lookEveryMs }),
          onLook: (error) => {
            counted.looks.inc();
            if (error !== undefined) counted.errors.inc();
          },
          onKeys: (keys) => {
            if (server) {
              server
                .then((listening) => listening.useKeys(keys))
                .catch((error: unknown) => log.error('a certificate cannot be used', { error: messageOf(error) }));
              return;
            }
            const isReady = (): boolean => !('caches' in health.ready());
            server = startServer(
              { cluster, settings, keys, health, metrics, log, clock, isReady },
              options.port ?? 8443,
              options.host,
            );
            server.then(({ port }) => {
              log.info('the webhook listens', { port });
              options.onListening?.(port);
            }, fail);
          },
        },
        running,
      );
      try {
        await Promise.race([looking, failed]);
      } finally {
        await server?.then(
          (listening) => listening.close(),
          () => {},
        );
      }
    },
    { everywhere: true },
  );

  const inner = new AbortController();
  const onAbort = (): void => {
    isEnding = true;
    clock.timer(options.drainMs ?? 5000, () => inner.abort(signal.reason));
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    await manager.run(inner.signal);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
