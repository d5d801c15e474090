/**
 * Objects as files of a WebDAV server: JuiceFS's `webdav` (pkg/object/webdav.go). The key is the path below the bucket's URL.
 *
 * A write goes to a name beside its own and is moved there, so that a reader sees a whole object or none. A collection is never an
 * object, and never deleted: DELETE would take all that lies in it. Source: RFC 4918. Nothing is retried here: see retry.ts.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { HttpClient } from './http-client.ts';
import type { ExchangeAnswer, ExchangeRequest } from './http-exchange.ts';
import { exchangeOf, isAccepted, noBytes, type ObjectRequest, readRequest } from './object-request.ts';
import { s3Error } from './s3-error.ts';
import { encodeKey } from './sigv4.ts';
import { type GetOptions, ObjectError, type ObjectInfo, type ObjectStore } from './store.ts';
import { isTemporaryName, temporaryName } from './temporary-name.ts';
import { parseMultistatus, type Resource } from './webdav-xml.ts';

export interface WebdavOptions {
  /** `http://host[:port]/path`; without a scheme http is meant, as for JuiceFS. */
  readonly url: string;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** One request, from dispatch to the last byte, milliseconds. @default 60000 */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** The listing of one collection: some 100,000 names. */
const MAX_LISTING = 64 * 1024 * 1024;
const PROPERTIES = Buffer.from(
  '<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>',
);

interface Request extends Omit<ObjectRequest, 'key' | 'query'> {
  readonly key?: string;
  /** Instead of a key: encoded, from `/` on. */
  readonly path?: string;
}

export class WebdavObjectStore implements ObjectStore {
  readonly description: string;
  readonly #origin: string;
  /** Ends with `/`; encoded. */
  readonly #base: string;
  readonly #authorization: string | undefined;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #timeoutMs: number;
  readonly #http: HttpClient;

