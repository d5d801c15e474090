/**
 * Objects as block blobs in an Azure container: JuiceFS's `wasb` (pkg/object/azure.go), over Azure's REST protocol.
 *
 * A listing has no way to begin behind a key: what lies before is listed and left out. Azure keeps no checksum of ours; TLS and its
 * own checks guard the bytes. Nothing is retried here: see retry.ts.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { type AzureAddress, signShared } from './azure-account.ts';
import { HttpClient } from './http-client.ts';
import type { ExchangeAnswer, ExchangeRequest } from './http-exchange.ts';
import { exchangeOf, infoOf, isAccepted, noBytes, type ObjectRequest, readRequest } from './object-request.ts';
import { s3Error } from './s3-error.ts';
import { elementText, unescapeXml } from './s3-xml.ts';
import { encodeKey, encodeQuery } from './sigv4.ts';
import { type GetOptions, ObjectError, type ObjectInfo, type ObjectStore, type PartLimits, type Upload } from './store.ts';

export interface AzureOptions {
  readonly address: AzureAddress;
  /** Access tier of blobs that are written (Hot, Cool, Cold). @default the account's */
  readonly storageClass?: string | undefined;
  /** One request, from dispatch to the last byte, milliseconds. @default 60000 */
  readonly timeoutMs?: number;
  /** Blobs in one page of a listing, at most 5000. @default 5000 */
  readonly pageSize?: number;
  readonly clock?: Clock;
}

/** Of the protocol; the oldest with blocks of 4000 MiB. */
const VERSION = '2019-12-12';
const MIB = 1024 * 1024;
const MAX_LIST_PAGE = 32 * MIB;

/** The id of a block: all ids of a blob have the same length. */
const blockId = (number: number): string => Buffer.from(String(number).padStart(8, '0')).toString('base64');

export class AzureObjectStore implements ObjectStore {
  readonly description: string;
  readonly partLimits: PartLimits = { minBytes: 1, maxBytes: 4000 * MIB, maxCount: 50_000 };
  readonly #address: AzureAddress;
  readonly #options: AzureOptions;
  readonly #clock: Clock;
  readonly #http: HttpClient;

  constructor(options: AzureOptions) {
    this.#address = options.address;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#http = new HttpClient(options.address.origin, { clock: this.#clock });
    this.description = `wasb://${options.address.container} at ${options.address.origin}`;
  }

