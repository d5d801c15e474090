/** The options of `mount` for the cache of blocks on disk (program-cache.ts), read. */
import { mkdirSync } from 'node:fs';
import { access, glob, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { checksumLevels } from '../../chunk/cache-file.ts';
import { evictions } from '../../chunk/cache-index.ts';
import { ANSWER_MS, endsWithin, sortByAnswer, without } from '../../client/answering.ts';
import type { CacheOptions } from '../../client/cache-options.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { parseDuration, parseSize } from '../../lib/units.ts';
import { numberOf, wholeNumberOf } from '../options.ts';

interface CacheFlags {
  readonly cacheDir?: string;
  readonly cacheSize: string;
  readonly cacheItems: string;
  readonly cacheEviction: string;
  readonly cacheExpire: string;
  readonly cacheScanInterval: string;
  readonly cacheMode: string;
  readonly cachePartialOnly?: boolean;
  readonly cacheLargeWrite?: boolean;
  readonly verifyCacheChecksum: string;
  readonly freeSpaceRatio: string;
}

const LONGEST_ITEMS = 100_000_000;

function oneOf<T extends string>(text: string, option: string, all: readonly T[]): T {
  const found = all.find((each) => each === text);
  if (found === undefined)
    throw new UserError('InvalidOption', `${option}: wanted ${all.join(', ')}, found ${JSON.stringify(text)}`);
  return found;
}

function modeOf(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text) || (Number.parseInt(text, 8) & 0o600) !== 0o600)
    throw new UserError(
      'InvalidOption',
      `--cache-mode: wanted octal permissions with which the owner reads and writes, found ${JSON.stringify(text)}`,
      { hint: 'For example: --cache-mode 0640' },
    );
  return Number.parseInt(text, 8);
}

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** Whether there is one directory of a name that looks like several: the disk is asked again below, with more patience. */
const SHORT_MS = 2000;

/** What an action comes to, and `silent` where a disk that it asks does not answer. */
async function answerOf<T, S>(action: Promise<T>, silent: S, waitMs = ANSWER_MS): Promise<T | S> {
  return (await endsWithin(action, waitMs)) ? action : silent;
}

const isThere = (path: string): Promise<boolean> =>
  answerOf(
    access(path).then(
      () => true,
      () => false,
    ),
    false,
    SHORT_MS,
  );

async function namesLike(pattern: string): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const name of glob(pattern)) names.push(name);
  return names;
}

/** The directories that a pattern names; where their disks do not answer, nobody can say what they are. */
async function matchingFolders(pattern: string): Promise<readonly string[]> {
  const names = await answerOf(namesLike(pattern), undefined);
  const found =
    names && (await Promise.all(names.map(async (name) => ((await answerOf(isDirectory(name), true)) ? [name] : []))));
  if (found && found.flat().length > 0) return found.flat();
  throw new UserError(
    'InvalidFolder',
    found
      ? `--cache-dir: no directory is named like ${pattern}`
      : `--cache-dir: a disk did not answer for ${ANSWER_MS / 1000} s when directories named like ${pattern} were looked for`,
    { hint: 'Name directories that are there, or without * and ? those that are to be made.' },
  );
}

/** Absolute, each once, in the order of names. Throws UserError `InvalidFolder` where a pattern fits no directory. */
async function splitFolders(text: string): Promise<readonly string[]> {
  const plain = !/[:,*?[]/.test(text);
  // A name that is there is meant, whatever is in it.
  const whole = plain || (await isThere(text));
  const colons = text.split(':');
  const parts = whole ? [text] : (colons.length === 1 ? text.split(',') : colons).filter((part) => part.trim() !== '');
  const folders = await Promise.all(
    parts.map(async (part) => {
      const path = resolve(part);
      return !/[*?[]/.test(path) || (await isThere(path)) ? [path] : matchingFolders(path);
    }),
  );
  return [...new Set(folders.flat())].toSorted();
}

/** Makes a directory that is missing, parents too; what is wrong, where that cannot be. */
function made(path: string): string | undefined {
  try {
    mkdirSync(path, { recursive: true });
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EEXIST' || code === 'ENOTDIR' ? 'there is a file in its place' : messageOf(error);
  }
}

/** Those that can be used, and those that may be later: one is enough. */
function makeFolders(folders: readonly string[], warn: (line: string) => void): void {
  const failed = folders.flatMap((path) => {
    const reason = made(path);
    return reason === undefined ? [] : [{ path, reason }];
  });
  const [first] = failed;
  if (first && failed.length === folders.length)
    throw new UserError('InvalidFolder', `--cache-dir: ${first.path} is no folder and cannot be made one: ${first.reason}`, {
      hint: 'Name a folder, or a path where one can be made.',
    });
  for (const { path, reason } of failed) warn(`--cache-dir: ${path} cannot be used now: ${reason}\n`);
}

/**
 * Reads them; the directories are made, and those whose disks do not answer are left out. Undefined: no cache on disk. Throws UserError
 * naming the option.
 */
export async function cacheOf(
  raw: Readonly<Record<string, unknown>>,
  writeback: boolean,
  warn: (line: string) => void = (line) => process.stderr.write(line),
): Promise<CacheOptions | undefined> {
  const options = raw as unknown as CacheFlags;
  const text = options.cacheDir ?? (process.getuid?.() === 0 ? '/var/jfsCache' : join(homedir(), '.juicefs/cache'));
  const cache = {
    bytes: parseSize(options.cacheSize, '--cache-size'),
    maxItems: wholeNumberOf(options.cacheItems, '--cache-items', 0, LONGEST_ITEMS),
    eviction: oneOf(options.cacheEviction, '--cache-eviction', evictions),
    expireMs: parseDuration(options.cacheExpire, '--cache-expire'),
    scanIntervalMs: parseDuration(options.cacheScanInterval, '--cache-scan-interval'),
    mode: modeOf(options.cacheMode),
    partialOnly: options.cachePartialOnly === true,
    largeWrites: options.cacheLargeWrite === true,
    checksum: oneOf(options.verifyCacheChecksum, '--verify-cache-checksum', checksumLevels),
    freeRatio: numberOf(options.freeSpaceRatio, '--free-space-ratio', 0, 0.95),
  };
  if (writeback && (text === 'memory' || cache.bytes === 0))
    throw new UserError('WritebackNeedsCache', '--writeback needs a cache directory on disk, with a --cache-size above 0', {
      hint: 'Name one with --cache-dir, or leave --writeback out.',
    });
  if (text === 'memory') return undefined;
  if (text.split(/[:,]/).every((part) => part.trim() === ''))
    throw new UserError('InvalidFolder', '--cache-dir: wanted directories, found nothing');
  const folders = await splitFolders(text);
  const { usable, hanging } = await sortByAnswer(folders);
  for (const path of hanging)
    warn(
      `juicepod: --cache-dir: the disk of ${path} has not answered for ${ANSWER_MS / 1000} s; the volume is mounted without it. Mount it again to use it.\n`,
    );
  if (usable.length > 0) makeFolders(usable, warn);
  else if (writeback) warn('juicepod: no cache directory is left: what is written is uploaded at once, without write-back\n');
  return without({ folder: folders, ...cache }, hanging);
}
