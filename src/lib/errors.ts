/**
 * The two kinds of error the project throws on purpose.
 *
 * `FsError` is what a file-system call answers: an errno plus the sentence for the log. `UserError` is what a person is
 * shown: what was wanted, what was found, what to do; the command line prints it without a stack and exits with 1.
 * Everything else is a defect. Layers may subclass; they keep `code`, `retryable` and `cause`.
 */
import { constants } from 'node:os';

/** Linux errno numbers by name, positive. */
export const errno = { ...constants.errno, ENODATA: 61, ENOATTR: 61, ENOTSUP: 95, EDQUOT: 122, ESTALE: 116 } as const;
export type ErrnoName = keyof typeof errno;

// Of two names for one number the first counts: EAGAIN, ENODATA, ENOTSUP.
const nameOf = new Map<number, string>(
  Object.entries(errno)
    .toReversed()
    .map(([name, value]) => [value, name]),
);

/** The name of an errno number ("ENOENT"), or "errno 123". */
export function errnoName(value: number): string {
  return nameOf.get(value) ?? `errno ${value}`;
}

export interface ErrorOptionsWithRetry extends ErrorOptions {
  /** True where the same call may succeed later without a change. @default false */
  readonly retryable?: boolean;
}

/** What programs are answered all day long; where it came about does not matter to anybody, and to find out takes longer than the call. */
const everyday: ReadonlySet<ErrnoName> = new Set(['ENOENT', 'ENODATA', 'EEXIST']);

/** A file-system call failed with an errno. */
export class FsError extends Error {
  override readonly name: string = 'FsError';
  readonly code: ErrnoName;
  readonly errno: number;
  readonly retryable: boolean;

  constructor(code: ErrnoName, message?: string, options: ErrorOptionsWithRetry = {}) {
    const frames = Error.stackTraceLimit;
    if (everyday.has(code)) Error.stackTraceLimit = 0;
    super(message ? `${code}: ${message}` : code, options);
    Error.stackTraceLimit = frames;
    this.code = code;
    this.errno = errno[code];
    this.retryable = options.retryable ?? false;
  }
}

/** Something a person asked for cannot be done as asked; the message is for them. */
export class UserError extends Error {
  override readonly name: string = 'UserError';
  readonly code: string;
  readonly retryable: boolean;
  /** What to do about it, shown on a line of its own. */
  readonly hint: string | undefined;

  constructor(code: string, message: string, options: ErrorOptionsWithRetry & { readonly hint?: string } = {}) {
    super(message, options);
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
  }
}

/** The errno that a failed call answers: an FsError's own, a Node system error's, EINTR for an abort, else EIO. */
export function toErrno(error: unknown): number {
  if (error instanceof FsError) return error.errno;
  if (error instanceof Error) {
    if (error.name === 'AbortError') return errno.EINTR;
    const code = (error as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && code in errno) return errno[code as ErrnoName];
  }
  return errno.EIO;
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
