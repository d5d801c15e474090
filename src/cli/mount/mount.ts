/**
 * `juicepod mount` as a person calls it: checks what the arguments say, then becomes the process that holds the mount and keeps a
 * client running (supervise.ts). The client looks at database and volume before it mounts; where its answer in a log would not do,
 * that is done here first. The client of a pod (`--plan`) does not come here (serve.ts). What only some mounts need is loaded when
 * they do: whoever mounts waits for all of it.
 */
import { spawn } from 'node:child_process';
import { existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { mountsAt } from '../../fuse/mountinfo.ts';
import { mountState, realTarget } from '../../fuse/mount.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { parseDuration, parseMbps, parseSize } from '../../lib/units.ts';
import type { JobName } from '../../meta/jobs.ts';
import { redactUrl } from '../../meta/url.ts';
import { bytesOfMbps } from '../../object/limit.ts';
import { cacheOf } from './cache-options.ts';
import { metricsOf } from './metrics-options.ts';
import { wholeFilesShare } from '../../client/semantics.ts';
import { semanticsOf } from './mount-semantics.ts';
import { wholeNumberOf } from '../options.ts';
import { type Output, print } from '../report.ts';
import { type FoundVolume, type MountSettings, SETTINGS_VARIABLE, sourceOf } from './settings.ts';
import { makeFolder, removeMade } from './mount-point.ts';
import { superviseCommand } from './supervise.ts';
import { storageOptions, type StorageOptions } from '../volume.ts';

interface MountCommand extends StorageOptions {
  readonly background?: boolean;
  readonly log?: string;
  readonly readOnly?: boolean;
  readonly subdir?: string;
  readonly enableXattr?: boolean;
  readonly hideInternal?: boolean;
  readonly o?: string;
  readonly attrCache: string;
  readonly entryCache: string;
  readonly dirEntryCache: string;
  readonly negativeEntryCache: string;
  readonly cacheWholeFiles?: string;
  readonly bufferSize: string;
  readonly maxReadahead: string;
  readonly maxUploads: string;
  readonly maxDownloads: string;
  readonly writeback?: boolean;
  readonly uploadDelay: string;
  readonly stagingSize?: string;
  readonly uploadLimit?: string;
  readonly downloadLimit?: string;
  readonly maxMetadataOps: string;
  readonly ioRetries: string;
  readonly heartbeat: string;
  readonly metrics?: string;
  readonly customLabels?: string;
  readonly bgjob: boolean;
  readonly skipJobs?: string;
  readonly backupMeta: string;
  readonly backupSkipTrash?: boolean;
  readonly output: Output;
}

const isRoot = (): boolean => process.getuid?.() === 0;
/** How long `-d` waits for the mount to answer, milliseconds. */
const BACKGROUND_MS = 60_000;
/** As for the official client. */
const SHORTEST_BACKUP_MS = 300_000;
const EXAMPLE = 'For example: juicepod mount redis://localhost/1 /mnt/data';

export async function mountCommand(
  url: string | undefined,
  mountPoint: string | undefined,
  raw: Readonly<Record<string, unknown>>,
): Promise<void> {
  const options = raw as unknown as MountCommand;
  if (url === undefined || mountPoint === undefined)
    throw new UserError('ArgumentMissing', 'mount needs META-URL and MOUNTPOINT', { hint: EXAMPLE });
  const wanted = await settingsOf(url, options);
  const path = resolve(mountPoint);
  // A mount that nobody serves any more is not touched: it is cleared away when the new one is made.
  const made = mountsAt(path).length === 0 ? makeFolder(path, 'MOUNTPOINT') : [];
  try {
    const settings = { ...wanted, target: await realTarget(path), ...(made.length > 0 ? { made } : {}) };
    // Whether it is the same volume that is mounted there, only the database knows.
    const covers = mountsAt(settings.target).some(({ source }) => source.startsWith(sourceOf('')));
    const checked = options.background || options.output === 'json' || covers;
    const found = checked ? await check(url, settings.target) : undefined;
    const env = { ...process.env, [SETTINGS_VARIABLE]: JSON.stringify({ ...settings, ...(found ? { found } : {}) }) };
    const named = ['supervise', redactUrl(url), settings.target];
    const args = [...process.execArgv, process.argv[1] ?? '', ...named];
    if (found && options.background) {
      await inBackground(args, env, settings.target, found.name, options);
      return;
    }
    // The same process from here on, without what was loaded for the check.
    if (found) process.execve?.(process.execPath, [process.execPath, ...args], env);
    // A start of Node less. What was typed may hold a password, and anybody can read it.
    process.title = ['juicepod', ...named].join(' ');
    await superviseCommand(named.slice(1), env);
  } catch (error) {
    removeMade(made);
    throw error;
  }
}

async function check(url: string, target: string): Promise<FoundVolume> {
  const { checkVolume } = await import('./check.ts');
  const found = await checkVolume(url);
  const source = sourceOf(found.name);
  if (mountsAt(target).at(-1)?.source === source && (await mountState(target)) === 'alive')
    throw new UserError('AlreadyMounted', `${target} is a mount of ${source} already`, {
      hint: `Unmount it first: juicepod umount ${target}`,
    });
  return found;
}

async function settingsOf(url: string, options: MountCommand): Promise<Omit<MountSettings, 'target'>> {
  const seconds = (text: string, option: string): number => parseDuration(text, option) / 1000;
  const fuseOptions = (options.o ?? '').split(',').filter((option) => option !== '');
  const unknown = fuseOptions.find((option) => !['allow_other', 'ro', 'rw'].includes(option));
  if (unknown !== undefined) throw new UserError('InvalidOption', `-o ${unknown}: wanted allow_other or ro`);
  const cache = await cacheOf(options as unknown as Record<string, unknown>, options.writeback === true);
  const readOnly = options.readOnly === true || fuseOptions.includes('ro');
  return {
    metaUrl: url,
    allowOther: isRoot() || fuseOptions.includes('allow_other'),
    readOnly,
    storage: storageOptions(options, {}),
    subPath: options.subdir ?? '',
    xattr: options.enableXattr === true,
    hideInternal: options.hideInternal === true,
    semantics: semanticsOf(options as unknown as Record<string, unknown>),
    attrTimeout: seconds(options.attrCache, '--attr-cache'),
    entryTimeout: seconds(options.entryCache, '--entry-cache'),
    dirEntryTimeout: seconds(options.dirEntryCache, '--dir-entry-cache'),
    negativeTimeout: seconds(options.negativeEntryCache, '--negative-entry-cache'),
    cache,
    ...(cache ? { wholeFiles: wholeFilesOf(options.cacheWholeFiles, cache.bytes, readOnly) } : {}),
    ...(options.writeback && cache
      ? {
          writeback: {
            delayMs: parseDuration(options.uploadDelay, '--upload-delay'),
            ...(options.stagingSize === undefined ? {} : { maxBytes: parseSize(options.stagingSize, '--staging-size') }),
          },
        }
      : {}),
    uploadLimit: bytesOfMbps(parseMbps(options.uploadLimit ?? '0', '--upload-limit')),
    downloadLimit: bytesOfMbps(parseMbps(options.downloadLimit ?? '0', '--download-limit')),
    maxMetadataOps: wholeNumberOf(options.maxMetadataOps, '--max-metadata-ops', 0, 1_000_000),
    bufferBytes: parseSize(options.bufferSize, '--buffer-size'),
    readaheadBytes: parseSize(options.maxReadahead, '--max-readahead'),
    maxUploads: wholeNumberOf(options.maxUploads, '--max-uploads', 1, 1000),
    maxDownloads: wholeNumberOf(options.maxDownloads, '--max-downloads', 1, 1000),
    ioRetries: wholeNumberOf(options.ioRetries, '--io-retries', 0, 100),
    heartbeatMs: parseDuration(options.heartbeat, '--heartbeat'),
    backgroundJobs: options.bgjob && (await jobsOf(options.skipJobs)),
    ...backupOf(options),
    ...(await metricsOf(options.metrics, options.customLabels)),
  };
}

/** Bytes for whole files. Throws UserError where they cannot be. */
function wholeFilesOf(text: string | undefined, cacheBytes: number, readOnly: boolean): number {
  if (text === undefined) return readOnly ? wholeFilesShare(cacheBytes) : 0;
  const bytes = parseSize(text, '--cache-whole-files');
  if (bytes > cacheBytes)
    throw new UserError(
      'InvalidOption',
      `--cache-whole-files ${text}: wanted no more than --cache-size, which is ${cacheBytes} bytes`,
    );
  return bytes;
}

/** All jobs but those that are to be left to other clients. */
async function jobsOf(skipped: string | undefined): Promise<boolean | readonly JobName[]> {
  if (skipped === undefined) return true;
  const { jobNames } = await import('../../meta/jobs.ts');
  const names = skipped.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !jobNames.some((job) => job === name));
  if (unknown !== undefined)
    throw new UserError('InvalidOption', `--skip-jobs: wanted some of ${jobNames.join(', ')}, found ${JSON.stringify(unknown)}`);
  return jobNames.filter((job) => !names.includes(job));
}

