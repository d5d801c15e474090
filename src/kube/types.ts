/**
 * The nouns of the controller kit, and the contracts between them.
 *
 * An API server is reached through a `Transport` (connections, tokens, limits, retries). A `KubeClient` turns it into one
 * `ResourceClient` per kind: raw JSON in, raw JSON out, typed only where the caller says so, so that fields nobody here
 * knows survive. A `Reflector` keeps a `Store` equal to what the server has. Handlers of a reflector put keys
 * ("namespace/name") into a `WorkQueue`; a `Controller` takes them out and calls `reconcile(key)`, which looks at the stores
 * and the world, and writes what is missing. A `Manager` starts all of it in order, a `Leader` lets one process write.
 *
 * Objects that come out of a store are shared: nobody changes them.
 */
import type { Registry } from 'prom-client';
import type { Clock } from '../lib/clock.ts';
import type { Logger } from '../lib/log.ts';

// ---------------------------------------------------------------------------------------------------------- objects

/** A kind, and where the API serves it. */
export interface Resource {
  /** API group, '' for the core. */
  readonly group: string;
  readonly version: string;
  /** Lower-case plural of the path, e.g. "juicevolumes". */
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
  readonly managedFields?: readonly unknown[];
}

/** Any object of the API. Kinds declare interfaces that extend this with `spec`, `status`, `data`. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** What a metadata-only client yields: no spec, no data, no status. */
export interface PartialObjectMetadata extends KubeObject {
  readonly apiVersion: 'meta.k8s.io/v1';
  readonly kind: 'PartialObjectMetadata';
}

/** Names one object. `namespace` is absent for cluster-scoped kinds. */
export interface ObjectRef {
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** An object to be sent: like T, without the demand that the server has filled it in. */
export interface Intent {
  readonly metadata: ObjectMeta;
  readonly [field: string]: unknown;
}

/** One operation of RFC 6902. */
export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }
  | { readonly op: 'move' | 'copy'; readonly from: string; readonly path: string };

// -------------------------------------------------------------------------------------------------------- transport

export interface TransportRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path and query, e.g. "/api/v1/pods?limit=500". */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** @default 'application/json' */
  readonly contentType?: string;
  /** @default 'application/json' */
  readonly accept?: string;
  /** Whole call for `request`, answer headers for `stream`, each attempt; milliseconds. @default 30000 */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * One API server. Rate limit, Retry-After and reconnection are inside; what comes out is an answer of the 2xx class or an
 * `ApiError`. An abort rejects with the signal's reason.
 */
