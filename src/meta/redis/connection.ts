/**
 * One connection to the Redis server of a volume, kept alive for the life of it. Where Sentinels or a Cluster say which server
 * that is, it follows: when it is told so by the server, when the connection is lost, and when nothing is answered any more.
 *
 * While the server is away, calls wait (bounded by `patience`) and go on when it is back; nothing of an outage is
 * remembered afterwards. ioredis only carries single attempts here: it queues nothing and repeats nothing, because only the
 * caller knows whether a command may be sent twice. So everything given to `call` must be safe to repeat.
 *
 * Errors: UserError while opening, FsError later (ENOSPC where Redis is out of memory, EIO else). Never a password.
 */
import { type ChainableCommander, Redis } from 'ioredis';
import type { Clock } from '../../lib/clock.ts';
import { FsError, messageOf, UserError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { type Random, systemRandom } from '../../lib/random.ts';
import { type Address, describeAddress, describeRedisUrl, type RedisUrl } from '../url-redis.ts';
import { Aside } from './aside.ts';
import { redisOptions } from './connector.ts';
import { Place, type Role, sameAddress } from './place.ts';
import { Replication } from './replication.ts';
import { isElsewhere, isFull, isLost, isPassing, isRefusal, isUnauthenticated, redirection } from './replies.ts';
import { slotOf } from './slot.ts';
import { tlsOptions } from './tls.ts';
import { Turn } from './turn.ts';
import { type Progress, Watch } from './watch.ts';

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a call waits for a server that is away, ms. */
  readonly patience: number;
  /** With a Sentinel or a Cluster. @default 'master' */
  readonly role?: Role;
  /** Where the server is, shared with other connections of the volume. @default one of its own */
  readonly place?: Place | undefined;
  /** @default systemRandom */
  readonly random?: Random;
  /**
   * Called when the server refuses user or password of a connection. Who gives it can bring other ones (`adopt`): calls wait for
   * that, at most REFUSED_PATIENCE_MS.
   */
  readonly onRefused?: () => void;
}

/**
 * How long calls wait for other credentials: a kubelet brings a changed Secret into a pod within its sync period and what its
 * cache adds, in all about 90 s.
 */
const REFUSED_PATIENCE_MS = 120_000;

export type Argument = string | Buffer | number;

/** ioredis, of a connection that did not come up or was ended. */
const CONNECTION_CLOSED = 'Connection is closed.';
const NO_ANSWER = 'no answer';

/** An answer that took longer may be that of a master that has been replaced meanwhile. */
const STALL_MS = 1000;

/** How a commit is to be kept before it is answered: by the master alone, if it can be by a replica, or as the URL asks for. */
export type Keeping = 'master' | 'tried' | 'asked';

export class RedisConnection {
  readonly description: string;
  /** Where the server is, where that can change. */
  readonly place: Place | undefined;
  readonly #redis: Redis;
  readonly #replication: Replication;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #patience: number;
  readonly #backoff: number;
  readonly #onRefused: (() => void) | undefined;
  #lastError = NO_ANSWER;
  #wake: () => void = () => {};
  #ready: Promise<void>;
  #closed = false;
  #url: RedisUrl;
  /** Where the connection leads, with a place. */
  #address: Address | undefined;
  /** Counts the connections that were lost: an answer and what rests on it must come over the same one. */
  #epoch = 0;
  #run: string | undefined;
  #runs = 0;
  readonly #listeners: (() => void)[] = [];
  #out = 0;
  #answered = 0;
  readonly #aside = new Aside();
  readonly #turn = new Turn();
  #watch: Watch | undefined;
  #unfollow: () => void = () => {};