/** Nothing where no backup is wanted. */
function backupOf({ backupMeta, backupSkipTrash = false }: MountCommand): Pick<MountSettings, 'backup'> {
  const intervalMs = parseDuration(backupMeta, '--backup-meta');
  if (intervalMs === 0) return {};
  if (intervalMs < SHORTEST_BACKUP_MS)
    throw new UserError('InvalidOption', `--backup-meta ${backupMeta}: wanted five minutes or more, or 0 for none`);
  return { backup: { intervalMs, skipTrash: backupSkipTrash } };
}

/** Starts the holder detached, and waits until the mount answers. */
async function inBackground(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  target: string,
  volume: string,
  options: MountCommand,
): Promise<void> {
  const path = options.log ?? (isRoot() ? '/var/log/juicepod.log' : join(homedir(), '.juicepod/juicepod.log'));
  makeFolder(dirname(path), '--log');
  let log: number;
  try {
    log = openSync(path, 'a', 0o600);
  } catch (error) {
    throw new UserError('LogDenied', `--log: ${path} cannot be written: ${messageOf(error)}`);
  }
  const begin = statSync(path).size;
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log], env });
  let ended = false;
  child.once('exit', () => (ended = true));
  const deadline = performance.now() + BACKGROUND_MS;
  // A dead mount that is still there has the same source, but answers nothing.
  while (mountsAt(target).at(-1)?.source !== sourceOf(volume) || !existsSync(join(target, '.stats'))) {
    if (ended || performance.now() > deadline) {
      if (!ended) child.kill('SIGTERM');
      const lines = readFileSync(path).subarray(begin).toString().trimEnd().split('\n');
      // The client's own sentence, where it said one.
      const at = lines.findLastIndex((line) => line.startsWith('juicepod: '));
      const said = lines[at]?.slice('juicepod: '.length) ?? `it did not answer within ${BACKGROUND_MS / 1000} s`;
      const hint = at >= 0 && lines[at + 1]?.startsWith('  ') ? `${lines[at + 1]?.trim()} ` : '';
      throw new UserError('MountFailed', `the mount did not come up: ${said}`, { hint: `${hint}The log is ${path}.` });
    }
    await new Promise((done) => setTimeout(done, 10));
  }
  child.unref();
  print(
    options.output,
    { mounted: target, volume, pid: child.pid, log: path },
    `Mounted the volume "${volume}" at ${target}, log in ${path}.\nUnmount it with:  juicepod umount ${target}`,
  );
}
