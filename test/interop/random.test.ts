/**
 * Both clients at work on one volume at the same time, at random, against a model: a directory of an ordinary file system on which
 * every operation is done as well. Each client has a tree of its own, names of its own in a directory of both, and files of both, which
 * are opened by one client at a time (close-to-open). Every answer, error codes included, and in the end both views must be the
 * model's. The seed is in the test's name; JUICEPOD_SEED repeats one,
 * JUICEPOD_STEPS makes it longer.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import {
  chmod,
  link,
  mkdir,
  open,
  readdir,
  readlink,
  rename,
  rmdir,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotInteroperate, fsck, gc } from './official.ts';
import { type ClientName, openPair } from './pair.ts';
import { compressible } from './scenarios.ts';
import { checksum, describeTree } from './tree.ts';

const clients: readonly ClientName[] = ['official', 'ours'];
/** Operations of each client. */
const STEPS = Number(process.env['JUICEPOD_STEPS'] ?? 400);

/** Numbers from a seed, by a linear congruential generator (constants of Numerical Recipes). */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * end);
  }

  of<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)];
    if (choice === undefined) throw new Error('nothing to choose from');
    return choice;
  }
}

/** What an operation came to: its result, or the code of its error. */
async function outcome(work: Promise<unknown>): Promise<unknown> {
  try {
    return (await work) ?? 'done';
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  }
}

/** One operation, the same on any root. */
type Operation = (root: string) => Promise<unknown>;

async function patch(path: string, data: Buffer, position: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(data, 0, data.length, position);
  } finally {
    await file.close();
  }
}

/** The next operation somewhere in a folder; names are few, so that operations meet. */
function nextOperation(dice: Dice, folder: string, prefix: string): Operation {
  const name = (): string => `${prefix}${dice.below(6)}`;
  const directory = (): string =>
    dice.of([folder, folder, `${folder}/${prefix}d0`, `${folder}/${prefix}d1`, `${folder}/${prefix}d0/${prefix}d1`]);
  const any = (): string => `${directory()}/${dice.of([name(), name(), `${prefix}d0`, `${prefix}d1`])}`;
  const [a, b] = [any(), any()];
  const data = compressible(dice.below(dice.of([10, 5000, 300_000])), dice.below(1000));
  const at = dice.below(dice.of([100, 10_000, 600_000]));
  const choice = dice.below(100);
  if (choice < 18) return (root) => writeFile(join(root, a), data);
  if (choice < 30) return (root) => patch(join(root, a), data, at);
  if (choice < 36) return (root) => writeFile(join(root, a), data, { flag: 'a' });
  if (choice < 44) return (root) => truncate(join(root, a), at);
  if (choice < 54) return (root) => mkdir(join(root, directoryOf(a), `${prefix}d${choice % 2}`));
  if (choice < 64) return (root) => rename(join(root, a), join(root, b));
  if (choice < 70) return (root) => link(join(root, a), join(root, b));
  if (choice < 74) return (root) => symlink(b, join(root, a));
  if (choice < 82) return (root) => unlink(join(root, a));
  if (choice < 85) return (root) => rmdir(join(root, a));
  if (choice < 88) return (root) => chmod(join(root, a), 0o600 + (at % 64));
  if (choice < 91) return async (root) => (await readdir(join(root, a))).toSorted();
  if (choice < 93) return (root) => readlink(join(root, a));
  return (root) => checksum(join(root, a));
}

const directoryOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

/** One after another, whoever asks. */
class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return mine;
  }
}

async function workAs(client: ClientName, mount: string, model: string, dice: Dice, turns: Turns): Promise<void> {
  const both = async (operation: Operation, what: string): Promise<void> => {
    const [expected, found] = [await outcome(operation(model)), await outcome(operation(mount))];
    assert.deepEqual(found, expected, what);
  };
  for (let step = 0; step < STEPS; step++) {
    const what = `${client}, step ${step}`;
    const where = dice.below(10);
    if (where < 5) await both(nextOperation(dice, client, ''), what);
    else if (where < 8) await both(nextOperation(dice, 'common', `${client}-`), what);
    else
      await turns.take(async () => {
        const file = `files/${dice.below(4)}`;
        // What the other wrote is there, and then it is changed.
        await both((root) => checksum(join(root, file)), `${what}: ${file} as the other left it`);
        await both(nextShared(dice, file), `${what}: ${file}`);
      });
  }
}

function nextShared(dice: Dice, file: string): Operation {
  const data = compressible(1 + dice.below(dice.of([500, 200_000])), dice.below(1000));
  const at = dice.below(900_000);
  const choice = dice.below(10);
  if (choice < 5) return (root) => patch(join(root, file), data, at);
  if (choice < 7) return (root) => writeFile(join(root, file), data, { flag: 'a' });
  if (choice < 8) return (root) => truncate(join(root, file), at);
  if (choice < 9) return (root) => writeFile(join(root, file), data);
  return async (root) => {
    await writeFile(join(root, `${file}.new`), data);
    await rename(join(root, `${file}.new`), join(root, file));
  };
}

describe('both clients at random on one volume', { skip: cannotInteroperate }, () => {
  for (const [engine, compression] of [
    ['redis', 'lz4'],
    ['sqlite', 'none'],
    ['postgres', 'none'],
    ['mysql', 'lz4'],
  ] as const) {
    const seed = Number(process.env['JUICEPOD_SEED'] ?? Math.floor(Math.random() * 1e9));
    test(`in ${engine}, compression ${compression}, seed ${seed}`, async () => {
      await using pair = await openPair({ engine, compression, blockSize: 256 });
      const model = mkdtempSync(join(tmpdir(), 'juicepod-model-'));
      try {
        for (const root of [model, pair.ours]) {
          for (const folder of ['common', 'files', ...clients]) await mkdir(join(root, folder));
          for (let file = 0; file < 4; file++) await writeFile(join(root, `files/${file}`), '');
        }
        const turns = new Turns();
        const dice = new Dice(seed);
        await Promise.all(
          clients.map((client) => workAs(client, pair.folder(client), model, new Dice(dice.below(2 ** 32)), turns)),
        );
        const expected = await describeTree(model);
        for (const client of clients) assert.deepEqual(await describeTree(pair.folder(client)), expected, client);
        assert.deepEqual(await describeTree(pair.official, { exact: true }), await describeTree(pair.ours, { exact: true }));
        // Anew, with nothing in memory.
        for (const client of clients) await pair.unmount(client);
        await fsck(pair.url);
        const { leaked, skipped } = await gc(pair.url);
        assert.deepEqual({ leaked, skipped }, { leaked: 0, skipped: 0 });
        for (const client of clients) await pair.mount(client);
        for (const client of clients) assert.deepEqual(await describeTree(pair.folder(client)), expected, `${client}, anew`);
      } finally {
        rmSync(model, { recursive: true, force: true });
      }
    });
  }
});
