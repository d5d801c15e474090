/**
 * Objects in an S3 bucket: our own signatures on every path, the AWS SDK only for its chain of credentials.
 *
 * As JuiceFS's driver (pkg/object/s3.go): payload unsigned, `Content-Type: application/octet-stream`, the CRC-32C of the
 * body in decimal as user metadata `crc32c`, verified when an object is read whole; ListObjectsV2 with URL encoding.
 * Nothing is retried here: see retry.ts. But the next attempt is made better: with other credentials after expired ones, in the region
 * that the store says the bucket is in, and with the store's time where ours was refused. Requests beyond the bound on connections are bounded by the callers: the chunk
 * layer's limits on uploads and downloads.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { crc32cOfPieces, crc32cPieces } from '../lib/crc32c.ts';
import { credentialSource, type CredentialSource } from './credentials.ts';
import { HttpClient } from './http-client.ts';
import type { ExchangeAnswer, ExchangeRequest } from './http-exchange.ts';
import { exchangeOf, infoOf, isAccepted, noBytes, type ObjectRequest, readRequest } from './object-request.ts';
import { regionOf, s3Error } from './s3-error.ts';
import { S3_PARTS, startUpload } from './s3-upload.ts';
import { type BucketAddress, inRegion } from './s3-url.ts';
import { parseListPage } from './s3-xml.ts';
import { encodeKey, encodeQuery, Signer } from './sigv4.ts';
import { CHECKSUM_PIECE, type GetOptions, ObjectError, type ObjectInfo, type ObjectStore, type Upload } from './store.ts';

export interface S3Options {
  readonly address: BucketAddress;
  readonly accessKey?: string | undefined;
  readonly secretKey?: string | undefined;
  readonly sessionToken?: string | undefined;
  /** Of the objects that are written. @default the bucket's */
  readonly storageClass?: string | undefined;
  /** One request, from dispatch to the last byte, milliseconds. @default 60000 */
  readonly timeoutMs?: number;
  /** @default 10000 */
  readonly connectTimeoutMs?: number;
  /** Connections at most, of reads, of writes and of everything else. @default 128 */
  readonly connections?: number;
  /** Keys in one page of a listing, at most 1000. @default 1000 */
  readonly pageSize?: number;
  readonly clock?: Clock;
}

const MAX_LIST_PAGE = 16 * 1024 * 1024;
const CHECKSUM = 'x-amz-meta-crc32c';

export class S3ObjectStore implements ObjectStore {
  readonly description: string;
  readonly partLimits = S3_PARTS;
  #address: BucketAddress;
  #http: HttpClient;
  readonly #options: S3Options;
  #signer: Signer;
  /** What the store's clock is ahead of ours, milliseconds; 0 until it refused ours. */
  #skewMs = 0;
  /** Of addresses that were left: what is under way there ends there. */
  readonly #left: HttpClient[] = [];
  readonly #credentials: CredentialSource;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #pageSize: number;

  constructor(options: S3Options) {
    this.#address = options.address;
    this.description = `s3://${options.address.bucket} at ${options.address.origin}`;
    this.#clock = options.clock ?? systemClock;
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.#pageSize = options.pageSize ?? 1000;
    this.#signer = new Signer(options.address.region);
    this.#credentials = credentialSource(options, options.address.region);
    this.#options = options;
    this.#http = this.#connectTo(options.address.origin);
  }

