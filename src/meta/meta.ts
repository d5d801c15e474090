/**
 * The metadata of one volume as a client has it: its operations (operations.ts), its session and the background work of that, from
 * opening to the end. Written once, over any engine.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { ROOT_INO } from '../lib/int64.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import type { AtimeMode } from './atime.ts';
import type { MetaEngine } from './engine.ts';
import { checkVersion, type Format } from './format.ts';
import { hourly, type JobName, jobNames, TRIM_PAUSE, trimChangeLog } from './jobs.ts';
import { Operations } from './operations.ts';
import { deleteSustained } from './remove.ts';
import { Rhythm } from './rhythm.ts';
import { Session } from './sessions.ts';
import { type Timings, timeOperations } from './timings.ts';
import type { Meta, MetaCallbacks, SessionInfo } from './types.ts';
import { Volume } from './volume.ts';

export interface MetaOptions {
  /** No session, no change, no background work. @default false */
  readonly readOnly?: boolean;
  readonly callbacks?: MetaCallbacks;
  /** When reading changes access times (atime.ts). @default noatime */
  readonly atimeMode?: AtimeMode;
  /** How long what is known of a file that was open before is good enough to open it again, ms. @default 0 */
  readonly openCacheMs?: number;
  /** Closed files of which something is remembered. @default 10000 */
  readonly openCacheLimit?: number;
  /** A directory's times stay where they would change by less, ms. @default 0 */
  readonly skipDirMtimeMs?: number;
  /** Directories of up to 100 000 names are listed in the order of names. @default false */
  readonly sortDir?: boolean;
  /** `statfs` tells what was seen last, at most a heartbeat ago, in place of asking. @default false */
  readonly fastStatfs?: boolean;
  /** Time between heartbeats, ms. Others clean up after five missed ones. @default 12000 */
  readonly heartbeat?: number;
  /** Whether this client takes part in cleaning for all, or in which of the jobs. @default true */
  readonly backgroundJobs?: boolean | readonly JobName[];
  /** How long `close` waits for a database that does not answer, ms. @default 10000 */
  readonly closeGrace?: number;
  /** @default systemClock */
  readonly clock?: Clock;
  /** @default systemRandom */
  readonly random?: Random;
  /** @default nullLogger */
  readonly logger?: Logger;
  /** Where operations are counted. */
  readonly timings?: Timings;
}

const FLUSH_PAUSE = 1000;
const QUOTA_PAUSE = 3000;
/** The guards make it once an hour for all clients together; ours looks more often, for others may have gone. */
const JOBS_PAUSE = 600_000;
/** Where all clients are short-lived, somebody must clean all the same. */
const FIRST_JOBS = 30_000;
/** How long an end waits for the data of files that were removed just before, ms. */
const DELETION_GRACE = 3000;

/** The jobs that a client takes part in. */
function jobsOf({ backgroundJobs = true }: MetaOptions): readonly JobName[] {
  if (typeof backgroundJobs !== 'boolean') return backgroundJobs;
  return backgroundJobs ? jobNames : [];
}

export class VolumeMeta extends Operations implements Meta {
  readonly #session: Session;
  readonly #options: MetaOptions;
  readonly #beat: number;
  readonly #rhythms: Rhythm[] = [];
  readonly #ending = new AbortController();

  /** Throws UserError where the volume must not be used by this client, or only read. */
  constructor(engine: MetaEngine, format: Format, options: MetaOptions = {}) {
    checkVersion(format);
    const readOnly = options.readOnly ?? false;
    super(
      new Volume(engine, format, {
        ...options,
        clock: options.clock ?? systemClock,
        random: options.random ?? systemRandom,
        logger: options.logger ?? nullLogger,
        readOnly,
        callbacks: options.callbacks ?? {},
        timings: options.timings,
      }),
    );
    this.#options = options;
    this.#beat = options.heartbeat ?? 12_000;
    if (options.timings) timeOperations(this, options.timings, this.volume.clock);
    this.#session = new Session(this.volume, this.#beat);
    this.volume.reload = () => this.#session.reload();
  }

  get format(): Format {
    return this.volume.format;
  }

  describeSession(generation: string | undefined): Promise<void> {
    return this.#session.describe(generation);
  }

  async newSession(mountPoint: string, resume?: number, generation?: string): Promise<number> {
    const volume = this.volume;
    const sid = await this.#session.start(mountPoint, resume, generation);
    await Promise.all([volume.stats.used(), volume.limits.load(), ...(resume === undefined ? [] : [volume.locks.resume()])]);
    if (volume.format.enableAcl) await volume.acls.start();
    const jobs = jobsOf(this.#options);
    this.#every('heartbeat', this.#beat, () => this.#session.beat(jobs.includes('sessions')));
    if (volume.readOnly) return sid;
    await volume.stats.ensure(ROOT_INO);
    this.#every('writing of statistics', FLUSH_PAUSE, () => volume.stats.flush());
    this.#every('writing of quotas', QUOTA_PAUSE, () => volume.limits.accounts.flush());
    if (jobs.includes('changelog'))
      this.#every('trimming of the change log', TRIM_PAUSE, () => trimChangeLog(volume, this.#ending.signal));
    if (jobs.some((job) => job !== 'sessions' && job !== 'changelog'))
      this.#every('cleaning', JOBS_PAUSE, () => hourly(volume, this.#ending.signal, jobs), FIRST_JOBS);
    return sid;
  }

  async resumed(): Promise<void> {
    if (this.volume.readOnly) return;
    for (const ino of await this.volume.engine.sustained(this.volume.sid))
      if (!this.volume.files.removed(ino)) await deleteSustained(this.volume, this.volume.sid, ino);
  }

  #every(name: string, pause: number, run: () => Promise<void>, first = pause): void {
    const { clock, random, logger } = this.volume;
    this.#rhythms.push(new Rhythm({ clock, random, logger, name, pause, first, run }));
  }

  /**
   * Ends in order; where the database does not answer within `closeGrace`, the session is left to expire, and others clean
   * up after it.
   */
  async close(options: { readonly keepSession?: boolean } = {}): Promise<void> {
    const { clock, engine, logger, locks } = this.volume;
    this.#ending.abort();
    locks.close();
    const waited = new AbortController();
    const late = clock.sleep(this.#options.closeGrace ?? 10_000, waited.signal).then(
      () => logger.warn('the database does not answer: the session is left to expire', { database: engine.description }),
      () => {},
    );
    const ended = this.#end(options.keepSession ?? false);
    try {
      await Promise.race([ended, late]);
    } finally {
      waited.abort();
      await engine.close();
      // What was still waiting for the database fails now.
      await ended.catch(() => {});
    }
  }

  async #end(keepSession: boolean): Promise<void> {
    await Promise.all(this.#rhythms.map((rhythm) => rhythm.stop()));
    if (this.volume.readOnly) return;
    if (!keepSession) await this.#session.end();
    await this.volume.atimes.settled();
    await this.volume.deletions.stop(DELETION_GRACE);
    await this.volume.stats.flush();
    await this.volume.limits.accounts.flush();
  }

  sessions(): Promise<readonly SessionInfo[]> {
    return this.#session.list();
  }
}
