/** A profile of this process' JavaScript, as Chrome's developer tools and speedscope read it (`.cpuprofile`). */
import type { Clock } from '../lib/clock.ts';

/** Takes one for so many milliseconds; ends early, with what there is, when the signal aborts. */
export async function cpuProfile(ms: number, clock: Clock, signal: AbortSignal): Promise<string> {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.start');
    await clock.sleep(ms, signal).catch(() => {});
    const { profile } = await session.post('Profiler.stop');
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
  }
}
