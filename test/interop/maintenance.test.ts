/**
 * Looking after a volume that both clients use: usage, information, dump and load, compaction and garbage collection by one while the
 * other reads, the trash of both. Takes the official client from JUICEFS_BIN.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, truncate, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { juicepod } from '../mounted.ts';
import { cannotInteroperate, fsck, gc, run, runClean } from './official.ts';
import { type ClientName, type EngineName, openPair, otherClient } from './pair.ts';
import { compressible } from './scenarios.ts';
import { describeTree } from './tree.ts';

const clients: readonly ClientName[] = ['official', 'ours'];
const engines: readonly EngineName[] = ['redis', 'sqlite', 'postgres', 'mysql'];

interface Dump {
  readonly Setting: Record<string, unknown>;
  readonly Counters: Record<string, number>;
  readonly [part: string]: unknown;
}

const readDump = (path: string): Dump => JSON.parse(readFileSync(path, 'utf8')) as Dump;

/** A small tree with something of each client, through one mount. */
async function fill(folder: string): Promise<void> {
  await mkdir(join(folder, 'dir/deep'), { recursive: true });
  for (const size of [0, 100, 70_000]) await writeFile(join(folder, `dir/of-${size}`), compressible(size, size));
  await writeFile(join(folder, 'dir/deep/patched'), compressible(300_000, 1));
  const file = await open(join(folder, 'dir/deep/patched'), 'r+');
  await file.write(compressible(1000, 2), 0, 1000, 5000);
  await file.close();
  await truncate(join(folder, 'dir/deep/patched'), 400_000);
}

/** Makes a chunk of many slices: patches that are committed one by one. Answers the contents. */
async function patchOften(path: string, count: number): Promise<Buffer> {
  const contents = compressible(1 << 20, 9);
  await writeFile(path, contents);
  const file = await open(path, 'r+');
  try {
    for (let at = 0; at < count; at++) {
      const part = compressible(700, at);
      const position = (at * 50_021) % (contents.length - part.length);
      await file.write(part, 0, part.length, position);
      part.copy(contents, position);
      await file.sync();
    }
  } finally {
    await file.close();
  }
  return contents;
}

const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** Reads a file over and over, through new handles and one that stays open, until told to stop; every read must be right. */
async function readWhile(path: string, contents: Buffer, work: () => Promise<unknown>): Promise<number> {
  const done = work().then(
    () => true,
    (error: unknown) => error,
  );
  const kept = await open(path, 'r');
  const wanted = sha(contents);
  let reads = 0;
  try {
    for (let over = false; ; reads++) {
      assert.equal(sha(await readFile(path)), wanted, 'through a new handle');
      const at = (reads * 77_777) % (contents.length - 10_000);
      const { buffer } = await kept.read(Buffer.alloc(10_000), 0, 10_000, at);
      assert.ok(buffer.equals(contents.subarray(at, at + 10_000)), 'through a handle that stays open');
      if (over) break;
      const result = await Promise.race([done, new Promise((next) => setTimeout(next, 10))]);
      if (result !== undefined && result !== true) throw result;
      over = result === true;
    }
  } finally {
    await kept.close();
  }
  return reads;
}

async function slicesOf(path: string): Promise<number> {
  const [info] = JSON.parse(await juicepod(['info', path, '--output', 'json'])) as { Objects: unknown[] | null }[];
  return info?.Objects?.length ?? 0;
}

