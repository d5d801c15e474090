/**
 * The virtual files of a mount, of this client or the official one (which may have them under another prefix). Read without waiting for
 * ever: a mount whose client hangs answers nobody.
 */
import { open, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { messageOf, UserError } from '../../lib/errors.ts';

/** How long a mount may take to answer, milliseconds. */
const PATIENCE_MS = 10_000;

/** What it resolves to, or a UserError where the mount does not answer in time. */
export async function answering<T>(path: string, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () =>
      late.reject(
        new UserError('MountSilent', `${path} does not answer: waited ${PATIENCE_MS / 1000} s for it`, {
          hint: 'Its client hangs, or its database does; the log of the mount says more.',
        }),
      ),
    PATIENCE_MS,
  );
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

export interface MountRoot {
  readonly path: string;
  /** Before the names of the virtual files: empty, or `.jfs` where the official client was told to prefix them. */
  readonly prefix: '' | '.jfs';
}

/** The mount with this path. Throws UserError where it is none. */
export async function mountRoot(path: string): Promise<MountRoot> {
  const target = resolve(path);
  let ino: number;
  try {
    ({ ino } = await answering(target, stat(target)));
  } catch (error) {
    if (error instanceof UserError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new UserError('PathMissing', `${path}: ${code === 'ENOENT' ? 'there is no such file or directory' : messageOf(error)}`);
  }
  const wanted = new UserError('NotMounted', `${target} is not the root of a mounted volume`, {
    hint: 'Give the mount point itself: mount -t fuse.juicepod,fuse.juicefs lists those that are.',
  });
  if (ino !== 1) throw wanted;
  for (const prefix of ['', '.jfs'] as const) {
    const found = await answering(
      target,
      stat(join(target, `${prefix}.stats`)).catch(() => undefined),
    );
    if (found) return { path: target, prefix };
  }
  throw wanted;
}

/** The text of `.stats` or `.config`. Throws UserError where it may not be read. */
export async function virtualText({ path, prefix }: MountRoot, name: '.stats' | '.config'): Promise<string> {
  const file = join(path, `${prefix}${name}`);
  try {
    return await answering(path, readFile(file, 'utf8'));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('Unreadable', `${file} cannot be read: ${messageOf(error)}`, {
      hint: 'It belongs to the user who mounted the volume.',
    });
  }
}

/** Figures by name, lines of one name summed up. */
export async function readStats(mount: MountRoot): Promise<ReadonlyMap<string, number>> {
  const figures = new Map<string, number>();
  for (const line of (await virtualText(mount, '.stats')).split('\n')) {
    const [name, value, more] = line.trim().split(/\s+/);
    const number = Number(value);
    if (name !== undefined && value !== undefined && more === undefined && !Number.isNaN(number))
      figures.set(name, (figures.get(name) ?? 0) + number);
  }
  return figures;
}

/** Opens the access log of the mount. Throws UserError where it may not be read. */
export async function openAccessLog({ path, prefix }: MountRoot): Promise<Awaited<ReturnType<typeof open>>> {
  const file = join(path, `${prefix}.accesslog`);
  try {
    return await answering(path, open(file, 'r'));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError('Unreadable', `${file} cannot be read: ${messageOf(error)}`, {
      hint: 'It belongs to the user who mounted the volume.',
    });
  }
}
