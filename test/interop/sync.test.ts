/** `sync` beside the official client's: random trees and options, both copy the same and leave the same (JUICEFS_BIN names it). */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import * as fc from 'fast-check';
import { run } from '../cli/command.ts';
import { juicefs } from '../tools.ts';

const binary = juicefs();
const skip = binary ? false : 'JUICEFS_BIN is not set';

/** Names, types, contents and times of files, targets of links. */
const tree = (folder: string): string =>
  execFileSync(
    'sh',
    [
      '-c',
      `cd "$1" && find . -mindepth 1 \\( -type f -printf '%P f %m %Ts ' -exec cat {} \\; -printf '\\n' -o -type l -printf '%P l %l\\n' -o -printf '%P %y\\n' \\) | LC_ALL=C sort`,
      'sh',
      folder,
    ],
    { encoding: 'utf8' },
  );

const path = fc.constantFrom<string>(
  'a',
  'b',
  'ab',
  'a-b',
  'a.d/x',
  'a.d/x y',
  'a.d/z/q',
  'a.d/z/r',
  'b0',
  'd/1',
  'd/10',
  'd/2',
  'd-/3',
  'e/f/g/h',
);
const file = fc.record({
  body: fc.constantFrom('', 'x', 'y', 'xx', 'long'),
  mtime: fc.constantFrom(1_600_000_000, 1_700_000_000),
});
const files = fc.array(fc.tuple(path, file), { maxLength: 12 });
const pattern = fc.constantFrom<string>(
  'a*',
  '/a',
  'd/',
  '*.d/',
  'x*',
  '/d/1*',
  '**q',
  'z/***',
  '?',
  '[b-d]*',
  'd/1',
  '*',
  'a.d/**',
  '/e/**/h',
  '**/h',
  'f/g',
  '[^a]*',
  'e/***',
  'x y',
);
const rule = fc.tuple(fc.constantFrom('--include', '--exclude', '--exclude'), pattern).map(([option, value]) => [option, value]);
const flag = fc.constantFrom(
  '--update',
  '--force-update',
  '--existing',
  '--ignore-existing',
  '--dirs',
  '--perms',
  '--check-all',
  '--check-new',
  '--delete-dst',
  '--delete-src',
  '--links',
  '--match-full-path',
);
const bound = fc.constantFrom(
  ['--min-size', '1'],
  ['--max-size', '1'],
  ['--start', 'a.d/x'],
  ['--end', 'd/11'],
  ['--limit', '4'],
  ['--start-time', '2022-01-01 00:00:00'],
);

function plant(folder: string, found: readonly (readonly [string, { readonly body: string; readonly mtime: number }])[]): void {
  mkdirSync(join(folder, 'empty/one'), { recursive: true });
  for (const [name, { body, mtime }] of found) {
    const at = join(folder, name);
    mkdirSync(dirname(at), { recursive: true });
    writeFileSync(at, body);
    utimesSync(at, mtime, mtime);
  }
}

test('random trees with random filters and options end as with the official client', { skip, timeout: 600_000 }, async () => {
  assert.ok(binary);
  const work = mkdtempSync(join(tmpdir(), 'juicepod-sync-interop-'));
  let count = 0;
  try {
    await fc.assert(
      fc.asyncProperty(
        files,
        files,
        fc.array(rule, { maxLength: 3 }),
        fc.uniqueArray(flag, { maxLength: 3 }),
        fc.option(bound, { nil: undefined }),
        fc.constantFrom('1', '3'),
        async (source, destination, rules, flags, limits, listThreads) => {
          const folder = join(work, String(count++));
          for (const who of ['ours', 'theirs']) {
            plant(join(folder, who, 'from'), [...source, ['what-it-leads-to', { body: 'linked', mtime: 1_600_000_000 }]]);
            symlinkSync('what-it-leads-to', join(folder, who, 'from/link'));
            plant(join(folder, who, 'to'), destination);
          }
          // A limit counts what comes first; and where the official client lists side by side, it copies (and deletes) beyond the bounds.
          // And of a folder it leaves out the last key itself, which of an object store it copies.
          const inTurn = ['--limit', '--start', '--end'].includes(limits?.[0] ?? '');
          const threads = inTurn ? [] : ['--list-threads', listThreads, '--list-depth', '2'];
          const args = [...rules.flat(), ...flags, ...(limits ?? []), ...threads];
          const places = (who: string): readonly string[] => [join(folder, who, 'from/'), join(folder, who, 'to/')];
          await promisify(execFile)(binary, ['sync', ...args, ...places('theirs')], { timeout: 60_000 }).catch(() => undefined);
          await run(['sync', ...args, ...places('ours')]);
          for (const side of ['to', 'from'])
            assert.equal(
              tree(join(folder, 'ours', side)),
              tree(join(folder, 'theirs', side)),
              `${side} after sync ${args.join(' ')}`,
            );
          rmSync(folder, { recursive: true, force: true });
        },
      ),
      { numRuns: Number(process.env['JUICEPOD_SYNC_RUNS'] ?? 25) },
    );
    assert.ok(readdirSync(work).length === 0);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
