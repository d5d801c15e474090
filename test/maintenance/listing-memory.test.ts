/**
 * How much a process grows while it lists a directory with very many names, with the heap as the start script sets it
 * (bench/streaming.ts takes five million names, and more than listing).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { systemRandom } from '../../src/lib/random.ts';
import { newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openEngine } from '../../src/meta/open.ts';

const NAMES = 300_000;
/**
 * The goal is 32 for five million names; code that is compiled meanwhile counts too, and beside other work V8 collects later. Seen 20 to
 * 35 alone, 62 on a busy machine; without care 216.
 */
const MOST_MIB = 96;
const folder = mkdtempSync(join(tmpdir(), 'juicepod-listing-'));
const file = join(folder, 'meta.db');
const url = `sqlite3://${file}`;

before(async () => {
  const engine = await openEngine(url);
  await formatVolume(engine, newFormat({ name: 'listing', bucket: '/nowhere', trashDays: 0 }, systemRandom));
  await engine.close();
  const database = new DatabaseSync(file);
  const columns = database.prepare("SELECT name FROM pragma_table_info('jfs_node')").all() as { name: string }[];
  const others = columns.filter(({ name }) => !['inode', 'type', 'parent'].includes(name)).map(({ name }) => `\`${name}\``);
  // As the root, but files: all of them in a directory of their own.
  const like = (ino: string, type: number, parent: number): string => `${ino}, ${type}, ${parent}, ${others.join(', ')}`;
  const numbers = `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${NAMES - 1})`;
  const into = `INSERT INTO jfs_node (inode, type, parent, ${others.join(', ')})`;
  database.exec(`BEGIN;
    ${into} SELECT ${like('2', 2, 1)} FROM jfs_node WHERE inode = 1;
    ${into} ${numbers} SELECT ${like('1000 + i', 1, 2)} FROM jfs_node, n WHERE inode = 1;
    INSERT INTO jfs_edge (parent, name, inode, type) VALUES (1, CAST('large' AS BLOB), 2, 2);
    INSERT INTO jfs_edge (parent, name, inode, type)
      ${numbers} SELECT 2, CAST('a-name-of-some-length-' || i AS BLOB), 1000 + i, 1 FROM n;
    COMMIT`);
  database.close();
});

after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a loop over `batches` in a process of its own; answers the names seen and how much its peak grew. */
function listed(batches: string): { readonly names: number; readonly grownMib: number } {
  const source = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
  const script = `
    const { openEngine, readFormat } = await import(${source('meta/open.ts')});
    const { readdir } = await import(${source('meta/namespace.ts')});
    const { Volume } = await import(${source('meta/volume.ts')});
    const { SYSTEM } = await import(${source('meta/types.ts')});
    const { systemClock: clock } = await import(${source('lib/clock.ts')});
    const { systemRandom: random } = await import(${source('lib/random.ts')});
    const { nullLogger: logger } = await import(${source('lib/log.ts')});
    const engine = await openEngine(${JSON.stringify(url)});
    const volume = new Volume(engine, await readFormat(engine), { clock, random, logger, readOnly: true, callbacks: {} });
    const before = process.resourceUsage().maxRSS;
    let names = 0;
    for await (const batch of ${batches}) names += batch.length;
    console.log(JSON.stringify({ names, grownMib: (process.resourceUsage().maxRSS - before) / 1024 }));
    await engine.close();
  `;
  const program = readFileSync(new URL('../../bin/juicepod', import.meta.url), 'utf8');
  const heap =
    /^memory='([^']*)'$/m.exec(program)?.[1]?.split(' ') ?? assert.fail('bin/juicepod does not say how large the heap is');
  const args = [...heap, '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as { names: number; grownMib: number };
}

for (const [what, batches] of [
  ['its names', 'readdir(volume, SYSTEM, 2, false)'],
  ['its names with attributes', 'readdir(volume, SYSTEM, 2, true)'],
] as const)
  test(`a process that lists a large directory, ${what}, does not grow with it`, () => {
    const { names, grownMib } = listed(batches);
    assert.equal(names, NAMES);
    assert.ok(grownMib <= MOST_MIB, `${grownMib.toFixed(1)} MiB`);
  });
