/** What becomes of backups that are made every hour, for years. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backupName, backupTime, outdated } from './rotation.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.UTC(2024, 1, 28, 12);

test('names are those of the official client, and are read back', () => {
  assert.equal(backupName(Date.UTC(2026, 10, 21, 9, 5, 7, 999)), 'dump-2026-11-21-090507.json.gz');
  assert.equal(backupTime('dump-2026-11-21-090507.json.gz'), Date.UTC(2026, 10, 21, 9, 5, 7));
  for (const name of ['dump-2026-13-21-090507.json.gz', 'dump-2026-11-21-090507.json', 'mine.json.gz', ''])
    assert.equal(backupTime(name), undefined, name);
});

test('a backup every six hours for three years leaves those of two days, and one of each day, week and month before', () => {
  let names: string[] = [];
  const end = START + 3 * 365 * DAY;
  for (let now = START; now <= end; now += 6 * HOUR) {
    names.push(backupName(now));
    const gone = new Set(outdated(names, now));
    names = names.filter((name) => !gone.has(name));
  }
  const ages = names.map((name) => (end - (backupTime(name) ?? 0)) / DAY);
  const between = (from: number, to: number): number => ages.filter((age) => age > from && age <= to).length;
  assert.equal(between(-1, 2), 9);
  assert.equal(between(2, 14), 12);
  // A week is cut where its window ends, so one may just have gone.
  for (const [from, to, least, most] of [
    [14, 63, 6, 8],
    [63, 731, 15, 24],
    [732, 10_000, 0, 0],
  ] as const)
    assert.ok(between(from, to) >= least && between(from, to) <= most, `${between(from, to)} between ${from} and ${to} days`);
});

test('what is no backup is left alone, and of one window the oldest stays', () => {
  const now = START + 100 * DAY;
  const old = [5.1, 5.5, 5.9].map((days) => backupName(now - days * DAY));
  assert.deepEqual(outdated(['notes.txt', ...old], now), [old[1], old[0]]);
});