  constructor(url: RedisUrl, options: ConnectionOptions) {
    this.description = describeRedisUrl(url);
    this.#url = url;
    const { clock, random = systemRandom, role = 'master' } = options;
    const moving = url.sentinel !== undefined || url.cluster !== undefined;
    const slot = url.cluster ? slotOf(`{${url.database}}`) : 0;
    this.place = options.place ?? (moving ? new Place(url, { clock, random, role, slot }) : undefined);
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#patience = options.patience;
    this.#onRefused = options.onRefused;
    this.#backoff = url.minRetryBackoff;
    this.#ready = new Promise((resolve) => (this.#wake = resolve));
    this.#redis = new Redis({
      ...redisOptions(
        url,
        this.place,
        () => this.#url,
        (address) => (this.#address = address),
      ),
      // Destroys the connection where an answer is out for so long; the calls on it then go on on the next one.
      socketTimeout: url.readTimeout,
      // Every command of a connection that is lost fails at once, and is repeated here or not at all.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      reconnectOnError: (error) => isElsewhere(error.message),
    });
    this.#replication = new Replication({
      clock,
      logger: options.logger,
      server: this.description,
      wanted: url.waitReplicas ?? 0,
      wait: (replicas, ms) => this.#redis.callBuffer('WAIT', [replicas, ms]),
      epoch: () => this.#epoch,
      confirm: (epoch) => this.#confirm(epoch),
    });
    this.#redis.on('error', (error: Error) => this.#noteError(error));
    this.#redis.on('ready', () => {
      if (this.#lastError !== NO_ANSWER) this.#logger.info('Redis answers again', { server: this.description });
      this.#lastError = NO_ANSWER;
      this.#noteRun();
      this.#wake();
      this.#follow();
    });
    this.#redis.on('close', () => {
      this.#epoch++;
      this.#ready = new Promise((resolve) => (this.#wake = resolve));
    });
    const { place } = this;
    if (!place) return;
    this.#unfollow = place.onMove(() => this.#follow());
    const progress = (): Progress => ({
      waiting: this.#out > 0 || this.#redis.status === 'connect',
      answered: this.#answered,
    });
    this.#watch = new Watch(clock, progress, () => this.#look(place));
  }

  /**
   * Names the server process that answers. The cursor of a scan is of no use with another one: each has its own order of keys.
   */
  get server(): string {
    const { current } = this.place ?? {};
    return `${current ? describeAddress(current) : ''}#${this.#runs}`;
  }

  /** Calls back whenever another process answers than before. */
  onServer(listener: () => void): void {
    this.#listeners.push(listener);
  }

  #noteRun(): void {
    // What ioredis has read with INFO; a user who may not is taken to have met another process.
    const run = (this.#redis as unknown as { readonly serverInfo?: { readonly run_id?: string } }).serverInfo?.run_id;
    const another = run === undefined || run !== this.#run;
    this.#run = run;
    if (!another) return;
    if (this.#runs++ > 0) for (const listener of this.#listeners) listener();
  }

  /** Leaves a server that is not the one any more. */
  #follow(): void {
    if (!this.place?.current || sameAddress(this.#address, this.place.current)) return;
    // While it looks for the server, it finds the new one by itself.
    if (this.#redis.status === 'ready' || this.#redis.status === 'connect') this.#redis.disconnect(true);
  }

  /** Asks where the server is, and goes there. */
  async #look(place: Place): Promise<void> {
    // While it looks for a server, it asks by itself.
    if (this.#redis.status !== 'ready' && this.#redis.status !== 'connect') return;
    await place.find().catch(() => undefined);
    this.#follow();
  }

  /** Throws where the server that answered over connection `epoch` is not the one any more; whoever knows nothing better believes it. */
  async #confirm(epoch: number): Promise<void> {
    const address = this.#address;
    this.#watch?.stalled();
    const found = await this.place?.find().catch(() => undefined);
    this.#follow();
    if (epoch !== this.#epoch || (found && !sameAddress(found, address))) throw new Error('Connection is closed.');
  }

  #noteError(error: Error): void {
    const { message } = error;
    // Said to the client that finds out that it speaks to a Cluster.
    if (message.includes('SELECT is not allowed in cluster mode')) return;
    // What an attempt to connect ends with, after it has told why.
    if (message === CONNECTION_CLOSED && this.#lastError !== NO_ANSWER) return;
    if (message !== this.#lastError) this.#logger.warn('Redis', { server: this.description, problem: message });
    this.#lastError = message;
    if (isUnauthenticated(message)) this.#onRefused?.();
  }

  /** True for an error that other credentials, which somebody may bring, would end. */
  #mayBeRenewed(error: unknown): boolean {
    if (!this.#onRefused || !isUnauthenticated(messageOf(error))) return false;
    this.#noteError(error as Error);
    return true;
  }

  /** A URL of the same place, with what this connection knows of it: that it is a Cluster. */
  shape(url: RedisUrl): RedisUrl {
    return this.#url.cluster && !url.cluster ? { ...url, cluster: this.#url.cluster } : url;
  }

  /**
   * Goes on with the user, password and TLS files of `url`, which is of the same server and database and was proved on another
   * connection. The connection in use goes on where the server lets it; calls under way are not disturbed.
   */
  async adopt(url: RedisUrl): Promise<void> {
    const { options } = this.#redis;
    this.#url = { ...this.#url, ...credentialsOf(url) };
    this.place?.adopt(this.#url);
    // What a reconnection reads.
    Object.assign(options, { username: url.username, password: url.password });
    if (url.tls) Object.assign(options, { tls: tlsOptions(url.tls, url.host) });
    if (this.#closed || this.#redis.status !== 'ready') return;
    try {
      if (url.password === undefined) throw new Error('only a new connection is without a password');
      await this.#redis.call('AUTH', ...(url.username === undefined ? [] : [url.username]), url.password);
      this.#lastError = NO_ANSWER;
    } catch (error) {
      // What was under way is repeated on the next connection.
      this.#logger.info('Redis: going on with a new connection', { server: this.description, reason: messageOf(error) });
      this.#redis.disconnect(true);
    }
  }

  /** Waits for the first answer. Throws UserError where there is none within `patience`, or where we are refused. */
  async open(patience = this.#patience): Promise<void> {
    const usual = this.#patience;
    this.#patience = patience;
    const refusal = new Promise<never>((_resolve, reject) => {
      this.#redis.on('error', (error: Error) => {
        if (isRefusal(error.message)) reject(error);
      });
    });
    refusal.catch(() => {});
    this.#redis.connect().catch((error: Error) => this.#noteError(error));
    try {
      await Promise.race([this.call('PING'), refusal]);
    } catch (cause) {
      this.close();
      if (isRefusal(messageOf(cause)))
        throw new UserError('MetaRefused', `Redis at ${this.description} refuses us: ${messageOf(cause)}`, {
          cause,
          // To what is asked after a wrong password the server says only that one is wanted.
          hint: `${this.#url.password !== undefined && messageOf(cause).startsWith('NOAUTH') ? 'It did not take the password that it was given. ' : ''}Check user, password and database number of the metadata URL (or REDIS_PASSWORD, META_PASSWORD).`,
        });
      throw new UserError('MetaUnreachable', `Redis at ${this.description} does not answer: ${this.#lastError}`, {
        cause,
        retryable: true,
        hint: 'Check that the server is running and can be reached from here, and the metadata URL.',
      });
    } finally {
      this.#patience = usual;
    }
  }

  /** Sends a command that may be repeated; replies hold Buffers. */
  call(command: string, ...args: Argument[]): Promise<unknown> {
    return this.repeat(() => this.#send(command, args));
  }

  #send(command: string, args: readonly Argument[]): Promise<unknown> {
    this.#turn.sending(this.#redis.stream);
    const reply = this.#redis.callBuffer(command, [...args]);
    return this.#url.cluster ? reply.catch((error: unknown) => this.#redirected(error, command, args)) : reply;
  }

  /** Goes where a node of the Cluster sends this command; throws what cannot be answered so. */
  async #redirected(error: unknown, command: string, args: readonly Argument[]): Promise<unknown> {
    const to = redirection(messageOf(error));
    if (!to) throw error;
    if (to.ask) {
      const address = { host: to.host || (this.#address?.host ?? ''), port: to.port };
      return this.#aside.call(address, this.#url, command, args);
    }
    this.place?.moved(to);
    if (this.#redis.status === 'ready') this.#redis.disconnect(true);
    throw error;
  }

  /** Sends several commands that may be repeated in one go. Throws the first error among the replies. */
  async pipeline(commands: readonly (readonly [string, ...Argument[]])[]): Promise<readonly unknown[]> {
    if (commands.length === 0) return [];
    return this.repeat(async () => {
      const chain: ChainableCommander = this.#redis.pipeline();
      for (const [command, ...args] of commands) chain.callBuffer(command, args);
      this.#turn.sending(this.#redis.stream);
      const replies = (await chain.exec()) ?? [];
      const values: unknown[] = [];
      for (const [index, [error, value]] of replies.entries()) {
        if (!error) values.push(value);
        else if (this.#url.cluster) {
          const [command, ...args] = commands[index] as readonly [string, ...Argument[]];
          values.push(await this.#redirected(error, command, args));
        } else throw error;
      }
      return values;
    });
  }

  /**
   * Runs a script; `attempt` counts from 0, more than 0 means that an earlier attempt was sent and its answer lost. A server
   * that does not know the script gets it. With `keeping`, the answer comes when replicas have what the script wrote.
   */
  script(
    script: Script,
    keyCount: number,
    args: (attempt: number) => readonly Argument[],
    signal?: AbortSignal,
    keeping: Keeping = 'master',
  ): Promise<unknown> {
    let attempt = 0;
    return this.repeat(async () => {
      const list = args(attempt++);
      const epoch = this.#epoch;
      const answer = await this.#evaluate(script, keyCount, list);
      if (keeping === 'asked' || (keeping === 'tried' && this.place)) await this.#replication.join(epoch, keeping);
      return answer;
    }, signal);
  }

  async #evaluate(script: Script, keyCount: number, list: readonly Argument[]): Promise<unknown> {
    try {
      return await this.#send('EVALSHA', [script.sha, keyCount, ...list]);
    } catch (error) {
      if (!messageOf(error).startsWith('NOSCRIPT')) throw error;
      return this.#send('EVAL', [script.source, keyCount, ...list]);
    }
  }

  /** Makes attempts until one is answered, or `patience` is over (EIO), or the signal aborts between two of them. */
  async repeat<T>(attempt: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#out++;
    try {
      return await this.#attempt(attempt);
    } catch (error) {
      if (this.#closed || !(isLost(error) || this.#mayBeRenewed(error))) throw this.#translate(error);
      return await this.#insist(attempt, error, signal);
    } finally {
      this.#out--;
      this.#answered++;
    }
  }

  async #attempt<T>(attempt: () => Promise<T>): Promise<T> {
    if (!this.place) return attempt();
    const begun = this.#clock.monotonic();
    const epoch = this.#epoch;
    const answer = await attempt();
    if (this.#clock.monotonic() - begun > STALL_MS) await this.#confirm(epoch);
    return answer;
  }

  async #insist<T>(attempt: () => Promise<T>, first: unknown, signal: AbortSignal | undefined): Promise<T> {
    const begun = this.#clock.monotonic();
    let error = first;
    let pause = this.#backoff;
    for (;;) {
      signal?.throwIfAborted();
      const waitsForCredentials = this.#onRefused !== undefined && isUnauthenticated(this.#lastError);
      const patience = waitsForCredentials ? Math.max(this.#patience, REFUSED_PATIENCE_MS) : this.#patience;
      const left = begun + patience - this.#clock.monotonic();
      if (left <= 0 || this.#closed) throw this.#away(error);
      if (this.#redis.status === 'ready') await this.#clock.sleep(Math.min(pause, left), signal);
      else await Promise.race([this.#ready, this.#clock.sleep(Math.min(1000, left), signal)]);
      pause = Math.min(pause * 2, 1000);
      if (this.#redis.status !== 'ready') continue;
      try {
        return await this.#attempt(attempt);
      } catch (next) {
        if (!(isLost(next) || this.#mayBeRenewed(next))) throw this.#translate(next);
        error = next;
      }
    }
  }

  #away(cause: unknown): FsError {
    const seconds = Math.round(this.#patience / 1000);
    const problem = isPassing(messageOf(cause)) ? messageOf(cause) : this.#lastError;
    return new FsError('EIO', `Redis at ${this.description} does not answer: ${problem} (waited ${seconds} s)`, {
      cause,
      retryable: true,
    });
  }

  #translate(error: unknown): Error {
    if (error instanceof FsError || error instanceof RangeError) return error;
    const message = messageOf(error);
    if (this.#closed) return new FsError('EIO', `the connection to ${this.description} was closed`, { cause: error });
    if (isFull(message))
      return new FsError('ENOSPC', `Redis at ${this.description} is out of memory (maxmemory): ${message}`, { cause: error });
    return new FsError('EIO', `Redis at ${this.description}: ${message}`, { cause: error });
  }

  /** Ends the connection; calls still out fail. */
  close(): void {
    this.#closed = true;
    this.#unfollow();
    this.#watch?.close();
    this.#wake();
    this.#aside.close();
    this.#redis.disconnect();
  }
}

/** What may change under a mount. */
function credentialsOf({ username, password, tls, sentinel }: RedisUrl): Partial<RedisUrl> {
  return { username, password, tls, sentinel } as Partial<RedisUrl>;
}

/** A script and the name under which Redis keeps it. */
export interface Script {
  readonly sha: string;
  readonly source: string;
}
