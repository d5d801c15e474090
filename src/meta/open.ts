/** The way in: from a metadata URL to an engine and to the metadata of a volume. Engines are loaded when they are asked for. */
import { type Clock, systemClock } from '../lib/clock.ts';
import { UserError } from '../lib/errors.ts';
import { ROOT_INO } from '../lib/int64.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import type { MetaEngine } from './engine.ts';
import { type Format, parseFormat, serialiseFormat } from './format.ts';
import type { MetaOptions } from './meta.ts';
import { logFor } from './setting.ts';
import type { Meta } from './types.ts';
import { type Environment, parseMetaUrl } from './url.ts';

export interface EngineOptions {
  /** Where a password that the URL leaves out is looked for. @default process.env */
  readonly environment?: Environment;
  /** How long an operation waits for a server that is away, or a file that is locked, ms. @default 30000, for a file 10000 */
  readonly patience?: number;
  /** How long the first answer of a server is waited for, ms. @default patience */
  readonly openPatience?: number;
  /** The database must be there: a SQLite file that is missing is not made. @default false */
  readonly existing?: boolean;
  /** Nothing is to be written: a SQLite file is opened so. @default false */
  readonly readOnly?: boolean;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly logger?: Logger;
  /** A server refuses the credentials of an engine that was open: who has other ones brings them (`renewCredentials`). */
  readonly onRefused?: () => void;
}

/** Connects to the database of a metadata URL. Throws UserError where that cannot be done. */
export async function openEngine(url: string, options: EngineOptions = {}): Promise<MetaEngine> {
  const { environment = process.env, ...rest } = options;
  const parsed = parseMetaUrl(url, environment);
  if (parsed.kind === 'redis') {
    const { openRedis } = await import('./redis/open.ts');
    return openRedis(parsed, rest);
  }
  if (parsed.kind === 'sqlite') {
    const { openSqlite } = await import('./sqlite/engine.ts');
    return openSqlite(parsed, { ...rest, ...(rest.patience === undefined ? {} : { lockTimeout: rest.patience }) });
  }
  if (parsed.kind === 'postgres') {
    const { openPostgres } = await import('./postgres/open.ts');
    return openPostgres(parsed, rest);
  }
  const { openMysql } = await import('./mysql/open.ts');
  return openMysql(parsed, rest);
}

/**
 * Proves the credentials of a metadata URL for the database of an open engine, on a connection of their own; `writing`: they
 * must do for changes, too. The answer makes the engine go on with them. Throws UserError where they do not do, or where the URL
 * names another place.
 */
export async function proveCredentials(
  engine: MetaEngine,
  url: string,
  options: { readonly writing: boolean; readonly environment?: Environment },
): Promise<() => Promise<void>> {
  const { writing, environment = process.env } = options;
  if (engine.renew) return engine.renew(url, { writing, environment });
  throw new UserError('MetaElsewhere', `${engine.description} has no credentials that could change under a mount`);
}

/** The format of the volume in this database, or undefined where there is none. */
export async function readFormat(engine: MetaEngine): Promise<Format | undefined> {
  const text = await engine.readSetting();
  return text === undefined ? undefined : parseFormat(text);
}

const NOTHING = { length: 0, space: 0, inodes: 0 };

/**
 * Makes a volume in an empty database, as `format` describes it (secrets already as they are to be stored). False where a
 * volume is there already; it is left as it is.
 */
export async function formatVolume(engine: MetaEngine, format: Format, clock: Clock = systemClock): Promise<boolean> {
  const made = await engine.writeSetting(serialiseFormat(format), { trash: format.trashDays > 0, nowNs: clock.nowNs() });
  // JuiceFS counts the root when something in it first changes. Clients that begin together would count the same twice.
  if (made && format.dirStats)
    await engine.commit({
      checks: [],
      writes: [
        { kind: 'putDirStat', ino: ROOT_INO, value: NOTHING },
        ...logFor(engine, format, clock).dirStat(ROOT_INO, NOTHING),
      ],
    });
  return made;
}

export type OpenMetaOptions = MetaOptions & EngineOptions;

/** Opens the volume of a metadata URL. Throws UserError where there is none, or where it is not for this client. */
export async function openMeta(url: string, options: OpenMetaOptions = {}): Promise<Meta> {
  const engine = await openEngine(url, options);
  try {
    const format = await readFormat(engine);
    if (!format)
      throw new UserError('NotFormatted', `There is no volume in the database ${engine.description}.`, {
        hint: 'Make one with `juicepod format`, or check the metadata URL.',
      });
    // Most of this layer, which who only wants to know what volume it is does not need.
    const { VolumeMeta } = await import('./meta.ts');
    return new VolumeMeta(engine, format, options);
  } catch (error) {
    await engine.close();
    throw error;
  }
}
