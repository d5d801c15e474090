/**
 * Workers over one queue: takes keys, calls `reconcile`, decides what comes next.
 *
 * | reconcile                | then                                                        |
 * |--------------------------|-------------------------------------------------------------|
 * | returns                  | backoff forgotten, again with the next change               |
 * | returns requeueAfterMs   | the same, and again after that time                         |
 * | the same, >= 5 s         | it waits for something that is away: behind what changed    |
 * | the same, >= 30 s        | a look at the outside world: later where very many keys do  |
 * |                          | that (`looksPerSecond`), and behind whatever changed        |
 * | throws TerminalError     | backoff forgotten, again with the next change or resync      |
 * | throws a Conflict        | again with backoff, not counted as an error: someone was faster |
 * | throws anything else     | again with backoff                                          |
 *
 * One key is never reconciled twice at a time, so a reconcile that ignores its signal is waited for, not overtaken. On
 * abort nothing new is begun; what runs has `drainMs`, then its signal is aborted. The rest is left: whoever leads next
 * lists everything anyway.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { NotLeadingError, TerminalError, isConflict } from './errors.ts';
import { kitMetrics } from './metrics.ts';
import { TokenBucket } from './rate-limiter.ts';
import { LOW_PRIORITY } from './source.ts';
import type { Controller, ControllerOptions, ReconcileContext } from './types.ts';
import { createWorkQueue } from './workqueue.ts';

const RESYNC_MS = 36_000_000;
const TIMEOUT_MS = 60_000;
const CONCURRENCY = 4;
const LOOKS_PER_SECOND = 20;
/** From here on a requeue is a look whether something changed, not the next step of something begun. */
const LOOK_MS = 30_000;
const LOOK_BURST = 100;
/** From here on nobody waits for this key more than for another; thousands may (of one database that is away). */
const WAIT_MS = 5000;
const WAIT_PRIORITY = LOW_PRIORITY / 2;
/** For reconciles to end after their signal was aborted at shutdown. */
const ABORT_GRACE_MS = 5000;

export interface ControllerEnvironment {
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly metrics?: Registry;
  /** @default 20000 */
  readonly drainMs?: number;
}

/** The reconcile took longer than the controller allows. */
export class ReconcileTimeout extends Error {
  override readonly name = 'ReconcileTimeout';
  readonly code = 'ReconcileTimeout';
  readonly retryable = true;
}

const isDefect = (error: unknown): boolean =>
  error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError || !(error instanceof Error);

