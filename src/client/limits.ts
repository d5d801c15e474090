/**
 * The limits of one client, and which of them apply to a volume: what the client was told itself (policy, command line), shared by
 * all its volumes; where it was told nothing, what the volume's format says, followed while it is mounted. As JuiceFS has it.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { Format } from '../meta/format.ts';
import { operationLimit, setOperationLimit, withOperationLimit } from '../meta/limit.ts';
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

/** Rates of 0 are those that the client was not told. */
export interface ClientLimits extends TransferLimit {
  /** Undefined where there was none at the beginning: what is not limited has no part in the way of each operation. */
  readonly operations: TokenBucket | undefined;
}

const transferRates = ({ uploadLimit = 0, downloadLimit = 0 }: LimitRates) => ({ upload: uploadLimit, download: downloadLimit });

/** The limits that all volumes of a client share. */
export function clientLimits(rates: LimitRates, clock: Clock = systemClock): ClientLimits {
  return {
    ...transferLimit(transferRates(rates), clock),
    operations: rates.maxMetadataOps ? operationLimit(rates.maxMetadataOps, clock) : undefined,
  };
}

/** Other rates for a client that runs; one of operations can be changed and taken away, and not begun with. */
export function changeClientLimits(limits: ClientLimits, rates: LimitRates): void {
  setTransferLimit(limits, transferRates(rates));
  if (limits.operations) setOperationLimit(limits.operations, rates.maxMetadataOps ?? 0);
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
    const own = this.#own;
    this.#used = {
      get upload() {
        return client && client.upload.rate > 0 ? client.upload : own.upload;
      },
      get download() {
        return client && client.download.rate > 0 ? client.download : own.download;
      },
    };
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
