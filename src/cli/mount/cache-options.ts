/** The options of `mount` for the cache of blocks on disk (program-cache.ts), read. */
import { existsSync, globSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { checksumLevels } from '../../chunk/cache-file.ts';
import { evictions } from '../../chunk/cache-index.ts';
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

const isDirectory = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** Absolute, each once, in the order of names. Throws UserError `InvalidFolder` where a pattern fits no directory. */
function splitFolders(text: string): readonly string[] {
  // A name that is there is meant, whatever is in it.
  const whole = existsSync(text);
  const colons = text.split(':');
  const parts = whole ? [text] : (colons.length === 1 ? text.split(',') : colons).filter((part) => part.trim() !== '');
  if (parts.length === 0) throw new UserError('InvalidFolder', '--cache-dir: wanted directories, found nothing');
  const folders = parts.flatMap((part) => {
    const path = resolve(part);
    if (!/[*?[]/.test(path) || existsSync(path)) return [path];
    const matching = globSync(path).filter(isDirectory);
    if (matching.length === 0)
      throw new UserError('InvalidFolder', `--cache-dir: no directory is named like ${path}`, {
        hint: 'Name directories that are there, or without * and ? those that are to be made.',
      });
    return matching;
  });
  return [...new Set(folders)].toSorted();
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

/** Reads them; the directories are made. Undefined: no cache on disk. Throws UserError naming the option. */
export function cacheOf(
  raw: Readonly<Record<string, unknown>>,
  writeback: boolean,
  warn: (line: string) => void = (line) => process.stderr.write(line),
): CacheOptions | undefined {
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
  const folders = splitFolders(text);
  makeFolders(folders, warn);
  return { folder: folders.length === 1 ? (folders[0] ?? '') : folders, ...cache };
}
