/**
 * Changing the format of a volume that is there: compared and written at once, so that two who change it at the same time lose
 * nothing of each other. Running clients take the new one over with their next heartbeat.
 *
 * What a change brings with it is part of the same transaction: a trash root where the trash comes on; statistics of
 * directories, or quotas of users and groups, that are counted from now on start without old records.
 * Source: the JuiceFS format, §1.1.
 */
import { type Clock, systemClock } from '../lib/clock.ts';
import { FsError, UserError } from '../lib/errors.ts';
import { TRASH_INO } from '../lib/int64.ts';
import { bareDirectory } from './bare-directory.ts';
import { ChangeLog } from './changelog.ts';
import type { Check, MetaEngine, Write } from './engine.ts';
import { type Format, parseFormat, serialiseFormat } from './format.ts';

/** Others may change it meanwhile so many times. */
const ATTEMPTS = 20;

/** The format of the volume, or a UserError `NoVolume`. */
export async function readSetting(engine: MetaEngine): Promise<{ readonly text: string; readonly format: Format }> {
  const text = await engine.readSetting();
  if (text === undefined)
    throw new UserError('NoVolume', `${engine.description} holds no volume`, { hint: 'Make one with juicepod format.' });
  return { text, format: parseFormat(text) };
}

/** The change log of a volume for a command: it has no session. */
export function logFor(engine: Pick<MetaEngine, 'longestEntry'>, format: Format, clock: Clock = systemClock): ChangeLog {
  const log = new ChangeLog(clock, () => 0, engine.longestEntry);
  log.on = format.changeLog;
  return log;
}

/**
 * Writes what `change` makes of the format (secrets as they are stored); where it answers the same object, nothing. `change`
 * may be called again with what somebody else has written meanwhile. Throws UserError where there is no volume.
 */
export async function changeSetting(
  engine: MetaEngine,
  change: (format: Format) => Format | Promise<Format>,
  clock: Clock = systemClock,
): Promise<{ readonly before: Format; readonly after: Format }> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { text, format: before } = await readSetting(engine);
    const after = await change(before);
    if (after === before || serialiseFormat(after) === serialiseFormat(before)) return { before, after: before };
    const log = logFor(engine, before, clock);
    const checks: Check[] = [{ kind: 'setting', expect: text }];
    const writes: Write[] = [];
    if (after.dirStats && !before.dirStats) writes.push({ kind: 'removeDirStats' }, ...log.startCounting('DIRSTATS'));
    if (after.userGroupQuota && !before.userGroupQuota)
      writes.push(
        { kind: 'removeQuotas', of: 'user' },
        { kind: 'removeQuotas', of: 'group' },
        ...log.startCounting('USERGROUPQUOTA'),
      );
    if (after.trashDays > 0) {
      const [trash] = await engine.nodes([TRASH_INO]);
      if (!trash) {
        const ns = clock.nowNs();
        const attr = bareDirectory(0o555, { sec: Number(ns / 1_000_000_000n), nsec: Number(ns % 1_000_000_000n) });
        checks.push({ kind: 'node', ino: TRASH_INO, expect: undefined, scope: 'all' });
        writes.push({ kind: 'putNode', ino: TRASH_INO, attr });
      }
    }
    writes.push({ kind: 'putSetting', text: serialiseFormat(after) });
    if ((await engine.commit({ checks, writes })).ok) return { before, after };
  }
  throw new FsError('EAGAIN', 'the setting of the volume is changed again and again by somebody else', { retryable: true });
}
