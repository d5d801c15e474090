/** A checkout runs the files that were made of its processes (image/starts.ts) only while they are what the sources say. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { root } from './manifests.ts';

/** Changes that come later have a later time: the clock of files ticks every few milliseconds. */
const tick = (): Promise<void> => new Promise((done) => void setTimeout(done, 30));

/** A checkout whose programs only say which they are. */
function checkoutIn(work: string): string {
  const checkout = join(work, 'checkout');
  for (const folder of ['src/lib', 'image', 'node_modules/.bin', '.bundle'])
    mkdirSync(join(checkout, folder), { recursive: true });
  cpSync(join(root, 'bin'), join(checkout, 'bin'), { recursive: true });
  writeFileSync(join(checkout, 'node_modules/.bin/node'), `#!/bin/sh\nexec '${process.execPath}' "$@"\n`);
  chmodSync(join(checkout, 'node_modules/.bin/node'), 0o755);
  for (const file of ['package.json', 'package-lock.json', 'node_modules/.juicepod-lock'])
    writeFileSync(join(checkout, file), '{}');
  writeFileSync(join(checkout, 'src/main.ts'), `console.log('sources');`);
  writeFileSync(join(checkout, 'src/lib/part.ts'), '');
  writeFileSync(join(checkout, '.bundle/start.cjs'), `console.log('bundle');`);
  return checkout;
}

test('a change of any source, also one that keeps its time, makes a checkout run its sources', async () => {
  const work = realpathSync(mkdtempSync(join(tmpdir(), 'juicepod-starts-')));
  try {
    let checkout = checkoutIn(work);
    const runs = (...args: readonly string[]): string =>
      execFileSync(join(checkout, 'bin/juicepod'), args, { encoding: 'utf8', timeout: 60_000 }).trim();
    const make = async (): Promise<void> => {
      await tick();
      writeFileSync(join(checkout, '.bundle/.built'), `${checkout}\n`);
      await tick();
    };
    assert.equal(runs('mount'), 'sources', 'nothing has been made');
    await make();
    assert.equal(runs('mount'), 'bundle');
    assert.equal(runs('serve'), 'bundle');
    assert.equal(runs('status'), 'sources', 'other commands are not in there');
    const part = join(checkout, 'src/lib/part.ts');
    const changes: readonly (readonly [string, () => void])[] = [
      ['written', () => writeFileSync(part, '1')],
      ['written, with the time of long ago', () => (writeFileSync(part, '2'), utimesSync(part, 1e9, 1e9))],
      ['added', () => writeFileSync(join(checkout, 'src/lib/another.ts'), '')],
      ['removed', () => rmSync(join(checkout, 'src/lib/another.ts'))],
      ['renamed', () => renameSync(part, join(dirname(part), 'renamed.ts'))],
      ['the bundler', () => writeFileSync(join(checkout, 'image/starts.ts'), '')],
      [
        'the dependencies',
        () => ['package-lock.json', 'node_modules/.juicepod-lock'].forEach((file) => writeFileSync(join(checkout, file), '{} ')),
      ],
    ];
    for (const [what, change] of changes) {
      change();
      assert.equal(runs('mount'), 'sources', what);
      await make();
      assert.equal(runs('mount'), 'bundle', `made again: ${what}`);
    }
    renameSync(checkout, join(work, 'moved'));
    checkout = join(work, 'moved');
    assert.equal(runs('mount'), 'sources', 'what was made for another place');
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
