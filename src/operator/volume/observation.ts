/** What is seen of a volume's surroundings, as plain data: the input of every decision. */
import type { Reason } from '../../api/conditions.ts';
import type { Format } from '../../meta/format.ts';
import type { Conflict } from './conflict.ts';
import type { SecretsOutcome } from './secrets.ts';
import type { Target } from './target.ts';

export interface Failure {
  readonly state: 'failed';
  readonly reason: Reason;
  readonly message: string;
}

export interface Durability {
  readonly state: 'durable' | 'risk' | 'unknown';
  readonly message: string;
}

export type MetadataObservation =
  | Failure
  /** The database answers and holds no volume. */
  | { readonly state: 'empty'; readonly durability: Durability }
  /** It holds something that this version cannot use. */
  | { readonly state: 'unreadable'; readonly reason: Reason; readonly message: string; readonly durability: Durability }
  | {
      readonly state: 'volume';
      /** Secrets in plain text. */
      readonly format: Format;
      readonly usage: { readonly bytes: number; readonly inodes: number };
      /** Sessions whose heartbeat is not overdue. */
      readonly sessions: number;
      readonly durability: Durability;
      /** Another JuiceVolume stands for this very volume. */
      readonly holder: Conflict | undefined;
    };

export type StorageObservation =
  | Failure
  /** The bucket does not exist (it is created when the volume is formatted). */
  | { readonly state: 'missing'; readonly message: string }
  | {
      readonly state: 'reached';
      /** The text of `juicefs_uuid`, where there is one. */
      readonly marker: string | undefined;
      /** Key of an object under the volume's name; only looked for where the database is empty. */
      readonly firstObject: string | undefined;
    };

export interface Observation {
  readonly conflict: Conflict | undefined;
  /** Undefined where a conflict made it pointless, as are the following. */
  readonly secrets: SecretsOutcome | undefined;
  readonly target: Target | undefined;
  readonly metadata: MetadataObservation | undefined;
  readonly storage: StorageObservation | undefined;
}
