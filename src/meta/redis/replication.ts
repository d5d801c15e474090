/**
 * Waits until replicas have what was written, with Redis's WAIT: of the connection that wrote it, for that is what WAIT counts.
 *
 * One WAIT stands for all commits that were answered before it was sent; those that come while it is out share the next one.
 * So commits of many callers cost one further round trip together, and while a WAIT is out, the connection does nothing else.
 *
 * WAIT promises what the set of replicas can: what they all have survives the failure of the master; what one of several has
 * survives it where that one is promoted, which is what Sentinel and Cluster prefer as long as it is reachable.
 */
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';

/** How long one WAIT may take where replicas are asked for, ms; it is repeated. */
const ASKED_MS = 1000;
/** How long one may take where none was asked for, ms, and how long it is left alone when no replica answered. */
const TRIED_MS = 500;
const PAUSE_MS = 60_000;

export interface ReplicationOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** For people. */
  readonly server: string;
  /** How many replicas are asked for. */
  readonly wanted: number;
  /** Sends WAIT on the connection; the answer is a number. */
  readonly wait: (replicas: number, ms: number) => Promise<unknown>;
  /** Which connection it is, counted. */
  readonly epoch: () => number;
  /** Throws where the server of that connection has been replaced. */
  readonly confirm: (epoch: number) => Promise<void>;
}

interface Answer {
  readonly epoch: number;
  readonly replicas: number;
}

export class Replication {
  readonly #options: ReplicationOptions;
  #running: Promise<Answer> | undefined;
  #next: Promise<Answer> | undefined;
  #notBefore = -Infinity;
  #alone = -1;

  constructor(options: ReplicationOptions) {
    this.#options = options;
  }

  /**
   * Waits for what was answered just before, over connection `epoch`. `tried`: one replica, where one answers soon. Throws
   * where the connection is another one by now, or `asked` and too few replicas have it: then the caller asks again what
   * became of its commit.
   */
  async join(epoch: number, keeping: 'tried' | 'asked'): Promise<void> {
    const { wanted, clock, logger, server } = this.#options;
    const asked = keeping === 'asked' && wanted > 0;
    if (!asked && keeping === 'asked') return;
    if (epoch !== this.#options.epoch()) throw new Error('Connection is closed.');
    if (!asked && epoch === this.#alone && clock.monotonic() < this.#notBefore) return;
    let answer: Answer;
    try {
      answer = await (this.#next ??= this.#round());
    } catch (error) {
      if (asked || !messageOf(error).startsWith('NOPERM')) throw error;
      // The promise is best effort, and this user may not ask for it.
      this.#notBefore = Infinity;
      this.#alone = epoch;
      return;
    }
    if (answer.epoch !== epoch) throw new Error('Connection is closed.');
    if (asked && answer.replicas < wanted)
      throw new Error(`NOREPLICAS ${answer.replicas} of ${wanted} replicas have what was written (wait-replicas)`);
    if (!asked && answer.replicas < 1) {
      // A master whom nobody follows may have been replaced.
      await this.#options.confirm(epoch);
      this.#notBefore = clock.monotonic() + PAUSE_MS;
      this.#alone = epoch;
      logger.warn('No replica of Redis answers: if the master fails now, numbers of files may be given out twice', { server });
    }
  }

  async #round(): Promise<Answer> {
    await this.#running?.catch(() => undefined);
    // From here on nobody else may join: it is sent now.
    this.#running = this.#next;
    this.#next = undefined;
    const { wanted, wait, epoch } = this.#options;
    const sent = epoch();
    const replicas = Number(await wait(Math.max(1, wanted), wanted > 0 ? ASKED_MS : TRIED_MS));
    return { epoch: sent, replicas };
  }
}
