/**
 * Metrics under the names of client-go and controller-runtime, so that dashboards made for Go operators work, and our own
 * `juice_reflector_*`. One set of instruments per registry.
 */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

const reconcileBuckets = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2, 2.5, 3,
  3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60,
];
const queueBuckets = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000];
const restBuckets = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];

function instruments(registry: Registry) {
  // Called when the registry is read, for what is measured rather than counted.
  const onScrape = new Set<() => void>();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> =>
    new Gauge({ name, help, labelNames, registers });
  const histogram = <L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    buckets: readonly number[],
  ): Histogram<L> => new Histogram({ name, help, labelNames, buckets: [...buckets], registers });
  const queue = ['name', 'controller'] as const;
  const controller = ['controller'] as const;
  return {
    onScrape,
    reconcileTotal: counter('controller_runtime_reconcile_total', 'Reconciles by result', ['controller', 'result']),
    reconcileErrors: counter('controller_runtime_reconcile_errors_total', 'Reconciles that failed', controller),
    terminalErrors: counter('controller_runtime_terminal_reconcile_errors_total', 'Reconciles that failed for good', controller),
    panics: counter(
      'controller_runtime_reconcile_panics_total',
      'Reconciles that threw what is not an expected error',
      controller,
    ),
    timeouts: counter('controller_runtime_reconcile_timeouts_total', 'Reconciles ended by their timeout', controller),
    reconcileSeconds: histogram(
      'controller_runtime_reconcile_time_seconds',
      'Duration of a reconcile',
      controller,
      reconcileBuckets,
    ),
    maxConcurrent: gauge('controller_runtime_max_concurrent_reconciles', 'Workers of a controller', controller),
    activeWorkers: gauge('controller_runtime_active_workers', 'Workers that are busy', controller),
    queueDepth: gauge('workqueue_depth', 'Keys that wait', [...queue, 'priority']),
    queueAdds: counter('workqueue_adds_total', 'Keys added', queue),
    queueSeconds: histogram('workqueue_queue_duration_seconds', 'Time a key waits', queue, queueBuckets),
    workSeconds: histogram('workqueue_work_duration_seconds', 'Time a key is worked on', queue, queueBuckets),
    unfinishedSeconds: new Gauge({
      name: 'workqueue_unfinished_work_seconds',
      help: 'Sum of the ages of keys being worked on',
      labelNames: queue,
      registers,
      collect: () => {
        for (const measure of onScrape) measure();
      },
    }),
    longestSeconds: gauge('workqueue_longest_running_processor_seconds', 'Age of the oldest key being worked on', queue),
    retries: counter('workqueue_retries_total', 'Keys added with backoff', queue),
    restRequests: counter('rest_client_requests_total', 'Requests to the API server; code <error> for none answered', [
      'code',
      'method',
      'host',
    ]),
    restSeconds: histogram('rest_client_request_duration_seconds', 'Duration of a request', ['verb', 'host'], restBuckets),
    restLimiterSeconds: histogram(
      'rest_client_rate_limiter_duration_seconds',
      'Time a request waited for the client rate limit',
      ['verb', 'host'],
      restBuckets,
    ),
    leading: gauge('leader_election_master_status', '1 where this process leads', ['name']),
    renewLateSeconds: gauge('juice_leader_renew_late_seconds', 'How late the last renewal of the lease started', ['name']),
    lists: counter('juice_reflector_lists_total', 'Complete lists', ['kind', 'reason']),
    watches: counter('juice_reflector_watches_total', 'Watches opened', ['kind']),
    watchErrors: counter('juice_reflector_errors_total', 'Lists and watches that failed', ['kind', 'reason']),
    handlerErrors: counter('juice_reflector_handler_errors_total', 'Handlers that threw', ['kind']),
    lastEvent: gauge('juice_reflector_last_event_seconds', 'Seconds since the last sign of life of the watch', ['kind']),
    eventsDropped: counter('juice_events_dropped_total', 'Events not written', ['controller', 'reason']),
  };
}

export type KitMetrics = ReturnType<typeof instruments>;

const made = new WeakMap<Registry, KitMetrics>();

/** The instruments of a registry, made on first use. */
export function kitMetrics(registry: Registry): KitMetrics {
  const found = made.get(registry);
  if (found) return found;
  const fresh = instruments(registry);
  made.set(registry, fresh);
  return fresh;
}
