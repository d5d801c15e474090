/** The types of the API and of those who talk to it: objects, transport, client. Import them from types.ts, whose head explains the nouns. */

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
  readonly namespace?: string;
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
  readonly metadata:
    ObjectMeta | { readonly name: string; readonly namespace?: string | undefined; readonly [field: string]: unknown };
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
  /**
   * First an ADDED for each object there is, at `resourceVersion` or later ('' for the latest), then a BOOKMARK with
   * `initialEventsEnd`, then the watch. A server that cannot (before 1.32) answers Invalid. @default false
   */
  readonly initialEvents?: boolean | undefined;
  /** When the server is to end the watch, seconds. */
  readonly timeoutSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly initialEventsEnd?: boolean };

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
  /** True where `watch` knows `initialEvents`. */
  readonly streamsLists: boolean;
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
