/**
 * AWS Signature Version 4 for S3, headers only, payload unsigned (`UNSIGNED-PAYLOAD`, as JuiceFS's driver signs).
 *
 * Source: AWS General Reference, "Create a signed AWS API request". S3 differs from the other services in that the path
 * is encoded once. The signing key changes once a day and is kept, so a signature costs one SHA-256 and one HMAC.
 */
import { createHmac, hash } from 'node:crypto';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD';

export interface SignableRequest {
  readonly method: string;
  /** Host with port, as the Host header will have it. */
  readonly host: string;
  /** Encoded path, beginning with `/`. */
  readonly path: string;
  /** Encoded and sorted query, without `?`. */
  readonly query: string;
  /** Further headers to sign; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Encodes as RFC 3986 wants it: all but unreserved characters. */
function encodeComponent(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

const PLAIN_KEY = /^[A-Za-z0-9/_.~-]*$/;

/** A key as part of a path: every segment encoded, slashes left. */
export function encodeKey(key: string): string {
  return PLAIN_KEY.test(key) ? key : key.split('/').map(encodeComponent).join('/');
}

/** Parameters as a query in the order that signing wants. */
export function encodeQuery(parameters: Readonly<Record<string, string>>): string {
  return Object.entries(parameters)
    .map(([name, value]) => [encodeComponent(name), encodeComponent(value)] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** `20260102T030405Z` for a time in milliseconds since the epoch. */
function amzDate(now: number): string {
  return `${new Date(now).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** A block of SHA-256 and a digest, bytes. */
const BLOCK = 64;
const DIGEST = 32;

/**
 * HMAC-SHA-256 with one key many times (RFC 2104: the hash of the key over the hash of the key and the text): two calls that
 * hash all at once are a third of what an Hmac object costs.
 */
class Hmac {
  #inner = Buffer.alloc(BLOCK + 1024);
  readonly #outer = Buffer.alloc(BLOCK + DIGEST);

  constructor(key: Buffer) {
    for (let at = 0; at < BLOCK; at++) {
      this.#inner[at] = (key[at] ?? 0) ^ 0x36;
      this.#outer[at] = (key[at] ?? 0) ^ 0x5c;
    }
  }

  hex(text: string): string {
    const room = BLOCK + text.length * 3;
    if (room > this.#inner.length) this.#inner = Buffer.concat([this.#inner.subarray(0, BLOCK)], room);
    const end = BLOCK + this.#inner.write(text, BLOCK);
    hash('sha256', this.#inner.subarray(0, end), 'buffer').copy(this.#outer, BLOCK);
    return hash('sha256', this.#outer, 'hex');
  }
}

/** Signs requests for one region; keeps the day's key. */
export class Signer {
  readonly #region: string;
  #day = '';
  #keyFor = '';
  #key = new Hmac(Buffer.alloc(0));

  constructor(region: string) {
    this.#region = region;
  }

  /** All headers to send, those given included, less `host`. `now` is milliseconds since the epoch. */
  sign(request: SignableRequest, credentials: Credentials, now: number): Record<string, string> {
    const date = amzDate(now);
    const day = date.slice(0, 8);
    const headers: Record<string, string> = {
      ...request.headers,
      'x-amz-content-sha256': UNSIGNED_PAYLOAD,
      'x-amz-date': date,
    };
    if (credentials.sessionToken) headers['x-amz-security-token'] = credentials.sessionToken;
    const signed: Record<string, string> = { ...headers, host: request.host };
    const names = Object.keys(signed).toSorted();
    let canonicalHeaders = '';
    for (const name of names) canonicalHeaders += `${name}:${signed[name]!.trim()}\n`;
    const signedHeaders = names.join(';');
    const canonical = `${request.method}\n${request.path}\n${request.query}\n${canonicalHeaders}\n${signedHeaders}\n${UNSIGNED_PAYLOAD}`;
    const scope = `${day}/${this.#region}/s3/aws4_request`;
    const digest = hash('sha256', canonical, 'hex');
    const signature = this.#signingKey(day, credentials.secretAccessKey).hex(`AWS4-HMAC-SHA256\n${date}\n${scope}\n${digest}`);
    headers['authorization'] =
      `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`;
    return headers;
  }

  #signingKey(day: string, secret: string): Hmac {
    if (this.#day !== day || this.#keyFor !== secret) {
      this.#key = new Hmac(hmac(hmac(hmac(hmac(`AWS4${secret}`, day), this.#region), 's3'), 'aws4_request'));
      this.#day = day;
      this.#keyFor = secret;
    }
    return this.#key;
  }
}
