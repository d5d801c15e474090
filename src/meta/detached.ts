/**
 * Trees without a name: copies that are being made (clone.ts). One that nobody finishes is removed by who began it, or a day after it
 * was last worked on by a job, ours or the official `gc`. Source: the JuiceFS format, clone.
 */
import { FsError } from '../lib/errors.ts';
import type { Ino } from '../lib/int64.ts';
import { empty } from './empty.ts';
import type { Write } from './engine.ts';
import { statOf } from './stats.ts';
import { SYSTEM } from './types.ts';
import type { Volume } from './volume.ts';

const ABANDONED = 24 * 3600;
const PER_ROUND = 1000;

/** Removes a tree without a name, and the note of it. */
export async function discard(volume: Volume, top: Ino): Promise<void> {
  await empty(volume, SYSTEM, top);
  const [attr] = await volume.engine.read([{ kind: 'node', ino: top }]);
  const forget: Write = { kind: 'removeDetached', ino: top };
  if (!attr) return void (await volume.engine.commit({ checks: [], writes: [forget] }));
  const { space } = statOf(attr);
  const result = await volume.engine.commit({
    checks: [
      { kind: 'node', ino: top, expect: attr, scope: 'exists' },
      { kind: 'emptyDirectory', ino: top },
    ],
    writes: [
      { kind: 'removeNode', ino: top },
      { kind: 'removeXattrs', ino: top },
      { kind: 'removeDirStat', ino: top },
      forget,
      ...volume.stats.writes(-space, -1),
      ...volume.log.cleanup(top),
    ],
  });
  if (!result.ok) throw new FsError('ENOTEMPTY');
  volume.guesses.setNode(top, undefined);
  volume.stats.forget(top);
  volume.stats.charge(-space, -1);
  volume.limits.charge({ space: -space, inodes: -1, owner: attr });
}

/** Trees without a name that nobody has worked on for a day: the client that made them has ended. A job of jobs.ts. */
export async function cleanDetached(volume: Volume, signal: AbortSignal): Promise<void> {
  for (const top of await volume.engine.scanDetached(volume.seconds() - ABANDONED, PER_ROUND)) {
    signal.throwIfAborted();
    await discard(volume, top);
  }
}
