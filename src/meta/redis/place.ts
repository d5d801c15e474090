/**
 * Where the server of a volume is at the moment, where that changes: the master that Sentinels name, or the node of a Cluster
 * that has the volume's slot (all keys of a volume have one hash tag, so one node has them all). With role `replica` one of
 * its replicas, or the master where there is none in order.
 *
 * Everybody who can be asked is asked at once, and the one with the newest configuration counts: the others may have slept
 * through a change, and after a failover Sentinels tell each other of it some seconds later.
 *
 * Bounds: 64 nodes are remembered; an answer may take ANSWER_MS; those who want to know share one round of questions.
 * Source: the Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel", CLUSTER SLOTS, CLUSTER NODES.
 */
import { Redis } from 'ioredis';
import type { Clock } from '../../lib/clock.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Random } from '../../lib/random.ts';
import { type Address, describeAddress, type RedisUrl } from '../url-redis.ts';
import { isRefusal } from './replies.ts';
import { tlsOptions } from './tls.ts';

const ANSWER_MS = 1500;
const MAX_NODES = 64;

export type Role = 'master' | 'replica';

export interface PlaceOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** @default 'master' */
  readonly role?: Role;
  /** The slot of the volume, with a Cluster. */
  readonly slot: number;
}

type Reply = readonly unknown[];

/** Who the servers are, as one that was asked sees it; the epoch counts configurations. */
interface Owner {
  readonly epoch: number;
  readonly master: Address;
  readonly replicas: readonly Address[];
}

function textOf(value: unknown): string {
  return Buffer.isBuffer(value) || typeof value === 'string' || typeof value === 'number' ? value.toString() : '';
}

/** Flat pairs as a map. */
function mapOf(list: Reply): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  for (let at = 0; at + 1 < list.length; at += 2) map.set(textOf(list[at]), textOf(list[at + 1]));
  return map;
}

/** Reads CLUSTER SLOTS: all addresses, and the servers of `slot`. A node that does not know its own name is who answered. */
function readSlots(
  reply: Reply,
  slot: number,
  asked: Address,
): {
  readonly known: readonly Address[];
  readonly id?: string;
  readonly master?: Address;
  readonly replicas: readonly Address[];
} {
  const known: Address[] = [];
  let found: { readonly id: string; readonly master: Address; readonly replicas: readonly Address[] } | undefined;
  for (const [from, to, ...servers] of reply as readonly (readonly [number, number, ...Reply[]])[]) {
    const addresses = servers.flatMap(([host, port]) =>
      textOf(host) === '?' ? [] : [{ host: textOf(host) || asked.host, port: Number(port) }],
    );
    known.push(...addresses);
    const [master, ...replicas] = addresses;
    if (slot >= from && slot <= to && master) found = { id: textOf(servers[0]?.[2]), master, replicas };
  }
  return { known, replicas: [], ...found };
}

/** The configuration epoch of a node in the text of CLUSTER NODES; 0 where that says nothing of it. */
function epochOf(nodes: string, id: string): number {
  const line = nodes.split('\n').find((each) => each.startsWith(`${id} `));
  return Number(line?.split(' ')[6] ?? 0) || 0;
}

/** True for two that are the same, or both missing. */
export const sameAddress = (a: Address | undefined, b: Address | undefined): boolean =>
  a?.host === b?.host && a?.port === b?.port;

export class Place {
  readonly role: Role;
  #url: RedisUrl;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #slot: number;
  readonly #listeners = new Set<() => void>();
  #nodes: readonly Address[];
  #current: Address | undefined;
  #hint: Address | undefined;
  #finding: Promise<Address> | undefined;

  constructor(url: RedisUrl, options: PlaceOptions) {
    this.#url = url;
    this.role = options.role ?? 'master';
    this.#clock = options.clock;
    this.#random = options.random;
    this.#slot = options.slot;
    this.#nodes = url.sentinel?.nodes ?? url.cluster ?? [];
  }

  /** What was found last. */
  get current(): Address | undefined {
    return this.#current;
  }

  /** Goes on with other credentials. */
  adopt(url: RedisUrl): void {
    this.#url = url;
  }

  /** A node of the Cluster says that this one has the slot now: the next `find` answers it without asking. */
  moved(address: Address): void {
    this.#hint = { host: address.host || (this.#current?.host ?? ''), port: address.port };
  }

