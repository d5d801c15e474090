/** Places for tests of `sync`: each kind of side, empty, and a look at what is in it. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MemoryObjectStore } from '../../src/object/memory.ts';
import { Folder } from '../../src/objsync/folder.ts';
import { openSide } from '../../src/objsync/open.ts';
import { newTally, type RunOptions } from '../../src/objsync/options.ts';
import { rulesOf } from '../../src/objsync/rules.ts';
import { keyOf, type Side } from '../../src/objsync/side.ts';
import { Objects } from '../../src/objsync/store.ts';
import { nullLogger } from '../../src/lib/log.ts';
import { juicepod } from '../mounted.ts';

export const forever = new AbortController().signal;

export const everything: RunOptions = {
  filters: { rules: rulesOf([]), minSize: 0, maxSize: Infinity, modifiedAfter: -Infinity, modifiedBefore: Infinity },
  start: '',
  end: '',
  limit: Infinity,
  threads: 4,
  listThreads: 1,
  listDepth: 1,
  update: false,
  forceUpdate: false,
  existing: false,
  ignoreExisting: false,
  dirs: false,
  links: false,
  perms: false,
  deleteSrc: false,
  deleteSrcAfter: false,
  deleteDst: false,
  checkAll: false,
  checkNew: false,
  checkChange: false,
  maxFailures: Infinity,
  dry: false,
  signal: forever,
  onFailure: (key, error) => {
    throw new Error(`${key} failed`, { cause: error });
  },
  onMissing: () => undefined,
};

export { newTally };

export type Kind = 'folder' | 'store' | 'volume';

/** Makes empty places; `work` holds whatever lies on the disk. */
export interface Places extends AsyncDisposable {
  readonly work: string;
  make(kind: Kind): Promise<Side>;
}

export async function makePlaces(): Promise<Places> {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-objsync-'));
  let count = 0;
  let metaUrl = '';
  const volume = async (): Promise<string> => {
    if (metaUrl !== '') return metaUrl;
    metaUrl = `sqlite3://${join(work, 'meta.db')}`;
    const bucket = ['--storage', 'file', '--bucket', join(work, 'blocks'), '--trash-days', '0'];
    await juicepod(['format', metaUrl, 'testvol', ...bucket]);
    return metaUrl;
  };
  return {
    work,
    async make(kind) {
      const name = `place-${++count}`;
      if (kind === 'store') return new Objects(new MemoryObjectStore());
      if (kind === 'folder') {
        mkdirSync(join(work, name));
        return new Folder(`${join(work, name)}/`);
      }
      const place = { kind: 'volume', metaUrl: await volume(), prefix: `${name}/` } as const;
      const side = await openSide(place, { inPlace: false, readOnly: false, threads: 4, passphrases: [], logger: nullLogger });
      await side.put('', Buffer.alloc(0), forever);
      return side;
    },
    async [Symbol.asyncDispose]() {
      rmSync(work, { recursive: true, force: true });
    },
  };
}

export interface FileSeen {
  readonly body: string;
  /** Whole seconds; 0 where the side cannot keep them. */
  readonly mtime: number;
}

/** Writes files; a path that ends with `/` is a directory. */
export async function fill(side: Side, files: ReadonlyMap<string, FileSeen>): Promise<void> {
  for (const [path, { body, mtime }] of files) {
    await side.put(keyOf(path), Buffer.from(body), forever);
    await side.files?.setTime(keyOf(path), mtime * 1000);
  }
}

/** What is in a place; directories only with `dirs`, and never the place itself. */
export async function look(side: Side, dirs = false): Promise<Map<string, FileSeen>> {
  const found = new Map<string, FileSeen>();
  for await (const entry of side.list('', { start: '', end: '', followLinks: false, signal: forever })) {
    if (entry.key === '' || (entry.isDirectory && !dirs)) continue;
    const body = entry.isDirectory ? '' : (await side.read(entry, 0, entry.size, forever)).toString();
    const path = Buffer.from(entry.key, 'latin1').toString();
    found.set(path, { body, mtime: side.files && !entry.isDirectory ? Math.floor(entry.mtimeMs / 1000) : 0 });
  }
  return found;
}
