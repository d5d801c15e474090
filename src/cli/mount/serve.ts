/**
 * The client process: of one mount on this machine (`serve`, started by src/cli/supervise.ts) or of a pod
 * (`mount --plan FILE --socket PATH`, started by the kubelet). Loads only what serving needs: no parser of commands, no
 * winston (17 MiB of resident memory), a store's or an engine's library only where the volume has one.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { HEARTBEAT_FILE, PROBLEM_FILE, SERVED_FILE } from '../../api/heartbeat.ts';
import type { Plan } from '../../api/plan.ts';
import { sortByAnswer, without } from '../../client/answering.ts';
import { type CacheOptions, cacheFolders, ownFolder } from '../../client/cache-options.ts';
import { HolderLink } from '../../client/handover.ts';
import { Heartbeat } from '../../client/heartbeat.ts';
import { clientLimits } from '../../client/limits.ts';
import { plainLogger } from '../../client/hold.ts';
import { serveAll, type ServeOptions, type ServeResult } from '../../client/mount.ts';
import type { MetricsAddress, MetricsServer } from '../../client/metrics-server.ts';
import { watchPlan } from '../../client/options.ts';
import { readPlan } from '../../client/plan.ts';
import { systemClock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/log.ts';
import { endProcess } from '../../lib/stuck.ts';
import type { Labels } from '../../lib/metrics.ts';
import { metricsAddress } from './metrics-options.ts';
import { endingSignal } from '../options.ts';
import { explain } from '../report.ts';
import { COMMAND_PATIENCE_MS } from '../volume.ts';
import { type MountSettings, PASSPHRASE_VARIABLE, readSettings, sourceOf } from './settings.ts';

/** As the official client's: whoever waits for the file system is not to wait for all others as well. */
const PRIORITY = -19;

/** Of this thread and of those that follow. */
function raisePriority(): void {
  try {
    setPriority(PRIORITY);
  } catch {
    // An ordinary user may not.
  }
}

export async function serveCommand(argv: readonly string[]): Promise<void> {
  const ending = endingSignal();
  raisePriority();
  try {
    const { values } = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        socket: { type: 'string' },
        plan: { type: 'string' },
        serving: { type: 'string' },
        heartbeat: { type: 'string' },
        metrics: { type: 'string' },
      },
    });
    const { socket, plan, serving, heartbeat, metrics } = values;
    if (socket === undefined)
      throw new UserError('SocketMissing', '--socket is missing: the socket of the holder that keeps the mounts');
    const pod = { socket, ...(serving === undefined ? {} : { serving }), ...(metrics === undefined ? {} : { metrics }) };
    endProcess(await (plan === undefined ? serveAlone(socket, heartbeat, ending) : servePod({ plan, ...pod }, ending)));
  } catch (error) {
    process.stderr.write(explain(error));
    endProcess(1);
  }
}

interface PodArguments {
  readonly plan: string;
  readonly socket: string;
  /** A file that is to be there while every mount is served. */
  readonly serving?: string;
  readonly metrics?: string;
}

/** The client of a pod. Its hook and its probes find what they ask for beside the socket. */
async function servePod(found: PodArguments, signal: AbortSignal): Promise<ServeResult> {
  const { plan: path, socket, serving, metrics: metricsAt } = found;
  const problemFile = join(dirname(socket), PROBLEM_FILE);
  // That of the client before, if any.
  rmSync(problemFile, { force: true });
  const { plan, text, mounts, limits } = readPlan(path);
  let level = plan.logLevel;
  const log = levelled(plainLogger({ component: 'client' }), () => level);
  using _beats = startHeartbeat(join(dirname(socket), HEARTBEAT_FILE), log);
  const handOver = new AbortController();
  const watched = watchPlan({
    path,
    plan,
    text,
    limits,
    onLogLevel: (next) => (level = next),
    onRestart: (how) => handOver.abort(how),
    logger: log,
  });
  using link = new HolderLink(socket, log);
  using metrics = metricsAt === undefined ? undefined : await serveMetrics(metricsAddress(metricsAt), undefined, log);
  const problems = new Map<string, string>();
  const onProblem = (target: string, problem: string | undefined): void => {
    if (problem === undefined) problems.delete(target);
    else problems.set(target, `${target} waits for its volume: ${problem}`);
    if (problems.size === 0) rmSync(problemFile, { force: true });
    else writeFileSync(problemFile, `${[...problems.values()].join('\n')}\n`);
  };
  try {
    const onReady = (): void => {
      for (const file of [join(dirname(socket), SERVED_FILE), serving]) if (file !== undefined) writeFileSync(file, '');
    };
    const options = { link, kept: true, log, onProblem, onReady, handOver: handOver.signal, ...(metrics ? { metrics } : {}) };
    return await serveAll(mounts, options, signal);
  } finally {
    await watched.close();
  }
}

