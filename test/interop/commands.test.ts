/**
 * The commands of both clients on the mounts of both, over one volume that both have mounted: each does on the other's mount what it
 * does on its own. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { succeeds, until } from '../cli/command.ts';
import { cannotInteroperate, fsck, gc, run } from './official.ts';
import { type ClientName, type EngineName, openPair, type Pair } from './pair.ts';

const clients: readonly ClientName[] = ['official', 'ours'];
/** Which client's command, and on whose mount. */
const ways = clients.flatMap((command) => clients.map((mount) => ({ command, mount })));

/** Runs a command of a client; answers what it printed. */
const call = async (client: ClientName, ...args: string[]): Promise<string> =>
  client === 'ours' ? succeeds(args) : (await run(args)).stdout;

/** A tree with files around the size of a block, a link, and names that need care. */
function fill(folder: string): void {
  mkdirSync(join(folder, 'sub/deeper'), { recursive: true });
  for (const [at, size] of [0, 1, 65_535, 65_536, 65_537, 300_000].entries())
    writeFileSync(join(folder, at % 2 ? 'sub' : '.', `f${at}`), Buffer.alloc(size, at + 1), { mode: at % 2 ? 0o600 : 0o755 });
  writeFileSync(join(folder, 'sub/deeper/a name\twith "all"'), 'x');
  symlinkSync('f1', join(folder, 'link'));
}

/** Paths, modes and bytes of a tree. */
function seen(folder: string): readonly unknown[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const type = entry.isDirectory() ? 'd' : entry.isSymbolicLink() ? 'l' : 'f';
      const facts = type === 'l' ? [] : [statSync(path).mode, type === 'f' ? readFileSync(path).toString('latin1') : ''];
      return [path.slice(folder.length), type, ...facts];
    })
    .toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1));
}

const engines: readonly EngineName[] = ['sqlite', 'redis', 'postgres', 'mysql'];

describe('commands through the mounts of both clients', { skip: cannotInteroperate }, () => {
  for (const engine of engines)
    test(`in ${engine}`, async (t) => {
      await using pair: Pair = await openPair({ engine, blockSize: 64, trashDays: 1 });
      const name = ({ command, mount }: (typeof ways)[number]): string => `${command}-${mount}`;
      // What the commands are is the same over every database: over servers, which take longer, only on the other's mount.
      const some = ways.filter(({ command, mount }) => engine === 'sqlite' || engine === 'redis' || command !== mount);
      for (const way of some) {
        mkdirSync(join(pair.folder(way.mount), name(way)));
        fill(join(pair.folder(way.mount), name(way)));
      }
      for (const way of some) {
        const { command, mount } = way;
        const top = join(pair.folder(mount), name(way));
        await t.test(`info and summary of ${command} on the mount of ${mount}`, async () => {
          const info = await call(command, 'info', '-r', '--strict', top);
          assert.match(info, command === 'ours' ? /files +8\ndirectories +3\n/ : /files: 8\n +dirs: 3\n/);
          const csv = await call(command, 'summary', '--strict', '--csv', top);
          const [, whole] = csv.split('\n');
          assert.equal(whole, `/,${4096 * (3 + 1 + 1 + 1 + 1) + 65_536 * 2 + 69_632 + 303_104},3,8`);
          const text = await call(command, 'info', '--raw', join(top, 'sub/f5'));
          assert.match(text, /300000/);
        });
        await t.test(`warmup of ${command} on the mount of ${mount}`, async () => {
          await call(command, 'warmup', top);
          if (command === 'ours') {
            const checked = JSON.parse(await succeeds(['warmup', '--check', top, '-o', 'json'])) as Record<string, number>;
            assert.deepEqual([checked['files'], checked['bytes'], checked['missed']], [7, 496_610, 0]);
          } else {
            const { stdout, stderr } = await run(['warmup', '--check', top]);
            assert.match(stdout + stderr, /7 files checked, .*\(100\.0%\) cached/);
          }
          await call(command, 'warmup', '--evict', top);
          const { stderr } = await run(['warmup', '--check', top]);
          assert.match(stderr, /\(0\.0%\) cached/);
        });
        await t.test(`clone of ${command} on the mount of ${mount}`, async () => {
          // The official client writes the statistics of directories down once in a second, and clones them as they are in the database.
          if (mount === 'official')
            await until('statistics are in the database', async () =>
              /files +8\ndirectories +3\n/.test(await succeeds(['info', '-r', join(pair.folder('ours'), name(way))])),
            );
          await call(command, 'clone', '-p', top, `${top}-clone`);
          // As the other client sees it.
          const other = join(pair.folder(mount === 'ours' ? 'official' : 'ours'), `${name(way)}-clone`);
          assert.deepEqual(seen(other), seen(top));
          await call(command, 'clone', join(top, 'f4'), `${top}-single`);
          assert.deepEqual(readFileSync(`${top}-single`), readFileSync(join(top, 'f4')));
          writeFileSync(join(top, 'f4'), 'something else');
          assert.deepEqual(readFileSync(`${top}-single`), Buffer.alloc(65_537, 5));
        });
        await t.test(`compact of ${command} on the mount of ${mount}`, async () => {
          const file = join(top, 'f2');
          for (let round = 0; round < 4; round++) writeFileSync(file, String(round), { flag: 'a' });
          const bytes = readFileSync(file);
          await call(command, 'compact', top);
          assert.deepEqual(readFileSync(file), bytes);
          assert.equal((await run(['info', '--raw', file])).stdout.match(/^\| +0 \|/gm)?.length, 1);
        });
        await t.test(`rmr of ${command} on the mount of ${mount}`, async () => {
          await call(command, 'rmr', top);
          await call(command, 'rmr', '--skip-trash', `${top}-single`);
          assert.ok(!readdirSync(pair.folder(mount)).includes(name(way)));
          assert.ok(!readdirSync(pair.folder(mount === 'ours' ? 'official' : 'ours')).includes(`${name(way)}-single`));
        });
      }
      await t.test('the official checks find nothing', async () => {
        await pair.unmount('ours');
        await pair.unmount('official');
        await fsck(pair.url);
        const { valid, scanned, compacted, pending, leaked, skipped } = await gc(pair.url);
        assert.deepEqual({ leaked, skipped, scanned }, { leaked: 0, skipped: 0, scanned: valid + compacted + pending });
      });
    });
});
