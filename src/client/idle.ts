/**
 * A process that has done something and now waits gives back the memory it does not need for waiting. What tells the two apart is
 * processor time, its own and that of its threads: it costs nothing to count, and leaves nothing out.
 */
import type { Clock } from '../lib/clock.ts';

/** Between two looks, milliseconds. */
const LOOK_MS = 2500;
/** Processor time between two looks of one that waits, at most, milliseconds: heartbeats, timers. */
const QUIET_MS = 50;
/** So many looks in a row that find it waiting, for one that has been at work; a request soon afterwards is likely before. */
const QUIET_LOOKS = 4;
/** The same for one that has only started. */
const FIRST_QUIET_LOOKS = 1;
/** Waiting is work too: after so much of it there is something to give back again, processor time in milliseconds. */
const WAITED_MS = 2000;

/** What is known from look to look. */
export interface Idleness {
  readonly quiet: number;
  /** Looks in a row that are to be quiet. */
  readonly wanted: number;
  /** Processor time since memory was given back, milliseconds. */
  readonly spent: number;
  /** There was work since then. */
  readonly worked: boolean;
}

export const started: Idleness = { quiet: 0, wanted: FIRST_QUIET_LOOKS, spent: 0, worked: true };

/** What a look finds that comes `cpuMs` of processor time after the last one; `giveBack` where it is time. */
export function look(before: Idleness, cpuMs: number): Idleness & { readonly giveBack: boolean } {
  const quiet = cpuMs <= QUIET_MS ? before.quiet + 1 : 0;
  const worked = before.worked || quiet === 0;
  const spent = before.spent + cpuMs;
  if (quiet >= before.wanted && (worked || spent >= WAITED_MS))
    return { quiet, wanted: QUIET_LOOKS, spent: 0, worked: false, giveBack: true };
  return { quiet, wanted: before.wanted, spent, worked, giveBack: false };
}

export interface IdleOptions {
  readonly clock: Clock;
  /** Processor time of the process so far, milliseconds. @default of this process */
  readonly cpuMs?: () => number;
  /** Called when the process waits and has not given anything back since it worked. */
  readonly giveBack: () => void;
}

const ownCpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** Watches the process until the returned function is called. */
export function whenIdle({ clock, cpuMs = ownCpuMs, giveBack }: IdleOptions): () => void {
  let state = started;
  let last = cpuMs();
  let cancel: () => void;
  const again = (): void => {
    const found = look(state, cpuMs() - last);
    state = found;
    if (found.giveBack) giveBack();
    // Behind it: what it took is no work.
    last = cpuMs();
    cancel = clock.timer(LOOK_MS, again);
  };
  cancel = clock.timer(LOOK_MS, again);
  return () => cancel();
}
