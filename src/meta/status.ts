/**
 * What a volume is, holds and who has it mounted, as `juicefs status` tells it: for `juicepod status`. Read as it is, without a session.
 *
 * Source: the JuiceFS format, sessions; pkg/meta/status.go of 1.4.1, whose names the JSON has.
 */
import { UserError } from '../lib/errors.ts';
import { type Ino, TRASH_INO } from '../lib/int64.ts';
import { bulkOf } from './dump/json-dump.ts';
import type { MetaEngine } from './engine.ts';
import type { Format } from './format.ts';
import { decodeRanges } from './lock-ranges.ts';
import { decodeDelayed } from './records.ts';
import { fullness } from './summary.ts';
import { hourOf } from './trash.ts';
import { type LockedFile, NodeType } from './types.ts';

/** A client, as it describes itself. */
export interface StatusSession {
  readonly sid: number;
  /** Unix seconds. */
  readonly expire: number;
  /** Version, HostName, IPAddrs, MountPoint, MountTime, ProcessID, and what else it says of itself. */
  readonly info: Readonly<Record<string, unknown>>;
}

export interface SessionDetails extends StatusSession {
  /** Removed files that it has open. */
  readonly sustained: readonly Ino[];
  readonly flocks: readonly { readonly ino: Ino; readonly owner: bigint; readonly type: string }[];
  readonly plocks: readonly { readonly ino: Ino; readonly owner: bigint; readonly records: ReturnType<typeof decodeRanges> }[];
}

export interface Count {
  readonly count: number;
  /** Bytes. */
  readonly size: number;
}

export interface VolumeUse {
  readonly usedSpace: number;
  readonly availableSpace: number;
  readonly usedInodes: number;
  readonly availableInodes: number;
}

/** What is kept, or waits to be deleted. */
export interface Garbage {
  /** What lies in the trash. */
  readonly trashFiles: Count;
  /** Removed files whose blocks are not deleted yet. */
  readonly deletedFiles: Count;
  /** Slices that compaction replaced, kept for the trash. */
  readonly trashSlices: Count;
  /** Slices that nothing refers to. */
  readonly deletedSlices: Count;
}

const ENTRIES_PER_READ = 4096;

function infoOf(text: string | undefined): Readonly<Record<string, unknown>> {
  try {
    const found: unknown = JSON.parse(text ?? '{}');
    return typeof found === 'object' && found !== null ? (found as Readonly<Record<string, unknown>>) : {};
  } catch {
    // Of a client that describes itself in another way.
    return {};
  }
}

/** All clients, by number. */
export async function sessionsOf(engine: MetaEngine): Promise<readonly StatusSession[]> {
  const found = await engine.sessions();
  return found.map(({ sid, expire, info }) => ({ sid, expire, info: infoOf(info) })).toSorted((a, b) => a.sid - b.sid);
}

/** One client with what it holds. Throws UserError `NoSession`. */
export async function sessionDetails(engine: MetaEngine, sid: number): Promise<SessionDetails> {
  const session = (await sessionsOf(engine)).find((each) => each.sid === sid);
  if (!session)
    throw new UserError('NoSession', `${engine.description} has no session ${sid}.`, {
      hint: 'See `juicepod status` for the sessions that there are.',
    });
  const [sustained, files] = await Promise.all([engine.sustained(sid), engine.lockedFiles(sid)]);
  const locksOf = async (of: LockedFile['of']) => {
    const inos = files.filter((file) => file.of === of).map(({ ino }) => ino);
    const lists = await engine.read(inos.map((ino) => ({ kind: 'locks', of, ino }) as const));
    return inos.flatMap((ino, at) => (lists[at] ?? []).filter((lock) => lock.sid === sid).map((lock) => ({ ino, ...lock })));
  };
  const [flocks, plocks] = await Promise.all([locksOf('flock'), locksOf('posix')]);
  return {
    ...session,
    sustained,
    flocks: flocks.map(({ ino, owner, value }) => ({ ino, owner, type: value.toString('latin1') })),
    plocks: plocks.map(({ ino, owner, value }) => ({ ino, owner, records: decodeRanges(value) })),
  };
}

/** What is used and what is left. */
export async function useOf(engine: MetaEngine, format: Format): Promise<VolumeUse> {
  const [space, inodes] = await engine.read([
    { kind: 'counter', name: 'usedSpace' },
    { kind: 'counter', name: 'totalInodes' },
  ]);
  const used = { space: Math.max(0, space), inodes: Math.max(0, inodes) };
  const { totalBytes, availableBytes, availableInodes } = fullness(used, format.capacity, format.inodes);
  return { usedSpace: totalBytes - availableBytes, availableSpace: availableBytes, usedInodes: used.inodes, availableInodes };
}

/** Looks through all that is kept or waits to be deleted; this takes a while in a large volume. */
export async function garbageOf(engine: MetaEngine, signal?: AbortSignal): Promise<Garbage> {
  const bulk = bulkOf(engine);
  const counts = { trashFiles: none(), deletedFiles: none(), trashSlices: none(), deletedSlices: none() };
  for await (const batch of engine.scanEntries(TRASH_INO, ENTRIES_PER_READ))
    for (const { name, ino, type } of batch) {
      if (type !== NodeType.Directory || hourOf(name.toString()) === undefined) continue;
      await addHour(engine, ino, counts.trashFiles, signal);
    }
  for await (const batch of bulk.records(['delfile', 'sliceRef'])) {
    signal?.throwIfAborted();
    if (batch.kind === 'delfile') for (const { length } of batch.rows) add(counts.deletedFiles, length);
    if (batch.kind === 'sliceRef') for (const { refs, size } of batch.rows) if (refs <= 0) add(counts.deletedSlices, size);
  }
  for await (const records of engine.allDelayed()) {
    signal?.throwIfAborted();
    for (const { slices } of records) for (const { size } of decodeDelayed(slices)) add(counts.trashSlices, size);
  }
  return counts;
}

interface Mutable {
  count: number;
  size: number;
}
const none = (): Mutable => ({ count: 0, size: 0 });
function add(to: Mutable, size: number, count = 1): void {
  to.count += count;
  to.size += size;
}

/** What lies in an hour of the trash: as its statistics say, else its files. */
async function addHour(engine: MetaEngine, hour: Ino, to: Mutable, signal: AbortSignal | undefined): Promise<void> {
  const [stat] = await engine.read([{ kind: 'dirStat', ino: hour }]);
  if (stat && stat.inodes >= 0 && stat.length >= 0) return add(to, stat.length, stat.inodes);
  for await (const batch of engine.scanEntries(hour, ENTRIES_PER_READ)) {
    signal?.throwIfAborted();
    const files = batch.filter(({ type }) => type === NodeType.File);
    for (const attr of await engine.nodes(files.map(({ ino }) => ino))) if (attr) add(to, attr.length);
  }
}
