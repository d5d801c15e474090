/**
 * `juicepod debug`: everything about a mount that somebody needs who is asked for help, in one archive; no secret is in it. What cannot be
 * had is left out and named in `missing.txt`. The client of the mount must run on this machine, or in this pod.
 */
import { execFile } from 'node:child_process';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { arch, cpus, freemem, hostname, loadavg, platform, release, totalmem, uptime } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import packageJson from '../../../package.json' with { type: 'json' };
import { shownFolders } from '../../client/cache-options.ts';
import { mountsAt } from '../../fuse/mountinfo.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { knownSecrets, withoutSecrets } from './debug-secrets.ts';
import { type MountRoot, mountRoot, virtualText } from './mounted.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { type Output, print } from '../report.ts';
import { pause } from './stats.ts';
import { tar } from './tar.ts';

interface DebugCommand {
  readonly outDir: string;
  readonly limit: string;
  readonly statsSec: string;
  readonly profileSec: string;
  readonly output: Output;
}

/** What is read of a log, from its end. */
const MOST_LOG_BYTES = 16 << 20;
/** How long the client may take for what needs no time of its own, milliseconds. */
const PATIENCE_MS = 10_000;
/** Of each process, below /proc/PID. */
const PROCESS_FILES = ['status', 'limits', 'io', 'cmdline', 'cgroup', 'smaps_rollup', 'wchan'] as const;

interface Config {
  readonly Pid?: number;
  readonly PPid?: number;
  readonly Port?: { readonly PrometheusAgent?: string } | null;
  readonly Chunk?: { readonly CacheDir?: string };
}

/** What was collected, and what could not be. */
class Bundle {
  readonly #texts = new Map<string, string>();
  readonly #missing: string[] = [];

  add(name: string, text: string): void {
    this.#texts.set(name, text);
  }

  addJson(name: string, value: unknown): void {
    this.add(name, `${JSON.stringify(value, undefined, 2)}\n`);
  }

  missing(name: string, why: string): void {
    this.#missing.push(`${name}: ${why}`);
  }

  async try(name: string, text: () => string | Promise<string>): Promise<void> {
    try {
      this.add(name, await text());
    } catch (error) {
      this.missing(name, messageOf(error));
    }
  }

  /** All files below one folder, without secrets. */
  files(folder: string, secrets: readonly string[]): ReadonlyMap<string, Buffer> {
    const all = new Map(this.#texts);
    if (this.#missing.length > 0) all.set('missing.txt', `${this.#missing.join('\n')}\n`);
    return new Map(Array.from(all, ([name, text]) => [`${folder}/${name}`, Buffer.from(withoutSecrets(text, secrets))] as const));
  }
}

/** Variables of a process; none where they may not be read. */
function environmentOf(pid: number): Record<string, string> {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/environ`, 'utf8');
  } catch {
    return {};
  }
  return Object.fromEntries(
    text
      .split('\0')
      .filter((each) => each.includes('='))
      .map((each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]),
  );
}

/** The configurations of volumes that the plan of a pod names: they hold its credentials. */
function planDocuments(pid: number): readonly string[] {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    const plan = args[args.indexOf('--plan') + 1];
    if (!args.includes('--plan') || plan === undefined) return [];
    const { mounts } = JSON.parse(readFileSync(plan, 'utf8')) as { readonly mounts: readonly { readonly config: string }[] };
    return mounts.map(({ config }) => readFileSync(config, 'utf8'));
  } catch {
    return [];
  }
}

function secretsOf(pids: readonly number[]): readonly string[] {
  const environments = [process.env as Record<string, string>, ...pids.map(environmentOf)];
  const documents = pids.flatMap(planDocuments);
  return [...new Set(environments.flatMap((environment) => knownSecrets(environment, documents)))];
}

/** The last lines of the file that a process writes its messages to. */
async function logOf(pid: number, lines: number): Promise<string> {
  const path = readlinkSync(`/proc/${pid}/fd/2`);
  if (!path.startsWith('/') || !statSync(path).isFile())
    throw new Error(`the client writes its messages to ${path}, not to a file`);
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const length = Math.min(size, MOST_LOG_BYTES);
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await file.read(buffer, 0, length, size - length);
    return `${buffer.subarray(0, bytesRead).toString().trimEnd().split('\n').slice(-lines).join('\n')}\n`;
  } finally {
    await file.close();
  }
}

function systemFacts(): unknown {
  return {
    time: new Date().toISOString(),
    juicepod: packageJson.version,
    node: process.version,
    platform: `${platform()} ${arch()}`,
    kernel: release(),
    host: hostname(),
    uptimeSeconds: uptime(),
    processors: cpus().length,
    load: loadavg(),
    memoryBytes: { total: totalmem(), free: freemem() },
    inPod: process.env['KUBERNETES_SERVICE_HOST'] !== undefined,
  };
}

async function processFacts(bundle: Bundle, role: string, pid: number): Promise<void> {
  for (const name of PROCESS_FILES)
    await bundle.try(`${role}/${name}.txt`, () => readFileSync(`/proc/${pid}/${name}`, 'utf8').replaceAll('\0', ' '));
  await bundle.try(`${role}/files.txt`, () =>
    readdirSync(`/proc/${pid}/fd`)
      .map((fd) => {
        try {
          return `${fd} ${readlinkSync(`/proc/${pid}/fd/${fd}`)}\n`;
        } catch {
          return '';
        }
      })
      .join(''),
  );
}

/** What the client answers at the address of its metrics. */
async function askClient(bundle: Bundle, agent: string, profileSeconds: number, signal: AbortSignal): Promise<void> {
  const host = agent.replace(/^\[::\]/, '127.0.0.1').replace(/^0\.0\.0\.0/, '127.0.0.1');
  const ask = (name: string, path: string, ms: number): Promise<void> =>
    bundle.try(name, async () => {
      const response = await fetch(`http://${host}${path}`, { signal: AbortSignal.any([signal, AbortSignal.timeout(ms)]) });
      const text = await response.text();
      if (!response.ok) throw new Error(`${response.status} ${text.trim().slice(0, 200)}`);
      return text;
    });
  await ask('metrics.txt', '/metrics', PATIENCE_MS);
  await ask('heap.json', '/debug/heap', PATIENCE_MS);
  if (profileSeconds > 0)
    await ask(
      `client.${profileSeconds}s.cpuprofile`,
      `/debug/cpu-profile?seconds=${profileSeconds}`,
      profileSeconds * 1000 + PATIENCE_MS,
    );
}

