/**
 * One HTTP request whose answer goes where the caller wants it: a successful body straight into a buffer, chunk by chunk
 * as the socket gives it, without a stream in between; any other body is kept up to a bound, for the error's text.
 *
 * Invariant: once the promise is settled (answered, timed out or aborted) neither buffer is touched again.
 */
import type { Dispatcher } from 'undici';
import type { Clock } from '../lib/clock.ts';
import { AnswerBody } from './answer-body.ts';
import { ObjectError } from './store.ts';

export interface ExchangeRequest {
  readonly origin: string;
  readonly method: 'GET' | 'PUT' | 'HEAD' | 'DELETE' | 'POST' | 'PROPFIND' | 'MKCOL' | 'MOVE';
  /** With the query. */
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body?: Buffer;
  /** Takes the body of a 200 or 206. @default a new buffer */
  readonly into?: Buffer | undefined;
  /** What to take of the body of a 200 where a range was asked for and the server did not heed it. */
  readonly range?: { readonly offset: number; readonly length: number | undefined } | undefined;
  /** The longest body that is accepted where there is no `into`, bytes. */
  readonly maxBody: number;
  /** From dispatch to the last byte, milliseconds. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ExchangeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** A view of `into` for a 200 or 206 where it was given. */
  readonly body: Buffer;
}

/**
 * Sends the request. Fails with ObjectError `Timeout`, `Unavailable` (no connection, reset, body cut short) or `Invalid`
 * (more bytes than `into` or `maxBody` holds), or with the signal's reason.
 */
export function exchange(dispatcher: Dispatcher, clock: Clock, request: ExchangeRequest): Promise<ExchangeAnswer> {
  return new Promise((resolve, reject) => {
    const { signal } = request;
    let settled = false;
    let controller: Dispatcher.DispatchController | undefined;
    let status = 0;
    let headers: Readonly<Record<string, string | string[] | undefined>> = {};
    let body: AnswerBody | undefined;

    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      cancelTimer();
      signal?.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: Error): void => {
      if (!settle()) return;
      reject(error);
      controller?.abort(error);
    };
    const onAbort = (): void => fail(signal?.reason instanceof Error ? signal.reason : new DOMException('aborted', 'AbortError'));
    const cancelTimer = clock.timer(request.timeoutMs, () =>
      fail(new ObjectError('Timeout', `${request.origin} did not finish its answer within ${request.timeoutMs} ms`)),
    );
    if (signal?.aborted) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });

    try {
      dispatcher.dispatch(
        {
          origin: request.origin,
          method: request.method,
          path: request.path,
          headers: request.headers,
          body: request.body ?? null,
        },
        {
          onRequestStart(started) {
            controller = started;
            if (settled) started.abort(new ObjectError('Timeout', 'the request was given up before it began'));
          },
          onResponseStart(_controller, statusCode, responseHeaders) {
            if (statusCode < 200) return;
            status = statusCode;
            headers = responseHeaders;
            try {
              body = new AnswerBody(request, status, Number(responseHeaders['content-length'] ?? Number.NaN));
            } catch (error) {
              fail(error as ObjectError);
            }
          },
          onResponseData(_controller, chunk) {
            if (settled) return;
            try {
              body?.push(chunk);
            } catch (error) {
              fail(error as ObjectError);
            }
          },
          onResponseEnd() {
            if (settle()) resolve({ status, headers, body: body?.bytes ?? Buffer.alloc(0) });
          },
          onResponseError(_controller, error) {
            if (settle()) reject(describe(request.origin, error));
          },
        },
      );
    } catch (error) {
      // A header that cannot be sent, for one.
      fail(describe(request.origin, error instanceof Error ? error : new Error(String(error))));
    }
  });
}

/** The failure of a connection as the layers above act on it. */
export function describe(origin: string, error: Error): Error {
  if (error instanceof ObjectError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? error.name;
  const timeout = code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_CONNECT_TIMEOUT';
  return new ObjectError(
    timeout ? 'Timeout' : 'Unavailable',
    `no whole answer from ${origin}: ${error.message || code} (${code})`,
    {
      cause: error,
    },
  );
}
