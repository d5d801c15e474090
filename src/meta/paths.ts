/** Paths of a volume: from a path to its directory, and from a directory to its path. Over an engine, for administration. */
import { systemClock } from '../lib/clock.ts';
import { FsError, UserError } from '../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO } from '../lib/int64.ts';
import { nullLogger } from '../lib/log.ts';
import { systemRandom } from '../lib/random.ts';
import { makeNode } from './create.ts';
import type { MetaEngine } from './engine.ts';
import { readSetting, requireNoChangeLog } from './setting.ts';
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

/** Makes the directories of a path that are not there, root's with mode 755, and counts them for the quotas they lie under. */
export async function makeDirectories(engine: MetaEngine, path: string): Promise<void> {
  const { format } = await readSetting(engine);
  requireNoChangeLog(format);
  const [clock, random, logger] = [systemClock, systemRandom, nullLogger];
  const volume = new Volume(engine, format, { clock, random, logger, readOnly: false, callbacks: {} });
  const node = { type: NodeType.Directory, mode: 0o755, umask: 0, rdev: 0 };
  let directory: Ino = ROOT_INO;
  let made = false;
  for (const name of namesOf(path)) {
    let found = await engine.lookup(directory, name);
    if (!found) {
      if (!made) await volume.reload();
      try {
        directory = (await makeNode(volume, SYSTEM, directory, name, node)).ino;
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
