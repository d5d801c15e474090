/**
 * The HTTP side of the fake API server: paths, queries and bodies to its operations, lists and watches; as a `Transport`
 * in process, whose only waits are promises so that a fake clock rules it, or as a server on a loopback port.
 */
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApiError, isGone } from '../errors.ts';
import { apiVersionOf } from '../resources.ts';
import type { JsonPatchOperation, KubeObject, Resource, Transport, TransportRequest } from '../types.ts';
import { type FakeApiServer, refusal } from './fake-apiserver.ts';
import type { JsonMap } from './fake-fields.ts';
import { selector } from './fake-selectors.ts';
import { FakeWatch, connectionReset } from './fake-watch.ts';

/** What a request meets instead of the server: an answer, a broken connection, or silence. */
export type Fault = ApiError | 'reset' | 'silence';

interface Call {
  readonly method: string;
  readonly url: URL;
  readonly accept: string;
  readonly contentType: string;
  readonly body: unknown;
}

interface Snapshot {
  readonly items: readonly KubeObject[];
  readonly version: number;
}

const partialKind = 'PartialObjectMetadata';

export class FakeFrontend {
  readonly #server: FakeApiServer;
  readonly #snapshots = new Map<string, Snapshot>();
  #tokens = 0;
  /** Asked before each request is served; answers what goes wrong. */
  fault: ((method: string, path: string) => Fault | undefined) | undefined;
  /** Where true, a watch from a version that is gone fails with 410 before its stream, else inside it. */
  goneEarly = false;
  /** Whether a watch may begin with the objects there are; without, that is Invalid, as where the feature is off. */
  streamsLists = true;
  /** Such a watch is accepted, and nothing comes. */
  silentStreams = false;
  /** Requests by "METHOD path", for tests that say how much was asked. */
  readonly requests: string[] = [];
  /** Queries of all lists. */
  readonly lists: string[] = [];

  constructor(server: FakeApiServer) {
    this.#server = server;
  }

