/** What a failed object means to a file: an errno. */
import { FsError, messageOf } from '../lib/errors.ts';
import { ObjectError } from '../object/store.ts';

/** ENOENT for a missing block, ENOSPC for a full store, EIO for the rest; aborts and FsErrors stay as they are. */
export function toFsError(error: unknown): Error {
  if (error instanceof FsError || (error instanceof Error && error.name === 'AbortError')) return error;
  if (error instanceof ObjectError) {
    if (error.code === 'NotFound') return new FsError('ENOENT', error.message, { cause: error });
    if (error.code === 'NoSpace') return new FsError('ENOSPC', error.message, { cause: error });
    return new FsError('EIO', error.message, { cause: error, retryable: error.retryable });
  }
  return new FsError('EIO', messageOf(error), { cause: error });
}

/** Waits for `promise`, but no longer than the signal lets us; the work itself goes on. */
export function abandonable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      promise.catch(() => undefined);
      reject(signal.reason as Error);
    };
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