  #connectTo(origin: string): HttpClient {
    const { connections, connectTimeoutMs } = this.#options;
    return new HttpClient(origin, {
      ...(connections === undefined ? {} : { connections }),
      ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
      clock: this.#clock,
    });
  }

  async create(signal?: AbortSignal): Promise<void> {
    const { region, bucket } = this.#address;
    const found = await this.#request('HEAD', { what: 'look for bucket', key: '', signal, accept: [404] });
    if (found.status !== 404) return;
    const body =
      region === 'us-east-1'
        ? {}
        : {
            body: Buffer.from(
              `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>${region}</LocationConstraint></CreateBucketConfiguration>`,
            ),
          };
    const made = await this.#request('PUT', { what: `make bucket ${bucket} for`, key: '', signal, accept: [409], ...body });
    if (made.status !== 409) return;
    // 409: someone made it meanwhile; ours where we may look into it.
    await this.#request('HEAD', { what: 'look for bucket', key: '', signal });
  }

  async put(key: string, body: Buffer, signal?: AbortSignal): Promise<void> {
    const headers = this.#objectHeaders();
    if (this.#address.checksum)
      headers[CHECKSUM] = String(crc32cOfPieces(body, CHECKSUM_PIECE, crc32cPieces(body, CHECKSUM_PIECE)));
    await this.#request('PUT', { what: 'write', key, body, headers, signal });
  }

  upload(key: string, signal?: AbortSignal): Promise<Upload> {
    return startUpload(
      (method, request) => this.#request(method, request),
      key,
      this.#objectHeaders(),
      async (headSignal) => (await this.head(key, headSignal)) !== undefined,
      signal,
    );
  }

  #objectHeaders(): Record<string, string> {
    const { storageClass } = this.#options;
    return {
      'content-type': 'application/octet-stream',
      ...(storageClass ? { 'x-amz-storage-class': storageClass } : {}),
    };
  }

  async get(key: string, options: GetOptions = {}): Promise<Buffer> {
    const { length, into, onSums } = options;
    if (length === 0) return noBytes(into);
    const request = readRequest(key, options);
    const answer = await this.#request('GET', request);
    if (answer.status === 416) return noBytes(into);
    const checksum = answer.headers[CHECKSUM];
    if (!request.range && this.#address.checksum && typeof checksum === 'string' && /^\d+$/.test(checksum)) {
      const sums = crc32cPieces(answer.body, CHECKSUM_PIECE);
      const found = crc32cOfPieces(answer.body, CHECKSUM_PIECE, sums);
      if (found !== Number(checksum))
        throw new ObjectError(
          'Corrupt',
          `object ${key} of ${this.description} has CRC-32C ${found}, but was written with ${checksum} (${answer.body.length} bytes)`,
          { retryable: true },
        );
      onSums?.(sums);
    }
    return answer.body;
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
    const answer = await this.#request('HEAD', { what: 'look up', key, signal, accept: [404] });
    return answer.status === 404 ? undefined : infoOf(key, answer);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#request('DELETE', { what: 'delete', key, signal });
    } catch (error) {
      if (!(error instanceof ObjectError) || error.code !== 'NotFound') throw error;
    }
  }

  list(prefix: string, options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<ObjectInfo> {
    return this.#list(prefix, {}, options);
  }

  level(prefix: string, options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<ObjectInfo> {
    return this.#list(prefix, { delimiter: '/' }, options);
  }

  async *#list(
    prefix: string,
    more: Readonly<Record<string, string>>,
    options: { readonly after?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<ObjectInfo> {
    let token: string | undefined;
    do {
      const query: Record<string, string> = {
        'list-type': '2',
        'encoding-type': 'url',
        'max-keys': String(this.#pageSize),
        prefix,
        ...more,
        ...(token !== undefined ? { 'continuation-token': token } : options.after ? { 'start-after': options.after } : {}),
      };
      const answer = await this.#request('GET', {
        what: 'list',
        key: '',
        query,
        maxBody: MAX_LIST_PAGE,
        signal: options.signal,
      });
      const page = parseListPage(answer.body.toString('utf8'));
      yield* page.objects;
      token = page.next;
    } while (token !== undefined);
  }

  async close(): Promise<void> {
    await Promise.all([this.#http, ...this.#left.splice(0)].map((client) => client.close()));
  }

  /** Makes what it can of a refusal for the next attempt. True where that may be another answer. */
  #learn(answer: ExchangeAnswer, error: ObjectError): boolean {
    if (error.keysRefused && error.retryable) this.#credentials.expired();
    const region = regionOf(answer);
    if (region !== undefined && region !== this.#address.region && (answer.status !== 403 || !error.keysRefused)) {
      const { origin } = this.#address;
      this.#address = inRegion(this.#address, region);
      this.#signer = new Signer(region);
      if (this.#address.origin !== origin) {
        this.#left.push(this.#http);
        this.#http = this.#connectTo(this.#address.origin);
      }
      return true;
    }
    if (error.message.includes('RequestTimeTooSkewed')) {
      const theirs = Date.parse(String(answer.headers['date']));
      if (!Number.isNaN(theirs)) this.#skewMs = theirs - this.#clock.now();
    }
    return false;
  }

  async #request(method: ExchangeRequest['method'], request: ObjectRequest): Promise<ExchangeAnswer> {
    const { origin, host, pathPrefix } = this.#address;
    const path = request.key === '' && pathPrefix.length > 1 ? pathPrefix.slice(0, -1) : pathPrefix + encodeKey(request.key);
    const query = request.query ? encodeQuery(request.query) : '';
    const pending = this.#credentials.get();
    const credentials = pending instanceof Promise ? await pending : pending;
    const { range: rangeHeader, ...toSign } = request.headers ?? {};
    const headers = credentials
      ? this.#signer.sign({ method, host, path, query, headers: toSign }, credentials, this.#clock.now() + this.#skewMs)
      : toSign;
    if (rangeHeader !== undefined) headers['range'] = rangeHeader;
    const toSend = exchangeOf(request, {
      origin,
      method,
      path: query === '' ? path : `${path}?${query}`,
      headers,
      timeoutMs: this.#timeoutMs,
    });
    const answer = await (method === 'GET' && request.key !== '' ? this.#http.read(toSend) : this.#http.send(toSend));
    if (isAccepted(answer, request)) return answer;
    const error = s3Error(
      `could not ${request.what} ${request.key || this.#address.bucket} (${this.description})`,
      answer,
      this.#clock.now(),
    );
    if (!this.#learn(answer, error)) throw error;
    throw new ObjectError('Unavailable', error.message, { cause: error, status: answer.status });
  }
}
