/** A fresh volume for a test, with a clock that stands still until the test moves it. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { type ErrnoName, FsError } from '../../src/lib/errors.ts';
import type { Ino } from '../../src/lib/int64.ts';
import { systemRandom } from '../../src/lib/random.ts';
import type { DirStat, MetaEngine } from '../../src/meta/engine.ts';
import { type FormatInput, newFormat } from '../../src/meta/format-input.ts';
import { formatVolume, openMeta, type OpenMetaOptions } from '../../src/meta/open.ts';
import type { Context, Meta } from '../../src/meta/types.ts';
import { openUrl } from './engines.ts';

/** The wall clock stands still; waiting is real. */
export class TestClock implements Clock {
  ns: bigint;

  constructor(ns: bigint = 1_800_000_000_123_456_789n) {
    this.ns = ns;
  }

  now(): number {
    return Number(this.ns / 1_000_000n);
  }

  nowNs(): bigint {
    return this.ns;
  }

  advance(ms: number): void {
    this.ns += BigInt(Math.round(ms * 1e6));
  }

  monotonic(): number {
    return systemClock.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  timer(ms: number, callback: () => void): () => void {
    return systemClock.timer(ms, callback);
  }
}

export interface TestVolume {
  readonly url: string;
  readonly meta: Meta;
  /** Looks behind the semantics. */
  readonly engine: MetaEngine;
  readonly clock: TestClock;
  /** Slices whose blocks were to be deleted. */
  readonly deleted: { readonly id: number; readonly size: number }[];
  /** Another client of the same volume, with a session. */
  another(options?: OpenMetaOptions): Promise<Meta>;
}

/** Formats a volume and opens it with a session; all of it ends with the test. */
export async function openVolume(
  t: Pick<TestContext, 'after'>,
  url: string,
  input: Partial<FormatInput> = {},
  options: OpenMetaOptions = {},
): Promise<TestVolume> {
  const clock = new TestClock();
  const engine = await openUrl(url);
  t.after(() => engine.close());
  await formatVolume(engine, newFormat({ name: 'test-volume', bucket: '/nowhere', trashDays: 0, ...input }, systemRandom), clock);
  const deleted: { id: number; size: number }[] = [];
  const callbacks = { deleteSlice: async (id: number, size: number) => void deleted.push({ id, size }) };
  const another = async (more: OpenMetaOptions = {}): Promise<Meta> => {
    const meta = await openMeta(url, { clock, callbacks, ...options, ...more });
    t.after(() => meta.close());
    if (!more.readOnly) await meta.newSession('/mnt');
    return meta;
  };
  return { url, meta: await another(), engine, clock, deleted, another };
}

export const ROOT_USER: Context = { uid: 0, gid: 0, pid: 1 };

/** A user whose permissions are checked here. */
export function user(uid: number, gid = uid, gids: readonly number[] = [gid]): Context {
  return { uid, gid, gids, pid: 1, checkPermission: true };
}

export const name = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The call must fail with this errno. */
export function fails(code: ErrnoName, call: Promise<unknown>): Promise<void> {
  return assert.rejects(call, (error) => {
    assert.ok(error instanceof FsError, `an FsError, not ${String(error)}`);
    assert.equal(error.code, code);
    return true;
  });
}

/** Names of a directory with their inodes, sorted. */
export async function list(meta: Meta, ino: Ino, ctx: Context = ROOT_USER): Promise<readonly (readonly [string, Ino])[]> {
  const found: (readonly [string, Ino])[] = [];
  for await (const batch of meta.readdir(ctx, ino, false))
    for (const entry of batch) found.push([entry.name.toString('latin1'), entry.ino]);
  return found.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** Usage of a directory as it is recorded once this client has ended. */
export async function dirStatAfterClose(volume: TestVolume, ino: Ino): Promise<DirStat | undefined> {
  await volume.meta.close();
  const [stat] = await volume.engine.read([{ kind: 'dirStat', ino }]);
  return stat;
}
