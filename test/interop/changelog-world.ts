/**
 * Two volumes with a change log on one server, one mounted by the official client and one by us, the same changes in both, and their
 * logs in a form that can be compared: without times and sessions, and with numbers of inodes, slices and owners of locks in the order in
 * which they come.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type LogEntry, parseEntry } from '../../src/meta/changelog-text.ts';
import { openEngine } from '../../src/meta/open.ts';
import { clearMounts, startMount } from '../mounted.ts';
import type { EngineName } from '../servers.ts';
import { startDatabases } from './matrix-databases.ts';
import { mountOfficial, run } from './official.ts';
import type { ClientName } from './pair.ts';

const exec = promisify(execFile);
const SCRIPT = join(import.meta.dirname, 'changes.py');
const PAGE = 1000;

/** All entries that a log holds. */
export async function readAll(url: string): Promise<readonly LogEntry[]> {
  const engine = await openEngine(url, { existing: true, environment: {} });
  try {
    const entries: LogEntry[] = [];
    for (let from = 0; ;) {
      const part = await engine.readLog(from, PAGE);
      for (const { text } of part.entries) {
        const entry = parseEntry(text);
        if (!entry) throw new Error(`no entry of a change log: ${text}`);
        entries.push(entry);
      }
      const last = part.entries.at(-1);
      if (!last) return entries;
      from = last.number + 1;
    }
  } finally {
    await engine.close();
  }
}

export interface Played {
  readonly url: string;
  /** What the calls answered. */
  readonly answers: string;
  readonly entries: readonly LogEntry[];
}

export interface World extends AsyncDisposable {
  /** Makes a volume, mounts it with a client, does the changes (arguments of changes.py), unmounts, and reads the log. */
  play(client: ClientName, changes: readonly string[], options?: PlayOptions): Promise<Played>;
}

export interface PlayOptions {
  /** @default 0 */
  readonly trashDays?: number;
  readonly mount?: readonly string[];
  /** Done in the mount after the changes. */
  readonly then?: (folder: string, url: string) => Promise<void>;
}

export async function startWorld(engine: EngineName): Promise<World> {
  const work = mkdtempSync(join(tmpdir(), `juicepod-changes-${engine}-`));
  const databases = await startDatabases(engine, work);
  let used = 0;
  return {
    async play(client, changes, options = {}) {
      const folder = join(work, `mnt${++used}`);
      const url = await databases.newUrl();
      const store = join(work, `store${used}`);
      await run([
        'format',
        url,
        'changes',
        '--storage',
        'file',
        '--bucket',
        store,
        '--trash-days',
        String(options.trashDays ?? 0),
        '--enable-acl',
      ]);
      await run(['config', url, '--changelog', '--force']);
      // Else times of directories change only now and then.
      const common = ['--enable-xattr', '--skip-dir-mtime', '0', ...(options.mount ?? [])];
      let answers: string;
      {
        await using _mounted =
          client === 'ours'
            ? await startMount(url, folder, join(work), { mount: common })
            : await mountOfficial(url, folder, [...common, '--cache-dir', join(work, `cache${used}`)]);
        const { stdout } = await exec('python3', [SCRIPT, folder, ...changes], { timeout: 120_000, maxBuffer: 1 << 26 });
        answers = stdout;
        await options.then?.(folder, url);
      }
      return { url, answers, entries: await readAll(url) };
    },
    async [Symbol.asyncDispose]() {
      await clearMounts(work);
      await databases[Symbol.asyncDispose]();
      rmSync(work, { recursive: true, force: true });
    },
  };
}

/** The root of the trash; directories of its hours come after it. */
const TRASH = 9223372032828243968n;

/** Written by the background of a client, at its own time, or by its session. */
const background = new Set([
  'INCR_COUNTER',
  'SET',
  'NEWSESSION',
  'CLEANSESSION',
  'DELCHUNK',
  'DELETESLICE',
  'COMPACTCHUNK',
  'DIRSTAT',
  'DELSUSTAINED',
  // At most one a second, and not waited for.
  'ACCESS',
  'CLEANUP_DELAYED_SLICES',
  'CLEANUP_TRASH_SLICES',
]);
/** Also the directories of the trash's hours: the official client makes one before there is something to put into it. */
export const inForeground = ({ operation, args }: LogEntry): boolean =>
  !background.has(operation) && !(operation === 'CREATE' && args[0] === String(TRASH));

/** What arguments are: i inode, s slice, o owner of a lock, t a time of now, - anything else. */
const kinds: Readonly<Record<string, string>> = {
  CREATE: 'i---------',
  UNLINK: 'i-i--',
  RMDIR: 'i-i',
  MOVE: 'i-i--ii',
  LINK: 'ii--',
  SETATTR: 'i------tttttt-',
  ACCESS: 'i',
  WRITE: 'i--s-tt',
  TRUNCATE: 'i---',
  FALLOCATE: 'i---',
  COPYFILERANGE: 'i-i--',
  CLONE: 'ii-i---',
  ATTACH: 'ii-',
  CLEANUP: 'i',
  SETXATTR: 'i---',
  REMOVEXATTR: 'i-',
  SETFACL: 'i--',
  FLOCK: 'io-',
  SETLK: 'io---t',
  DELSUSTAINED: 'ti',
  DELCHUNK: 'i-',
  DELETESLICE: 's-',
  COMPACTCHUNK: 'i----s-',
};
/** Those whose result is an inode. */
const named = new Set(['CREATE', 'UNLINK', 'RMDIR', 'MOVE', 'CLONE']);
/** Later than this a time is one of the test itself, Unix seconds. */
const EXPLICIT = 1_200_000_000;

/** Entries as lines that two clients have in common. */
export function comparable(entries: readonly LogEntry[]): readonly string[] {
  const seen = new Map<string, Map<string, number>>();
  const number = (kind: string, value: string): string => {
    // The owner of a lock is an address of the kernel, which may be used again.
    if (kind === 'o') return kind;
    if (kind === 'i' && (value === '0' || value === '1')) return value;
    if (kind === 'i' && BigInt(value) >= TRASH) return 'trash';
    const known = seen.get(kind) ?? new Map<string, number>();
    seen.set(kind, known);
    const at = known.get(value) ?? known.size + 1;
    known.set(value, at);
    return `${kind}${at}`;
  };
  return entries.map(({ operation, args, result }) => {
    const places = kinds[operation] ?? '';
    const shown = args.map((arg, at) => {
      const kind = places[at] ?? '-';
      // What replaces nothing, or changes places, needs no directory of the trash; the official client names one all the same.
      if (operation === 'MOVE' && at === 6 && (args[5] === '0' || args[4] === '2')) return '-';
      if (kind === 't') return operation === 'SETATTR' && explicit(args, at) ? arg : 't';
      return kind === '-' ? arg : number(kind, arg);
    });
    const answer = result === undefined ? '' : `:${named.has(operation) ? number('i', result) : result}`;
    return `${operation}(${shown.join(',')})${answer}`;
  });
}

/** Times of SETATTR that somebody has set: seconds and nanoseconds of atime and mtime. */
function explicit(args: readonly string[], at: number): boolean {
  const seconds = { 7: 7, 9: 7, 8: 8, 10: 8 }[at];
  return seconds !== undefined && Number(args[seconds]) < EXPLICIT;
}
