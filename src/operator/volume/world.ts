/**
 * A volume's surroundings, opened for one reconcile: looked at (`observe`), changed by one step (`perform`), closed. What is
 * seen is plain data for `decide`. Nothing is kept between reconciles: the next one sees what is true then.
 */
import { isDeepStrictEqual } from 'node:util';
import type { JuiceVolume } from '../../api/volume.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import { TRASH_INO } from '../../lib/int64.ts';
import type { Random } from '../../lib/random.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { checkVersion, type Format, parseFormat, serialiseFormat } from '../../meta/format.ts';
import { changedFormat, newFormat } from '../../meta/format-input.ts';
import { decryptSecrets } from '../../meta/format-secrets.ts';
import { type Attr, NodeType } from '../../meta/types.ts';
import { isData, MARKER } from '../../object/check.ts';
import { ObjectError, type ObjectStore } from '../../object/store.ts';
import { type Backends, metadataFailure, storageFailure } from './backends.ts';
import { type Conflict, holderOf } from './conflict.ts';
import type { Step } from './decide.ts';
import type { Durability, Failure, MetadataObservation, Observation, StorageObservation } from './observation.ts';
import type { SecretsOutcome } from './secrets.ts';
import { metaUrl, type Target, targetOf } from './target.ts';

const TEST_BYTES = 100;

/** A step failed; `failure` is what the conditions say of it. */
export class StepError extends Error {
  override readonly name = 'StepError';
  readonly side: 'metadata' | 'storage';
  readonly failure: Failure;

  constructor(side: 'metadata' | 'storage', cause: unknown) {
    super(messageOf(cause), { cause });
    this.side = side;
    this.failure = side === 'metadata' ? metadataFailure(cause) : storageFailure(cause);
  }
}

export interface WorldOptions {
  readonly volume: JuiceVolume;
  /** All JuiceVolumes, for conflicts. */
  readonly others: () => Iterable<JuiceVolume>;
  readonly conflict: Conflict | undefined;
  readonly secrets: SecretsOutcome | undefined;
  readonly backends: Backends;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
}

function isMissingBucket(error: unknown): error is ObjectError {
  return error instanceof ObjectError && error.code === 'NoSuchBucket';
}

/** Runs one action on one side; what it throws becomes a StepError. */
export async function on<T>(side: 'metadata' | 'storage', action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new StepError(side, error);
  }
}

function trashRoot(nowNs: bigint): Attr {
  const sec = Number(nowNs / 1_000_000_000n);
  const times = { atime: sec, atimensec: 0, mtime: sec, mtimensec: 0, ctime: sec, ctimensec: 0 };
  const owner = { uid: 0, gid: 0, rdev: 0, parent: 1 as Attr['parent'], accessAcl: 0, defaultAcl: 0, tier: 0 };
  return { flags: 0, type: NodeType.Directory, mode: 0o555, nlink: 2, length: 4096, ...owner, ...times };
}

