import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lines, parseLine, passes, Profile } from './profile-log.ts';

const line = (operation: string, latency: string, pid = 657): string =>
  `2026.11.21 10:18:13.327766 [uid:1,gid:2,pid:${pid}] ${operation} (1,a <b> (c)): result - OK <${latency}>`;

test('a line of the log is read whatever stands in its arguments, and what is none is left out', () => {
  assert.deepEqual(parseLine(line('copy_file_range', '0.000620')), {
    time: Date.UTC(2026, 10, 21, 10, 18, 13, 327),
    uid: 1,
    gid: 2,
    pid: 657,
    operation: 'copy_file_range',
    latency: 620,
  });
  for (const other of ['', '#', 'anything', line('read', 'x'), `x${line('read', '1.0')}`])
    assert.equal(parseLine(other), undefined);
});

test('operations are summed up by what they cost, of those who are looked for', () => {
  const profile = new Profile();
  const filter = { uid: [], gid: [2, 3], pid: [657] };
  for (const text of [line('read', '0.000100'), line('write', '0.000500'), line('read', '0.000200'), line('read', '9', 1)]) {
    const entry = parseLine(text);
    assert.ok(entry);
    if (passes(entry, filter)) profile.add(entry);
  }
  assert.deepEqual(profile.take(), [
    { operation: 'write', count: 1, total: 500 },
    { operation: 'read', count: 2, total: 300 },
  ]);
  assert.deepEqual(profile.take(), []);
});

test('lines are put together from pieces, and one without end does not grow for ever', () => {
  const lines = new Lines();
  assert.deepEqual(lines.push('a\nb'), ['a']);
  assert.deepEqual(lines.push('c\n'), ['bc']);
  assert.deepEqual(lines.push('x'.repeat(Lines.LONGEST + 1)), []);
  assert.deepEqual(lines.push('y\nz'), ['y']);
  assert.deepEqual(lines.end(), ['z']);
});
