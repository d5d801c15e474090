/** What is seen of a volume's surroundings, as plain data: the input of every decision. */
import type { Reason } from '../../api/conditions.ts';
import type { Format } from '../../meta/format.ts';
import type { SessionInfo } from '../../meta/types.ts';
import type { Conflict } from './conflict.ts';
import type { Quota } from '../../meta/quotas.ts';
import type { KeysOutcome } from './keys.ts';
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

/** What is said to exist without being of use; numbers are cut at the limit of the look. */
export interface LeaksSeen {
  readonly deletedFiles: number;
  readonly unreferencedSlices: number;
}

export interface QuotasSeen {
  /** Of `ownQuotas`, those that are there. */
  readonly own: readonly Quota[];
  /** Those of others; undefined where they were not looked for this time. */
  readonly others: readonly Quota[] | undefined;
  /** What was tried in this reconcile and did not work, by `quotaId`. */
  readonly failed: ReadonlyMap<string, { readonly missing: boolean; readonly message: string }>;
  /** What was done in this reconcile, by `quotaId`. */
  readonly done: ReadonlySet<string>;
}

/** What the keys are worth, tried out. */
export interface EncryptionSeen {
  readonly keys: KeysOutcome;
  /** Why the PEM in the Secret is no key for a new volume; undefined where it is one, or there is none. */
  readonly pemProblem: string | undefined;
  /** What opens the key in the volume's settings; undefined where there is no volume with a key. */
  readonly opens: 'passphrase' | 'earlier' | 'nothing' | undefined;
  /** The earlier passphrase that does. */
  readonly earlier: string | undefined;
  /** SHA-256 of the public key. */
  readonly fingerprint: string | undefined;
  /** Clients have been given both passphrases, long enough ago. */
  readonly rewrapDue: boolean;
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
      /** When a client last began a backup of the metadata, ms since the epoch; undefined where none ever did. */
      readonly lastBackup?: number | undefined;
      readonly usage: { readonly bytes: number; readonly inodes: number };
      /** Sessions whose heartbeat is not overdue. */
      readonly clients: readonly SessionInfo[];
      readonly staleSessions: number;
      /** Undefined where it was not looked for this time. */
      readonly leaks: LeaksSeen | undefined;
      readonly quotas: QuotasSeen;
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
  /** Undefined where the spec asks for no encryption. */
  readonly encryption: EncryptionSeen | undefined;
  /** Whether the policy that the spec names exists; undefined where it names none. */
  readonly policyExists: boolean | undefined;
}
