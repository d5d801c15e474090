/** What an HTTP status and an error code of S3 or Azure mean to us. Source: Amazon S3 API Reference, "Error responses". */
import { elementText } from './s3-xml.ts';
import { ObjectError, type ObjectErrorCode } from './store.ts';

interface Meaning {
  readonly code: ObjectErrorCode;
  readonly retryable?: boolean;
  readonly keysRefused?: boolean;
}

const byCode: Readonly<Record<string, Meaning>> = {
  NoSuchKey: { code: 'NotFound' },
  NoSuchBucket: { code: 'NoSuchBucket' },
  AccessDenied: { code: 'AccessDenied' },
  InvalidAccessKeyId: { code: 'AccessDenied', keysRefused: true },
  SignatureDoesNotMatch: { code: 'AccessDenied', keysRefused: true },
  InvalidToken: { code: 'AccessDenied', keysRefused: true },
  // New credentials are fetched for the next attempt.
  ExpiredToken: { code: 'AccessDenied', retryable: true, keysRefused: true },
  SlowDown: { code: 'Throttled' },
  RequestLimitExceeded: { code: 'Throttled' },
  RequestTimeout: { code: 'Timeout' },
  OperationAborted: { code: 'Unavailable' },
  // The next attempt is signed with the store's time.
  RequestTimeTooSkewed: { code: 'Unavailable' },
  XMinioStorageFull: { code: 'NoSpace' },
  QuotaExceeded: { code: 'NoSpace' },
  // Azure's: "Blob service error codes".
  BlobNotFound: { code: 'NotFound' },
  ContainerNotFound: { code: 'NoSuchBucket' },
  ContainerBeingDeleted: { code: 'Unavailable' },
  ServerBusy: { code: 'Throttled' },
  OperationTimedOut: { code: 'Timeout' },
  AuthenticationFailed: { code: 'AccessDenied', keysRefused: true },
};

function byStatus(status: number): Meaning {
  if (status === 404) return { code: 'NotFound' };
  if (status === 401 || status === 403) return { code: 'AccessDenied' };
  if (status === 408) return { code: 'Timeout' };
  // 423: another writer of the same folder, on a WebDAV server.
  if (status === 409 || status === 423) return { code: 'Unavailable' };
  if (status === 429) return { code: 'Throttled' };
  if (status === 507) return { code: 'NoSpace' };
  if (status >= 500 && status !== 501) return { code: 'Unavailable' };
  return { code: 'Invalid' };
}

/** Retry-After in milliseconds: seconds or a date; undefined where there is none or nonsense. */
function retryAfter(header: string | string[] | undefined, now: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** The region that a refusal says the bucket is in: the request was signed for another, or went to another's address. */
export function regionOf(answer: {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}): string | undefined {
  if (![301, 307, 400, 403].includes(answer.status)) return undefined;
  const told = answer.headers['x-amz-bucket-region'];
  if (typeof told === 'string' && told !== '') return told;
  return elementText(answer.body.toString('utf8'), 'Region') || undefined;
}

/** The error for an answer that is not a success. `what` begins the sentence: "could not read chunks/… from s3://b". */
export function s3Error(
  what: string,
  answer: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string | string[] | undefined>>;
    readonly body: Buffer;
  },
  now: number,
): ObjectError {
  const text = answer.body.toString('utf8');
  const told = answer.headers['x-ms-error-code'];
  const code = elementText(text, 'Code') ?? (typeof told === 'string' ? told : undefined);
  const message = elementText(text, 'Message')?.slice(0, 200);
  const meaning = (code === undefined ? undefined : byCode[code]) ?? byStatus(answer.status);
  const region = regionOf(answer);
  const said = [String(answer.status), code, message && `(${message})`].filter(Boolean).join(' ');
  const elsewhere =
    region !== undefined && (answer.status !== 403 || code === 'AuthorizationHeaderMalformed')
      ? `; the bucket is in region ${region}`
      : code === 'RequestTimeTooSkewed'
        ? `; the clocks of this machine (${new Date(now).toISOString()}) and of the store (${String(answer.headers['date'] ?? 'not told')}) differ`
        : '';
  const wait = retryAfter(answer.headers['retry-after'], now);
  return new ObjectError(meaning.code, `${what}: ${said}${elsewhere}`, {
    status: answer.status,
    ...(meaning.retryable === undefined ? {} : { retryable: meaning.retryable }),
    ...(meaning.keysRefused ? { keysRefused: true } : {}),
    ...(wait === undefined ? {} : { retryAfterMs: wait }),
  });
}
