/**
 * How a mounted volume goes over to other credentials. They come from two places: volume.json (metadata URL, and what overrides
 * the store's settings), and the settings in the database (keys of the store, as JuiceFS keeps them). What is new is proved
 * first, all of it: a connection to the database that may do what the client does, and a store that holds this volume's marker
 * and, for a client that writes, takes an object. Then both are switched. Where the proof fails nothing has changed.
 */
import type { MountConfig } from '../api/mount.ts';
import { storageChangeOf } from '../api/mount.ts';
import type { Clock } from '../lib/clock.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Random } from '../lib/random.ts';
import type { MetaEngine } from '../meta/engine.ts';
import type { Format } from '../meta/format.ts';
import { proveCredentials, readFormat } from '../meta/open.ts';
import { MARKER } from '../object/check.ts';
import { ObjectError, type ObjectStore } from '../object/store.ts';
import type { Refusal, SwitchableStore } from '../object/switch.ts';
import { WatchedConfig } from './credentials.ts';

/** How long a request whose keys were refused waits for others; see REFUSED_PATIENCE_MS of the Redis connection. */
const REFUSED_PATIENCE_MS = 120_000;
/** Pause between two looks meanwhile, ms; up to as much again is added at random. */
const REFUSED_PAUSE_MS = 1000;

