/**
 * The limits of one client, and which of them apply to a volume: what the client was told itself (policy, command line), shared by
 * all its volumes; where it was told nothing, what the volume's format says, followed while it is mounted. As JuiceFS has it.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { Format } from '../meta/format.ts';
import { operationLimit, withOperationLimit } from '../meta/limit.ts';
import type { Meta } from '../meta/types.ts';
import { bytesOfMbps, setTransferLimit, type TransferLimit, transferLimit, withLimit } from '../object/limit.ts';
import type { ObjectStore } from '../object/store.ts';

export interface LimitRates {
  /** Bytes of objects per second. Absent or 0: as the volume's format says. */
  readonly uploadLimit?: number | undefined;
  readonly downloadLimit?: number | undefined;
  /** Operations on names and attributes per second. Absent or 0: no limit. */
  readonly maxMetadataOps?: number | undefined;
}

export interface ClientLimits {
  readonly upload: TokenBucket | undefined;
  readonly download: TokenBucket | undefined;
  readonly operations: TokenBucket | undefined;
}

/** The limits that all volumes of a client share. */
export function clientLimits(rates: LimitRates, clock: Clock = systemClock): ClientLimits {
  const { upload, download } = transferLimit({ upload: rates.uploadLimit ?? 0, download: rates.downloadLimit ?? 0 }, clock);
  return {
    upload: upload.rate > 0 ? upload : undefined,
    download: download.rate > 0 ? download : undefined,
    operations: rates.maxMetadataOps ? operationLimit(rates.maxMetadataOps, clock) : undefined,
  };
}

const ratesOf = (format: Format) => ({
  upload: bytesOfMbps(format.uploadLimit),
  download: bytesOfMbps(format.downloadLimit),
});

export class VolumeLimits {
  readonly #client: ClientLimits | undefined;
  readonly #own: TransferLimit;
  readonly #used: TransferLimit;

  constructor(client: ClientLimits | undefined, format: Format, clock: Clock = systemClock) {
    this.#client = client;
    this.#own = transferLimit(ratesOf(format), clock);
    this.#used = { upload: client?.upload ?? this.#own.upload, download: client?.download ?? this.#own.download };
  }

  /** Bytes per second in each direction; 0 is no limit. */
  get rates(): { readonly upload: number; readonly download: number } {
    return { upload: this.#used.upload.rate, download: this.#used.download.rate };
  }

  /** The volume's format may have changed. */
  follow(format: Format): void {
    setTransferLimit(this.#own, ratesOf(format));
  }

  /** So many bytes are sent once more. */
  sentAgain(bytes: number): void {
    this.#used.upload.charge(bytes);
  }

  overStore(store: ObjectStore): ObjectStore {
    return withLimit(store, this.#used);
  }

  overMeta(meta: Meta): Meta {
    return this.#client?.operations ? withOperationLimit(meta, this.#client.operations) : meta;
  }
}
