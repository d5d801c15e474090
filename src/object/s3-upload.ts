/**
 * An object written to S3 in parts. Source: Amazon S3 API Reference, CreateMultipartUpload, UploadPart, CompleteMultipartUpload
 * (which may answer 200 and then say in the body that it failed) and AbortMultipartUpload.
 */
import type { ExchangeAnswer, ExchangeRequest } from './http-exchange.ts';
import { elementText } from './s3-xml.ts';
import { ObjectError, type PartLimits, type Upload } from './store.ts';

const MIB = 1024 * 1024;
/** Source: Amazon S3 User Guide, "Multipart upload limits". */
export const S3_PARTS: PartLimits = { minBytes: 5 * MIB, maxBytes: 5 * 1024 * MIB, maxCount: 10_000 };

export interface UploadRequest {
  readonly what: string;
  readonly key: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  readonly signal?: AbortSignal | undefined;
  readonly accept?: readonly number[];
}

/** Sends a signed request; fails as the store's own requests do. */
export type Send = (method: ExchangeRequest['method'], request: UploadRequest) => Promise<ExchangeAnswer>;

const escaped = (text: string): string => text.replaceAll(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

/** Begins an upload of `key`; `headers` are those of the object, `exists` looks whether it is there. */
export async function startUpload(
  send: Send,
  key: string,
  headers: Readonly<Record<string, string>>,
  exists: (signal: AbortSignal | undefined) => Promise<boolean>,
  signal: AbortSignal | undefined,
): Promise<Upload> {
  const begun = await send('POST', { what: 'begin to write', key, query: { uploads: '' }, headers, signal });
  const id = elementText(begun.body.toString('utf8'), 'UploadId');
  if (!id) throw new ObjectError('Unavailable', `the store's answer to the beginning of a write of ${key} has no upload id`);
  const etags = new Map<number, string>();
  let completed = false;
  let asked = false;
  return {
    async part(number, body, partSignal) {
      const query = { partNumber: String(number + 1), uploadId: id };
      const answer = await send('PUT', { what: `write part ${number + 1} of`, key, query, body, signal: partSignal });
      const etag = answer.headers['etag'];
      if (typeof etag !== 'string' || etag === '')
        throw new ObjectError('Unavailable', `the store took part ${number + 1} of ${key} but named no ETag`);
      etags.set(number, etag);
    },
    async complete(completeSignal) {
      const parts = [...etags]
        .toSorted(([a], [b]) => a - b)
        .map(([number, etag]) => `<Part><PartNumber>${number + 1}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`);
      const body = Buffer.from(
        `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`,
      );
      const query = { uploadId: id };
      const again = asked;
      asked = true;
      const answer = await send('POST', {
        what: 'complete',
        key,
        query,
        body,
        signal: completeSignal,
        accept: again ? [404] : [],
      });
      if (answer.status === 404) {
        // The upload is no more: an earlier call completed it, and its answer was lost.
        if (!(await exists(completeSignal))) throw new ObjectError('NotFound', `the parts of ${key} are gone from the store`);
        completed = true;
        return;
      }
      const text = answer.body.toString('utf8');
      if (/<Error[\s>]/.test(text))
        throw new ObjectError(
          'Unavailable',
          `could not complete ${key}: ${elementText(text, 'Code') ?? 'no reason'} (${elementText(text, 'Message')?.slice(0, 200) ?? ''})`,
        );
      completed = true;
    },
    async abort() {
      if (completed) return;
      await send('DELETE', { what: 'drop the parts of', key, query: { uploadId: id }, accept: [404] }).catch(() => undefined);
    },
  };
}
