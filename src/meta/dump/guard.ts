/**
 * What goes round every load: it begins in an empty database, leaves a mark there while it runs, and ends with the volume's setting. Where
 * it fails or is told to stop, what it has written is removed again; where it is killed, the mark tells the next one, which starts over only
 * when it is told to.
 */
import { type Clock, systemClock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { type Bulk, LOAD_MARK } from '../bulk.ts';
import type { MetaEngine } from '../engine.ts';
import { parseFormat } from '../format.ts';
import { bulkOf } from './json-dump.ts';

export interface LoadOptions {
  /** Removes what a load that was not finished has left, and begins again. @default false */
  readonly restart?: boolean;
  /** Told how many entries (of a binary dump: records) were read since it was last told. */
  readonly onProgress?: (count: number) => void;
  /** Told of what cannot be kept, or is odd in the dump; the load goes on. */
  readonly onWarning?: (message: string) => void;
  /** Ends the load; what it has written is removed. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

export interface Loaded {
  /** The name of the volume. */
  readonly name: string;
  /** Members of the setting (as JuiceFS names them) that the dump does not hold any more. */
  readonly removed: readonly string[];
}

/** Throws where a load must not begin here. */
async function requireEmpty(engine: MetaEngine, bulk: Bulk, restart: boolean): Promise<void> {
  const { description } = engine;
  const found = await bulk.contents();
  switch (found.kind) {
    case 'empty':
      return;
    case 'volume': {
      const { name } = parseFormat((await engine.readSetting()) ?? '');
      throw new UserError('NotEmpty', `The database ${description} is used by volume "${name}".`, {
        hint: 'A dump is loaded into an empty database: name another one.',
      });
    }
    case 'loading': {
      if (restart) return engine.reset();
      const since = new Date(found.since * 1000).toISOString();
      throw new UserError(
        'LoadInterrupted',
        `A load into ${description} that began at ${since} is under way, or was interrupted.`,
        {
          hint: 'When none is running: `juicepod load --restart` removes what that one has written, and begins again.',
        },
      );
    }
    default:
      throw new UserError('NotEmpty', `The database ${description} is not empty and holds no volume: there are ${found.what}.`, {
        hint: 'A dump is loaded into an empty database: name another one.',
      });
  }
}

/** Loads what `work` writes; it answers the text of the setting. Throws UserError; then nothing of it is left. */
export async function loadInto(engine: MetaEngine, options: LoadOptions, work: (bulk: Bulk) => Promise<string>): Promise<Loaded> {
  const bulk = bulkOf(engine);
  const clock = options.clock ?? systemClock;
  await requireEmpty(engine, bulk, options.restart ?? false);
  await bulk.prepare();
  const begun = await engine.commit({
    checks: [{ kind: 'counterAtMost', name: LOAD_MARK, value: 0 }],
    writes: [{ kind: 'setCounter', name: LOAD_MARK, value: Math.floor(clock.now() / 1000) }],
  });
  if (!begun.ok)
    throw new UserError('LoadInterrupted', `Another load into ${engine.description} has just begun.`, { hint: 'Wait for it.' });
  try {
    const setting = await work(bulk);
    options.signal?.throwIfAborted();
    await bulk.finish(setting);
    const format = parseFormat(setting);
    const secrets = [
      ['SecretKey', format.secretKey],
      ['SessionToken', format.sessionToken],
      ['EncryptKey', format.encryptKey],
    ] as const;
    return { name: format.name, removed: secrets.filter(([, value]) => value === 'removed').map(([name]) => name) };
  } catch (error) {
    try {
      await engine.reset();
    } catch (cause) {
      throw new UserError(
        'LoadInterrupted',
        `${messageOf(error)} What was loaded until then could not be removed: ${messageOf(cause)}`,
        { cause, hint: 'Run `juicepod load --restart` with the same arguments to begin again.' },
      );
    }
    throw error;
  }
}
