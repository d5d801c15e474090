/**
 * `juicepod mdtest`: how fast a metadata database makes, looks up, lists and removes directories and files, without a mount and
 * without objects. The tree and its options are those of `juicefs mdtest`, which measures the making only and leaves the tree there.
 * What is removed does not go to the trash.
 */
import { messageOf, UserError } from '../../lib/errors.ts';
import { type Ino, ROOT_INO } from '../../lib/int64.ts';
import { parseSize } from '../../lib/units.ts';
import { openMeta } from '../../meta/open.ts';
import { namesOf } from '../../meta/paths.ts';
import { CHUNK_SIZE, type Meta, NodeFlag, NodeType, SYSTEM } from '../../meta/types.ts';
import { Bar, Interrupted, printResults, type Result } from './bench-report.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import type { Output } from '../report.ts';
import { COMMAND_PATIENCE_MS } from '../volume.ts';

interface MdtestCommand {
  readonly threads: string;
  readonly dirs: string;
  readonly depth: string;
  readonly files: string;
  readonly write: string;
  readonly output: Output;
}

/** More is no benchmark any more, and would have to be kept in memory. */
const MOST_DIRECTORIES = 1_000_000;

interface Shape {
  readonly threads: number;
  readonly width: number;
  readonly depth: number;
  readonly files: number;
  readonly bytes: number;
}

/** Directories of a tree: one, and below it `width` of each, `depth` levels deep. */
function directoriesOf(width: number, depth: number): number {
  let count = 1;
  for (let level = 1; level <= depth; level++) count += width ** level;
  return count;
}

class Tree {
  readonly #meta: Meta;
  readonly #shape: Shape;
  readonly #signal: AbortSignal;
  /** Parents before what is in them. */
  readonly #directories: { readonly parent: Ino; readonly name: Buffer; readonly ino: Ino }[] = [];
  readonly results: Result[] = [];
  /** Files that were made, or may have been. */
  #made = 0;

  constructor(meta: Meta, shape: Shape, signal: AbortSignal) {
    this.#meta = meta;
    this.#shape = shape;
    this.#signal = signal;
  }

  /** Runs `step` so often, by so many at a time, and takes note of how fast it was. */
  async #measure(item: string, count: number, parallel: number, step: (index: number) => Promise<unknown>): Promise<void> {
    let next = 0;
    let done = 0;
    using _bar = new Bar(item, count, () => done);
    const begin = performance.now();
    const worker = async (): Promise<void> => {
      while (next < count) {
        if (this.#signal.aborted) throw new Interrupted();
        await step(next++);
        done++;
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: parallel }, worker));
    for (const each of ended) if (each.status === 'rejected') throw each.reason;
    const seconds = (performance.now() - begin) / 1000;
    this.results.push({
      item,
      value: count / seconds,
      unit: 'ops/s',
      cost: (seconds * 1000 * parallel) / count,
      costUnit: 'ms/op',
      digits: 1,
      range: [100 * parallel, 500 * parallel, 2, 10],
    });
  }

  async makeDirectories(root: Ino): Promise<void> {
    const { width, depth } = this.#shape;
    const pending = [{ parent: root, name: Buffer.from('mdtest_tree.0') }];
    const withChildren = depth === 0 ? 0 : directoriesOf(width, depth - 1);
    // As with the official tool one after the other: each waits for its parent.
    await this.#measure('Create directory', directoriesOf(width, depth), 1, async () => {
      const next = pending.shift();
      if (!next) throw new Error('the tree ended early');
      const { ino } = await this.#meta.mkdir(SYSTEM, next.parent, next.name, 0o777, 0o22);
      this.#directories.push({ ...next, ino });
      if (this.#directories.length > withChildren) return;
      for (let child = 0; child < width; child++) pending.push({ parent: ino, name: Buffer.from(`mdtest_tree.${child}`) });
    });
  }

  #file(index: number): { readonly parent: Ino; readonly name: Buffer } {
    const { threads, files } = this.#shape;
    const directory = this.#directories[Math.floor(index / (threads * files))];
    if (!directory) throw new Error('no such file');
    const within = index % (threads * files);
    return { parent: directory.ino, name: Buffer.from(`file.mdtest.${Math.floor(within / files)}.${within % files}`) };
  }

  async files(): Promise<void> {
    const { threads, files, bytes } = this.#shape;
    const meta = this.#meta;
    const count = this.#directories.length * threads * files;
    if (count > 0)
      await this.#measure('Create file', count, threads, async (index) => {
        this.#made = Math.max(this.#made, index + 1);
        const { parent, name } = this.#file(index);
        const { ino } = await meta.create(SYSTEM, parent, name, 0o666, 0o22, true);
        // Slices without objects: it is the database that is measured.
        for (let at = 0; at < bytes; at += CHUNK_SIZE) {
          const slice = { id: await meta.newSliceId(), size: Math.min(CHUNK_SIZE, bytes - at) };
          await meta.writeSlice(SYSTEM, ino, at / CHUNK_SIZE, 0, slice, BigInt(Date.now()) * 1_000_000n);
        }
        await meta.release(ino);
      });
    if (count > 0)
      await this.#measure('Look up file', count, threads, async (index) => {
        const { parent, name } = this.#file(index);
        await meta.lookup(SYSTEM, parent, name);
      });
    await this.#measure('List directory', this.#directories.length, threads, async (index) => {
      for await (const _batch of meta.readdir(SYSTEM, this.#directories[index]?.ino ?? ROOT_INO, true));
    });
    if (count > 0)
      await this.#measure('Remove file', count, threads, async (index) => {
        const { parent, name } = this.#file(index);
        await meta.unlink(SYSTEM, parent, name);
      });
    this.#made = 0;
  }

  async removeDirectories(): Promise<void> {
    await this.#measure('Remove directory', this.#directories.length, 1, async () => {
      const last = this.#directories.at(-1);
      if (!last) return;
      await this.#meta.rmdir(SYSTEM, last.parent, last.name);
      this.#directories.pop();
    });
  }

  /** Removes what is left where it did not come to the end. */
  async clear(): Promise<void> {
    const missing = (error: unknown): void => {
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
    };
    for (let index = 0; index < this.#made; index++) {
      const { parent, name } = this.#file(index);
      await this.#meta.unlink(SYSTEM, parent, name).catch(missing);
    }
    for (let last = this.#directories.pop(); last; last = this.#directories.pop())
      await this.#meta.rmdir(SYSTEM, last.parent, last.name).catch(missing);
  }
}