  constructor(options: WebdavOptions) {
    const full = options.url.includes('://') ? options.url : `http://${options.url}`;
    const invalid = (why: string): ObjectError =>
      new ObjectError(
        'Invalid',
        `bucket ${JSON.stringify(options.url.replace(/\/\/[^/@]*@/, '//***@'))} of storage webdav: ${why}; write http://host[:port]/path`,
      );
    if (!URL.canParse(full)) throw invalid('not a URL');
    const url = new URL(full);
    if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`the scheme ${url.protocol}// is not known`);
    if (url.username || url.password) throw invalid('credentials do not belong into the URL');
    this.#origin = url.origin;
    this.#base = url.pathname.endsWith('/') ? url.pathname : `${url.pathname}/`;
    this.description = `webdav at ${this.#origin}${this.#base}`;
    const { user, password } = options;
    this.#authorization = user ? `Basic ${Buffer.from(`${user}:${password ?? ''}`).toString('base64')}` : undefined;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.#http = new HttpClient(this.#origin, { clock: this.#clock });
  }

  create(signal?: AbortSignal): Promise<void> {
    return this.#makeCollection(this.#base, signal);
  }

  async put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    requireKey(key);
    const cut = key.lastIndexOf('/') + 1;
    const temporary = key.slice(0, cut) + temporaryName(key.slice(cut), this.#random);
    const write = { what: 'write', key: temporary, body, signal };
    // 409 (RFC 4918, 9.7.1), or 404: the collection it is to lie in is not there.
    const written = await this.#request('PUT', { ...write, accept: [404, 409] });
    if (written.status >= 300) {
      await this.#makeCollection(this.#path(key.slice(0, cut)), signal);
      await this.#request('PUT', write);
    }
    try {
      const headers = { destination: `${this.#origin}${this.#path(key)}`, overwrite: 'T' };
      await this.#request('MOVE', { what: `move to ${key}`, key: temporary, headers, signal });
    } catch (error) {
      await this.#request('DELETE', { what: 'delete', key: temporary, accept: [404] }).catch(() => undefined);
      throw error;
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Buffer> {
    requireKey(key);
    const { length, into } = options;
    if (length === 0) return noBytes(into);
    const answer = await this.#request('GET', { ...readRequest(key, options), accept: [405, 416] });
    // 405: a collection.
    if (answer.status === 405) throw new ObjectError('NotFound', `there is no object ${key} (${this.description})`);
    return answer.status === 416 ? noBytes(into) : answer.body;
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    requireKey(key);
    const found = await this.#resource(key, signal);
    return found && !found.collection ? { key, size: found.size, modified: found.modified } : undefined;
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    if (!(await this.head(key, signal))) return;
    await this.#request('DELETE', { what: 'delete', key, signal, accept: [404] });
  }

  list(prefix: string, options: { readonly after?: string; readonly signal?: AbortSignal } = {}): AsyncIterable<ObjectInfo> {
    return this.#walk(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix, options.after ?? '', options.signal);
  }

  close(): Promise<void> {
    return this.#http.close();
  }

  /** One collection at a time is in memory, per level. A collection sorts as its name with `/`, which is key order. */
  async *#walk(folder: string, prefix: string, after: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo> {
    const entries: { readonly key: string; readonly resource: Resource }[] = [];
    const base = decodePath(this.#path(folder));
    for (const resource of await this.#resources(folder, '1', signal)) {
      if (!resource.path.startsWith(base)) continue;
      const name = resource.path.slice(base.length).replace(/\/$/, '');
      if (name === '' || name.includes('/') || isTemporaryName(name)) continue;
      entries.push({ key: `${folder}${name}${resource.collection ? '/' : ''}`, resource });
    }
    entries.sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const { key, resource } of entries) {
      if (resource.collection) {
        if (!key.startsWith(prefix) && !prefix.startsWith(key)) continue;
        if (key < after && !after.startsWith(key)) continue;
        yield* this.#walk(key, prefix, after, signal);
      } else if (key.startsWith(prefix) && key > after) yield { key, size: resource.size, modified: resource.modified };
    }
  }

  /** Makes a collection and those above it, from the server's root on. `path` is encoded, from `/` to `/`. */
  async #makeCollection(path: string, signal: AbortSignal | undefined): Promise<void> {
    const make = (): Promise<ExchangeAnswer> =>
      // 405: it is there. 409: what it is to lie in is not.
      this.#request('MKCOL', { what: 'make collection', path, signal, accept: [405, 409] });
    const made = await make();
    if (made.status !== 409) return;
    const above = path.slice(0, path.lastIndexOf('/', path.length - 2) + 1);
    if (above.length > 1) await this.#makeCollection(above, signal);
    const again = await make();
    if (again.status === 409) throw this.#error('make collection', path, again);
  }

  async #resource(key: string, signal: AbortSignal | undefined): Promise<Resource | undefined> {
    const [found] = await this.#resources(key, '0', signal);
    return found;
  }

  /** Empty where nothing is there. */
  async #resources(key: string, depth: '0' | '1', signal: AbortSignal | undefined): Promise<readonly Resource[]> {
    const answer = await this.#request('PROPFIND', {
      what: depth === '0' ? 'look up' : 'list',
      key,
      headers: { depth, 'content-type': 'application/xml; charset=utf-8' },
      body: PROPERTIES,
      maxBody: MAX_LISTING,
      signal,
      accept: [404],
    });
    return answer.status === 404 ? [] : parseMultistatus(answer.body.toString('utf8'));
  }

  #path(key: string): string {
    return this.#base + encodeKey(key);
  }

  #error(what: string, key: string, answer: ExchangeAnswer): ObjectError {
    return s3Error(`could not ${what} ${key} (${this.description})`, answer, this.#clock.now());
  }

  async #request(method: ExchangeRequest['method'], request: Request): Promise<ExchangeAnswer> {
    const toSend = exchangeOf(request, {
      origin: this.#origin,
      method,
      path: request.path ?? this.#path(request.key ?? ''),
      headers: { ...request.headers, ...(this.#authorization ? { authorization: this.#authorization } : {}) },
      timeoutMs: this.#timeoutMs,
    });
    const answer = await (method === 'GET' ? this.#http.read(toSend) : this.#http.send(toSend));
    if (isAccepted(answer, request)) return answer;
    throw this.#error(request.what, request.path ?? request.key ?? '', answer);
  }
}

function requireKey(key: string): void {
  if (key === '' || key.split('/').some((part) => part === '' || part === '.' || part === '..'))
    throw new ObjectError('Invalid', `${JSON.stringify(key)} cannot be the key of an object on a WebDAV server`);
}

function decodePath(path: string): string {
  return decodeURIComponent(path);
}
