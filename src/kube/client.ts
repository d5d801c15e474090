/**
 * One client per kind: URLs, content types and options of the Kubernetes API over a `Transport`.
 *
 * JSON goes through as it is: nothing is decoded into models, so fields of newer servers survive a read and a patch. List
 * items come without kind and apiVersion from the server and get them here.
 */
import { apiErrorFromStatus, isNotFound, type Status } from './errors.ts';
import { type AccessOptions, findAccess } from './kubeconfig.ts';
import { lines } from './lines.ts';
import { apiVersionOf, pathOf } from './resources.ts';
import { HttpTransport, type TransportOptions } from './transport.ts';
import type {
  ApplyOptions,
  DeleteOptions,
  Intent,
  JsonPatchOperation,
  KubeClient,
  KubeObject,
  ListOptions,
  ListPage,
  ObjectRef,
  PartialObjectMetadata,
  Resource,
  ResourceClient,
  Transport,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from './types.ts';

const PAGE = 500;
/** Lists may be long; everything else has the transport's own timeout. */
const LIST_TIMEOUT_MS = 60_000;
/** On the bookmark after the objects that were there when the watch began (KEP-3157). */
const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

export interface ClientOptions {
  readonly namespace?: string;
  /** For writes that name none. @default 'juicepod' */
  readonly fieldManager?: string;
  /** Called before each write; what it throws, the write throws. */
  readonly check?: () => void;
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

function withQuery(path: string, query: Query): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== undefined && value !== '' && value !== false) search.set(name, String(value));
  const text = search.toString();
  return text === '' ? path : `${path}?${text}`;
}

const metadataAccept = (kind: string): string => `application/json;as=${kind};g=meta.k8s.io;v=v1`;

interface ListBody<T> {
  readonly items?: (T & { apiVersion: string; kind: string })[] | null;
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
}

class HttpResourceClient<T extends KubeObject> implements ResourceClient<T> {
  readonly resource: Resource;
  readonly streamsLists = true;
  readonly #transport: Transport;
  readonly #fieldManager: string;
  readonly #check: () => void;
  readonly #partial: boolean;

  constructor(transport: Transport, resource: Resource, fieldManager: string, check: () => void, partial = false) {
    this.#transport = transport;
    this.resource = resource;
    this.#fieldManager = fieldManager;
    this.#check = check;
    this.#partial = partial;
  }