/** The client of one mount of this machine. */
async function serveAlone(socket: string, heartbeat: string | undefined, signal: AbortSignal): Promise<ServeResult> {
  const log = plainLogger();
  using _beats = heartbeat === undefined ? undefined : startHeartbeat(heartbeat, log);
  using link = new HolderLink(socket, log);
  const settings = readSettings();
  using metrics = settings.metrics ? await serveMetrics(settings.metrics, settings.customLabels, log) : undefined;
  return await serveAll([await alone(settings, socket)], { link, kept: false, log, ...(metrics ? { metrics } : {}) }, signal);
}

/** Loaded only where it is wanted. */
async function serveMetrics(address: MetricsAddress, customLabels: Labels | undefined, logger: Logger): Promise<MetricsServer> {
  const { MetricsServer } = await import('../../client/metrics-server.ts');
  return new MetricsServer({ address, logger, ...(customLabels ? { customLabels } : {}) });
}

/** Without one the mounts are served all the same. */
function startHeartbeat(path: string, log: Logger): Heartbeat | undefined {
  try {
    return new Heartbeat(path, systemClock);
  } catch (error) {
    log.warn('no heartbeat can be left: nobody would notice if this client hung', { path, error: messageOf(error) });
    return undefined;
  }
}

/** Says what is at least of the level that holds at the time. */
function levelled(log: Logger, level: () => Plan['logLevel']): Logger {
  return {
    ...log,
    info: (...line) => void (level() === 'warn' || level() === 'error' || log.info(...line)),
    warn: (...line) => void (level() === 'error' || log.warn(...line)),
  };
}

async function alone(settings: MountSettings, socket: string): Promise<ServeOptions> {
  const { found, target, allowOther, storage, cache, uploadLimit, downloadLimit, maxMetadataOps, ...rest } = settings;
  const { metrics: _metrics, customLabels: _labels, made: _made, ...options } = rest;
  const limits = clientLimits({ uploadLimit, downloadLimit, maxMetadataOps });
  const journalFolder = await journalFolderOf(cache, dirname(socket));
  const mount = {
    target,
    source: sourceOf(found?.name ?? ''),
    readOnly: options.readOnly,
    nonEmpty: true,
    ...(allowOther ? { allowOther } : {}),
    // Whom everybody is taken for, the kernel does not know.
    defaultPermissions: !options.semantics?.squash?.everybody,
  };
  const passphrase = process.env[PASSPHRASE_VARIABLE];
  return {
    mount,
    volume: {
      ...options,
      ...(found ? { expect: found } : {}),
      openPatience: COMMAND_PATIENCE_MS,
      storage,
      ...(passphrase === undefined ? {} : { passphrases: [passphrase] }),
      journalFolder,
      limits,
      ...(cache ? { cache } : {}),
    },
  };
}

/** Where the journal lies: as the first client of the mount has noted it, in a cache directory whose disk answers, or beside the socket. */
async function journalFolderOf(cache: CacheOptions | undefined, own: string): Promise<string> {
  const { usable, hanging } = await sortByAnswer(cache ? cacheFolders(cache) : []);
  for (const folder of usable) sweepJournals(folder);
  const note = join(own, 'journal-folder');
  if (existsSync(note)) return readFileSync(note, 'utf8');
  const journal = `journal-${process.ppid}`;
  const answering = cache && without(cache, hanging);
  const folder = join(answering ? ownFolder(answering, journal) : own, journal);
  writeFileSync(note, folder);
  return folder;
}

/** Journals of mounts whose holder is gone: nobody will ask for them. */
function sweepJournals(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const pid = /^journal-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}
