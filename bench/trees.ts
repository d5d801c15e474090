/**
 * Large trees for bench/real-work.ts: the source of a Linux kernel (Debian's package, once, into the cache), or where that cannot be
 * had one that is generated with the same shape; and the sum of a tree, by which it is seen that nothing was changed on the way.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheRoot, onPath } from '../test/tools.ts';
import { run } from './sides.ts';

/** Debian's package of a kernel source, the first that its lists know. */
const KERNELS = ['linux-source-6.1', 'linux-source-6.12'];

/** Of a kernel source of 6.1 (78 579 files, 5 096 directories): sizes in bytes, tenth by tenth; the last is what 99 % are below. */
const SIZES = [0, 446, 959, 1_621, 2_525, 3_874, 5_909, 9_044, 14_832, 28_758, 124_603];
const PER_DIRECTORY = 15;

/** A random course that is the same in each run (xorshift, 32 bits). */
function course(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Fills a folder with so many files that are to a file system what a kernel source is: text, small, with some links. */
export function generateTree(folder: string, files: number): void {
  const random = course(20_221_211);
  const words = Array.from({ length: 4096 }, () => Math.floor(random() * 2 ** 40).toString(36));
  const text = Buffer.from(Array.from({ length: 65_536 }, () => words[Math.floor(random() * words.length)]).join(' '));
  for (let index = 0; index < files; index++) {
    const directory = Math.floor(index / PER_DIRECTORY);
    const path = [directory % 20, Math.floor(directory / 20) % 30, Math.floor(directory / 600)].map((part) => `part-${part}`);
    const place = join(folder, ...path);
    if (index % PER_DIRECTORY === 0) mkdirSync(place, { recursive: true });
    const tenth = Math.floor(random() * 10);
    const [low = 0, high = 0] = [SIZES[tenth], SIZES[tenth + 1]];
    const size = Math.min(text.length, Math.floor(low + random() * (high - low)));
    const begin = Math.floor(random() * (text.length - size));
    if (index % 1000 === 999) symlinkSync(`file-${index - 1}.c`, join(place, `file-${index}.c`));
    else writeFileSync(join(place, `file-${index}.c`), text.subarray(begin, begin + size), { mode: index % 50 ? 0o644 : 0o755 });
  }
}

function kernelTar(archive: string): boolean {
  if (!onPath('apt-get') || !onPath('dpkg-deb') || !onPath('xz')) return false;
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-kernel-'));
  try {
    for (const name of KERNELS) {
      try {
        run('sh', ['-c', 'cd "$1" && apt-get download "$2"', 'sh', folder, name]);
      } catch {
        continue;
      }
      const file = readdirSync(folder).find((each) => each.endsWith('.deb'));
      if (!file) continue;
      run('dpkg-deb', ['-x', join(folder, file), folder]);
      run('sh', ['-c', 'xz -dc "$1" > "$2"', 'sh', join(folder, 'usr/src', `${name}.tar.xz`), `${archive}.${process.pid}`]);
      renameSync(`${archive}.${process.pid}`, archive);
      return true;
    }
    return false;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(`${archive}.${process.pid}`, { force: true });
  }
}

export interface Archive {
  readonly path: string;
  readonly what: string;
}

/**
 * A tar of a large source tree, kept in the cache.
 *
 * @param files so many at most: of the kernel the first ones; undefined for all of them (79 000, 1.3 GB)
 */
export function sourceArchive(files: number | undefined): Archive {
  const folder = join(cacheRoot, 'bench');
  mkdirSync(folder, { recursive: true });
  const whole = join(folder, 'kernel.tar');
  if (existsSync(whole) || kernelTar(whole)) {
    if (files === undefined) return { path: whole, what: 'a kernel source' };
    const part = join(folder, `kernel-${files}.tar`);
    if (!existsSync(part)) make(part, (tree) => firstFiles(whole, tree, files));
    return { path: part, what: `${files} files of a kernel source` };
  }
  const count = files ?? 70_000;
  const generated = join(folder, `generated-${count}.tar`);
  if (!existsSync(generated)) make(generated, (tree) => generateTree(join(tree, 'source'), count));
  return { path: generated, what: `${count} generated files` };
}

function firstFiles(archive: string, tree: string, files: number): void {
  const list = join(tree, '.list');
  const names = run('tar', ['-tf', archive]).split('\n');
  writeFileSync(
    list,
    names
      .filter((name) => name && !name.endsWith('/'))
      .slice(0, files)
      .join('\n'),
  );
  run('tar', ['-xf', archive, '-C', tree, '-T', list]);
  rmSync(list);
}

function make(path: string, fill: (tree: string) => void): void {
  const tree = mkdtempSync(join(tmpdir(), 'juicepod-tree-'));
  const temporary = `${path}.${process.pid}`;
  try {
    fill(tree);
    run('tar', ['-cf', temporary, '--sort=name', '--owner=0', '--group=0', '-C', tree, '.']);
    renameSync(temporary, path);
  } finally {
    rmSync(tree, { recursive: true, force: true });
    rmSync(temporary, { force: true });
  }
}

/** What a tree is, in a few characters: names, kinds, permissions, contents, in the order of names. Owners and times are left out. */
export function treeSum(folder: string, leaveOut: readonly string[] = []): string {
  const hash = createHash('sha256');
  let files = 0;
  const walk = (path: string, name: string): void => {
    const stat = lstatSync(path);
    hash.update(`${name}\0${stat.mode.toString(8)}\0`);
    if (stat.isDirectory()) {
      for (const child of readdirSync(path).toSorted())
        if (!leaveOut.includes(child)) walk(join(path, child), `${name}/${child}`);
      return;
    }
    files++;
    const contents = stat.isSymbolicLink() ? Buffer.from(readlinkSync(path)) : readFileSync(path);
    hash.update(`${contents.length}\0`).update(contents);
  };
  walk(folder, '');
  return `${files} files ${hash.digest('hex').slice(0, 16)}`;
}
