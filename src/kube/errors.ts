/**
 * What the API server refuses, and what a reconciler means by "do not try again".
 *
 * `ApiError` carries the fields of a `meta/v1 Status`; callers decide on `code` and `reason` through the predicates below,
 * never on message text. A failure to reach the server at all is an `ApiError` too, with `code` 0.
 */
import { messageOf } from '../lib/errors.ts';

/** One cause of an Invalid or Conflict answer. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  /** Path of the field, for Invalid; of the conflicting field, for server-side apply. */
  readonly field?: string;
}

/** `meta/v1 Status`, the parts that are read. */
export interface Status {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly name?: string;
    readonly kind?: string;
    readonly causes?: readonly StatusCause[];
    readonly retryAfterSeconds?: number;
  };
}

export interface ApiErrorOptions extends ErrorOptions {
  readonly reason?: string;
  readonly details?: Status['details'];
  /** From Retry-After or the details, milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/** The API server answered with a failure, or could not be reached (`code` 0). */
export class ApiError extends Error {
  override readonly name: string = 'ApiError';
  /** HTTP status, 0 where there was no answer. */
  readonly code: number;
  /** `Status.reason`, e.g. "NotFound"; "Unreachable" or "Timeout" for code 0. */
  readonly reason: string;
  readonly details: Status['details'];
  readonly retryAfterMs: number | undefined;
  /** True where the same call may succeed later without a change. */
  readonly retryable: boolean;

  constructor(code: number, message: string, options: ApiErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.reason = options.reason ?? '';
    this.details = options.details;
    this.retryAfterMs = options.retryAfterMs ?? secondsToMs(options.details?.retryAfterSeconds);
    this.retryable = code === 0 || code === 409 || code === 429 || code >= 500;
  }
}

function secondsToMs(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}

/** The error that an answer of the API server stands for. `body` may be a Status, other JSON, or text of a proxy. */
export function apiErrorFrom(code: number, body: string, what: string, retryAfterMs?: number): ApiError {
  let status: Status = {};
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) status = parsed as Status;
  } catch {
    status = { message: body.slice(0, 200) };
  }
  const found = status.message ? `: ${status.message}` : '';
  return new ApiError(code, `${what} answered ${code}${status.reason ? ` ${status.reason}` : ''}${found}`, {
    reason: status.reason ?? '',
    ...(status.details ? { details: status.details } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** The error of an ERROR event inside a watch. */
export function apiErrorFromStatus(status: Status, what: string): ApiError {
  return new ApiError(status.code ?? 500, `${what}: ${status.message ?? status.reason ?? 'the watch failed'}`, {
    reason: status.reason ?? '',
    ...(status.details ? { details: status.details } : {}),
  });
}

const has = (error: unknown, code: number): boolean => error instanceof ApiError && error.code === code;

/** 403: this account may not do that. */
export const isForbidden = (error: unknown): boolean => has(error, 403);
/** 404: the object, the namespace or the kind is not there. */
export const isNotFound = (error: unknown): boolean => has(error, 404);
/** 409 on a write: someone else changed it, or owns the field. */
export const isConflict = (error: unknown): boolean => has(error, 409) && (error as ApiError).reason !== 'AlreadyExists';
/** 409 on create: the name is taken. */
export const isAlreadyExists = (error: unknown): boolean => has(error, 409) && (error as ApiError).reason === 'AlreadyExists';
/** 410: the resource version or the continue token is compacted away. */
export const isGone = (error: unknown): boolean => has(error, 410);
/** 422: refused by the schema, CEL, or the `test` of a JSON Patch. */
export const isInvalid = (error: unknown): boolean => has(error, 422);
/** The cache of the API server has not reached the version asked for; a list without a version cures it. */
export const isTooLargeResourceVersion = (error: unknown): boolean =>
  error instanceof ApiError &&
  (error.details?.causes?.some((cause) => cause.reason === 'ResourceVersionTooLarge') === true ||
    (error.code === 504 && error.message.includes('Too large resource version')));

/**
 * Thrown by a reconciler where trying again cannot help until the object or its surroundings change. The controller counts
 * it and waits for the next event or resync instead of backing off.
 */
export class TerminalError extends Error {
  override readonly name = 'TerminalError';
  /** A condition reason, CamelCase. */
  readonly code: string;
  readonly retryable = false;

  constructor(code: string, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
  }
}

/** Marks any thrown thing as terminal, keeping it as the cause. */
export function terminal(code: string, cause: unknown): TerminalError {
  return new TerminalError(code, messageOf(cause), { cause });
}

/** A write was tried by a process that no longer is, or cannot be sure to be, the leader. */
export class NotLeadingError extends Error {
  override readonly name = 'NotLeadingError';
  readonly code = 'NotLeading';
  readonly retryable = false;
}
