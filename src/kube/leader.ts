/**
 * Leader election over a Lease (coordination.k8s.io/v1), after client-go's tools/leaderelection.
 *
 * - Whether another's lease has run out is judged by how long *we* have seen no change of it, by the monotonic clock; the
 *   times written in the Lease are for people, so that clocks may differ.
 * - Every write carries the resource version it is based on: of two who try, one gets a Conflict.
 * - Durations 15/10/2 s: a leader counts itself as leading for 10 s from before its last successful renewal was sent, others
 *   wait for 15 s after they saw it. `assertLeading` before each write keeps a process that was frozen, or a machine that was
 *   asleep (its monotonic clock stands still: so the wall clock is looked at too), from writing after it was replaced. Not
 *   covered: a machine that sleeps and is set back by as much, and a write that is on its way for longer than 5 s.
 * - The lease is renewed until the work is wound up, then released (no holder, 1 s), so that the next need not wait. One that
 *   was asked for when the signal came, and may have been got, is released too.
 * - A process that is not ready to lead may `observe` meanwhile: the time that the lease of one that was killed takes to run out
 *   is counted from the first look on. Whoever waits looks again when that time is over, not at its next turn.
 */
import type { Registry } from 'prom-client';
import { type Clock, systemClock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import { type Logger, nullLogger } from '../lib/log.ts';
import { type Random, systemRandom } from '../lib/random.ts';
import { NotLeadingError, isAlreadyExists, isConflict } from './errors.ts';
import { kitMetrics } from './metrics.ts';
import { Leases } from './resources.ts';
import type { KubeObject, Leader, LeaderOptions } from './types.ts';

interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}
type Lease = KubeObject & { readonly spec?: LeaseSpec };

/** Spread of those who try when a lease has run out. */
const EXPIRY_JITTER_MS = 200;

export interface LeaderEnvironment {
  readonly log?: Logger;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly metrics?: Registry;
}

/** RFC 3339 with microseconds, as Leases and Events have it. */
export function microTime(nowMs: number): string {
  return new Date(nowMs).toISOString().replace('Z', '000Z');
}

