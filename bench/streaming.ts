/**
 * Very large directories: how much the process grows while it lists one, checks it, counts it and removes it, and how soon the first
 * names are there. Names are made directly through the engine.
 *
 *   node bench/streaming.ts META-URL [names, 5000000] [--remove]
 *
 * How far the heap grows before it is swept is for V8; it is told as bin/juicepod tells it.
 * META-URL is of an empty database of its own, which is emptied again in the end. The names are made by another process than the one
 * that is measured.
 */
import { execFileSync } from 'node:child_process';
import { type Ino, ino, ROOT_INO } from '../src/lib/int64.ts';
import { systemClock } from '../src/lib/clock.ts';
import { nullLogger } from '../src/lib/log.ts';
import { systemRandom } from '../src/lib/random.ts';
import type { MetaEngine, Write } from '../src/meta/engine.ts';
import { newFormat } from '../src/meta/format-input.ts';
import { newTreeReport } from '../src/meta/maintenance/tree-report.ts';
import { checkTree } from '../src/meta/maintenance/tree.ts';
import { readdir } from '../src/meta/namespace.ts';
import { formatVolume, openEngine } from '../src/meta/open.ts';
import { empty } from '../src/meta/remove.ts';
import { type Attr, NodeType, SYSTEM } from '../src/meta/types.ts';
import { treeUsage } from '../src/meta/usage.ts';
import { Volume } from '../src/meta/volume.ts';

/** As in bin/juicepod. */
const HEAP = ['--max-semi-space-size=8', '--heap-growing-percent=40'];
const PER_COMMIT = 1000;
const PARALLEL = 8;
const DIRECTORY = ino(2);

const [url, count = '5000000', ...flags] = process.argv.slice(2);
if (url === undefined || !/^\d+$/.test(count)) throw new Error('usage: node bench/streaming.ts META-URL [names] [--remove]');
const names = Number(count);

function node(type: NodeType, parent: Ino): Attr {
  const zero = { flags: 0, rdev: 0, accessAcl: 0, defaultAcl: 0, tier: 0, uid: 0, gid: 0 };
  const times = { atime: 0, atimensec: 0, mtime: 0, mtimensec: 0, ctime: 0, ctimensec: 0 };
  const directory = type === NodeType.Directory;
  return { ...zero, ...times, type, mode: 0o755, nlink: directory ? 2 : 1, length: directory ? 4096 : 0, parent };
}

async function fill(engine: MetaEngine): Promise<void> {
  const add = async (from: number): Promise<void> => {
    const writes: Write[] = [];
    for (let at = from; at < Math.min(names, from + PER_COMMIT); at++) {
      const number = ino(1000 + at);
      const name = Buffer.from(`a-name-of-some-length-${at}`);
      writes.push(
        { kind: 'putNode', ino: number, attr: node(NodeType.File, DIRECTORY) },
        { kind: 'putEntry', parent: DIRECTORY, name, value: { type: NodeType.File, ino: number } },
      );
    }
    await engine.commit({ checks: [], writes });
  };
  const first: readonly Write[] = [
    { kind: 'putDirStat', ino: DIRECTORY, value: { length: 0, space: names * 4096, inodes: names } },
    { kind: 'putNode', ino: DIRECTORY, attr: node(NodeType.Directory, ROOT_INO) },
    { kind: 'putEntry', parent: ROOT_INO, name: Buffer.from('large'), value: { type: NodeType.Directory, ino: DIRECTORY } },
    { kind: 'touchNode', ino: ROOT_INO, sec: 0, nsec: 0, nlink: 1 },
  ];
  await engine.commit({ checks: [], writes: first });
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let from = next; from < names; from = next) {
      next = from + PER_COMMIT;
      await add(from);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

/** Carries something out, and prints how long it took and how much the process grew at most. */
async function watch(what: string, work: () => Promise<string>): Promise<void> {
  // The peak of the process, which the system keeps: no timer runs while SQLite answers at once.
  const peak = (): number => process.resourceUsage().maxRSS / 1024;
  const before = peak();
  const begin = performance.now();
  const told = await work();
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  process.stdout.write(`${what.padEnd(22)} ${seconds.padStart(7)} s   +${(peak() - before).toFixed(1)} MiB   ${told}\n`);
}

const signal = new AbortController().signal;
const format = newFormat({ name: 'streaming', bucket: '/nowhere', trashDays: 0 }, systemRandom);

async function measure(engine: MetaEngine): Promise<void> {
  const options = { clock: systemClock, random: systemRandom, logger: nullLogger, readOnly: false, callbacks: {} };
  const volume = new Volume(engine, format, options);
  await watch('first names', async () => {
    const begin = performance.now();
    for await (const batch of readdir(volume, SYSTEM, DIRECTORY, false))
      return `${batch.length} names in ${(performance.now() - begin).toFixed(1)} ms`;
    return 'none';
  });
  for (const withAttr of [false, true])
    await watch(withAttr ? 'list with attributes' : 'list', async () => {
      let seen = 0;
      for await (const batch of readdir(volume, SYSTEM, DIRECTORY, withAttr)) seen += batch.length;
      return `${seen} names`;
    });
  await watch('count (quota check)', async () => `${(await treeUsage(engine, DIRECTORY, true)).inodes} inodes`);
  await watch('fsck of the tree', async () => {
    const report = newTreeReport();
    const path = Buffer.from('/');
    const start = { ino: ROOT_INO, type: NodeType.Directory, path, parent: ROOT_INO, name: undefined };
    const how = { recursive: true, repair: false, syncDirStat: false, dirMode: 0o755, activeSessions: false };
    let files = 0;
    for await (const _file of checkTree({ volume, start, ...how, report, signal })) files++;
    return `${files} files`;
  });
  if (flags.includes('--remove'))
    await watch('remove', async () => {
      let removed = 0;
      await empty(volume, SYSTEM, DIRECTORY, signal, () => removed++);
      return `${removed} names`;
    });
}

const engine = await openEngine(url);
try {
  if (flags.includes('--make')) await fill(engine);
  else if (flags.includes('--measure')) await measure(engine);
  else {
    if ((await engine.readSetting().catch(() => undefined)) !== undefined) throw new Error('there is a volume in this database');
    await formatVolume(engine, format);
    try {
      for (const step of ['--make', '--measure'])
        execFileSync(process.execPath, [...process.execArgv, ...HEAP, import.meta.filename, url, count, ...flags, step], {
          stdio: 'inherit',
        });
    } finally {
      await engine.reset();
    }
  }
} finally {
  await engine.close();
}
