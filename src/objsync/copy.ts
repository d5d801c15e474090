/**
 * Copying and comparing single objects, in parts side by side. Memory: what the budget allows, for all objects together.
 *
 * A copy that does not come to its end leaves nothing under the object's name. Where it is to be checked, the parts' CRC-32C, taken on
 * the way, are compared with those of what the destination gives back.
 */
import { crc32c } from '../lib/crc32c.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { Budget } from './budget.ts';
import { type Entry, PART_BYTES, type PartWriter, type Side } from './side.ts';

export interface Transfer {
  readonly source: Side;
  readonly destination: Side;
  readonly budget: Budget;
  /** Bytes a second. */
  readonly limit?: TokenBucket;
  /** Read what was written, and compare. */
  readonly checkNew: boolean;
  /** Look once more at the source after a copy. */
  readonly checkChange: boolean;
  readonly links: boolean;
  readonly perms: boolean;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
  readonly onChecked: (bytes: number) => void;
}

interface Part {
  readonly number: number;
  readonly offset: number;
  readonly length: number;
}

function* partsOf(size: number, bytes: number): Generator<Part> {
  for (let number = 0; number * bytes < size; number++)
    yield { number, offset: number * bytes, length: Math.min(bytes, size - number * bytes) };
}

/** Runs `action` on every part, as many at a time as the budget allows; the first failure stops the rest. */
async function eachPart(transfer: Transfer, size: number, bytes: number, memory: number, action: (part: Part) => Promise<void>) {
  const running = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  for (const part of partsOf(size, bytes)) {
    const taken = await transfer.budget.take(part.length * memory);
    if (failure || transfer.signal.aborted) {
      transfer.budget.give(taken);
      break;
    }
    const task = (async () => {
      try {
        await transfer.limit?.take(part.length * memory, 0, transfer.signal);
        await action(part);
      } catch (error) {
        failure ??= { error };
      } finally {
        transfer.budget.give(taken);
      }
    })();
    running.add(task);
    void task.then(() => running.delete(task));
  }
  await Promise.all(running);
  if (failure) throw failure.error;
  transfer.signal.throwIfAborted();
}

async function readPart({ source, signal }: Transfer, entry: Entry, { offset, length }: Part): Promise<Buffer> {
  const body = await source.read(entry, offset, length, signal);
  if (body.length < length) throw new Error('it became shorter while it was copied');
  return body;
}

/** Copies one object, directory or link. Throws Gone where the source has it no longer. */
export async function copyObject(transfer: Transfer, entry: Entry): Promise<void> {
  const { source, destination, signal } = transfer;
  const { key } = entry;
  if (entry.isLink && transfer.links && source.files && destination.files) {
    await destination.files.makeLink(key, await source.files.readLink(entry));
    await destination.files.setTime(key, entry.mtimeMs);
    return;
  }
  if (entry.isDirectory) await destination.put(key, Buffer.alloc(0), signal);
  else {
    const sums = await copyData(transfer, entry);
    if (transfer.checkChange) await requireUnchanged(transfer, entry);
    if (sums) await requireSame(transfer, entry, sums);
  }
  await destination.files?.setTime(key, entry.mtimeMs);
  if (transfer.perms && entry.permissions) await destination.files?.setPermissions(key, entry.permissions);
}

/** Answers the checksums of the parts, where they are wanted. */
async function copyData(transfer: Transfer, entry: Entry): Promise<Map<number, number> | undefined> {
  const { destination, signal, checkNew } = transfer;
  const { key, size } = entry;
  const sums = new Map<number, number>();
  const sum = (part: Part, body: Buffer): void => {
    if (checkNew) sums.set(part.number, crc32c(body));
  };
  if (size <= PART_BYTES) {
    // Also where nothing is read: whoever may not read it must not make an empty one of it.
    if (size === 0) await transfer.source.read(entry, 0, 0, signal);
    await eachPart(transfer, size, PART_BYTES, 1, async (part) => {
      const body = await readPart(transfer, entry, part);
      sum(part, body);
      await destination.put(key, body, signal);
      transfer.onBytes(body.length);
    });
    if (size === 0) await destination.put(key, Buffer.alloc(0), signal);
    return checkNew ? sums : undefined;
  }
  let writer: PartWriter | undefined;
  try {
    writer = await destination.begin(key, size, signal);
    const parts = writer;
    await eachPart(transfer, size, destination.partBytes(size), 1, async (part) => {
      const body = await readPart(transfer, entry, part);
      sum(part, body);
      await parts.part(part.number, body);
      transfer.onBytes(body.length);
    });
    await writer.finish();
  } catch (error) {
    await writer?.abort();
    throw error;
  }
  return checkNew ? sums : undefined;
}

async function requireUnchanged({ source, destination, links, signal }: Transfer, entry: Entry): Promise<void> {
  const now = await source.head(entry.key, !links, signal);
  if (!now) throw new Error('it was removed while it was copied');
  // The time of a head may lack the milliseconds of a listing.
  const sameTime =
    now.mtimeMs === entry.mtimeMs || (now.mtimeMs % 1000 === 0 && Math.floor(entry.mtimeMs / 1000) === now.mtimeMs / 1000);
  if (now.size !== entry.size || !sameTime)
    throw new Error(`it changed while it was copied: ${entry.size} bytes before, ${now.size} bytes now`);
  const there = await destination.head(entry.key, !links, signal);
  if (there?.size !== entry.size) throw new Error(`the copy has ${there?.size ?? 'no'} bytes, wanted ${entry.size}`);
}

async function requireSame(transfer: Transfer, entry: Entry, sums: ReadonlyMap<number, number>): Promise<void> {
  const { destination, links, signal } = transfer;
  const copy = await destination.head(entry.key, !links, signal);
  if (!copy) throw new Error('the copy is not there');
  const bytes = entry.size <= PART_BYTES ? PART_BYTES : destination.partBytes(entry.size);
  await eachPart(transfer, entry.size, bytes, 1, async ({ number, offset, length }) => {
    const body = await destination.read(copy, offset, length, signal);
    if (body.length !== length || crc32c(body) !== sums.get(number))
      throw new Error('the copy has other bytes than were written: run it again');
  });
  transfer.onChecked(entry.size);
}

/** True where both sides have the same bytes, or links to the same. */
export async function isSame(transfer: Transfer, entry: Entry, there: Entry): Promise<boolean> {
  const { source, destination, signal } = transfer;
  if (entry.isDirectory) return true;
  if (entry.isLink && transfer.links && source.files && destination.files)
    return there.isLink && (await source.files.readLink(entry)).equals(await destination.files.readLink(there));
  if (entry.size !== there.size) return false;
  let same = true;
  await eachPart(transfer, entry.size, PART_BYTES, 2, async ({ offset, length }) => {
    if (!same) return;
    const [a, b] = await Promise.all([
      source.read(entry, offset, length, signal),
      destination.read(there, offset, length, signal),
    ]);
    if (!a.equals(b)) same = false;
  });
  transfer.onChecked(entry.size);
  return same;
}