async function collect(mount: MountRoot, options: { lines: number; statsSec: number; profileSec: number }, signal: AbortSignal) {
  const { lines, statsSec, profileSec } = options;
  const bundle = new Bundle();
  bundle.addJson('system.json', systemFacts());
  bundle.addJson('mounts.json', mountsAt(mount.path));
  let config: Config = {};
  await bundle.try('config.json', async () => {
    const text = await virtualText(mount, '.config');
    config = JSON.parse(text) as Config;
    return text;
  });
  await bundle.try('stats.0s.txt', () => virtualText(mount, '.stats'));
  const pids = [
    ['client', config.Pid],
    ['parent', config.PPid],
  ] as const;
  const here = pids.filter(
    (each): each is readonly [(typeof each)[0], number] =>
      each[1] !== undefined && each[1] > 1 && statSync(`/proc/${each[1]}`, { throwIfNoEntry: false }) !== undefined,
  );
  for (const [role, pid] of here) await processFacts(bundle, role, pid);
  const client = here.find(([role]) => role === 'client')?.[1];
  if (client === undefined) bundle.missing('client', 'its process is not to be seen from here');
  else await bundle.try('log.txt', () => logOf(client, lines));
  for (const [at, folder] of shownFolders(config.Chunk?.CacheDir ?? '').entries())
    await bundle.try(at === 0 ? 'cache-disk.json' : `cache-disk-${at + 1}.json`, () => {
      const { bsize, blocks, bavail, files: inodes, ffree } = statfsSync(folder);
      return JSON.stringify({ folder, bsize, blocks, bavail, inodes, ffree });
    });
  await bundle.try('kernel-log.txt', async () => {
    const { stdout } = await promisify(execFile)('dmesg', ['--ctime'], { timeout: PATIENCE_MS, maxBuffer: 1 << 26 });
    return `${stdout
      .split('\n')
      .filter((line) => /fuse|oom|out of memory|hung|blocked for more/i.test(line))
      .slice(-lines)
      .join('\n')}\n`;
  });
  const agent = config.Port?.PrometheusAgent;
  const asking =
    agent === undefined || agent === ''
      ? bundle.missing('client.cpuprofile', 'the client serves no metrics, and nothing of this')
      : askClient(bundle, agent, profileSec, signal);
  if (statsSec > 0 && (await pause(statsSec * 1000, signal)))
    await bundle.try(`stats.${statsSec}s.txt`, () => virtualText(mount, '.stats'));
  await asking;
  return { bundle, secrets: secretsOf(here.map(([, pid]) => pid)) };
}

export async function debugCommand(path: string, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as DebugCommand;
  const wanted = {
    lines: wholeNumberOf(options.limit, '--limit', 0, 1_000_000),
    statsSec: wholeNumberOf(options.statsSec, '--stats-sec', 0, 3600),
    profileSec: wholeNumberOf(options.profileSec, '--profile-sec', 0, 300),
  };
  const ending = endingSignal();
  const mount = await mountRoot(path);
  const toOutput = options.outDir === '-';
  const folder = resolve(toOutput ? '.' : options.outDir);
  if (!toOutput)
    try {
      mkdirSync(folder, { recursive: true });
    } catch (error) {
      throw new UserError('FolderDenied', `--out-dir: ${folder} is no folder and cannot be made one: ${messageOf(error)}`, {
        hint: 'Name a folder that can be written to; - writes to standard output.',
      });
    }
  const longest = Math.max(wanted.statsSec, wanted.profileSec);
  if (options.output === 'text') process.stderr.write(`Collecting for ${longest} s …\n`);
  const { bundle, secrets } = await collect(mount, wanted, ending);
  if (ending.aborted) throw new UserError('Interrupted', 'told to end: nothing was written');
  const now = new Date();
  const stamp = now.toISOString().replaceAll(/[-:T]/g, '').slice(0, 14);
  const short = mount.path
    .replaceAll(/[^\w.]+/g, '-')
    .slice(-40)
    .replaceAll(/^-+|-+$/g, '');
  const name = `${short || 'root'}-${stamp}`;
  const files = bundle.files(name, secrets);
  const archive = gzipSync(tar(files, Math.floor(now.getTime() / 1000)));
  if (toOutput) return void process.stdout.write(archive);
  const target = join(folder, `${name}.tar.gz`);
  const temporary = `${target}.part`;
  try {
    writeFileSync(temporary, archive, { mode: 0o600 });
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new UserError('BundleUnwritten', `${target} cannot be written: ${messageOf(error)}`);
  }
  print(
    options.output,
    { bundle: target, files: [...files.keys()] },
    `${target}: ${files.size} files. Look into it before you give it away.`,
  );
}
