/**
 * Dumps in files: compressed where their name ends in `.gz` or `.zstd` (or `.zst`), and seen under their name only when they are whole.
 * Without a name, standard output and input.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { once } from 'node:events';
import { addAbortSignal, PassThrough, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { Sink } from './sink.ts';

const isGzip = (path: string): boolean => path.endsWith('.gz');
const isZstd = (path: string): boolean => /\.zstd?$/.test(path);

/** Whether a file of this name is compressed. */
export const isCompressed = (path: string): boolean => isGzip(path) || isZstd(path);

function compressor(path: string): Transform {
  if (isGzip(path)) return createGzip({ level: constants.Z_BEST_SPEED });
  if (isZstd(path)) return createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  return new PassThrough();
}

function decompressor(path: string): Transform {
  if (isGzip(path)) return createGunzip();
  return isZstd(path) ? createZstdDecompress() : new PassThrough();
}

/** A sink into a stream, which waits while the stream is full. Rejects where `done` does. */
export function sinkOf(stream: Transform, done: Promise<void>): Sink {
  const failed = new Promise<never>((_resolve, reject) => void done.catch(reject));
  failed.catch(() => {});
  return async (bytes) => {
    if (stream.destroyed) await failed;
    if (!stream.write(bytes)) await Promise.race([once(stream, 'drain'), failed]);
  };
}

function writeError(target: string, error: unknown): unknown {
  const { code } = error as { readonly code?: unknown };
  if (typeof code !== 'string' || error instanceof UserError || !/^E[A-Z]+$/.test(code)) return error;
  return new UserError('FileUnwritable', `${target} cannot be written: ${messageOf(error)}`, {
    cause: error,
    hint: 'Name a file in a folder that is there, with room for the dump.',
  });
}

/** Writes what `work` gives to a file, or to standard output. Where it fails, or `work` does, the file stays as it was. */
export async function writeFile(
  path: string | undefined,
  work: (sink: Sink) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const partial = path === undefined ? undefined : `${path}.${process.pid}.tmp`;
  const head = compressor(path ?? '');
  const done =
    partial === undefined
      ? pipeline(head, process.stdout, { end: false, ...(signal ? { signal } : {}) })
      : pipeline(head, createWriteStream(partial, { mode: 0o600 }), signal ? { signal } : {});
  try {
    await work(sinkOf(head, done));
    head.end();
    await done;
    if (partial !== undefined && path !== undefined) await rename(partial, path);
  } catch (error) {
    head.destroy();
    await done.catch(() => {});
    if (partial !== undefined) await rm(partial, { force: true });
    throw writeError(path ?? 'Standard output', error);
  }
}

/** The bytes of a dump, decompressed. Throws UserError where the file is not there. */
export async function* readFile(path: string | undefined, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (path === undefined) {
    // Nothing may come for a long time.
    yield* (signal ? addAbortSignal(signal, process.stdin) : process.stdin) as AsyncIterable<Uint8Array>;
    return;
  }
  try {
    if (!(await stat(path)).isFile() && isCompressed(path)) throw new Error('it is no file');
  } catch (cause) {
    throw new UserError('FileUnreadable', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const stream = decompressor(path);
  const done = pipeline(createReadStream(path), stream, signal ? { signal } : {});
  done.catch(() => {});
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (cause) {
    signal?.throwIfAborted();
    throw new UserError('DumpDamaged', `${path} cannot be read to its end: ${messageOf(cause)}`, {
      cause,
      hint: 'Check that the file was copied to its end, and that its name says how it is compressed (.gz, .zstd).',
    });
  }
}
