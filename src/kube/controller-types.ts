/** The types of what runs: reflector, queue, controller, leader, events, manager. Import them from types.ts, whose head explains the nouns. */
import type { Registry } from 'prom-client';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';
import type { KubeClient, KubeObject, Resource, ResourceClient } from './client-types.ts';

// ------------------------------------------------------------------------------------------------ reflector and store

/** What a reflector's cache shows. Synchronous; iteration sees the live map. */
export interface Store<T extends KubeObject = KubeObject> {
  readonly size: number;
  get(key: string): T | undefined;
  keys(): IterableIterator<string>;
  values(): IterableIterator<T>;
  /** Objects under one value of an index that was named at creation; throws RangeError for an unknown index. */
  byIndex(index: string, value: string): readonly T[];
}

/** From an object to the values it is found under. Pure. */
export type IndexFunction<T> = (object: T) => readonly string[];

export type StoreChange<T> =
  | { readonly type: 'added'; readonly key: string; readonly object: T; readonly initial: boolean }
  | { readonly type: 'updated'; readonly key: string; readonly object: T; readonly old: T }
  | { readonly type: 'deleted'; readonly key: string; readonly object: T };

export interface ReflectorOptions<T extends KubeObject> {
  readonly client: Pick<ResourceClient<T>, 'resource' | 'pages' | 'watch'>;
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly indexes?: Readonly<Record<string, IndexFunction<T>>>;
  /**
   * Applied before storing; what it answers undefined for is not kept, as though the server did not have it. What it leaves
   * out costs no memory. Uid and resourceVersion must stay. @default removes managedFields and kubectl's last-applied annotation
   */
  readonly transform?: (object: T) => T | undefined;
}

/** Keeps a store equal to the server's objects of one kind until it is aborted. */
export interface Reflector<T extends KubeObject = KubeObject> {
  readonly resource: Resource;
  readonly store: Store<T>;
  /** True from the end of the first complete list on. */
  readonly hasSynced: boolean;
  /** Monotonic milliseconds of the last sign of life (list, event, bookmark); undefined before the first. */
  readonly lastEventAt: number | undefined;
  /** Resolves when synced; rejects on abort. */
  synced(signal?: AbortSignal): Promise<void>;
  /** What the API server said where it does not let us read (403), or does not know the kind (404); undefined as soon as it does. */
  readonly refusal: string | undefined;
  /** Called with each other `refusal`, at once where there is one. */
  onRefusal(handler: (refusal: string) => void): void;
  /** Called synchronously after the store changed; a throwing handler is logged. One added late first sees all as added. */
  onChange(handler: (change: StoreChange<T>) => void): void;
  /** Lists and watches until aborted; resolves then. Never rejects. Called once. */
  run(signal: AbortSignal): Promise<void>;
}

// -------------------------------------------------------------------------------------------------------- work queue

export interface AddOptions {
  /** Higher first; initial lists and resyncs use LOW_PRIORITY (-100). @default 0 */
  readonly priority?: number;
  /** Not before so many milliseconds from now; the earliest of several wins. @default 0 */
  readonly afterMs?: number;
  /** Delayed by the item's own backoff (grows with each such add until `forget`) and the queue's bucket. @default false */
  readonly rateLimited?: boolean;
}

/** Keys to work on: each at most once in it, none handed out twice at a time; memory is bounded by the number of keys. */
export interface WorkQueue {
  readonly name: string;
  /** Keys that are ready and not handed out. */
  readonly length: number;
  add(key: string, options?: AddOptions): void;
  /** Waits for a key; undefined when shut down and empty. */
  get(): Promise<{ readonly key: string; readonly priority: number } | undefined>;
  /** Must follow each `get`. */
  done(key: string): void;
  /** Ends the item's backoff. */
  forget(key: string): void;
  /** How often the key was added rate-limited since it was forgotten. */
  failures(key: string): number;
  /** Refuses adds; what is ready is still handed out. */
  shutDown(): void;
  /** Shuts down, drops delayed keys, resolves when all handed-out keys are done. */
  drained(): Promise<void>;
}

// -------------------------------------------------------------------------------------------------------- controller

export interface ReconcileContext {
  /** Aborted at the timeout, on loss of leadership, on shutdown. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  readonly reconcileID: string;
}

export interface ReconcileResult {
  /** Once more after so many milliseconds (at most 10 hours), without counting as a failure. 30 s or more: see `looksPerSecond`. */
  readonly requeueAfterMs?: number;
}

/** Makes the world agree with the object named by the key. Level-triggered, idempotent; a throw is retried with backoff. */
export type Reconcile = (key: string, context: ReconcileContext) => Promise<ReconcileResult | undefined | void>;

/** Puts keys into a controller's queue: `forKind`, `owns`, `watches` and `channel` of source.ts make them. */
export interface Source {
  /** What must have synced before workers start. */
  readonly reflector?: Reflector;
  /** True where the reflector's keys are the controller's own, so that a resync adds them all. */
  readonly resyncs?: boolean;
  /** Subscribes; called once, before the reflector runs or after. */
  connect(add: (key: string, options?: AddOptions) => void): void;
}

/** Lets a change through to the queue. */
export type Predicate<T> = (change: StoreChange<T>) => boolean;