export function createController(options: ControllerOptions, environment: ControllerEnvironment = {}): Controller {
  const { name, reconcile, sources } = options;
  const concurrency = options.concurrency ?? CONCURRENCY;
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const clock = environment.clock ?? systemClock;
  const random = environment.random ?? systemRandom;
  const log = (environment.log ?? nullLogger).child({ controller: name });
  const metrics = environment.metrics && kitMetrics(environment.metrics);
  const labels = { controller: name };
  const queue = createWorkQueue({
    name,
    clock,
    random,
    ...(environment.metrics ? { metrics: environment.metrics } : {}),
  });
  if (metrics) {
    for (const result of ['success', 'error', 'requeue', 'requeue_after']) metrics.reconcileTotal.inc({ ...labels, result }, 0);
    for (const each of [metrics.reconcileErrors, metrics.terminalErrors, metrics.panics, metrics.timeouts]) each.inc(labels, 0);
    metrics.maxConcurrent.set(labels, concurrency);
    metrics.activeWorkers.set(labels, 0);
  }

  const looks = new TokenBucket(clock, options.looksPerSecond ?? LOOKS_PER_SECOND, LOOK_BURST);
  const running = new Set<AbortController>();
  const state = { stopping: false };
  let started = false;

  async function once(key: string, priority: number): Promise<void> {
    const reconcileID = random.uuid();
    const controller = new AbortController();
    const context: ReconcileContext = { signal: controller.signal, log: log.child({ key, reconcileID }), reconcileID };
    const began = clock.monotonic();
    const cancel = clock.timer(timeoutMs, () => {
      metrics?.timeouts.inc(labels);
      controller.abort(new ReconcileTimeout(`reconcile of ${key} took longer than ${timeoutMs} ms`));
    });
    running.add(controller);
    metrics?.activeWorkers.inc(labels);
    let result: 'success' | 'error' | 'requeue' | 'requeue_after' = 'success';
    try {
      const answer = await reconcile(key, context);
      queue.forget(key);
      if (answer?.requeueAfterMs !== undefined && answer.requeueAfterMs > 0) {
        result = 'requeue_after';
        const isLook = answer.requeueAfterMs >= LOOK_MS;
        const afterMs = isLook ? Math.max(answer.requeueAfterMs, looks.reserve()) : answer.requeueAfterMs;
        const waits = answer.requeueAfterMs >= WAIT_MS;
        queue.add(key, { afterMs, priority: isLook ? LOW_PRIORITY : waits ? Math.min(priority, WAIT_PRIORITY) : priority });
      }
    } catch (error) {
      result = 'error';
      if (error instanceof TerminalError) {
        queue.forget(key);
        metrics?.terminalErrors.inc(labels);
        metrics?.reconcileErrors.inc(labels);
        context.log.error('reconcile failed for good', { error });
      } else if (error instanceof NotLeadingError) {
        context.log.info('reconcile was ended: this process does not lead');
        queue.add(key, { rateLimited: true, priority });
      } else if (isConflict(error)) {
        result = 'requeue';
        context.log.info('reconcile met a newer object, will try again', { error: messageOf(error) });
        queue.add(key, { rateLimited: true, priority });
      } else {
        metrics?.reconcileErrors.inc(labels);
        if (isDefect(error)) {
          metrics?.panics.inc(labels);
          context.log.error('reconcile threw what looks like a defect, will try again', {
            error,
            stack: error instanceof Error ? error.stack : undefined,
          });
        } else if (!state.stopping)
          context.log.error('reconcile failed, will try again', { error, failures: queue.failures(key) + 1 });
        queue.add(key, { rateLimited: true, priority });
      }
    } finally {
      cancel();
      running.delete(controller);
      metrics?.activeWorkers.dec(labels);
      metrics?.reconcileTotal.inc({ ...labels, result });
      metrics?.reconcileSeconds.observe(labels, (clock.monotonic() - began) / 1000);
    }
  }

  async function work(): Promise<void> {
    while (!state.stopping) {
      const item = await queue.get();
      if (!item) return;
      try {
        await once(item.key, item.priority);
      } finally {
        queue.done(item.key);
      }
    }
  }

  function resync(): () => void {
    let cancel: () => void = () => {};
    const arm = (): void => {
      cancel = clock.timer((options.resyncMs ?? RESYNC_MS) * (0.9 + 0.2 * random.float()), () => {
        for (const source of sources)
          if (source.resyncs && source.reflector)
            for (const key of source.reflector.store.keys()) queue.add(key, { priority: LOW_PRIORITY });
        arm();
      });
    };
    arm();
    return () => cancel();
  }

  return {
    name,
    queue,
    sources,
    async run(signal) {
      if (started) throw new TypeError(`the controller ${name} was run before; it runs once`);
      started = true;
      if (signal.aborted) return;
      for (const source of sources) source.connect((key, add) => queue.add(key, add));
      const cancelResync = resync();
      const workers = Promise.all(Array.from({ length: concurrency }, work));
      const aborted = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => aborted.resolve(), { once: true });
      try {
        // Workers end before the signal only by a defect of this file; that must not go unseen.
        await Promise.race([aborted.promise, workers]);
      } finally {
        state.stopping = true;
        cancelResync();
        queue.shutDown();
      }
      // Lost leadership is no time to finish work: the signal's reason says which.
      const drainMs = signal.reason instanceof NotLeadingError ? 0 : (environment.drainMs ?? 20_000);
      if (!(await within(workers, drainMs))) {
        for (const controller of running) controller.abort(signal.reason);
        if (!(await within(workers, ABORT_GRACE_MS)))
          log.error('reconciles do not end though they were aborted', { running: running.size });
      }
    },
  };

  /** True where the work ended in time. */
  async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
    const late = Promise.withResolvers<false>();
    const cancel = clock.timer(ms, () => late.resolve(false));
    try {
      return await Promise.race([work.then(() => true as const), late.promise]);
    } finally {
      cancel();
    }
  }
}
