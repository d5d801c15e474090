/** Paths of a volume: from a path to its directory, and from a directory to its path. Over an engine, for administration. */
import { systemClock } from '../lib/clock.ts';
import { FsError, UserError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { makeNode } from './create.ts';
import type { MetaEngine } from './engine.ts';
import { readSetting } from './setting.ts';
import { NodeType, SYSTEM } from './types.ts';
import { Volume } from './volume.ts';

/** Deeper than any path an application can name. */
const MAX_DEPTH = 4096;
const ENTRIES_PER_READ = 4096;

/** Names of a path, without empty ones. */
export function namesOf(path: string): readonly Buffer[] {
  return path
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name));
}

/** The inode of a directory. Throws UserError `PathMissing`, `NotADirectory`. */
export async function resolvePath(engine: MetaEngine, path: string): Promise<Ino> {
  let directory: Ino = ROOT_INO;
  for (const name of namesOf(path)) {
    const found = await engine.lookup(directory, name);
    if (!found) throw new UserError('PathMissing', `the volume has no directory ${path} (there is no ${name.toString()})`);
    if (found.value.type !== NodeType.Directory)
      throw new UserError('NotADirectory', `${path} is no directory (${name.toString()} is none)`);
    directory = found.value.ino;
  }
  return directory;
}

/** The name of a node in its directory, undefined where it has none there. */
async function nameIn(engine: MetaEngine, parent: Ino, ino: Ino): Promise<string | undefined> {
  for await (const batch of engine.scanEntries(parent, ENTRIES_PER_READ))
    for (const { name, ino: child } of batch) if (child === ino) return name.toString();
  return undefined;
}

/** The path of a directory, `/` for the root; undefined where it is gone or in the trash. */
export async function pathOf(engine: MetaEngine, ino: Ino): Promise<string | undefined> {
  const names: string[] = [];
  let directory = ino;
  for (let depth = 0; directory !== ROOT_INO; depth++) {
    const [attr] = await engine.nodes([directory]);
    if (!attr || isTrash(attr.parent) || depth === MAX_DEPTH) return undefined;
    const name = await nameIn(engine, attr.parent, directory);
    if (name === undefined) return undefined;
    names.unshift(name);
    directory = attr.parent;
  }
  return `/${names.join('/')}`;
}

/** Owner and permission bits of a directory that is made. */
export interface DirectoryModel {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** Whoever may use it decides its owner and mode from then on. */
const OPEN: DirectoryModel = { uid: 0, gid: 0, mode: 0o777 };
/** What leads to a directory that belongs to somebody is not for others to rename. */
const ABOVE: DirectoryModel = { uid: 0, gid: 0, mode: 0o755 };

/**
 * Makes the directories of a path that are not there, and counts them for the quotas they lie under: the last as `model` says and root's
 * with mode 755 before it; without a model, all for everybody to write into, as a mount makes its sub-directory. Below a directory
 * with the set-group-ID bit the group is that directory's.
 */
export async function makeDirectories(engine: MetaEngine, path: string, model?: DirectoryModel): Promise<void> {
  const { format } = await readSetting(engine);
  const [clock, random, logger] = [systemClock, systemRandom, nullLogger];
  const volume = new Volume(engine, format, { clock, random, logger, readOnly: false, callbacks: {} });
  let directory: Ino = ROOT_INO;
  let made = false;
  const names = namesOf(path);
  for (const [index, name] of names.entries()) {
    let found = await engine.lookup(directory, name);
    if (!found) {
      const { uid, gid, mode } = model === undefined ? OPEN : index === names.length - 1 ? model : ABOVE;
      const node = { type: NodeType.Directory, mode, umask: 0, rdev: 0 };
      if (!made) await volume.reload();
      try {
        directory = (await makeNode(volume, { ...SYSTEM, uid, gid }, directory, name, node)).ino;
        made = true;
        continue;
      } catch (error) {
        // Somebody else has just made it.
        if (!(error instanceof FsError && error.code === 'EEXIST')) throw error;
        found = await engine.lookup(directory, name);
      }
    }
    if (found?.value.type !== NodeType.Directory)
      throw new UserError('NotADirectory', `${path} cannot be made: ${name.toString()} is no directory`);
    directory = found.value.ino;
  }
  if (!made) return;
  await volume.stats.flushAll();
  await volume.limits.accounts.flush();
}