  async create(signal?: AbortSignal): Promise<void> {
    const query = { restype: 'container' };
    const answer = await this.#request('PUT', { what: 'make container', key: '', query, signal, accept: [409] });
    const code = answer.headers['x-ms-error-code'] ?? elementText(answer.body.toString('utf8'), 'Code');
    if (answer.status !== 409 || code === 'ContainerAlreadyExists') return;
    throw s3Error(`could not make container ${this.#address.container} (${this.description})`, answer, this.#clock.now());
  }

  async put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    await this.#request('PUT', {
      what: 'write',
      key,
      body,
      headers: this.#blobHeaders({ 'x-ms-blob-type': 'BlockBlob' }),
      signal,
    });
  }

  #blobHeaders(more: Readonly<Record<string, string>>): Record<string, string> {
    const { storageClass } = this.#options;
    return { ...more, ...(storageClass ? { 'x-ms-access-tier': storageClass } : {}) };
  }

  async get(key: string, options: GetOptions = {}): Promise<Buffer> {
    const { length, into } = options;
    if (length === 0) return noBytes(into);
    const answer = await this.#request('GET', readRequest(key, options, 'x-ms-range'));
    return answer.status === 416 ? noBytes(into) : answer.body;
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const answer = await this.#request('HEAD', { what: 'look up', key, signal, accept: [404] });
    return answer.status === 404 ? undefined : infoOf(key, answer);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    await this.#request('DELETE', { what: 'delete', key, signal, accept: [404] });
  }

  async *list(
    prefix: string,
    options: { readonly after?: string; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    const { after, signal } = options;
    for (let marker = ''; ;) {
      const query = {
        restype: 'container',
        comp: 'list',
        prefix,
        maxresults: String(this.#options.pageSize ?? 5000),
        ...(marker === '' ? {} : { marker }),
      };
      const answer = await this.#request('GET', { what: 'list', key: '', query, maxBody: MAX_LIST_PAGE, signal });
      const page = parsePage(answer.body.toString('utf8'));
      for (const info of page.objects) if (after === undefined || info.key > after) yield info;
      if (page.next === '') return;
      marker = page.next;
    }
  }

  async upload(key: string): Promise<Upload> {
    const numbers = new Set<number>();
    return {
      part: async (number, body, signal) => {
        const query = { comp: 'block', blockid: blockId(number) };
        await this.#request('PUT', { what: `write part ${number + 1} of`, key, query, body, signal });
        numbers.add(number);
      },
      complete: async (signal) => {
        const ids = [...numbers].toSorted((a, b) => a - b).map((number) => `<Latest>${blockId(number)}</Latest>`);
        const body = Buffer.from(`<?xml version="1.0" encoding="utf-8"?><BlockList>${ids.join('')}</BlockList>`);
        const headers = this.#blobHeaders({ 'content-type': 'application/xml' });
        await this.#request('PUT', { what: 'complete', key, query: { comp: 'blocklist' }, headers, body, signal });
      },
      // Blocks without a list are not seen, and expire after a week.
      abort: async () => {},
    };
  }

  close(): Promise<void> {
    return this.#http.close();
  }

  async #request(method: ExchangeRequest['method'], request: ObjectRequest): Promise<ExchangeAnswer> {
    const { origin, basePath, container, sas } = this.#address;
    const path = `${basePath}/${container}${request.key === '' ? '' : `/${encodeKey(request.key)}`}`;
    const headers: Record<string, string> = {
      ...request.headers,
      'x-ms-version': VERSION,
      'x-ms-date': new Date(this.#clock.now()).toUTCString(),
    };
    // Sent by the client itself, and part of what is signed.
    const length = request.body?.length ?? 0;
    if (this.#address.account)
      headers['authorization'] = signShared(this.#address.account, { method, path, query: request.query ?? {}, headers, length });
    const query = [encodeQuery(request.query ?? {}), sas].filter(Boolean).join('&');
    const toSend = exchangeOf(request, {
      origin,
      method,
      path: query === '' ? path : `${path}?${query}`,
      headers,
      timeoutMs: this.#options.timeoutMs ?? 60_000,
    });
    const answer = await (method === 'GET' && request.key !== '' ? this.#http.read(toSend) : this.#http.send(toSend));
    if (isAccepted(answer, request)) return answer;
    throw s3Error(`could not ${request.what} ${request.key || container} (${this.description})`, answer, this.#clock.now());
  }
}

/** A page of List Blobs. Throws ObjectError `Unavailable` where the text is something else. */
function parsePage(xml: string): { readonly objects: readonly ObjectInfo[]; readonly next: string } {
  const invalid = (why: string): ObjectError =>
    new ObjectError('Unavailable', `the store's answer to a list request cannot be understood: ${why}`);
  if (!xml.includes('</EnumerationResults>')) throw invalid('it is not EnumerationResults');
  const objects: ObjectInfo[] = [];
  for (const [, content = ''] of xml.matchAll(/<Blob>([\s\S]*?)<\/Blob>/g)) {
    const [, encoded, name] = /<Name( Encoded="true")?>([^<]*)<\/Name>/.exec(content) ?? [];
    const size = Number(elementText(content, 'Content-Length') ?? Number.NaN);
    const modified = Date.parse(elementText(content, 'Last-Modified') ?? '');
    if (name === undefined || !Number.isSafeInteger(size)) throw invalid('an entry has no name or no size');
    const key = encoded ? decodeURIComponent(unescapeXml(name)) : unescapeXml(name);
    objects.push({ key, size, modified: Number.isNaN(modified) ? 0 : modified });
  }
  return { objects, next: elementText(xml, 'NextMarker') ?? '' };
}
