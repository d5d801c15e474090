/**
 * Starts the parts of a controller process in order and ends them in the reverse one.
 *
 * Start: reflectors and what runs everywhere; wait until all caches have synced, looking at the lease meanwhile; be elected;
 * controllers and what only the leader runs. Caches are warm on standbys too: whoever's are not does not try to lead. End, on the signal: not ready; reconciles finish (`drainMs`) while the lease
 * is still renewed; lease released; reflectors, events. Lost leadership rejects `run`: the process is to exit and start anew.
 */
import { Registry } from 'prom-client';
import { systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { systemRandom } from '../lib/random.ts';
import { createController } from './controller.ts';
import { NotLeadingError } from './errors.ts';
import { createRecorder } from './events.ts';
import { createHealth, watchProcess } from './health.ts';
import { createLeader } from './leader.ts';
import { createReflector } from './reflector.ts';
import { byName, unionReflector } from './scope.ts';
import type {
  Controller,
  EventRecorder,
  KubeObject,
  ManagedReflectorOptions,
  Manager,
  ManagerOptions,
  Reflector,
  ReflectorOptions,
  Resource,
  ResourceClient,
} from './types.ts';

/** Beyond `drainMs` and the grace of aborted reconciles: who has not ended by then will not. */
const STUCK_MS = 30_000;

type Runnable = (signal: AbortSignal) => Promise<void>;

export function createManager(options: ManagerOptions): Manager {
  const { log } = options;
  const clock = options.clock ?? systemClock;
  const metrics = options.metrics ?? new Registry();
  const environment = { log, clock, random: systemRandom, metrics };
  const leader = options.leader && createLeader({ ...options.leader, client: options.client }, environment);
  const client = leader ? options.client.guarded(() => leader.assertLeading()) : options.client;
  const identity = options.leader?.identity ?? `${process.pid}`;
  const health = createHealth();
  const reflectors = new Set<Reflector>();
  /** Those that the manager starts without where they may not be read. */
  const optional = new Set<Reflector>();
  const refusals = new Set<string>();
  const shared = new Map<string, Reflector>();
  const controllers: Controller[] = [];
  const everywhere: Runnable[] = [];
  const leading: Runnable[] = [];
  const recorders: EventRecorder[] = [];
  const background: Promise<void>[] = [];
  let state: 'new' | 'starting' | 'running' | 'ending' = 'new';
  let caches: AbortController | undefined;

  health.addReady('manager', () => (state === 'running' ? undefined : `the manager is ${state}`));
  /** What the start waits for. */
  const missing = (): readonly Reflector[] =>
    [...reflectors].filter((each) => !each.hasSynced && !(optional.has(each) && each.refusal !== undefined));

  health.addReady('caches', () => {
    const names = missing().map(({ resource, refusal }) =>
      refusal === undefined ? resource.plural : `${resource.plural} (${refusal})`,
    );
    return names.length > 0 ? `not synced: ${names.join(', ')}` : undefined;
  });

  function refused(refusal: string): void {
    if (refusals.has(refusal)) return;
    refusals.add(refusal);
    log.error(
      'the API server refuses what this process must read; are its rights, and the resource definitions, of its version?',
      { refusal },
    );
    options.onRefusal?.(refusal);
  }

  let endingSince: number | undefined;
  health.addLive('shutdown', () => {
    const limit = (options.drainMs ?? 20_000) + STUCK_MS;
    return endingSince !== undefined && clock.monotonic() - endingSince > limit
      ? `work that was told to end ${Math.round((clock.monotonic() - endingSince) / 1000)} s ago still runs`
      : undefined;
  });

  /** Without a leader, or as the leader: controllers and runnables until the signal. The first to fail ends the others. */
  async function lead(signal: AbortSignal): Promise<void> {
    const group = new AbortController();
    const onAbort = (): void => group.abort(signal.reason);
    group.signal.addEventListener('abort', () => (endingSince = clock.monotonic()), { once: true });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const failures: unknown[] = [];
    const runs = [...controllers.map((each) => (of: AbortSignal) => each.run(of)), ...leading];
    await Promise.all(
      runs.map((run) =>
        run(group.signal).catch((error: unknown) => {
          if (group.signal.aborted && error === group.signal.reason) return;
          failures.push(error);
          group.abort(error);
        }),
      ),
    );
    // Nothing to do is no reason to end: a webhook has reflectors only.
    if (!group.signal.aborted)
      await new Promise<void>((resolve) => group.signal.addEventListener('abort', () => resolve(), { once: true }));
    signal.removeEventListener('abort', onAbort);
    endingSince = undefined;
    if (failures.length > 0) throw failures[0];
  }

  async function waitForSync(signal: AbortSignal): Promise<void> {
    const limit = options.syncTimeoutMs ?? 120_000;
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    let cancel: () => void = () => {};
    const guard = (): void => {
      cancel = clock.timer(limit, () => {
        const late = missing();
        // A new process would be refused the same; this one goes on as soon as somebody gave the right.
        if (late.length > 0 && late.every(({ refusal }) => refusal !== undefined)) {
          log.error('still waiting for what may not be read', { refusals: late.map(({ refusal }) => refusal) });
          guard();
          return;
        }
        const names = late.map((each) => each.resource.plural).join(', ');
        controller.abort(
          new Error(`these caches did not fill within ${limit / 1000} s: ${names}; may ${client.server} be read?`),
        );
      });
    };
    guard();
    const filled = (each: Reflector): Promise<void> =>
      optional.has(each)
        ? Promise.race([each.synced(controller.signal), new Promise<void>((resolve) => each.onRefusal(() => resolve()))])
        : each.synced(controller.signal);
    try {
      await Promise.all([...reflectors].map(filled));
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** A reflector of what this process may see. */
  function scoped<T extends KubeObject>(kind: ResourceClient<T>, own: Omit<ReflectorOptions<T>, 'client'>): Reflector<T> {
    const { namespaces } = options;
    const { resource } = kind;
    if (namespaces && resource.namespaced && own.namespace === undefined)
      return unionReflector(
        new Map(namespaces.map((namespace) => [namespace, createReflector<T>({ ...own, namespace, client: kind }, environment)])),
      );
    const isNamespace = resource.group === '' && resource.plural === 'namespaces';
    const seen = namespaces && isNamespace ? byName(kind, namespaces, clock) : kind;
    return createReflector<T>({ ...own, client: seen }, environment);
  }

  const manager: Manager = {
    client,
    assertLeading: () => leader?.assertLeading(),
    metrics,
    health,
    reflector<T extends KubeObject>(
      resource: Resource,
      { metadataOnly, optional: isOptional, ...own }: ManagedReflectorOptions<T> = {},
    ): Reflector<T> {
      const { indexes, transform, namespace, labelSelector, fieldSelector } = own;
      const key = JSON.stringify([resource.group, resource.plural, metadataOnly, namespace, labelSelector, fieldSelector]);
      const found = indexes || transform ? undefined : shared.get(key);
      if (found) {
        if (!isOptional) optional.delete(found);
        return found as Reflector<T>;
      }
      const kind = options.client.resource<T>(resource);
      // Metadata is all that T may show of such an object; who asks for it says so in T.
      const of = metadataOnly ? (kind.metadataOnly() as unknown as ResourceClient<T>) : kind;
      const reflector = scoped<T>(of, own);
      if (!indexes && !transform) shared.set(key, reflector);
      reflectors.add(reflector);
      if (isOptional) optional.add(reflector);
      reflector.onRefusal(refused);
      if (caches) background.push(reflector.run(caches.signal));
      return reflector;
    },
    controller(controllerOptions) {
      if (state !== 'new')
        throw new TypeError(`the controller ${controllerOptions.name} was added after the manager was started`);
      const controller = createController(controllerOptions, {
        ...environment,
        ...(options.drainMs === undefined ? {} : { drainMs: options.drainMs }),
      });
      controllers.push(controller);
      return controller;
    },
    runnable(run, where = {}) {
      if (state !== 'new') throw new TypeError('a runnable was added after the manager was started');
      (where.everywhere ? everywhere : leading).push(run);
    },
    events(controller) {
      // Not guarded: the last event of a leader that was replaced is still true.
      const recorder = createRecorder({ ...environment, client: options.client, controller, instance: identity });
      recorders.push(recorder);
      return recorder;
    },
    async run(signal) {
      if (state !== 'new') throw new TypeError('the manager was run before; it runs once');
      state = 'starting';
      const stopProcessWatch = watchProcess(health, clock);
      caches = new AbortController();
      const failed = new AbortController();
      const onAbort = (): void => {
        state = 'ending';
        failed.abort(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      let failure: { readonly error: unknown } | undefined;
      const started = caches;
      for (const reflector of reflectors) background.push(reflector.run(started.signal));
      for (const run of everywhere)
        background.push(
          run(started.signal).catch((error: unknown) => {
            if (started.signal.aborted) return;
            failure ??= { error };
            failed.abort(error);
          }),
        );
      const filling = new AbortController();
      const observing = leader?.observe(filling.signal);
      try {
        await waitForSync(failed.signal);
        filling.abort(new Error('the caches are filled'));
        await observing;
        if (!failed.signal.aborted) {
          state = 'running';
          log.info('caches are filled', { reflectors: reflectors.size });
          if (!leader) await lead(failed.signal);
          else if ((await leader.run(lead, failed.signal)) === 'lost') throw new NotLeadingError('leadership was lost');
        }
      } catch (error) {
        if (!(failed.signal.aborted && error === failed.signal.reason)) failure ??= { error };
      } finally {
        state = 'ending';
        filling.abort(new Error('the manager is ending'));
        await observing;
        signal.removeEventListener('abort', onAbort);
        stopProcessWatch();
        await Promise.all(recorders.map((each) => each.close()));
        caches.abort(new Error('the manager is ending'));
        await Promise.all(background);
      }
      if (failure) {
        log.error('the manager failed', { error: messageOf(failure.error) });
        throw failure.error;
      }
    },
  };
  return manager;
}

/** Aborted by the first SIGTERM or SIGINT; the second one exits at once with 1. */
export function shutdownSignal(): AbortSignal {
  const controller = new AbortController();
  let signals = 0;
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.on(name, () => {
      signals++;
      if (signals > 1) process.exit(1);
      controller.abort(new Error(`received ${name}`));
    });
  return controller.signal;
}