export class World implements AsyncDisposable {
  readonly #options: WorldOptions;
  readonly target: Target | undefined;
  #engine: MetaEngine | undefined;
  #store: ObjectStore | undefined;
  #durability: Durability | undefined;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.target = options.secrets?.ok ? targetOf(options.volume, options.secrets.secrets) : undefined;
  }

  /** The metadata URL for this process. */
  get url(): string {
    const { volume, secrets, backends } = this.#options;
    if (!secrets?.ok) throw new TypeError('the Secrets of the volume are not resolved');
    const { ca } = secrets.secrets;
    return metaUrl(volume.spec, secrets.secrets, ca === undefined ? undefined : backends.caFile(ca));
  }

  /** The engine, connected; the caller has seen it reached. */
  async engine(): Promise<MetaEngine> {
    return (this.#engine ??= await this.#options.backends.openEngine(this.url));
  }

  store(): ObjectStore {
    if (!this.target) throw new TypeError('the Secrets of the volume are not resolved');
    return (this.#store ??= this.#options.backends.openStore(this.target.input, this.target.override));
  }

  async observe(): Promise<Observation> {
    const { conflict, secrets } = this.#options;
    const { target } = this;
    if (!target) return { conflict, secrets, target, metadata: undefined, storage: undefined };
    const metadata = await this.#observeMetadata();
    const storage = await this.#observeStorage(metadata.state === 'empty');
    return { conflict, secrets, target, metadata, storage };
  }

  async #observeMetadata(): Promise<MetadataObservation> {
    const { volume, others, backends, clock } = this.#options;
    try {
      const engine = await this.engine();
      const text = await engine.readSetting();
      const durability = (this.#durability ??= await backends.durability(this.url));
      if (text === undefined) return { state: 'empty', durability };
      let format: Format;
      try {
        format = parseFormat(text);
        checkVersion(format);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        const reason = error.code === 'FormatDamaged' ? 'MetadataInvalid' : 'NewerFormat';
        return { state: 'unreadable', reason, message: error.message, durability };
      }
      const [bytes, inodes] = await engine.read([
        { kind: 'counter', name: 'usedSpace' },
        { kind: 'counter', name: 'totalInodes' },
      ]);
      const now = clock.now() / 1000;
      const sessions = (await engine.sessions()).filter(({ expire }) => expire > now).length;
      return {
        state: 'volume',
        format: withoutEncryption(format),
        usage: { bytes: Math.max(0, bytes), inodes: Math.max(0, inodes) },
        sessions,
        durability,
        holder: holderOf(format.uuid, volume, others()),
      };
    } catch (error) {
      return metadataFailure(error);
    }
  }

  async #observeStorage(lookForObjects: boolean): Promise<StorageObservation> {
    const { signal } = this.#options;
    try {
      const store = this.store();
      let marker: string | undefined;
      try {
        marker = (await store.get(MARKER, { signal })).toString('utf8').trim();
      } catch (error) {
        if (!(error instanceof ObjectError && error.code === 'NotFound')) throw error;
      }
      let firstObject: string | undefined;
      // Without a marker a listing is also the proof that the bucket is there.
      if (marker === undefined)
        for await (const { key, size } of store.list('', { signal })) {
          if (!lookForObjects) break;
          if (!isData(key, size)) continue;
          firstObject = key;
          break;
        }
      return { state: 'reached', marker, firstObject };
    } catch (error) {
      return isMissingBucket(error) ? { state: 'missing', message: error.message } : storageFailure(error);
    }
  }

  /** One step. Throws StepError. May be repeated after any failure: each part looks at what is there, or overwrites it. */
  async perform(step: Step): Promise<void> {
    const { clock, random } = this.#options;
    switch (step.do) {
      case 'nothing':
        return;
      case 'format': {
        const input = this.target?.input;
        if (!input) return;
        await on('storage', () => this.#tryStore());
        const format = newFormat(input, random);
        const create = { trash: input.trashDays > 0, nowNs: clock.nowNs() };
        // False: somebody else was faster; the next look shows whose volume it is now.
        await on('metadata', async () => (await this.engine()).writeSetting(serialiseFormat(format), create));
        return;
      }
      case 'configure':
        await on('metadata', async () => {
          const engine = await this.engine();
          const old = withoutEncryption(parseFormat((await engine.readSetting()) ?? ''));
          const next = changedFormat(old, step.changes, random);
          if (old.trashDays === 0 && next.trashDays > 0) await this.#makeTrash(engine);
          await engine.writeSetting(serialiseFormat(next));
        });
        return;
      case 'mark':
        await on('storage', () => this.store().put(MARKER, Buffer.from(step.uuid), this.#options.signal));
    }
  }

  async #makeTrash(engine: MetaEngine): Promise<void> {
    // A check that fails means that there is one already.
    await engine.commit({
      checks: [{ kind: 'node', ino: TRASH_INO, expect: undefined, scope: 'all' }],
      writes: [{ kind: 'putNode', ino: TRASH_INO, attr: trashRoot(this.#options.clock.nowNs()) }],
    });
  }

  /** The store lets us write, read back and delete, as every client will have to. */
  async #tryStore(): Promise<void> {
    const { random, signal } = this.#options;
    const store = this.store();
    const key = `testing/${random.bytes(5).toString('hex')}`;
    const body = random.bytes(TEST_BYTES);
    await store.create(signal);
    await store.put(key, body, signal);
    const back = await store.get(key, { signal });
    await store.delete(key, signal);
    if (!isDeepStrictEqual(Buffer.from(back), body))
      throw new ObjectError('Corrupt', `${store.description} answered with other bytes than were written to ${key}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#engine?.close(), this.#store?.close()]);
  }
}

/** Secrets that cannot be read count as none: those of the spec take their place. */
function withoutEncryption(format: Format): Format {
  try {
    return decryptSecrets(format);
  } catch {
    return { ...format, secretKey: '', sessionToken: '', keyEncrypted: false };
  }
}
