/** What the stores that are spoken to by HTTP have in common: how a call becomes a request, and what its answer says. */
import type { ExchangeAnswer, ExchangeRequest } from './http-exchange.ts';
import type { GetOptions, ObjectInfo } from './store.ts';

/** An object read without a buffer given is at most this long; blocks are at most 16 MiB and a little. */
const MAX_OBJECT = 64 * 1024 * 1024;

export interface ObjectRequest {
  /** What is done, for an error: `read`, `make container`. */
  readonly what: string;
  /** Empty for what holds the objects. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  readonly into?: Buffer | undefined;
  readonly range?: ExchangeRequest['range'];
  /** @default MAX_OBJECT */
  readonly maxBody?: number;
  readonly signal?: AbortSignal | undefined;
  /** Statuses that are answers and not errors, besides 2xx. */
  readonly accept?: readonly number[];
}

/** No bytes of an object, where the caller wants them. */
export const noBytes = (into: Buffer | undefined): Buffer => (into ?? Buffer.alloc(0)).subarray(0, 0);

/** The request for an object, or a range of it (`range` names the header that says which). 416, nothing lies there, is an answer. */
export function readRequest(key: string, options: GetOptions, range: 'range' | 'x-ms-range' = 'range'): ObjectRequest {
  const { offset = 0, length, into, signal } = options;
  const whole = offset === 0 && length === undefined;
  const last = length === undefined ? '' : offset + length - 1;
  return {
    what: 'read',
    key,
    ...(whole ? {} : { headers: { [range]: `bytes=${offset}-${last}` }, range: { offset, length } }),
    into,
    maxBody: length ?? MAX_OBJECT,
    signal,
    accept: [416],
  };
}

/** The exchange that a request is, sent to `where`. */
export function exchangeOf(
  request: Omit<ObjectRequest, 'what' | 'key'>,
  where: Pick<ExchangeRequest, 'origin' | 'method' | 'path' | 'headers' | 'timeoutMs'>,
): ExchangeRequest {
  const { body, into, range, maxBody = MAX_OBJECT, signal } = request;
  return { ...where, ...(body ? { body } : {}), into, range, maxBody, signal };
}

/** Whether an answer is one, and no refusal. */
export function isAccepted({ status }: ExchangeAnswer, { accept }: Pick<ObjectRequest, 'accept'>): boolean {
  return (status >= 200 && status < 300) || (accept?.includes(status) ?? false);
}

/** What the answer to a HEAD says of an object. */
export function infoOf(key: string, { headers }: ExchangeAnswer): ObjectInfo {
  const modified = Date.parse(String(headers['last-modified']));
  return { key, size: Number(headers['content-length'] ?? 0), modified: Number.isNaN(modified) ? 0 : modified };
}
