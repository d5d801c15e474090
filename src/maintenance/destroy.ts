/**
 * Deleting a volume: all objects below its name, then its metadata. Nothing else in the bucket or in the database is touched. In this
 * order, for as long as the metadata is there the volume can be named again: what is interrupted, or could not be deleted, is
 * deleted by the next try. Streamed, `threads` deletions at a time.
 * Source: `destroy` of the official client 1.4.1 (which empties the whole database of a Redis, and goes on when objects are left).
 */
import { messageOf, UserError } from '../lib/errors.ts';
import { forEachParallel } from '../lib/parallel.ts';
import type { MetaEngine } from '../meta/engine.ts';
import type { SessionInfo } from '../meta/types.ts';
import { parseSession } from '../meta/sessions.ts';
import { ObjectError, type ObjectStore } from '../object/store.ts';

export interface DestroyReport {
  phase: 'objects' | 'metadata' | 'done';
  deleted: number;
  failed: number;
}

export const newDestroyReport = (): DestroyReport => ({ phase: 'objects', deleted: 0, failed: 0 });

export interface DestroyOptions {
  readonly engine: MetaEngine;
  /** The volume's store, its prefix applied. */
  readonly objects: ObjectStore;
  /** Deletes the metadata though the bucket is gone, or objects are left. */
  readonly force: boolean;
  /** @default 16 */
  readonly threads?: number;
  readonly report?: DestroyReport;
  readonly signal: AbortSignal;
}

/** Sessions that have not run out at `now`, Unix seconds. */
export async function activeSessions(engine: MetaEngine, now: number): Promise<readonly SessionInfo[]> {
  const sessions = await engine.sessions();
  return sessions.filter(({ expire }) => expire >= now).map(({ sid, expire, info }) => parseSession(sid, expire, info));
}

/** Throws UserError `ObjectsLeft`, ObjectError (`NoSuchBucket` without `force`), FsError. */
export async function destroyVolume(options: DestroyOptions): Promise<DestroyReport> {
  const { engine, objects, force, threads = 16, signal } = options;
  const report = options.report ?? newDestroyReport();
  let failure: unknown;
  try {
    await forEachParallel(objects.list('', { signal }), threads, async ({ key }) => {
      signal.throwIfAborted();
      try {
        await objects.delete(key, signal);
        report.deleted++;
      } catch (error) {
        failure ??= error;
        report.failed++;
      }
    });
  } catch (error) {
    if (!(force && error instanceof ObjectError && error.code === 'NoSuchBucket')) throw error;
  }
  signal.throwIfAborted();
  if (report.failed > 0 && !force)
    throw new UserError('ObjectsLeft', `${report.failed} objects could not be deleted; the first: ${messageOf(failure)}`, {
      cause: failure,
      hint: 'The metadata is kept. Run it again, or delete the metadata all the same with --force.',
    });
  report.phase = 'metadata';
  await engine.reset();
  report.phase = 'done';
  return report;
}