/** How the store is reached where not as the volume's setting says. */
export interface StorageChange {
  readonly storage?: string;
  readonly bucket?: string;
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
  /** More for the store's environment (region, addressing). */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface RenewalOptions {
  readonly engine: MetaEngine;
  readonly store: SwitchableStore;
  /** Makes single attempts, so that a proof does not wait for long. */
  readonly openStore: (format: Format, change: StorageChange | undefined) => ObjectStore;
  readonly format: Format;
  readonly metaUrl: string;
  readonly storage: StorageChange | undefined;
  readonly readOnly: boolean;
  /** volume.json; absent on one machine, where only the settings can change. */
  readonly configFile?: string;
  readonly generation?: string | undefined;
  /** Called when other credentials are in use. */
  readonly onSwitch: (generation: string | undefined) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** What `.config` shows. */
export interface CredentialsReport {
  readonly Generation: string;
  /** Times that other credentials were taken into use. */
  readonly Switches: number;
  /** Why those that are there now are not in use; empty where they are. */
  readonly Problem: string;
}

/** The members of the settings that say how the store is reached. */
const storeSettings = (format: Format): string =>
  JSON.stringify([format.storage, format.bucket, format.accessKey, format.secretKey, format.sessionToken]);

export class Renewal {
  readonly #options: RenewalOptions;
  readonly #watched: WatchedConfig | undefined;
  #metaUrl: string;
  #storage: StorageChange | undefined;
  #format: Format;
  #generation: string | undefined;
  #switches = 0;
  #looking: Promise<void> | undefined;
  #settingsProblem: string | undefined;
  /** One change at a time. */
  #last: Promise<void> = Promise.resolve();
  readonly #ending = new AbortController();

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#metaUrl = options.metaUrl;
    this.#storage = options.storage;
    this.#format = options.format;
    this.#generation = options.generation;
    const { configFile, clock, random, logger } = options;
    if (configFile === undefined) return;
    this.#watched = new WatchedConfig({
      path: configFile,
      accept: (config) => this.#inOrder(() => this.#accept(config)),
      clock,
      random,
      logger,
    });
  }

  get report(): CredentialsReport {
    return {
      Generation: this.#generation ?? '',
      Switches: this.#switches,
      Problem: this.#watched?.problem ?? this.#settingsProblem ?? '',
    };
  }

  #inOrder(action: () => Promise<void>): Promise<void> {
    const done = this.#last.then(action);
    this.#last = done.catch(() => {});
    return done;
  }

  async #accept(config: MountConfig): Promise<void> {
    const { engine, readOnly } = this.#options;
    const format = this.#format;
    if (config.name !== format.name || config.uuid !== format.uuid)
      throw new UserError('OtherVolume', `volume.json is now of another volume: "${config.name}" (${config.uuid})`);
    const storage = storageChangeOf(config.storage);
    const newStore = JSON.stringify(storage) !== JSON.stringify(this.#storage);
    // The certificates beside the file may have changed, too: a URL is proved again whatever it is, where it can be.
    const takeMeta =
      engine.renew || config.metaUrl !== this.#metaUrl
        ? await proveCredentials(engine, config.metaUrl, { writing: !readOnly })
        : undefined;
    const store = newStore ? await this.#proveStore(format, storage) : undefined;
    await takeMeta?.();
    this.#metaUrl = config.metaUrl;
    if (store) {
      this.#storage = storage;
      this.#options.store.switchTo(store);
    }
    this.#switched(config.generation);
  }

  #switched(generation: string | undefined): void {
    this.#generation = generation;
    this.#switches++;
    this.#options.onSwitch(generation);
  }

  /** The settings in the database are these now (`Meta` reloads them with each heartbeat). Never throws. */
  async settingsChanged(format: Format): Promise<void> {
    const { logger } = this.#options;
    await this.#inOrder(async () => {
      if (storeSettings(format) === storeSettings(this.#format)) return;
      try {
        this.#options.store.switchTo(await this.#proveStore(format, this.#storage));
        this.#format = format;
        this.#settingsProblem = undefined;
        logger.info('the store is used as the settings in the database now say');
        this.#switched(this.#generation);
      } catch (error) {
        const problem = messageOf(error);
        if (problem !== this.#settingsProblem)
          logger.error('the store cannot be used as the settings in the database now say; it is used as before', {
            error: problem,
          });
        this.#settingsProblem = problem;
      }
    });
  }

  /** A store that holds this volume and lets us do what we must. */
  async #proveStore(format: Format, change: StorageChange | undefined): Promise<ObjectStore> {
    const { openStore, random, readOnly } = this.#options;
    const signal = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(30_000)]);
    const store = openStore(format, change);
    try {
      // The marker is missing in volumes of old clients.
      const marker = await store.get(MARKER, { signal }).catch((error: unknown) => {
        if (error instanceof ObjectError && error.code === 'NotFound') return undefined;
        throw error;
      });
      // That of an encrypted volume is encrypted, too: that it can be read must do.
      if (marker && format.encryptKey === '' && marker.toString().trim() !== format.uuid)
        throw new UserError(
          'OtherVolume',
          `${store.description} holds another volume (${marker.toString().trim().slice(0, 64)})`,
        );
      if (!readOnly) {
        const key = `testing/${random.bytes(5).toString('hex')}`;
        await store.put(key, random.bytes(16), signal);
        // Those who may not delete still may write.
        await store.delete(key, signal).catch(() => {});
      }
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  /** Looks for other credentials at once; who asks meanwhile waits for the same look. Never throws. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #look(): Promise<void> {
    await this.#watched?.check();
    const format = await readFormat(this.#options.engine).catch(() => undefined);
    if (format && format.uuid === this.#format.uuid) await this.settingsChanged(format);
  }

  /** The database refuses us; only the file can have what it wants. */
  lookAtFile(): void {
    void this.#watched?.check();
  }

  /**
   * The store denied a request. Looks for other credentials; where the keys were right once and are refused now, they are being
   * replaced, and a pod gets the new ones some time later: then it waits for them.
   */
  async refused({ error, worked }: Refusal, signal?: AbortSignal): Promise<void> {
    const { clock, random, logger } = this.#options;
    const before = this.#switches;
    await this.look();
    if (this.#switches !== before || !error.keysRefused || !worked || !this.#watched) return;
    logger.warn('the store refuses keys that it took before; waiting for new ones', { error: messageOf(error) });
    const ending = signal ? AbortSignal.any([signal, this.#ending.signal]) : this.#ending.signal;
    const deadline = clock.monotonic() + REFUSED_PATIENCE_MS;
    while (this.#switches === before && clock.monotonic() < deadline) {
      try {
        await clock.sleep(REFUSED_PAUSE_MS * (1 + random.float()), ending);
      } catch {
        return;
      }
      await this.look();
    }
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await this.#watched?.close();
    await this.#last;
  }
}