  /** Calls back whenever the server is found elsewhere than before, until the answer is called. */
  onMove(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  pause(ms: number): Promise<void> {
    return this.#clock.sleep(ms);
  }

  /** Asks where the server is. Throws an Error that says whom it asked and what they said. */
  find(): Promise<Address> {
    this.#finding ??= this.#find().finally(() => (this.#finding = undefined));
    return this.#finding;
  }

  async #find(): Promise<Address> {
    const hint = this.role === 'master' ? this.#hint : undefined;
    this.#hint = undefined;
    const found = hint ?? (await (this.#url.sentinel ? this.#askSentinels() : this.#askCluster()));
    if (!sameAddress(found, this.#current)) {
      const first = this.#current === undefined;
      this.#current = found;
      if (!first) for (const listener of this.#listeners) listener();
    }
    return found;
  }

  /** Answers of all nodes, in their order; those that failed say why. */
  async #askAll<T>(ask: (redis: Redis, node: Address) => Promise<T>): Promise<readonly T[]> {
    const problems: string[] = [];
    const refusals: string[] = [];
    const answers: T[] = [];
    await Promise.all(
      this.#nodes.map(async (node) => {
        try {
          answers.push(await this.#ask(node, ask));
        } catch (error) {
          if (isRefusal(messageOf(error))) refusals.push(messageOf(error));
          problems.push(`${describeAddress(node)}: ${messageOf(error)}`);
        }
      }),
    );
    if (answers.length > 0) return answers;
    const who = this.#url.sentinel ? 'Sentinel' : 'node of the Cluster';
    // First in the message, for whoever can bring other credentials.
    const refused = refusals[0];
    if (refused !== undefined)
      throw new Error(`${refused} (said by a ${who}${this.#url.sentinel ? ', whose password is SENTINEL_PASSWORD' : ''})`);
    throw new Error(`no ${who} says where the server is (${problems.join('; ')})`);
  }

  async #ask<T>(node: Address, ask: (redis: Redis, node: Address) => Promise<T>): Promise<T> {
    const { tls, sentinel } = this.#url;
    const password = sentinel ? sentinel.password : this.#url.password;
    const username = sentinel ? undefined : this.#url.username;
    const redis = new Redis({
      ...node,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(tls ? { tls: tlsOptions(tls, node.host) } : {}),
      lazyConnect: true,
      protocol: 2,
      enableReadyCheck: false,
      disableClientInfo: true,
      maxRetriesPerRequest: 0,
      connectTimeout: ANSWER_MS,
      retryStrategy: () => null,
    });
    // What it says of its connection, where a command only says that there is none.
    const state: { error?: Error } = {};
    redis.on('error', (error: Error) => (state.error = error));
    const waited = new AbortController();
    const late = this.#clock.sleep(ANSWER_MS, waited.signal).then(
      () => Promise.reject(new Error(`no answer within ${ANSWER_MS} ms`)),
      () => new Promise<never>(() => {}),
    );
    try {
      return await Promise.race([redis.connect().then(() => ask(redis, node)), late]);
    } catch (error) {
      throw state.error ?? error;
    } finally {
      waited.abort();
      redis.disconnect();
    }
  }

  async #askSentinels(): Promise<Address> {
    const name = this.#url.sentinel?.master ?? '';
    const answers = await this.#askAll(async (redis): Promise<Owner> => {
      const [reply, state] = (await Promise.all([
        redis.call('SENTINEL', 'get-master-addr-by-name', name),
        redis.call('SENTINEL', 'master', name).catch(() => []),
      ])) as [Reply | null, Reply];
      if (!reply) throw new Error(`it knows no master ${JSON.stringify(name)}`);
      const master = { host: textOf(reply[0]), port: Number(reply[1]) };
      const epoch = Number(mapOf(state).get('config-epoch') ?? 0);
      if (this.role === 'master') return { epoch, master, replicas: [] };
      const list = (await redis.call('SENTINEL', 'replicas', name).catch(() => [])) as readonly Reply[];
      const replicas = list.map(mapOf).filter((each) => {
        const flags = (each.get('flags') ?? '').split(',');
        return (
          each.get('master-link-status') === 'ok' && !flags.some((flag) => flag.endsWith('_down') || flag === 'disconnected')
        );
      });
      return {
        epoch,
        master,
        replicas: replicas.map((each) => ({ host: each.get('ip') ?? '', port: Number(each.get('port')) })),
      };
    });
    return this.#choose(answers);
  }

  async #askCluster(): Promise<Address> {
    const known: Address[] = [];
    const owners = await this.#askAll(async (redis, node): Promise<Owner> => {
      const [slots, nodes] = await Promise.all([
        redis.call('CLUSTER', 'SLOTS') as Promise<Reply>,
        redis.call('CLUSTER', 'NODES').catch(() => ''),
      ]);
      const { id, master, replicas, known: seen } = readSlots(slots, this.#slot, node);
      known.push(...seen);
      if (!master) throw new Error(`no node has slot ${this.#slot}`);
      return { epoch: epochOf(textOf(nodes), id ?? ''), master, replicas };
    });
    const seeds = this.#url.cluster ?? [];
    const all = new Map([...seeds, ...known].map((each) => [describeAddress(each), each]));
    this.#nodes = [...all.values()].slice(0, MAX_NODES);
    return this.#choose(owners);
  }

  /** From the newest of what was said. A replica stays chosen as long as it is in order. */
  #choose(said: readonly Owner[]): Address {
    const { master } = said.reduce((best, each) => (each.epoch > best.epoch ? each : best));
    const replicas = said.filter((each) => sameAddress(each.master, master)).flatMap((each) => each.replicas);
    if (this.role === 'master' || replicas.length === 0) return master;
    const kept = replicas.find((each) => sameAddress(each, this.#current));
    return kept ?? replicas[Math.floor(this.#random.float() * replicas.length)] ?? master;
  }
}
