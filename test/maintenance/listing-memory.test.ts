/**
 * How much a process grows while it lists a directory with very many names, or does what walks over all of them, with the heap as the start
 * script sets it (bench/streaming.ts takes five million names, every engine, and a real mount).
 *
 * When V8 collects in the background depends on what else the machine does, and so does what lies about until then (62 MiB were seen where 20 are
 * usual). Here it collects when it has to, in the same thread and at once: what is left depends on what the code allocates and keeps alone.
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
/** In the directory that is looked through first: what a process grows by with any directory, such as code, is not what is asked for. */
const FEW = 3000;
const [LARGE, SMALL] = [2, 3];
/** The goal for five million names. */
const MOST_MIB = 32;
const AT_ONCE = ['--single-threaded-gc', '--no-incremental-marking'];
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
  const into = `INSERT INTO jfs_node (inode, type, parent, ${others.join(', ')})`;
  const directory = (ino: number, names: number, first: number): string => {
    const numbers = `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${names - 1})`;
    return `${into} SELECT ${like(String(ino), 2, 1)} FROM jfs_node WHERE inode = 1;
      ${into} ${numbers} SELECT ${like(`${first} + i`, 1, ino)} FROM jfs_node, n WHERE inode = 1;
      INSERT INTO jfs_edge (parent, name, inode, type) VALUES (1, CAST('directory ${ino}' AS BLOB), ${ino}, 2);
      INSERT INTO jfs_edge (parent, name, inode, type)
        ${numbers} SELECT ${ino}, CAST('a-name-of-some-length-' || i AS BLOB), ${first} + i, 1 FROM n;`;
  };
  database.exec(`BEGIN;
    ${directory(LARGE, NAMES, 1_000_000)}
    ${directory(SMALL, FEW, 1000)}
    COMMIT`);
  database.close();
});

after(() => rmSync(folder, { recursive: true, force: true }));

/** Carries out statements that count names, in a process of its own; answers the count and how much its peak grew. */
function counted(statements: string): { readonly names: number; readonly grownMib: number } {
  const source = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
  const script = `
    const { openEngine, readFormat } = await import(${source('meta/open.ts')});
    const { readdir } = await import(${source('meta/namespace.ts')});
    const { Volume } = await import(${source('meta/volume.ts')});
    const { SYSTEM } = await import(${source('meta/types.ts')});
    const { treeUsage } = await import(${source('meta/usage.ts')});
    const { checkTree } = await import(${source('meta/maintenance/tree.ts')});
    const { newTreeReport } = await import(${source('meta/maintenance/tree-report.ts')});
    const { systemClock: clock } = await import(${source('lib/clock.ts')});
    const { systemRandom: random } = await import(${source('lib/random.ts')});
    const { nullLogger: logger } = await import(${source('lib/log.ts')});
    const engine = await openEngine(${JSON.stringify(url)});
    const volume = new Volume(engine, await readFormat(engine), { clock, random, logger, readOnly: true, callbacks: {} });
    let names = 0;
    const walk = async (directory) => {
      names = 0;
      ${statements}
    };
    await walk(${SMALL});
    const before = process.resourceUsage().maxRSS;
    await walk(${LARGE});
    console.log(JSON.stringify({ names, grownMib: (process.resourceUsage().maxRSS - before) / 1024 }));
    await engine.close();
  `;
  const program = readFileSync(new URL('../../bin/juicepod', import.meta.url), 'utf8');
  const heap =
    /^memory='([^']*)'$/m.exec(program)?.[1]?.split(' ') ?? assert.fail('bin/juicepod does not say how large the heap is');
  const args = [...heap, ...AT_ONCE, '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as { names: number; grownMib: number };
}

const walks: Readonly<Record<string, string>> = {
  'lists the names of a large directory':
    'for await (const batch of readdir(volume, SYSTEM, directory, false)) names += batch.length;',
  'lists them with attributes': 'for await (const batch of readdir(volume, SYSTEM, directory, true)) names += batch.length;',
  'counts what lies in a large directory': 'names = (await treeUsage(engine, directory, true)).inodes;',
  'checks a large directory': `
    const start = { ino: directory, type: 2, path: Buffer.from('/directory'), parent: 1, name: Buffer.from('directory') };
    const how = { recursive: true, repair: false, syncDirStat: false, dirMode: 0o755, activeSessions: true };
    const signal = new AbortController().signal;
    for await (const _file of checkTree({ volume, start, ...how, report: newTreeReport(), signal })) names++;`,
};

for (const [what, statements] of Object.entries(walks))
  test(`a process that ${what} does not grow with it`, () => {
    const { names, grownMib } = counted(statements);
    assert.equal(names, NAMES);
    assert.ok(grownMib <= MOST_MIB, `${grownMib.toFixed(1)} MiB`);
  });
