/** One command that is being carried out: who asks for what, on which mount, and how far it is. */
import type { ChunkStore } from '../../chunk/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { FsError } from '../../lib/errors.ts';
import { type Ino, isTrash, ROOT_INO } from '../../lib/int64.ts';
import type { Logger } from '../../lib/log.ts';
import type { Context, Meta } from '../../meta/types.ts';
import type { Payload } from './protocol.ts';

/** The mount, as commands use it. */
export interface ControlHost {
  readonly meta: Meta;
  readonly chunks: ChunkStore;
  /** Name of the volume, which its objects' keys begin with. */
  readonly volume: string;
  readonly hashPrefix: boolean;
  /** The directory that is shown as the root: what does not lie in it is not there. */
  readonly root: Ino;
  readonly readOnly: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Commits what was written here and is not stored yet. */
  commitAll(): Promise<void>;
  /** A name was made or removed past the kernel. */
  nameChanged(parent: Ino, name: Buffer): void;
  /** Does something that nobody waits for. Throws EAGAIN where too much waits already. */
  inBackground(work: (signal: AbortSignal) => Promise<void>): void;
}

export interface Call {
  readonly host: ControlHost;
  /** Who asks; permissions are checked here, for the kernel saw only a write to `.control`. */
  readonly ctx: Context & { readonly signal: AbortSignal };
  readonly payload: Payload;
  /** How far it is; what the two count is the command's. */
  readonly progress: { first: number; second: number };
}

/** Shows what is counted on the way as how far the command is. */
export const counting =
  ({ progress }: Call) =>
  (files: number, bytes: number): void => {
    progress.first += files;
    progress.second += bytes;
  };

/** Carries out a command; answers the last item. A rejection answers its errno. */
export type Handler = (call: Call) => Promise<Buffer>;

/** EROFS where the mount must not change anything. */
export function requireWritable({ host }: Call): void {
  if (host.readOnly) throw new FsError('EROFS', 'the volume is mounted read-only');
}

/**
 * The node that the caller calls so. ENOENT where it does not lie in what is mounted: inode numbers can be guessed, and a mount of
 * a directory must not reach beyond it.
 */
export async function inside({ host }: Call, ino: Ino): Promise<Ino> {
  const { root, meta } = host;
  if (ino === ROOT_INO) return root;
  if (ino <= 0 && !(isTrash(ino) && root === ROOT_INO)) throw new FsError('ENOENT');
  if (root !== ROOT_INO && !(await meta.liesBelow(ino, root))) throw new FsError('ENOENT');
  return ino;
}
