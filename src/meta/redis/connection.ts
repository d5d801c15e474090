/**
 * One connection to a Redis server, kept alive for the life of a volume.
 *
 * While the server is away, calls wait (bounded by `patience`) and go on when it is back; nothing of an outage is
 * remembered afterwards. ioredis only carries single attempts here: it queues nothing and repeats nothing, because only the
 * caller knows whether a command may be sent twice. So everything given to `call` must be safe to repeat.
 *
 * Errors: UserError while opening, FsError later (ENOSPC where Redis is out of memory, EIO else). Never a password.
 */
import { readFileSync } from 'node:fs';
import { type ChainableCommander, Redis } from 'ioredis';
import type { Clock } from '../../lib/clock.ts';
import { FsError, messageOf, UserError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { describeMetaUrl, type RedisUrl } from '../url.ts';

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long a call waits for a server that is away, ms. */
  readonly patience: number;
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

/** Replies after which the same command may succeed on this or the next connection. */
const passing =
  /^(LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|BUSY )|max number of clients reached|^ERR (DISABLE|NOWRITE|NOREAD)/;
/** What ioredis says where the connection is not there or went away under a command. */
const lost = /Connection is closed|Stream isn't writeable|Reached the max retries|Command aborted due to connection close/;
/** Replies to the first commands of a connection that no waiting will change. */
const refused = /^(WRONGPASS|NOAUTH|NOPERM|ERR (AUTH|invalid password|DB index|Client sent AUTH)|ERR invalid DB)/i;

/** User or password are not, or no longer, accepted. */
const unauthenticated = /^(WRONGPASS|NOAUTH)/;

const NO_ANSWER = 'no answer';

function isLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return lost.test(error.message) || 'syscall' in error || passing.test(error.message);
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new UserError('TlsFile', `The file ${path} that the metadata URL names cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
}

export function tlsOptions(tls: NonNullable<RedisUrl['tls']>, host: string): object {
  return {
    servername: tls.serverName ?? host,
    rejectUnauthorized: !tls.insecureSkipVerify,
    ...(tls.certFile && tls.keyFile ? { cert: readPem(tls.certFile), key: readPem(tls.keyFile) } : {}),
    ...(tls.caFile ? { ca: readPem(tls.caFile) } : {}),
  };
}

export class RedisConnection {
  readonly description: string;
  readonly #redis: Redis;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #patience: number;
  readonly #backoff: number;
  readonly #onRefused: (() => void) | undefined;
  #lastError = NO_ANSWER;
  #wake: () => void = () => {};
  #ready: Promise<void>;
  #closed = false;

  constructor(url: RedisUrl, options: ConnectionOptions) {
    this.description = describeMetaUrl(url);
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#patience = options.patience;
    this.#onRefused = options.onRefused;
    this.#backoff = url.minRetryBackoff;
    this.#ready = new Promise((resolve) => (this.#wake = resolve));
    this.#redis = new Redis({
      ...redisOptions(url),
      // Destroys the connection where an answer is out for so long; the calls on it then go on on the next one.
      socketTimeout: url.readTimeout,
      // Every command of a connection that is lost fails at once, and is repeated here or not at all.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      // A server that became a replica: its name may stand for another one by now.
      reconnectOnError: (error) => error.message.startsWith('READONLY'),
    });
    this.#redis.on('error', (error: Error) => this.#noteError(error));
    this.#redis.on('ready', () => {
      if (this.#lastError !== NO_ANSWER) this.#logger.info('Redis answers again', { server: this.description });
      this.#lastError = NO_ANSWER;
      this.#wake();
    });
    this.#redis.on('close', () => {
      this.#ready = new Promise((resolve) => (this.#wake = resolve));
    });
  }

  #noteError(error: Error): void {
    const { message } = error;
    if (message !== this.#lastError) this.#logger.warn('Redis', { server: this.description, problem: message });
    this.#lastError = message;
    if (unauthenticated.test(message)) this.#onRefused?.();
  }

  /** True for an error that other credentials, which somebody may bring, would end. */
  #mayBeRenewed(error: unknown): boolean {
    if (!this.#onRefused || !unauthenticated.test(messageOf(error))) return false;
    this.#noteError(error as Error);
    return true;
  }

  /**
   * Goes on with the user, password and TLS files of `url`, which is of the same server and database and was proved on another
   * connection. The connection in use goes on where the server lets it; calls under way are not disturbed.
   */
  async adopt(url: RedisUrl): Promise<void> {
    const { options } = this.#redis;
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
  async open(): Promise<void> {
    const refusal = new Promise<never>((_resolve, reject) => {
      this.#redis.on('error', (error: Error) => {
        if (refused.test(error.message)) reject(error);
      });
    });
    refusal.catch(() => {});
    this.#redis.connect().catch((error: Error) => this.#noteError(error));
    try {
      await Promise.race([this.call('PING'), refusal]);
    } catch (cause) {
      this.close();
      if (refused.test(messageOf(cause)))
        throw new UserError('MetaRefused', `Redis at ${this.description} refuses us: ${messageOf(cause)}`, {
          cause,
          hint: 'Check user, password and database number of the metadata URL (or REDIS_PASSWORD, META_PASSWORD).',
        });
      throw new UserError('MetaUnreachable', `Redis at ${this.description} does not answer: ${this.#lastError}`, {
        cause,
        retryable: true,
        hint: 'Check that the server is running and can be reached from here, and the metadata URL.',
      });
    }
  }

  /** Sends a command that may be repeated; replies hold Buffers. */
  call(command: string, ...args: Argument[]): Promise<unknown> {
    return this.repeat(() => this.#redis.callBuffer(command, args));
  }

  /** Sends several commands that may be repeated in one go. Throws the first error among the replies. */
  async pipeline(commands: readonly (readonly [string, ...Argument[]])[]): Promise<readonly unknown[]> {
    if (commands.length === 0) return [];
    return this.repeat(async () => {
      const chain: ChainableCommander = this.#redis.pipeline();
      for (const [command, ...args] of commands) chain.callBuffer(command, args);
      const replies = (await chain.exec()) ?? [];
      return replies.map(([error, value]) => {
        if (error) throw error;
        return value;
      });
    });
  }

  /**
   * Runs a script; `attempt` counts from 0, more than 0 means that an earlier attempt was sent and its answer lost. A server
   * that does not know the script gets it.
   */
  script(
    script: Script,
    keyCount: number,
    args: (attempt: number) => readonly Argument[],
    signal?: AbortSignal,
  ): Promise<unknown> {
    let attempt = 0;
    return this.repeat(async () => {
      const list = args(attempt++);
      try {
        return await this.#redis.callBuffer('EVALSHA', [script.sha, keyCount, ...list]);
      } catch (error) {
        if (!messageOf(error).startsWith('NOSCRIPT')) throw error;
        return this.#redis.callBuffer('EVAL', [script.source, keyCount, ...list]);
      }
    }, signal);
  }

  /** Makes attempts until one is answered, or `patience` is over (EIO), or the signal aborts between two of them. */
  async repeat<T>(attempt: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      return await attempt();
    } catch (error) {
      if (this.#closed || !(isLost(error) || this.#mayBeRenewed(error))) throw this.#translate(error);
      return await this.#insist(attempt, error, signal);
    }
  }

  async #insist<T>(attempt: () => Promise<T>, first: unknown, signal: AbortSignal | undefined): Promise<T> {
    const begun = this.#clock.monotonic();
    let error = first;
    let pause = this.#backoff;
    for (;;) {
      signal?.throwIfAborted();
      const waitsForCredentials = this.#onRefused !== undefined && unauthenticated.test(this.#lastError);
      const patience = waitsForCredentials ? Math.max(this.#patience, REFUSED_PATIENCE_MS) : this.#patience;
      const left = begun + patience - this.#clock.monotonic();
      if (left <= 0 || this.#closed) throw this.#away(error);
      if (this.#redis.status === 'ready') await this.#clock.sleep(Math.min(pause, left), signal);
      else await Promise.race([this.#ready, this.#clock.sleep(Math.min(1000, left), signal)]);
      pause = Math.min(pause * 2, 1000);
      if (this.#redis.status !== 'ready') continue;
      try {
        return await attempt();
      } catch (next) {
        if (!(isLost(next) || this.#mayBeRenewed(next))) throw this.#translate(next);
        error = next;
      }
    }
  }

  #away(cause: unknown): FsError {
    const seconds = Math.round(this.#patience / 1000);
    const problem = passing.test(messageOf(cause)) ? messageOf(cause) : this.#lastError;
    return new FsError('EIO', `Redis at ${this.description} does not answer: ${problem} (waited ${seconds} s)`, {
      cause,
      retryable: true,
    });
  }

  #translate(error: unknown): Error {
    if (error instanceof FsError || error instanceof RangeError) return error;
    const message = messageOf(error);
    if (this.#closed) return new FsError('EIO', `the connection to ${this.description} was closed`, { cause: error });
    if (/\bOOM\b/.test(message))
      return new FsError('ENOSPC', `Redis at ${this.description} is out of memory (maxmemory): ${message}`, { cause: error });
    return new FsError('EIO', `Redis at ${this.description}: ${message}`, { cause: error });
  }

  /** Ends the connection; calls still out fail. */
  close(): void {
    this.#closed = true;
    this.#wake();
    this.#redis.disconnect();
  }
}

/** How ioredis reaches a server, for any connection; made when it is asked for. */
export function redisOptions(url: RedisUrl) {
  return {
    ...(url.socket === undefined ? { host: url.host, port: url.port } : { path: url.socket }),
    db: url.database,
    ...(url.username === undefined ? {} : { username: url.username }),
    ...(url.password === undefined ? {} : { password: url.password }),
    ...(url.tls ? { tls: tlsOptions(url.tls, url.host) } : {}),
    protocol: 2,
    lazyConnect: true,
    connectTimeout: url.writeTimeout,
    retryStrategy: (times: number) => Math.min(url.minRetryBackoff * 2 ** Math.min(times, 20), url.maxRetryBackoff, 1000),
  } as const;
}

/** A script and the name under which Redis keeps it. */
export interface Script {
  readonly sha: string;
  readonly source: string;
}
