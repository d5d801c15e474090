/**
 * What the error replies of a Redis mean for who asked. Inside a script they come with words around them: up to version 6
 * `ERR Error running script (…): @user_script:1: -READONLY …`, later `READONLY … script: …`.
 */
import type { Address } from '../url-redis.ts';

const inScript = String.raw`(?:ERR Error running script .*?: -?)?`;

/**
 * Replies after which the same command may succeed on this or the next connection. MISCONF is a server that cannot write its
 * snapshot, NOREPLICAS one that has lost its replicas, UNBLOCKED one that became a replica, "non local key" a slot on its way.
 */
const passing = new RegExp(
  `^${inScript}(LOADING|READONLY|CLUSTERDOWN|TRYAGAIN|MASTERDOWN|MISCONF|NOREPLICAS|UNBLOCKED|MOVED|ASK|BUSY )` +
    '|max number of clients reached|^ERR (DISABLE|NOWRITE|NOREAD|WAIT cannot be used with replica)|access a non local key',
);
/** What ioredis says where the connection is not there or went away under a command. */
const lost = /Connection is closed|Stream isn't writeable|Reached the max retries|Command aborted due to connection close/;
/** Replies to the first commands of a connection that no waiting will change. */
const refused = /^(WRONGPASS|NOAUTH|NOPERM|ERR (AUTH|invalid password|DB index|Client sent AUTH)|ERR invalid DB)/i;
/** User or password are not, or no longer, accepted. */
const unauthenticated = /^(WRONGPASS|NOAUTH)/;
/** The server is no (longer a) master: its name may stand for another one by now. */
const elsewhere = new RegExp(`^${inScript}(READONLY|MASTERDOWN|UNBLOCKED|ERR WAIT cannot)`);

export const isPassing = (message: string): boolean => passing.test(message);
export const isRefusal = (message: string): boolean => refused.test(message);
export const isUnauthenticated = (message: string): boolean => unauthenticated.test(message);
export const isElsewhere = (message: string): boolean => elsewhere.test(message);
/** The memory of the server is used up. */
export const isFull = (message: string): boolean => /\bOOM\b/.test(message);

/** Nobody knows whether the command was carried out, or it was not: it may be sent again. */
export function isLost(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return lost.test(error.message) || 'syscall' in error || passing.test(error.message);
}

/** Where a node of a Cluster sends us: for good, or (`ask`) for this one command. An empty host is the one that answered. */
export function redirection(message: string): (Address & { readonly ask: boolean }) | undefined {
  const match = /^(MOVED|ASK) \d+ (.*):(\d+)$/.exec(message);
  return match ? { ask: match[1] === 'ASK', host: match[2] ?? '', port: Number(match[3]) } : undefined;
}
