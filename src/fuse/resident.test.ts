import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { unchangedFilePages } from './resident.ts';

const mapping = (line: string, anonymousKb: number): string =>
  `${line}\nSize:               2048 kB\nRss:                1024 kB\nAnonymous:      ${String(anonymousKb).padStart(8)} kB\nLazyFree:              0 kB\nVmFlags: rd ex mr mw me sd\n`;

test('only mappings of files that cannot be written to and hold nothing of our own are let go of', () => {
  const smaps = [
    mapping('00400000-00749000 r--p 00000000 08:01 393281                             /usr/bin/node', 0),
    mapping('0074a000-03051000 r-xp 0034a000 08:01 393281                             /usr/bin/node', 0),
    mapping('06b52000-06b56000 rw-p 06752000 08:01 393281                             /usr/bin/node', 0),
    mapping('11e7d000-1264d000 rw-p 00000000 00:00 0                                  [heap]', 0),
    mapping('7f0000000000-7f0000004000 r--p 00001000 08:01 77                         /usr/lib/with relocations.so', 16),
    mapping('7f0000100000-7f0000101000 r--p 00000000 00:00 0', 0),
    mapping('7ffff7fc3000-7ffff7fc7000 r--s 00000000 00:10 12                         /dev/shm/shared', 0),
    mapping('ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]', 0),
  ].join('');
  assert.deepEqual(
    unchangedFilePages(smaps).map(({ start, length }) => [start.toString(16), length]),
    [
      ['400000', 0x349000],
      ['74a000', 0x2907000],
      ['7ffff7fc3000', 0x4000],
    ],
  );
  assert.deepEqual(unchangedFilePages(''), []);
});

test('a process that gives memory back holds less, and goes on as before', () => {
  const script = `
    const { giveBackMemory } = await import(${JSON.stringify(new URL('./resident.ts', import.meta.url).href)});
    const { memoryFile } = await import(${JSON.stringify(new URL('./libc.ts', import.meta.url).href)});
    const kept = Array.from({ length: 20000 }, (_, at) => ({ at, text: 'number ' + at }));
    let made = 0;
    for (let round = 0; round < 200; round++) made += Array.from({ length: 10000 }, (_, at) => ({ at })).length;
    const before = process.memoryUsage.rss();
    giveBackMemory();
    const after = process.memoryUsage.rss();
    const whole = kept.every(({ at, text }) => text === 'number ' + at);
    const parsed = JSON.parse(JSON.stringify({ regexp: /a(b+)/.exec('xabbb')?.[1], made }));
    giveBackMemory();
    console.log(JSON.stringify({ before, after, whole, parsed, descriptor: memoryFile('test') > 2 }));
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' });
  const { before, after, ...rest } = JSON.parse(output) as { readonly before: number; readonly after: number };
  assert.ok(after < before - 16 * 1024 * 1024, `${before} bytes before, ${after} after`);
  assert.deepEqual(rest, { whole: true, parsed: { regexp: 'bbb', made: 2_000_000 }, descriptor: true });
});