  #path(ref: ObjectRef | { readonly namespace?: string | undefined }, subresource?: string): string {
    if (this.resource.namespaced && 'name' in ref && !ref.namespace)
      throw new TypeError(`${this.resource.kind} ${ref.name} needs a namespace: the kind is namespaced`);
    return `${pathOf(this.resource, ref)}${subresource ? `/${subresource}` : ''}`;
  }

  #accept(): { readonly accept?: string } {
    return this.#partial ? { accept: metadataAccept('PartialObjectMetadata') } : {};
  }

  async get(ref: ObjectRef, signal?: AbortSignal): Promise<T> {
    return (await this.#transport.request({ method: 'GET', path: this.#path(ref), ...this.#accept(), signal })) as T;
  }

  async find(ref: ObjectRef, signal?: AbortSignal): Promise<T | undefined> {
    try {
      return await this.get(ref, signal);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async *pages(options: ListOptions = {}): AsyncGenerator<ListPage<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, signal } = options;
    const path = this.#path({ namespace });
    const apiVersion = this.#partial ? 'meta.k8s.io/v1' : apiVersionOf(this.resource);
    const kind = this.#partial ? 'PartialObjectMetadata' : this.resource.kind;
    let token: string | undefined;
    do {
      const query: Query = {
        labelSelector,
        fieldSelector,
        limit: options.limit === 0 ? undefined : (options.limit ?? PAGE),
        // The token carries the version of the first page.
        resourceVersion: token === undefined ? options.resourceVersion : undefined,
        continue: token,
      };
      const body = (await this.#transport.request({
        method: 'GET',
        path: withQuery(path, query),
        ...(this.#partial ? { accept: metadataAccept('PartialObjectMetadataList') } : {}),
        timeoutMs: LIST_TIMEOUT_MS,
        signal,
      })) as ListBody<T>;
      const items = body.items ?? [];
      for (const item of items) {
        item.apiVersion = apiVersion;
        item.kind = kind;
      }
      token = body.metadata?.continue || undefined;
      yield { items, resourceVersion: body.metadata?.resourceVersion ?? '' };
    } while (token !== undefined);
  }

  async list(options: ListOptions = {}): Promise<ListPage<T>> {
    const items: T[] = [];
    let resourceVersion = '';
    for await (const page of this.pages(options)) {
      for (const item of page.items) items.push(item);
      resourceVersion = page.resourceVersion;
    }
    return { items, resourceVersion };
  }

  async *watch(options: WatchOptions): AsyncGenerator<WatchEvent<T>, void, undefined> {
    const { namespace, labelSelector, fieldSelector, resourceVersion, initialEvents, timeoutSeconds, signal } = options;
    const path = this.#path({ namespace });
    const stream = await this.#transport.stream({
      method: 'GET',
      path: withQuery(path, {
        watch: true,
        allowWatchBookmarks: true,
        labelSelector,
        fieldSelector,
        resourceVersion,
        sendInitialEvents: initialEvents,
        resourceVersionMatch: initialEvents ? 'NotOlderThan' : undefined,
        timeoutSeconds,
      }),
      ...this.#accept(),
      signal,
    });
    for await (const line of lines(stream)) {
      const event = JSON.parse(line) as { readonly type: string; readonly object: T & Status };
      if (event.type === 'ADDED' || event.type === 'MODIFIED' || event.type === 'DELETED')
        yield { type: event.type, object: event.object };
      else if (event.type === 'BOOKMARK')
        yield {
          type: 'BOOKMARK',
          resourceVersion: event.object.metadata.resourceVersion ?? '',
          ...(event.object.metadata.annotations?.[INITIAL_EVENTS_END] === 'true' ? { initialEventsEnd: true } : {}),
        };
      else if (event.type === 'ERROR') throw apiErrorFromStatus(event.object, `watch of ${this.resource.plural}`);
    }
  }

  #query(options: WriteOptions & { readonly fieldManager?: string }, more: Query = {}): Query {
    return {
      fieldManager: options.fieldManager ?? this.#fieldManager,
      dryRun: options.dryRun ? 'All' : undefined,
      ...more,
    };
  }

  async #write(
    method: 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    body: unknown,
    contentType: string,
    options: WriteOptions,
  ): Promise<T> {
    this.#check();
    return (await this.#transport.request({
      method,
      path,
      body,
      contentType,
      ...this.#accept(),
      signal: options.signal,
    })) as T;
  }

  #typed(object: Intent): Record<string, unknown> {
    return { ...object, apiVersion: apiVersionOf(this.resource), kind: this.resource.kind };
  }

  create(object: Intent, options: WriteOptions & { readonly fieldManager?: string } = {}): Promise<T> {
    const { namespace, name } = object.metadata;
    if (this.resource.namespaced && !namespace)
      throw new TypeError(`${this.resource.kind} ${name} needs a namespace: the kind is namespaced`);
    const path = withQuery(this.#path({ namespace }), this.#query(options));
    return this.#write('POST', path, this.#typed(object), 'application/json', options);
  }

  replace(object: Intent, options: WriteOptions & { readonly fieldManager?: string } = {}): Promise<T> {
    const path = withQuery(this.#path(object.metadata), this.#query(options));
    return this.#write('PUT', path, this.#typed(object), 'application/json', options);
  }

  apply(intent: Intent, options: ApplyOptions = {}): Promise<T> {
    return this.#apply(intent, options, undefined);
  }

  applyStatus(intent: Intent, options: ApplyOptions = {}): Promise<T> {
    return this.#apply(intent, options, 'status');
  }

  #apply(intent: Intent, options: ApplyOptions, subresource: 'status' | undefined): Promise<T> {
    const { managedFields: _managedFields, ...metadata } = intent.metadata;
    const body: Record<string, unknown> = { ...this.#typed(intent), metadata };
    if (subresource === undefined) delete body['status'];
    const query = this.#query(options, { force: options.force ?? true });
    const path = withQuery(this.#path(intent.metadata, subresource), query);
    return this.#write('PATCH', path, body, 'application/apply-patch+yaml', options);
  }

  patch(
    ref: ObjectRef,
    operations: readonly JsonPatchOperation[],
    options: WriteOptions & { readonly fieldManager?: string; readonly subresource?: 'status' } = {},
  ): Promise<T> {
    const path = withQuery(this.#path(ref, options.subresource), this.#query(options));
    return this.#write('PATCH', path, operations, 'application/json-patch+json', options);
  }

  async delete(ref: ObjectRef, options: DeleteOptions = {}): Promise<void> {
    const { uid, resourceVersion } = options;
    const preconditions = { ...(uid ? { uid } : {}), ...(resourceVersion ? { resourceVersion } : {}) };
    const body = {
      apiVersion: 'meta.k8s.io/v1',
      kind: 'DeleteOptions',
      propagationPolicy: options.propagation ?? 'Background',
      ...(uid || resourceVersion ? { preconditions } : {}),
      ...(options.dryRun ? { dryRun: ['All'] } : {}),
    };
    try {
      await this.#write('DELETE', this.#path(ref), body, 'application/json', options);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  metadataOnly(): ResourceClient<PartialObjectMetadata> {
    return new HttpResourceClient(this.#transport, this.resource, this.#fieldManager, this.#check, true);
  }
}

/** A client over any transport. */
export function createClient(transport: Transport, options: ClientOptions = {}): KubeClient {
  const check = options.check ?? ((): void => {});
  const fieldManager = options.fieldManager ?? 'juicepod';
  return {
    server: transport.server,
    namespace: options.namespace ?? 'default',
    resource: <T extends KubeObject>(resource: Resource) => new HttpResourceClient<T>(transport, resource, fieldManager, check),
    raw: (path, signal) => transport.request({ method: 'GET', path, signal }),
    guarded: (more) =>
      createClient(transport, {
        ...options,
        check: () => {
          check();
          more();
        },
      }),
    close: () => transport.close(),
  };
}

/** Finds the cluster (`findAccess`) and makes a client for it; connects with the first call. Throws UserError. */
export function connect(options: AccessOptions & TransportOptions & { readonly fieldManager?: string } = {}): KubeClient {
  const access = findAccess(options);
  return createClient(new HttpTransport(access, options), {
    namespace: access.namespace,
    ...(options.fieldManager ? { fieldManager: options.fieldManager } : {}),
  });
}