  /** Bookmarks for all watches. */
  bookmark(): void {
    for (const watcher of this.#server.storage.watchers) watcher.bookmark(this.#server.storage.version);
  }

  /** Ends all watches in one way. */
  breakWatches(how: 'reset' | 'end' | 'mute' | 'gone'): void {
    for (const watcher of this.#server.storage.watchers) {
      watcher.end(how);
      this.#server.storage.watchers.delete(watcher);
    }
  }

  /** Serves one request: JSON, or a watch. Throws ApiError, or 'reset' as a connection error. */
  serve(call: Call): unknown {
    this.requests.push(`${call.method} ${call.url.pathname}`);
    const fault = this.fault?.(call.method, call.url.pathname);
    if (fault instanceof ApiError) throw fault;
    if (fault === 'reset') throw connectionReset();
    if (fault === 'silence') return new Promise(() => {});
    const { pathname, searchParams } = call.url;
    if (pathname === '/version') return { major: '1', minor: '99', gitVersion: 'v1.99.0-fake' };
    const match =
      /^\/(?:api\/(?<core>[^/]+)|apis\/(?<group>[^/]+)\/(?<version>[^/]+))(?:\/namespaces\/(?<namespace>[^/]+)(?=\/))?\/(?<plural>[^/]+)(?:\/(?<name>[^/]+))?(?:\/(?<subresource>status))?$/.exec(
        pathname,
      )?.groups;
    const resource =
      match && this.#server.find(match['group'] ?? '', match['core'] ?? match['version'] ?? '', match['plural'] ?? '');
    if (!match || !resource) throw refusal(404, 'NotFound', 'the server could not find the requested resource');
    const partial = call.accept.includes(`as=${partialKind}`);
    const show = (object: KubeObject): unknown =>
      partial ? { kind: partialKind, apiVersion: 'meta.k8s.io/v1', metadata: object.metadata } : object;
    const namespace = match['namespace'] && decodeURIComponent(match['namespace']);
    if (match['name'] === undefined) {
      if (call.method === 'POST')
        return show(this.#server.create(resource, withNamespace(call.body, namespace), this.#write(searchParams)));
      if (call.method !== 'GET') throw refusal(405, 'MethodNotAllowed', `${call.method} is not supported on a list`);
      return searchParams.get('watch') === 'true'
        ? this.#watch(resource, namespace, searchParams, show)
        : this.#list(resource, namespace, searchParams, show);
    }
    const ref = { namespace, name: decodeURIComponent(match['name']) };
    const subresource = match['subresource'] === 'status' ? ('status' as const) : undefined;
    const request = { ...this.#write(searchParams), subresource };
    switch (call.method) {
      case 'GET':
        return show(this.#server.get(resource, ref));
      case 'PUT':
        return show(this.#server.replace(resource, withNamespace(call.body, namespace), request));
      case 'PATCH':
        if (call.contentType.startsWith('application/apply-patch'))
          return show(this.#server.apply(resource, ref, call.body as JsonMap, request));
        if (call.contentType.startsWith('application/json-patch'))
          return show(this.#server.patch(resource, ref, call.body as JsonPatchOperation[], request));
        throw refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${call.contentType}`);
      case 'DELETE': {
        const options = (call.body ?? {}) as { preconditions?: { uid?: string; resourceVersion?: string }; dryRun?: string[] };
        this.#server.delete(resource, ref, options.preconditions ?? {}, (options.dryRun?.length ?? 0) > 0);
        return { apiVersion: 'v1', kind: 'Status', status: 'Success' };
      }
      default:
        throw refusal(405, 'MethodNotAllowed', `${call.method} is not supported`);
    }
  }

  #write(query: URLSearchParams): { readonly fieldManager: string; readonly force: boolean; readonly dryRun: boolean } {
    return {
      fieldManager: query.get('fieldManager') ?? 'unknown',
      force: query.get('force') === 'true',
      dryRun: query.get('dryRun') === 'All',
    };
  }

  #list(
    resource: Resource,
    namespace: string | undefined,
    query: URLSearchParams,
    show: (object: KubeObject) => unknown,
  ): unknown {
    const { storage } = this.#server;
    this.lists.push(query.toString());
    const limit = Number(query.get('limit') ?? 0);
    const wanted = query.get('resourceVersion') ?? '';
    const token = query.get('continue');
    if (Number(wanted) > storage.version)
      throw refusal(
        504,
        'Timeout',
        `Too large resource version: ${wanted}, current: ${storage.version}`,
        [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
        1,
      );
    let snapshot: Snapshot;
    if (token) {
      const found = this.#snapshots.get(token);
      if (!found || found.version < storage.compacted)
        throw refusal(410, 'Expired', 'The provided continue parameter is too old');
      this.#snapshots.delete(token);
      snapshot = found;
    } else {
      const select = selector(query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '');
      snapshot = {
        items: this.#server.objects(resource).filter((object) => inNamespace(object, namespace) && select(object)),
        version: storage.version,
      };
    }
    // The cache of the server answers whole lists.
    const cut = limit > 0 && wanted === '' ? limit : snapshot.items.length;
    const rest = snapshot.items.slice(cut);
    const metadata: JsonMap = { resourceVersion: String(snapshot.version) };
    if (rest.length > 0) {
      const next = `token-${++this.#tokens}`;
      this.#snapshots.set(next, { items: rest, version: snapshot.version });
      metadata['continue'] = next;
      metadata['remainingItemCount'] = rest.length;
    }
    const bare = ({ apiVersion: _apiVersion, kind: _kind, ...object }: JsonMap): JsonMap => object;
    return {
      apiVersion: apiVersionOf(resource),
      kind: `${resource.kind}List`,
      metadata,
      items: snapshot.items.slice(0, cut).map((object) => bare(show(object) as JsonMap)),
    };
  }

  #watch(
    resource: Resource,
    namespace: string | undefined,
    query: URLSearchParams,
    show: (object: KubeObject) => unknown,
  ): FakeWatch {
    const { storage } = this.#server;
    const wanted = query.get('resourceVersion') ?? '';
    const from = Number(wanted);
    if (from > storage.version)
      throw refusal(
        504,
        'Timeout',
        `Too large resource version: ${wanted}, current: ${storage.version}`,
        [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
        1,
      );
    const gone = from > 0 && from < storage.compacted;
    if (gone && this.goneEarly) throw refusal(410, 'Expired', `too old resource version: ${from} (${storage.compacted})`);
    const initialEvents = query.get('sendInitialEvents') === 'true';
    if (initialEvents && !this.streamsLists)
      throw refusal(
        422,
        'Invalid',
        'sendInitialEvents: Forbidden: forbidden for watch unless the WatchList feature gate is enabled',
      );
    const matches = selector(query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '');
    const kind = `${resource.group}/${resource.plural}`;
    const watch = new FakeWatch({
      kind,
      apiVersion: apiVersionOf(resource),
      kindName: resource.kind,
      select: (object) => inNamespace(object, namespace) && matches(object),
      project: show,
      onClose: () => void storage.watchers.delete(watch),
    });
    if (gone) {
      watch.end('gone');
      return watch;
    }
    storage.watchers.add(watch);
    if (initialEvents && this.silentStreams) watch.end('mute');
    if (from === 0 || initialEvents) for (const object of this.#server.objects(resource)) watch.initial(object);
    else for (const event of storage.since(kind, from)) watch.push(event);
    if (initialEvents && query.get('allowWatchBookmarks') === 'true')
      watch.bookmark(storage.version, { 'k8s.io/initial-events-end': 'true' });
    return watch;
  }

  /** A transport in this process. It neither limits nor retries: faults reach the caller as they are. */
  transport(): Transport {
    const call = async (request: TransportRequest): Promise<unknown> => {
      request.signal?.throwIfAborted();
      await Promise.resolve();
      const served = (async () =>
        await this.serve({
          method: request.method,
          url: new URL(request.path, 'http://fake'),
          accept: request.accept ?? 'application/json',
          contentType: request.contentType ?? 'application/json',
          body: request.body === undefined ? undefined : (JSON.parse(JSON.stringify(request.body)) as unknown),
        }))();
      try {
        return await raceAbort(served, request.signal);
      } catch (error) {
        if (error instanceof ApiError || request.signal?.aborted) throw error;
        throw new ApiError(0, `${request.method} ${request.path} failed`, { reason: 'Unreachable', cause: error });
      }
    };
    return {
      server: 'http://fake',
      request: async (request) => structuredClone(await call(request)),
      stream: async (request) => abortable((await call(request)) as FakeWatch, request.signal),
      close: () => Promise.resolve(),
    };
  }

  /** The same over HTTP on a loopback port. */
  async listen(): Promise<{ readonly url: string; close(): Promise<void> }> {
    const server: Server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (chunk: Buffer) => parts.push(chunk));
      request.on('end', () => {
        const text = Buffer.concat(parts).toString();
        const answer = async (): Promise<void> => {
          const served = await this.serve({
            method: request.method ?? 'GET',
            url: new URL(request.url ?? '/', 'http://fake'),
            accept: request.headers.accept ?? '',
            contentType: request.headers['content-type'] ?? '',
            body: text === '' ? undefined : (JSON.parse(text) as unknown),
          });
          response.writeHead(request.method === 'POST' ? 201 : 200, { 'content-type': 'application/json' });
          if (served instanceof FakeWatch) {
            response.flushHeaders();
            response.once('close', () => served.close());
            for await (const chunk of served) response.write(chunk);
            response.end();
          } else response.end(JSON.stringify(served));
        };
        answer().catch((error: unknown) => {
          if (!(error instanceof ApiError) || response.headersSent) {
            request.socket.destroy();
            return;
          }
          const { code, reason, message, details, retryAfterMs } = error;
          response.writeHead(code, {
            'content-type': 'application/json',
            ...(retryAfterMs === undefined ? {} : { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }),
          });
          response.end(JSON.stringify({ apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message, details }));
        });
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return {
      url: `http://127.0.0.1:${port}`,
      close: () =>
        new Promise((resolve) => {
          this.breakWatches('end');
          server.close(() => resolve());
          server.closeAllConnections();
        }),
    };
  }
}

const inNamespace = (object: KubeObject, namespace: string | undefined): boolean =>
  namespace === undefined || object.metadata.namespace === namespace;

function withNamespace(body: unknown, namespace: string | undefined): JsonMap {
  const object = body as JsonMap;
  return namespace === undefined ? object : { ...object, metadata: { ...(object['metadata'] as JsonMap), namespace } };
}

function raceAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

async function* abortable(watch: FakeWatch, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, undefined> {
  const onAbort = (): void => watch.close();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const chunk of watch) yield chunk;
    signal?.throwIfAborted();
  } catch (error) {
    if (signal?.aborted || isGone(error)) throw error;
    throw new ApiError(0, 'the watch was broken off', { reason: 'Unreachable', cause: error });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    watch.close();
  }
}
