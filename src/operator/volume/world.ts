/**
 * A volume's surroundings, opened for one reconcile: looked at (`observe`), changed by one step (`perform`), closed. What is
 * seen is plain data for `decide`. Nothing is kept between reconciles: the next one sees what is true then.
 */
import { isDeepStrictEqual } from 'node:util';
import type { TlsFiles } from '../../api/mount.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { Clock } from '../../lib/clock.ts';
import { messageOf, UserError } from '../../lib/errors.ts';
import type { Random } from '../../lib/random.ts';
import { rotatePassphrase } from '../../meta/encryption.ts';
import type { MetaEngine } from '../../meta/engine.ts';
import { checkVersion, type Format, parseFormat, serialiseFormat } from '../../meta/format.ts';
import { changedFormat, newFormat } from '../../meta/format-input.ts';
import { decryptSecrets } from '../../meta/format-secrets.ts';
import { parseSession } from '../../meta/sessions.ts';
import { changeSetting } from '../../meta/setting.ts';
import { isData, MARKER } from '../../object/check.ts';
import { ObjectError, type ObjectStore } from '../../object/store.ts';
import { advised } from './advice.ts';
import { type Backends, metadataFailure, storageFailure } from './backends.ts';
import { deepLookIsDue } from './clients.ts';
import { type Conflict, holderOf } from './conflict.ts';
import type { WorldStep } from './decide.ts';
import { tryKeys } from './keytest.ts';
import type { KeysOutcome } from './keys.ts';
import type {
  Durability,
  EncryptionSeen,
  Failure,
  LeaksSeen,
  MetadataObservation,
  Observation,
  StorageObservation,
} from './observation.ts';
import { Limits } from './limits.ts';
import { type SecretsOutcome, tlsTexts } from './secrets.ts';
import { metaUrl, type Target, targetOf } from './target.ts';

const TEST_BYTES = 100;
/** A file deleted so long ago (seconds) should be gone from the store. */
const DELETED_LONG_AGO = 3600;
const LEAK_LIMIT = 1000;

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
  /** The JuiceVolumes that stand for the volume with a UUID. */
  readonly others: (uuid: string) => Iterable<JuiceVolume>;
  readonly conflict: Conflict | undefined;
  readonly secrets: SecretsOutcome | undefined;
  /** Reads the Secrets with key and passphrase as they are now; undefined where the spec asks for no encryption. */
  readonly keys: () => Promise<KeysOutcome | undefined>;
  /** Whether clients have had both passphrases for long enough. */
  readonly rewrapDue: (passphrase: string) => boolean;
  readonly policyExists: boolean | undefined;
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