export function createLeader(options: LeaderOptions, environment: LeaderEnvironment = {}): Leader {
  const { namespace, name, identity } = options;
  const leaseDurationMs = options.leaseDurationMs ?? 15_000;
  const renewDeadlineMs = options.renewDeadlineMs ?? 10_000;
  const retryPeriodMs = options.retryPeriodMs ?? 2000;
  if (!(leaseDurationMs > renewDeadlineMs && renewDeadlineMs > retryPeriodMs * 1.2))
    throw new RangeError(
      `a leader needs lease duration > renew deadline > 1.2 × retry period: found ${leaseDurationMs}, ${renewDeadlineMs}, ${retryPeriodMs} ms`,
    );
  const clock = environment.clock ?? systemClock;
  const random = environment.random ?? systemRandom;
  const log = (environment.log ?? nullLogger).child({ lease: `${namespace}/${name}`, identity });
  const metrics = environment.metrics && kitMetrics(environment.metrics);
  const leases = options.client.resource<Lease>(Leases);
  const ref = { namespace, name };

  let observed: Lease | undefined;
  let observedAt = -Infinity;
  let elected = false;
  /** A write was sent and its answer not seen: the lease may be ours. */
  let unsure = false;
  let renewedAt = -Infinity;
  let renewedWall = -Infinity;

  const fresh = (): boolean =>
    elected && clock.monotonic() - renewedAt < renewDeadlineMs && clock.now() - renewedWall < renewDeadlineMs;

  function observe(lease: Lease): void {
    if (observed?.metadata.resourceVersion === lease.metadata.resourceVersion && observed?.metadata.uid === lease.metadata.uid)
      return;
    observed = lease;
    observedAt = clock.monotonic();
  }

  /** Milliseconds until the lease that another one holds has run out; 0 where it may be had. */
  const heldByOtherFor = (): number => {
    const spec = observed?.spec;
    if (!spec?.holderIdentity || spec.holderIdentity === identity) return 0;
    const duration = spec.leaseDurationSeconds === undefined ? leaseDurationMs : spec.leaseDurationSeconds * 1000;
    return Math.max(0, observedAt + duration - clock.monotonic());
  };

  async function look(signal: AbortSignal): Promise<void> {
    const found = await leases.find(ref, signal);
    if (found) observe(found);
    else observed = undefined;
  }

  function specOf(old: LeaseSpec | undefined): LeaseSpec {
    const now = microTime(clock.now());
    const mine = old?.holderIdentity === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000),
      acquireTime: mine ? (old.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (old?.leaseTransitions ?? 0) + (mine || !old ? 0 : 1),
    };
  }

  /** Writes the lease as ours if it may be had; true where it is ours now. Throws what the API throws, conflicts excepted. */
  async function acquireOrRenew(signal: AbortSignal): Promise<boolean> {
    // Our own last write is the best guess; a conflict tells when it is not.
    if (!elected || !observed) await look(signal);
    if (heldByOtherFor() > 0) return false;
    const sentAt = clock.monotonic();
    const sentWall = clock.now();
    const spec = specOf(observed?.spec);
    unsure = true;
    try {
      const written = observed
        ? await leases.replace({ ...observed, spec, metadata: { ...observed.metadata, name, namespace } }, { signal })
        : await leases.create({ metadata: { name, namespace }, spec }, { signal });
      unsure = false;
      observe(written);
      renewedAt = sentAt;
      renewedWall = sentWall;
      return true;
    } catch (error) {
      if (!isConflict(error) && !isAlreadyExists(error)) throw error;
      unsure = false;
      await look(signal);
      return false;
    }
  }

  /** Leaves the lease without a holder, where it is ours. */
  async function giveUp(): Promise<void> {
    try {
      await bounded(new AbortController().signal, renewDeadlineMs, async (signal) => {
        if (unsure) await look(signal);
        if (observed?.spec?.holderIdentity !== identity) return;
        const now = microTime(clock.now());
        const spec: LeaseSpec = {
          holderIdentity: '',
          leaseDurationSeconds: 1,
          acquireTime: now,
          renewTime: now,
          leaseTransitions: observed.spec.leaseTransitions ?? 0,
        };
        await leases.replace({ ...observed, spec, metadata: { ...observed.metadata, name, namespace } }, { signal });
        log.info('lease released');
      });
    } catch (error) {
      log.warn('lease not released, it will run out', { error: messageOf(error) });
    }
  }

  async function waitForElection(signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      try {
        if (await bounded(signal, renewDeadlineMs, acquireOrRenew)) return true;
      } catch (error) {
        if (signal.aborted) return false;
        log.warn('cannot get the lease, will try again', { error: messageOf(error) });
      }
      if (!(await turn(signal))) return false;
    }
    return false;
  }

  /** Waits for the next try, or until the lease has run out; false where the signal came first. */
  async function turn(signal: AbortSignal): Promise<boolean> {
    const jitter = random.float();
    const left = heldByOtherFor();
    const wait = retryPeriodMs * (1 + 1.2 * jitter);
    try {
      // Those who wait for the same moment come one after the other.
      await clock.sleep(left > 0 ? Math.min(wait, left + EXPIRY_JITTER_MS * jitter) : wait, signal);
      return true;
    } catch {
      return false;
    }
  }

  /** Runs with a signal that is aborted after `ms` too. */
  async function bounded<R>(signal: AbortSignal, ms: number, work: (signal: AbortSignal) => Promise<R>): Promise<R> {
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const cancel = clock.timer(ms, () => controller.abort(new NotLeadingError(`the API server did not answer within ${ms} ms`)));
    try {
      return await work(controller.signal);
    } finally {
      cancel();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Renews until `done` is aborted (resolves) or the lease is lost (rejects). */
  async function keep(done: AbortSignal): Promise<void> {
    while (!done.aborted) {
      const planned = clock.monotonic() + retryPeriodMs;
      try {
        await clock.sleep(retryPeriodMs, done);
      } catch {
        return;
      }
      metrics?.renewLateSeconds.set({ name }, Math.max(0, clock.monotonic() - planned) / 1000);
      const left = renewedAt + renewDeadlineMs - clock.monotonic();
      if (left <= 0) throw lost('the lease was not renewed in time');
      try {
        if (await bounded(done, left, acquireOrRenew)) continue;
      } catch (error) {
        if (done.aborted) return;
        log.warn('lease not renewed, will try again', { error: messageOf(error) });
      }
      if (observed?.spec?.holderIdentity !== identity) throw lost(`${observed?.spec?.holderIdentity || 'nobody'} holds it`);
      if (clock.monotonic() - renewedAt >= renewDeadlineMs) throw lost('the lease was not renewed in time');
    }
  }

  const lost = (why: string): NotLeadingError => new NotLeadingError(`leadership of ${namespace}/${name} is lost: ${why}`);

  return {
    identity,
    get isLeading() {
      return fresh();
    },
    assertLeading() {
      if (!fresh())
        throw new NotLeadingError(`${identity} does not lead ${namespace}/${name}, or cannot be sure to: nothing was written`);
    },
    async observe(signal) {
      while (!signal.aborted) {
        try {
          await bounded(signal, renewDeadlineMs, look);
        } catch (error) {
          if (!signal.aborted) log.warn('cannot look at the lease, will try again', { error: messageOf(error) });
        }
        await turn(signal);
      }
    },
    async run(lead, signal) {
      metrics?.leading.set({ name }, 0);
      if (!(await waitForElection(signal))) {
        // Told to end while it asked for the lease: nothing was written under it, so whoever is next need not wait.
        if (unsure) await giveUp();
        return 'released';
      }
      elected = true;
      metrics?.leading.set({ name }, 1);
      log.info('leading');
      const leading = new AbortController();
      const onAbort = (): void => leading.abort(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      const done = new AbortController();
      let outcome: 'released' | 'lost' = 'released';
      const keeping = keep(done.signal).catch((error: unknown) => {
        outcome = 'lost';
        elected = false;
        metrics?.leading.set({ name }, 0);
        log.error('leadership lost', { error: messageOf(error) });
        leading.abort(error);
      });
      try {
        await lead(leading.signal);
      } finally {
        done.abort();
        signal.removeEventListener('abort', onAbort);
        await keeping;
        const isOurs = fresh();
        elected = false;
        if (isOurs) await giveUp();
        metrics?.leading.set({ name }, 0);
      }
      return outcome;
    },
  };
}