for (const engine of engines)
  describe(`a volume of both clients in ${engine}`, { skip: cannotInteroperate }, () => {
    test('both count the same usage, list both sessions, and tell the same of a path through either mount', async () => {
      await using pair = await openPair({ engine, formattedBy: 'official' });
      await fill(pair.ours);
      await mkdir(`${pair.official}/theirs`);
      await fill(`${pair.official}/theirs`);

      for (const path of ['dir/of-100', 'dir/deep/patched', 'theirs/dir/of-70000', 'dir', '']) {
        const options = path === '' || path === 'dir' ? ['-r'] : [];
        const strict = options.length > 0 ? ['--strict'] : [];
        const facts = await Promise.all(
          clients.map(async (client) => {
            const target = join(pair.folder(client), path);
            const { stdout } = await run(['info', ...options, ...strict, target]);
            const [ours] = JSON.parse(await juicepod(['info', ...options, target, '--output', 'json'])) as [
              Record<string, unknown>,
            ];
            const { Tier: _, ...rest } = ours;
            // Its text begins with the path that was asked for, and with the tier as the client of that mount says it.
            return { official: stdout.split('\n').filter((line) => !/^\/|tier:/.test(line)), ours: rest };
          }),
        );
        assert.deepEqual(facts[1], facts[0], path);
      }

      interface Status {
        readonly Setting: { readonly UUID: string };
        readonly Sessions: readonly { readonly MountPoint: string }[];
      }
      const official = JSON.parse((await runClean(['status', pair.url])).stdout) as Status;
      assert.deepEqual(official.Sessions.map((session) => session.MountPoint).toSorted(), [pair.official, pair.ours].toSorted());
      const ours = JSON.parse(await juicepod(['status', pair.url, '--output', 'json'])) as Status;
      assert.equal(ours.Setting.UUID, official.Setting.UUID);
      assert.deepEqual(ours.Sessions.map((session) => session.MountPoint).toSorted(), [pair.official, pair.ours].toSorted());

      for (const client of clients) await pair.unmount(client);
      for (const client of clients) await pair.mount(client);
      const [theirs, mine] = await Promise.all([statfs(pair.official), statfs(pair.ours)]);
      const used = (stats: typeof theirs): number[] => [(stats.blocks - stats.bfree) * stats.bsize, stats.files - stats.ffree];
      assert.deepEqual(used(mine), used(theirs));
      // Without --strict it answers from the statistics of directories, which both have kept.
      for (const path of ['', 'dir', 'theirs']) {
        const counted = await run(['info', '-r', '--strict', `${pair.official}/${path}`]);
        assert.equal((await run(['info', '-r', `${pair.official}/${path}`])).stdout, counted.stdout);
      }
      for (const client of clients) await pair.unmount(client);
      await fsck(pair.url);
    });

    test('its dump, loaded and dumped again, is the same', async () => {
      await using pair = await openPair({ engine, compression: 'lz4', trashDays: 1 });
      await fill(pair.ours);
      await mkdir(`${pair.official}/theirs`);
      await fill(`${pair.official}/theirs`);
      await unlink(`${pair.official}/dir/of-100`);
      await rm(`${pair.ours}/theirs/dir/deep`, { recursive: true });
      for (const client of clients) await pair.unmount(client);

      const [first, second] = [join(pair.work, 'first.json'), join(pair.work, 'second.json')];
      await runClean(['dump', pair.url, first, '--keep-secret-key']);
      await runClean(['load', pair.spareUrl, first]);
      await runClean(['dump', pair.spareUrl, second, '--keep-secret-key']);
      const [a, b] = [readDump(first), readDump(second)];
      assert.deepEqual(b['FSTree'], a['FSTree']);
      assert.deepEqual(b['Trash'], a['Trash']);
      assert.ok(JSON.stringify(a['Trash']).includes('of-100'));
      assert.deepEqual(b.Setting, a.Setting);
      const usage = ({ usedSpace, usedInodes }: Record<string, number>): unknown => ({ usedSpace, usedInodes });
      assert.deepEqual(usage(b.Counters), usage(a.Counters));
      await fsck(pair.url);
      await fsck(pair.spareUrl);
    });

    for (const reader of clients)
      test(`files that one compacts are read by the other meanwhile (reader: ${reader})`, async () => {
        await using pair = await openPair({ engine, compression: 'lz4' });
        const writer = otherClient(reader);
        const file = `${pair.folder(reader)}/file`;
        const contents = await patchOften(`${pair.folder(writer)}/file`, 70);
        const before = await slicesOf(file);
        const reads = await readWhile(file, contents, async () => {
          await run(['gc', pair.url, '--compact'], { JFS_GC_SKIPPEDTIME: '0' });
          await run(['compact', `${pair.official}/`]);
        });
        assert.ok(reads > 0);
        assert.ok(before > 1, `${before} slices before`);
        assert.equal(await slicesOf(file), 1);
        for (const client of clients) assert.equal(sha(await readFile(`${pair.folder(client)}/file`)), sha(contents), client);
        for (const client of clients) await pair.unmount(client);
        await fsck(pair.url);
        const { valid, scanned } = await gc(pair.url);
        assert.equal(valid, scanned);
      });

    test('our own compaction, under many small overwrites, leaves what the official client reads and finds sound', async () => {
      await using pair = await openPair({ engine, mountOfficial: ['--no-bgjob'] });
      const file = `${pair.official}/file`;
      await writeFile(file, '');
      // More patches than a list of slices may grow long: some rounds of compaction are sure to have run.
      const contents = await patchOften(`${pair.ours}/file`, 450);
      assert.ok((await slicesOf(file)) < 200, 'compacted');
      assert.equal(sha(await readFile(file)), sha(contents));
      // The official client compacts what it reads, whatever it was told, and deletes what it replaced afterwards.
      for (let tries = 0; tries < 30; tries++) {
        const { valid, scanned } = await gc(pair.url);
        if (valid === scanned) break;
      }
      for (const client of clients) await pair.unmount(client);
      await fsck(pair.url);
      const { valid, scanned } = await gc(pair.url);
      assert.equal(valid, scanned);
    });

    test('what one deletes lies in the trash of the other, and comes back from there', async () => {
      await using pair = await openPair({ engine, trashDays: 1 });
      for (const client of clients) {
        await mkdir(`${pair.folder(client)}/${client}`);
        await fill(`${pair.folder(client)}/${client}`);
      }
      // Statistics of directories are written up to a second late, by both. Those of one that is removed or restored within that time
      // may be wrong until fsck mends them, as they may be with the official client alone: so all is written before each step.
      const settle = async (): Promise<void> => {
        for (const client of clients) await pair.unmount(client);
        for (const client of clients) await pair.mount(client);
      };
      await settle();
      const before = await describeTree(pair.ours);
      for (const client of clients) await rm(`${pair.folder(otherClient(client))}/${client}`, { recursive: true });
      const [theirs, mine] = await Promise.all([describeTree(`${pair.official}/.trash`), describeTree(`${pair.ours}/.trash`)]);
      assert.deepEqual(mine, theirs);
      // Each node under the hour, as parent-inode-name; two trees of four files, a directory in a directory in a directory.
      assert.equal([...mine.keys()].filter((path) => path.includes('of-70000')).length, 2);

      const hours = await readdir(`${pair.ours}/.trash`);
      for (const hour of hours) {
        const entries = await readdir(`${pair.ours}/.trash/${hour}`);
        for (const client of clients) {
          const entry = entries.filter((name) => name.endsWith('-of-70000'))[client === 'ours' ? 0 : 1];
          assert.ok(entry);
          await rename(`${pair.folder(client)}/.trash/${hour}/${entry}`, `${pair.folder(client)}/again-${client}`);
          assert.ok((await readFile(`${pair.folder(otherClient(client))}/again-${client}`)).equals(compressible(70_000, 70_000)));
          await rename(`${pair.folder(client)}/again-${client}`, `${pair.folder(client)}/kept-${client}`);
        }
      }
      for (const client of clients) await pair.unmount(client);
      for (const hour of hours) await run(['restore', pair.url, hour, '--put-back']);
      for (const client of clients) await pair.mount(client);
      const after = await describeTree(pair.ours);
      assert.deepEqual(await describeTree(pair.official), after);
      for (const path of before.keys()) if (!path.endsWith('of-70000')) assert.deepEqual(after.get(path), before.get(path), path);
      for (const client of clients) await pair.unmount(client);
      await fsck(pair.url);
      const { leaked } = await gc(pair.url);
      assert.equal(leaked, 0);
    });

    for (const by of clients)
      test(`deleted without trash by ${by}, a file leaves no object behind`, async () => {
        await using pair = await openPair({ engine });
        for (const client of clients) await fill(pair.folder(client));
        await rm(`${pair.folder(by)}/dir`, { recursive: true });
        assert.equal((await describeTree(pair.folder(otherClient(by)))).size, 0);
        for (const client of clients) await pair.unmount(client);
        // What is still queued for deletion is known to be; nothing is lost from sight.
        const { leaked, valid } = await gc(pair.url, '--delete');
        assert.deepEqual({ leaked, valid }, { leaked: 0, valid: 0 });
        const { scanned } = await gc(pair.url);
        assert.equal(scanned, 0);
        await fsck(pair.url);
        assert.equal(existsSync(pair.objects) && (await stat(pair.objects)).isDirectory(), true);
      });
  });