/** The directory that the path names, without its last name; throws UserError where there is none. */
async function parentOf(meta: Meta, names: readonly Buffer[], path: string): Promise<Ino> {
  let ino: Ino = ROOT_INO;
  for (const name of names.slice(0, -1)) {
    const entry = await meta.lookup(SYSTEM, ino, name).catch((error: unknown) => {
      throw new UserError(
        'PathMissing',
        `the volume has no directory ${path}: there is no ${name.toString()} (${messageOf(error)})`,
      );
    });
    if (entry.attr.type !== NodeType.Directory)
      throw new UserError('NotADirectory', `${path}: ${name.toString()} is no directory of the volume`);
    ino = entry.ino;
  }
  return ino;
}

export async function mdtestCommand(url: string, path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as MdtestCommand;
  const shape: Shape = {
    threads: wholeNumberOf(options.threads, '--threads', 1, 1024),
    width: wholeNumberOf(options.dirs, '--dirs', 1, 1000),
    depth: wholeNumberOf(options.depth, '--depth', 0, 20),
    files: wholeNumberOf(options.files, '--files', 0, 10_000_000),
    bytes: parseSize(options.write, '--write', 'B'),
  };
  const count = directoriesOf(shape.width, shape.depth);
  if (count > MOST_DIRECTORIES)
    throw new UserError(
      'TooLarge',
      `--dirs ${shape.width} and --depth ${shape.depth} make ${count} directories; at most ${MOST_DIRECTORIES} are possible`,
    );
  const names = namesOf(path);
  const name = names.at(-1);
  if (!name)
    throw new UserError(
      'InvalidPath',
      `wanted the path of a directory to be made, such as /test1, found ${JSON.stringify(path)}`,
    );
  const ending = endingSignal();
  const meta = await openMeta(url, {
    existing: true,
    patience: COMMAND_PATIENCE_MS,
    backgroundJobs: false,
    // Its slices have no objects.
    callbacks: { deleteSlice: () => Promise.resolve() },
  });
  try {
    await meta.newSession('mdtest');
    const parent = await parentOf(meta, names, path);
    const root = await meta.mkdir(SYSTEM, parent, name, 0o777, 0o22).catch((error: unknown) => {
      throw (error as { code?: unknown }).code === 'EEXIST'
        ? new UserError('PathTaken', `${path} is there already`, {
            hint: 'Name a directory that is not there: it is removed at the end.',
          })
        : error;
    });
    const tree = new Tree(meta, shape, ending);
    try {
      // What is made below has it, too.
      await meta.setattr(SYSTEM, root.ino, { flags: NodeFlag.SkipTrash });
      await tree.makeDirectories(root.ino);
      await tree.files();
      await tree.removeDirectories();
    } finally {
      await tree.clear();
      await meta.rmdir(SYSTEM, parent, name);
    }
    printResults(
      options.output,
      `Directories: ${count}, Files: ${count * shape.threads * shape.files}, FileSize: ${shape.bytes}, NumThreads: ${shape.threads}`,
      { ...shape, directories: count },
      tree.results,
    );
  } finally {
    await meta.close();
  }
}
