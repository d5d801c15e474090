/**
 * What a volume rests on, reached for the operator: the metadata engine, the object store, and how durable the database is.
 * A port, so that tests can break it; `realBackends` is the one in use. Errors become reasons here, in one place.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Reason } from '../../api/conditions.ts';
import type { StorageOverride } from '../../api/mount.ts';
import { storeEnvironment } from '../../api/mount.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import type { FormatInput } from '../../meta/format-input.ts';
import { openEngine } from '../../meta/open.ts';
import { RedisConnection } from '../../meta/redis/connection.ts';
import { serverRisks } from '../../meta/sql/durability.ts';
import { parseMetaUrl } from '../../meta/url.ts';
import { openObjectStore } from '../../object/open.ts';
import { ObjectError, type ObjectErrorCode, type ObjectStore } from '../../object/store.ts';
import type { Durability, Failure } from './observation.ts';

/** Milliseconds that the database may take to answer; the next look comes soon anyway. */
const PATIENCE = 8000;
/** Milliseconds for one request to the object store, of which two are made. */
const STORE_TIMEOUT = 10_000;

export interface Backends {
  /** Throws UserError, FsError. */
  openEngine(url: string): Promise<MetaEngine>;
  /** The store of the volume, its prefix applied. Nothing is connected yet. Throws ObjectError. */
  openStore(input: FormatInput, override: StorageOverride): ObjectStore;
  /** Never throws: what cannot be found out is `unknown`. */
  durability(url: string): Promise<Durability>;
  /** A file with this PEM text, readable by nobody else, for URLs that name one. */
  pemFile(pem: string): string;
}

/** Reads the answer of INFO: persistence and eviction. Exported for tests. */
export function durabilityOf(info: string): Durability {
  const field = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const policy = field('maxmemory_policy');
  const appendOnly = field('aof_enabled');
  if (policy === undefined || appendOnly === undefined)
    return { state: 'unknown', message: 'INFO does not tell maxmemory_policy and aof_enabled' };
  const risks = [
    ...(policy === 'noeviction'
      ? []
      : [`maxmemory-policy is ${policy}: keys may be evicted, and files with them; set noeviction`]),
    ...(appendOnly === '1'
      ? []
      : ['appendonly is off: what was written since the last snapshot is lost with the process; set appendonly yes']),
  ];
  if (risks.length > 0) return { state: 'risk', message: risks.join('; ') };
  return { state: 'durable', message: 'nothing is evicted, every write is logged' };
}

function sqlDurability(risks: readonly string[]): Durability {
  return risks.length > 0
    ? { state: 'risk', message: risks.join('; ') }
    : { state: 'durable', message: 'every commit is in the log of the server before it is answered' };
}

export interface BackendOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Milliseconds that the database may take to answer. @default 8000 */
  readonly patience?: number;
}

export function realBackends(options: BackendOptions): Backends {
  const { clock, logger, patience = PATIENCE } = options;
  return {
    // No environment: a password in ours is not meant for the databases of others.
    openEngine: (url) => openEngine(url, { environment: {}, clock, logger, patience }),
    openStore: (input, override) =>
      openObjectStore({
        storage: input.storage ?? 'file',
        bucket: input.bucket,
        accessKey: input.accessKey,
        secretKey: input.secretKey,
        sessionToken: input.sessionToken,
        name: input.name,
        timeoutMs: STORE_TIMEOUT,
        retry: { retries: 1 },
        // Only AWS's chain is ours to lend: keys of other kinds are in the volume's Secret, or nowhere.
        environment: { ...(input.storage === 's3' ? process.env : {}), ...storeEnvironment(override) },
        clock,
      }),
    async durability(url) {
      const parsed = parseMetaUrl(url);
      if (parsed.kind === 'sqlite') return { state: 'durable', message: 'SQLite writes ahead to its log' };
      if (parsed.kind !== 'redis') {
        try {
          return sqlDurability(await serverRisks(parsed, clock));
        } catch (error) {
          return { state: 'unknown', message: `the settings cannot be read: ${messageOf(error)}` };
        }
      }
      const connection = new RedisConnection(parsed, { clock, logger, patience });
      try {
        await connection.open();
        const sections = await connection.pipeline([
          ['INFO', 'memory'],
          ['INFO', 'persistence'],
        ]);
        return durabilityOf(sections.map(String).join('\n'));
      } catch (error) {
        return { state: 'unknown', message: `INFO is not allowed or not answered: ${messageOf(error)}` };
      } finally {
        connection.close();
      }
    },
    pemFile(pem) {
      // Named by content: written once per text, never changed under a reader.
      const path = join(tmpdir(), `juicepod-${createHash('sha256').update(pem).digest('hex').slice(0, 24)}.pem`);
      if (!existsSync(path)) {
        const temporary = `${path}.${randomUUID()}`;
        writeFileSync(temporary, pem, { mode: 0o600 });
        renameSync(temporary, path);
      }
      return path;
    },
  };
}

/** Why the database could not be used. */
export function metadataFailure(error: unknown): Failure {
  const refused = error instanceof UserError && error.code === 'MetaRefused';
  // Its hint is for who typed a metadata URL; see advice.ts.
  const message = error instanceof UserError && error.hint && !refused ? `${error.message} (${error.hint})` : messageOf(error);
  if (!(error instanceof UserError) || error.retryable) return { state: 'failed', reason: 'MetadataUnreachable', message };
  return { state: 'failed', reason: refused ? 'MetadataDenied' : 'MetadataInvalid', message };
}

const storageReasons: Partial<Record<ObjectErrorCode, Reason>> = {
  AccessDenied: 'StorageDenied',
  NoSuchBucket: 'StorageInvalid',
  NotFound: 'StorageInvalid',
  Invalid: 'StorageInvalid',
  Corrupt: 'StorageInvalid',
};

/** Why the store could not be used. */
export function storageFailure(error: unknown): Failure {
  const reason = error instanceof ObjectError ? storageReasons[error.code] : undefined;
  return { state: 'failed', reason: reason ?? 'StorageUnreachable', message: messageOf(error) };
}