export class World implements AsyncDisposable {
  readonly #options: WorldOptions;
  readonly target: Target | undefined;
  #engine: MetaEngine | undefined;
  #store: ObjectStore | undefined;
  #durability: Durability | undefined;
  #limits: Limits | undefined;
  #leaks: LeaksSeen | undefined;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.target = options.secrets?.ok ? targetOf(options.volume, options.secrets.secrets) : undefined;
  }

  /** The metadata URL for this process. */
  get url(): string {
    const { volume, secrets, backends } = this.#options;
    if (!secrets?.ok) throw new TypeError('the Secrets of the volume are not resolved');
    const files = Object.entries(tlsTexts(secrets.secrets)).map(([file, pem]) => [file, backends.pemFile(pem)]);
    return metaUrl(volume.spec, secrets.secrets, Object.fromEntries(files) as TlsFiles);
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
    const { conflict, secrets, policyExists } = this.#options;
    const { target } = this;
    const known = { conflict, secrets, target, policyExists };
    if (!target) return { ...known, metadata: undefined, storage: undefined, encryption: undefined };
    const metadata = await this.#observeMetadata();
    const storage = await this.#observeStorage(metadata.state === 'empty');
    return { ...known, metadata, storage, encryption: await this.#observeEncryption(metadata) };
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
      const sessions = (await engine.sessions()).map(({ sid, expire, info }) => parseSession(sid, expire, info));
      const clients = sessions.filter(({ expire }) => expire > now);
      const deep = deepLookIsDue(volume.status ?? {}, clock.now());
      this.#limits ??= new Limits(volume, engine, this.#options.signal);
      if (deep) this.#leaks ??= await observeLeaks(engine, now);
      return {
        state: 'volume',
        format: plain(format),
        usage: { bytes: Math.max(0, bytes), inodes: Math.max(0, inodes) },
        clients,
        staleSessions: sessions.length - clients.length,
        leaks: this.#leaks,
        quotas: await this.#limits.observe(deep),
        durability,
        holder: holderOf(format.uuid, volume, others(format.uuid)),
      };
    } catch (error) {
      return advised(metadataFailure(error), volume.spec);
    }
  }

  async #observeEncryption(metadata: MetadataObservation): Promise<EncryptionSeen | undefined> {
    const keys = await this.#options.keys();
    const format = metadata.state === 'volume' ? metadata.format : undefined;
    return keys && tryKeys(keys, format?.encryptKey ?? '', this.#options.rewrapDue);
  }

  async #observeStorage(lookForObjects: boolean): Promise<StorageObservation> {
    const { signal, volume } = this.#options;
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
      return isMissingBucket(error) ? { state: 'missing', message: error.message } : advised(storageFailure(error), volume.spec);
    }
  }

  /** One step. Throws StepError. May be repeated after any failure: each part looks at what is there, or overwrites it. */
  async perform(step: WorldStep): Promise<void> {
    const { clock, random, signal, volume } = this.#options;
    switch (step.do) {
      case 'format': {
        const { target } = this;
        if (!target) return;
        await on('storage', () => this.#tryStore());
        const input =
          target.algorithm && step.key
            ? { ...target.input, encryption: { ...step.key, algorithm: target.algorithm } }
            : target.input;
        // The UUID is that of the object: so it is known, whatever happens next, whose doing the volume was.
        const { uid } = volume.metadata;
        const format = newFormat(input, uid === undefined ? random : { ...random, uuid: () => uid });
        const create = { trash: input.trashDays > 0, nowNs: clock.nowNs() };
        // False: somebody else was faster; the next look shows whose volume it is now.
        await on('metadata', async () => (await this.engine()).writeSetting(serialiseFormat(format), create));
        return;
      }
      case 'configure':
        await on('metadata', async () =>
          changeSetting(await this.engine(), (found) => changedFormat(plain(found), step.changes, random), clock),
        );
        return;
      case 'rewrap':
        await on('metadata', async () =>
          rotatePassphrase(await this.engine(), { oldPassphrase: step.from, newPassphrase: step.to }, random),
        );
        return;
      case 'limits':
        await on('metadata', () => this.#limits?.perform(step.actions) ?? Promise.resolve());
        return;
      case 'mark':
        await on('storage', () => this.store().put(MARKER, Buffer.from(step.uuid), signal));
    }
  }

  /** The store lets us write, read back and delete, as every client will have to. */
  async #tryStore(): Promise<void> {
    const { random, signal, volume } = this.#options;
    const store = this.store();
    // Always the same: whoever comes after one that was stopped here takes away what it left.
    const key = `testing/${volume.metadata.uid ?? random.bytes(5).toString('hex')}`;
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

async function observeLeaks(engine: MetaEngine, now: number): Promise<LeaksSeen> {
  const deleted = await engine.scanDelfiles(Math.floor(now) - DELETED_LONG_AGO, LEAK_LIMIT);
  const unreferenced = await engine.scanUnreferenced(LEAK_LIMIT);
  return { deletedFiles: deleted.length, unreferencedSlices: unreferenced.length };
}

/** Secrets that cannot be read count as none: those of the spec take their place. */
function plain(format: Format): Format {
  try {
    return decryptSecrets(format);
  } catch {
    return { ...format, secretKey: '', sessionToken: '', keyEncrypted: false };
  }
}