export interface Transport {
  /** "https://host:port", for messages. */
  readonly server: string;
  request(request: TransportRequest): Promise<unknown>;
  /** The body as it comes, for watches; ended early by the consumer or the signal, the connection is given up. */
  stream(request: TransportRequest): Promise<AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

// ---------------------------------------------------------------------------------------------------------- client

export interface ListOptions {
  /** All namespaces where absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** '' asks the database, '0' whatever the server has cached. @default '' */
  readonly resourceVersion?: string | undefined;
  /** Objects in a page; 0 for all at once. @default 500 */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ListPage<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
}

export interface WatchOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly resourceVersion: string;
  /** When the server is to end the watch, seconds. */
  readonly timeoutSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface WriteOptions {
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface ApplyOptions extends WriteOptions {
  /** One per controller, e.g. "juice-volume". @default the client's own */
  readonly fieldManager?: string;
  /** Takes fields over from other managers. @default true */
  readonly force?: boolean;
}

export interface DeleteOptions extends WriteOptions {
  /** Refused with a Conflict where the object is another one. */
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
  /** @default 'Background' */
  readonly propagation?: 'Background' | 'Foreground' | 'Orphan';
}

/** The calls for one kind. All throw `ApiError`; all accept an object itself as an `ObjectRef` through `refOf`. */
export interface ResourceClient<T extends KubeObject = KubeObject> {
  readonly resource: Resource;
  get(ref: ObjectRef, signal?: AbortSignal): Promise<T>;
  /** `get` that answers undefined for 404. */
  find(ref: ObjectRef, signal?: AbortSignal): Promise<T | undefined>;
  /** Page by page; a continue token that expires midway is a 410 `ApiError`. */
  pages(options?: ListOptions): AsyncIterable<ListPage<T>>;
  /** All pages joined; for lists known to be small. */
  list(options?: ListOptions): Promise<ListPage<T>>;
  /** Ends normally when the server ends it. An ERROR event is thrown as `ApiError`. */
  watch(options: WatchOptions): AsyncIterable<WatchEvent<T>>;
  create(object: Intent, options?: WriteOptions & { readonly fieldManager?: string }): Promise<T>;
  /** PUT; with `metadata.resourceVersion` refused with a Conflict when the object changed meanwhile. */
  replace(object: Intent, options?: WriteOptions & { readonly fieldManager?: string }): Promise<T>;
  /**
   * Server-side apply: the whole intent of this manager; fields it no longer names are removed. Creates an object that is
   * missing: to write to an existing one only, put its `uid` into the metadata (a missing object is then a Conflict, another
   * one of its name Invalid). `apiVersion` and `kind` are filled in.
   */
  apply(intent: Intent, options?: ApplyOptions): Promise<T>;
  /** The same on the status subresource; never creates. Send only the fields and conditions that are this manager's. */
  applyStatus(intent: Intent, options?: ApplyOptions): Promise<T>;
  /** RFC 6902. A failed `test` is a 422 `ApiError` (`isInvalid`). */
  patch(
    ref: ObjectRef,
    operations: readonly JsonPatchOperation[],
    options?: WriteOptions & { readonly fieldManager?: string; readonly subresource?: 'status' },
  ): Promise<T>;
  /** Resolves when the server has accepted it; finalizers may keep the object. 404 counts as done. */
  delete(ref: ObjectRef, options?: DeleteOptions): Promise<void>;
  /** The same kind with metadata only: what is cheap to watch (Secrets, Namespaces). Reads, patches and deletes only. */
  metadataOnly(): ResourceClient<PartialObjectMetadata>;
}

/** The API of one cluster. Implementations: HTTP (`connect`), and the same over a fake server in tests. */
export interface KubeClient {
  readonly server: string;
  /** Name of this process's namespace where it runs in a pod, else that of the kubeconfig's context, else "default". */
  readonly namespace: string;
  resource<T extends KubeObject = KubeObject>(resource: Resource): ResourceClient<T>;
  /** GET of any path that answers JSON, e.g. "/version". */
  raw(path: string, signal?: AbortSignal): Promise<unknown>;
  /** The same client, whose writes first call `check`; what it throws, the write throws. */
  guarded(check: () => void): KubeClient;
  close(): Promise<void>;
}

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
  readonly client: ResourceClient<T>;
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly indexes?: Readonly<Record<string, IndexFunction<T>>>;
  /** Applied before storing. @default removes managedFields and kubectl's last-applied annotation */
  readonly transform?: (object: T) => T;
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
  /** Once more after so many milliseconds (at most 10 hours), without counting as a failure. */
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
  /** Absent: every process works (webhooks, tests). */
  readonly leader?: Omit<LeaderOptions, 'client'>;
  /** Until all reflectors have synced, milliseconds; then `run` rejects. @default 120000 */
  readonly syncTimeoutMs?: number;
  /** For reconciles that run at shutdown, milliseconds. @default 20000 */
  readonly drainMs?: number;
}

export interface Manager {
  /** Writes through it check leadership first (where there is a leader). Reconcilers use this one. */
  readonly client: KubeClient;
  readonly metrics: Registry;
  /** A reflector that the manager runs, shared by those who ask with the same resource and selectors and no own options. */
  reflector<T extends KubeObject>(
    resource: Resource,
    options?: Omit<ReflectorOptions<T>, 'client'> & { readonly metadataOnly?: boolean },
  ): Reflector<T>;
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
