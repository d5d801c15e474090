/**
 * A store whose traffic is limited: bytes of objects per second, each way, for all that share the buckets. What is sent again
 * after a failure is counted too (see `onRetry` in retry.ts), without making the attempt wait. Deletes, listings and heads
 * carry no bodies and are not limited, so that what is to be released always can be.
 *
 * A limit may be set, changed and lifted while transfers wait. Bound of a wait: the bytes of the transfers before it (their
 * number is bounded by --max-uploads and --max-downloads) at the rate.
 *
 * Source: JuiceFS, --upload-limit, --download-limit and the format's UploadLimit and DownloadLimit: Mbit/s, of which 85 % are
 * left to bodies (the rest is what HTTP, TCP and IP cost), and a tenth of a second may be saved up.
 */
import type { Clock } from '../lib/clock.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { type GetOptions, ObjectError, type ObjectStore } from './store.ts';
import { uploadsOf } from './uploads.ts';

/** The part of JuiceFS's limits that bodies may use. */
const BODY_SHARE = 0.85;

/** Bytes of bodies per second for a limit in Mbit/s as JuiceFS counts it. 0 is no limit. */
export const bytesOfMbps = (mbps: number): number => ((mbps * 1e6) / 8) * BODY_SHARE;

export interface TransferLimit {
  readonly upload: TokenBucket;
  readonly download: TokenBucket;
}

const burstOf = (bytesPerSecond: number): number => bytesPerSecond / 10;

/** Limits in bytes per second; 0 is none, and may become one later. */
export function transferLimit(rates: { readonly upload: number; readonly download: number }, clock: Clock): TransferLimit {
  const bucket = (rate: number): TokenBucket => new TokenBucket({ rate, burst: burstOf(rate), clock });
  return { upload: bucket(rates.upload), download: bucket(rates.download) };
}

/** Changes the limits, bytes per second; transfers that wait go on at the new ones. */
export function setTransferLimit(limit: TransferLimit, rates: { readonly upload: number; readonly download: number }): void {
  limit.upload.setRate(rates.upload, burstOf(rates.upload));
  limit.download.setRate(rates.download, burstOf(rates.download));
}

/** The buckets are asked for with each transfer: which ones they are may change. */
export function withLimit(store: ObjectStore, limit: TransferLimit): ObjectStore {
  const get = async (key: string, options: GetOptions | undefined, download: TokenBucket, expected: number) => {
    await download.take(expected, 0, options?.signal);
    let body: Buffer;
    try {
      body = await store.get(key, options);
    } catch (error) {
      // A refusal has no body.
      if (error instanceof ObjectError && !error.retryable) download.charge(-expected);
      throw error;
    }
    // Whoever is not sure of the size gives a larger buffer.
    if (body.length !== expected) download.charge(body.length - expected);
    return body;
  };
  const put = async (key: string, body: Buffer, signal: AbortSignal | undefined, wait: Promise<void>): Promise<void> => {
    await wait;
    return store.put(key, body, signal);
  };
  return {
    description: store.description,
    ...(store.wholeReads ? { wholeReads: true } : {}),
    create: (signal) => store.create(signal),
    put(key, body, signal) {
      const wait = limit.upload.take(body.length, 0, signal);
      return wait ? put(key, body, signal, wait) : store.put(key, body, signal);
    },
    get(key, options) {
      const { download } = limit;
      if (download.rate === 0) return store.get(key, options);
      const expected = options?.length ?? options?.into?.length ?? 0;
      return get(key, options, download, expected);
    },
    head: (key, signal) => store.head(key, signal),
    delete: (key, signal) => store.delete(key, signal),
    list: (prefix, options) => store.list(prefix, options),
    ...uploadsOf(store, (upload) => ({
      async part(number, body, signal) {
        await limit.upload.take(body.length, 0, signal);
        return upload.part(number, body, signal);
      },
    })),
    close: () => store.close(),
  };
}