export interface ControllerOptions {
  /** Label in metrics and logs, e.g. "juicevolume". */
  readonly name: string;
  readonly reconcile: Reconcile;
  readonly sources: readonly Source[];
  /** @default 4 */
  readonly concurrency?: number;
  /** One call of reconcile, milliseconds. @default 60000 */
  readonly timeoutMs?: number;
  /**
   * Requeues after 30 s or more are looks at what no event tells. No more than this many come due per second: with very many
   * keys each is looked at more seldom, and what changed is never behind them. @default 20
   */
  readonly looksPerSecond?: number;
  /** All keys of the `forKind` source again, at low priority, milliseconds ± 10 %. @default 36000000 */
  readonly resyncMs?: number;
}

/** Workers over one queue. */
export interface Controller {
  readonly name: string;
  readonly queue: WorkQueue;
  readonly sources: readonly Source[];
  /** Works until aborted, then drains at most `drainMs`, then aborts the reconciles still running. */
  run(signal: AbortSignal): Promise<void>;
}

// ------------------------------------------------------------------------------------------------------------ leader

export interface LeaderOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  /** Name of the Lease. */
  readonly name: string;
  /** Unique to the process: "<pod>_<uuid>". */
  readonly identity: string;
  /** Others may take over so long after the last renewal they saw, milliseconds. @default 15000 */
  readonly leaseDurationMs?: number;
  /** Leadership is given up when not renewed for so long, milliseconds. @default 10000 */
  readonly renewDeadlineMs?: number;
  /** Between tries, milliseconds. @default 2000 */
  readonly retryPeriodMs?: number;
}

/** One process at a time. Not a fence: writes outside the API server need a lock of their own. */
export interface Leader {
  readonly identity: string;
  readonly isLeading: boolean;
  /** Throws NotLeadingError unless the lease was renewed within the renew deadline, by the monotonic clock. */
  assertLeading(): void;
  /** Looks at the lease until the signal, so that `run` need not wait from its start for the lease of one that was killed. */
  observe(signal: AbortSignal): Promise<void>;
  /** Waits to be elected; then `lead(signal)` runs, its signal aborted on loss. Resolves when done and released. */
  run(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<'released' | 'lost'>;
}

// ------------------------------------------------------------------------------------------------------------ events

export interface EventInput {
  /** The object the event is about. */
  readonly regarding: KubeObject;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, the same as the condition's reason. */
  readonly reason: string;
  /** What was tried, e.g. "Format". */
  readonly action: string;
  /** At most 1024 bytes; longer ones are cut. No secrets. */
  readonly note: string;
}

/** Writes events.k8s.io/v1, repeats as series, limited per object (25 at once, then one in 5 minutes). */
export interface EventRecorder {
  /** Never throws, never waits; what does not fit in the queue (1000) is dropped and counted. */
  record(event: EventInput): void;
  /** Sends what is queued and stops. */
  close(): Promise<void>;
}

// -------------------------------------------------------------------------------------------------------- conditions

/** `meta/v1 Condition`. */
export interface Condition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  /** RFC 3339, seconds. */
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}

// ----------------------------------------------------------------------------------------------------------- manager

// createManager(options) of manager.ts makes one; connect(kubeconfig) of client.ts the client.

export interface ManagerOptions {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly clock?: Clock;
  readonly metrics?: Registry;
  /** Reflectors look into these only, and at these of the Namespaces. @default all */
  readonly namespaces?: readonly string[];
  /** Absent: every process works (webhooks, tests). */
  readonly leader?: Omit<LeaderOptions, 'client'>;
  /** Until all reflectors have synced, milliseconds; then `run` rejects, unless the API server refuses what is missing. @default 120000 */
  readonly syncTimeoutMs?: number;
  /** Told of what may not be read, each once, in the API server's words: a right is missing, or a kind. */
  readonly onRefusal?: (refusal: string) => void;
  /** For reconciles that run at shutdown, milliseconds. @default 20000 */
  readonly drainMs?: number;
}

export type ManagedReflectorOptions<T extends KubeObject> = Omit<ReflectorOptions<T>, 'client'> & {
  readonly metadataOnly?: boolean;
  /**
   * Where it may not be read, the manager starts without it; controllers with it as a source begin when it may. All others are waited for
   * as long as that takes, for a manager with half of what it decides on would decide wrongly. @default false
   */
  readonly optional?: boolean;
};

export interface Manager {
  /** Writes through it check leadership first (where there is a leader). Reconcilers use this one. */
  readonly client: KubeClient;
  /** Throws NotLeadingError unless this process is sure to lead: for writes outside the API server. */
  assertLeading(): void;
  readonly metrics: Registry;
  /** A reflector that the manager runs, shared by those who ask with the same resource and selectors and no own options. */
  reflector<T extends KubeObject>(resource: Resource, options?: ManagedReflectorOptions<T>): Reflector<T>;
  controller(options: ControllerOptions): Controller;
  /** Runs beside the controllers; with `everywhere`, on standbys too, from the start. */
  runnable(run: (signal: AbortSignal) => Promise<void>, options?: { readonly everywhere?: boolean }): void;
  /** Reconcilers' events, by the name of the reporting controller. */
  events(controller: string): EventRecorder;
  /** Named checks that answer undefined when well, else what is wrong. */
  readonly health: Health;
  /** Starts everything in order, works until the signal, drains, releases. Rejects when leadership is lost. */
  run(signal: AbortSignal): Promise<void>;
}

export type HealthCheck = () => string | undefined;

export interface Health {
  /** A failing live check gets the process restarted. */
  addLive(name: string, check: HealthCheck): void;
  /** A failing ready check keeps traffic away. */
  addReady(name: string, check: HealthCheck): void;
  /** Failures by name; empty when well. */
  live(): Readonly<Record<string, string>>;
  ready(): Readonly<Record<string, string>>;
}
