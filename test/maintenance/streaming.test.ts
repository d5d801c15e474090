/**
 * Whatever goes through a directory or a volume takes it in pieces, over every engine: the largest piece does not grow with the number
 * of names (STREAM_NAMES, 6000 where it is not set; bench/streaming.ts takes five million).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ino, ROOT_INO, TRASH_INO } from '../../src/lib/int64.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { systemRandom } from '../../src/lib/random.ts';
import { cleanTrashBefore } from '../../src/meta/jobs.ts';
import type { MetaEngine, Write } from '../../src/meta/engine.ts';
import { pathsOf } from '../../src/meta/maintenance/where.ts';
import { readdir } from '../../src/meta/namespace.ts';
import { encodeSlices } from '../../src/meta/records.ts';
import { hourName } from '../../src/meta/trash.ts';
import { ownerUsage, treeUsage } from '../../src/meta/usage.ts';
import { plainFile } from '../../src/meta/testing/sample.ts';
import { type Attr, NodeType } from '../../src/meta/types.ts';
import { Volume } from '../../src/meta/volume.ts';
import { type Database, describeEngines } from '../meta/engines.ts';
import { openWorld, root, type World } from './world.ts';

const NAMES = Number(process.env['STREAM_NAMES'] ?? 6000);
/** Names, nodes or records in one piece at most: Redis answers somewhat more than it was asked for. */
const LARGEST = 5000;
/** The same of what is removed name by name. */
const LARGEST_CHANGED = 1300;
const FIRST = 1_000_000;
const signal = new AbortController().signal;

interface Pieces {
  largest: number;
  count: number;
  /** Of listings alone. */
  listed: number;
}

/** The engine, with what comes out of it measured in pieces. */
function measured(engine: MetaEngine, pieces: Pieces): MetaEngine {
  const note = (size: number): void => {
    pieces.largest = Math.max(pieces.largest, size);
    pieces.count++;
  };
  return new Proxy(engine, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        const [first] = args;
        if (Array.isArray(first)) note(first.length);
        const answer = (value as (...all: unknown[]) => unknown).apply(target, args);
        if (typeof answer !== 'object' || answer === null) return answer;
        if (answer instanceof Promise)
          return answer.then((found: unknown) => {
            if (Array.isArray(found)) note(found.length);
            return found;
          });
        if (!(Symbol.asyncIterator in answer)) return answer;
        return (async function* () {
          for await (const batch of answer as AsyncIterable<unknown>) {
            if (Array.isArray(batch)) {
              note(batch.length);
              pieces.listed++;
            }
            yield batch;
          }
        })();
      };
    },
  });
}

/** A directory of very many files with a slice each, made by way of the engine: `parent` is where. */
async function fill(world: World, parent: number, count: number, first: number, prefix = ''): Promise<void> {
  const { engine, clock } = world;
  const sec = Math.floor(clock.now() / 1000);
  const times = { atime: sec, atimensec: 0, mtime: sec, mtimensec: 0, ctime: sec, ctimensec: 0 };
  const attr: Attr = { ...plainFile, ...times, uid: 1000, gid: 1000, length: 100, parent: ino(parent) };
  for (let from = 0; from < count; from += 200) {
    const writes: Write[] = [];
    for (let at = from; at < Math.min(count, from + 200); at++) {
      const number = ino(first + at);
      const name = Buffer.from(prefix === '' ? `name-${at}` : `${prefix}-${first + at}-name-${at}`);
      writes.push(
        { kind: 'putNode', ino: number, attr },
        { kind: 'putEntry', parent: ino(parent), name, value: { type: NodeType.File, ino: number } },
        {
          kind: 'appendSlices',
          ino: number,
          index: 0,
          records: encodeSlices([{ pos: 0, id: first + at, size: 100, off: 0, len: 100 }]),
          onlyExisting: false,
          newSlice: { id: first + at, size: 100 },
        },
      );
    }
    assert.ok((await engine.commit({ checks: [], writes })).ok);
  }
}

describeEngines('in pieces', (database: Database) => {
  test('a large directory is listed, counted, checked and collected', async (t) => {
    const world = await openWorld(t, database.newUrl());
    const directory = await world.mkdir(ROOT_INO, 'large');
    await fill(world, directory, NAMES, FIRST);
    const pieces: Pieces = { largest: 0, count: 0, listed: 0 };
    const volume = new Volume(measured(world.engine, pieces), world.format, {
      clock: world.clock,
      random: systemRandom,
      logger: nullLogger,
      readOnly: false,
      callbacks: {},
    });
    const { engine } = volume;
    const inPieces = async (what: string, work: () => Promise<void>): Promise<void> => {
      Object.assign(pieces, { largest: 0, count: 0, listed: 0 });
      await work();
      assert.ok(pieces.largest <= LARGEST, `${what}: a piece of ${pieces.largest}`);
      assert.ok(pieces.count * LARGEST >= NAMES && pieces.largest > 0, `${what} is measured`);
    };

    for (const withAttr of [false, true])
      await inPieces('readdir', async () => {
        let names = 0;
        for await (const batch of readdir(volume, root, directory, withAttr)) names += batch.length;
        assert.equal(names, NAMES);
      });
    await inPieces('first names', async () => {
      for await (const batch of readdir(volume, root, directory, false)) {
        assert.ok(batch.length > 0);
        break;
      }
      assert.equal(pieces.listed, 1, 'the rest is not asked for');
      pieces.count = NAMES;
    });
    await inPieces('usage of a tree', async () => {
      assert.deepEqual(await treeUsage(engine, directory, true), { space: NAMES * 4096, inodes: NAMES });
    });
    await inPieces('usage of owners', async () => {
      assert.deepEqual((await ownerUsage(engine)).users.get(1000), { space: NAMES * 4096, inodes: NAMES });
    });
    await inPieces('paths of broken files', async () => {
      const some = Array.from({ length: 100 }, (_, at) => ino(FIRST + at * 10));
      assert.equal((await pathsOf(engine, some)).size, 100);
    });
    await inPieces('gc', async () => {
      const report = await world.gc({ volume, pending: 1000 });
      assert.deepEqual([report.listed, report.scanned], [NAMES, 0]);
    });
    await inPieces('the check of the tree', async () => {
      const { tree } = await world.tree({ volume, syncDirStat: false });
      assert.deepEqual([tree.files, tree.found], [NAMES, 0]);
    });
  });

  test('a large hour of the trash is cleaned', async (t) => {
    const count = Math.ceil(NAMES / 4);
    const world = await openWorld(t, database.newUrl(), { format: { trashDays: 1 } });
    await world.file(ROOT_INO, 'one', 10);
    await world.meta.unlink(root, ROOT_INO, Buffer.from('one'));
    const hour = hourName(world.clock.now());
    const found = await world.engine.lookup(TRASH_INO, Buffer.from(hour));
    assert.ok(found);
    await fill(world, found.value.ino, count, FIRST, '1');
    const pieces: Pieces = { largest: 0, count: 0, listed: 0 };
    const volume = new Volume(measured(world.engine, pieces), world.format, {
      clock: world.clock,
      random: systemRandom,
      logger: nullLogger,
      readOnly: false,
      callbacks: {},
    });
    let removed = 0;
    await cleanTrashBefore(volume, Math.floor(world.clock.now() / 1000) + 1, signal, (count) => (removed += count));
    assert.equal(removed, count + 1);
    await volume.deletions.settled();
    assert.ok(pieces.largest <= LARGEST_CHANGED, `a piece of ${pieces.largest}`);
    assert.ok(pieces.listed > 1);
  });
});
