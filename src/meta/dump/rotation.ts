/**
 * Which automatic backups are kept: all of the last two days, then the oldest of each day up to two weeks, of each week up to two months,
 * of each month up to two years; none that is older.
 *
 * Source: the JuiceFS format, automatic backup (`rotate` in pkg/vfs/backup.go of 1.4.1, whose windows these are).
 */
const DAY_MS = 86_400_000;

/** Ages in days between which one is kept: 2, 3, … 14, 21, … 63, 93, … */
function* boundaries(): Generator<number> {
  for (let days = 2; ; days += days < 14 ? 1 : days < 60 ? 7 : 30) yield days;
}

const pad = (value: number, width = 2): string => String(value).padStart(width, '0');

/** The name of the backup of a moment (ms since the epoch, UTC): `dump-2006-01-02-150405.json.gz`. */
export function backupName(ms: number): string {
  const date = new Date(ms);
  const day = `${pad(date.getUTCFullYear(), 4)}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}`;
  return `dump-${day}-${pad(date.getUTCHours())}${pad(date.getUTCMinutes())}${pad(date.getUTCSeconds())}.json.gz`;
}

/** When a backup of this name was made, ms since the epoch; undefined where it is something else. */
export function backupTime(name: string): number | undefined {
  const match = /^dump-(\d{4})-(\d\d)-(\d\d)-(\d\d)(\d\d)(\d\d)\.json\.gz$/.exec(name);
  if (!match) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  const ms = Date.UTC(year, month - 1, day, hour, minute, second);
  return backupName(ms) === name ? ms : undefined;
}

/** The names, of these, that are to be deleted at `now` (ms). What is no backup is left alone. */
export function outdated(names: readonly string[], now: number): readonly string[] {
  const cutoff = new Date(now).setUTCFullYear(new Date(now).getUTCFullYear() - 2);
  const windows = new Map<number, string>();
  const gone: string[] = [];
  // Oldest first: the first of a window stays.
  for (const name of names.toSorted()) {
    const time = backupTime(name);
    if (time === undefined || now - time <= 2 * DAY_MS) continue;
    const window = windowOf((now - time) / DAY_MS);
    if (time < cutoff || windows.has(window)) gone.push(name);
    else windows.set(window, name);
  }
  return gone;
}

function windowOf(age: number): number {
  let window = 0;
  for (const days of boundaries()) {
    if (days >= age) break;
    window = days;
  }
  return window;
}
