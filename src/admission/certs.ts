/**
 * Keeps the webhook's certificate valid: by an authority of its own, shared by the replicas through a Secret and made known to
 * the API server through caBundle; or from files that somebody else (cert-manager) keeps.
 *
 * Both look at the wall clock every few seconds instead of sleeping until a renewal is due: timers stop while a machine
 * sleeps. A failure leaves the certificate in use as it is and is tried again at the next look; `failure()` tells health
 * checks when nothing valid is left.
 */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../lib/clock.ts';
import { messageOf } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import { applyStep, type Authorities, bundleOf, nextStep, readSecretData, renewalTime, secretData } from './authority.ts';
import type { KeyPair } from './server.ts';
import { createAuthority, type Pair, readBundle, readCertificate, readPair, signLeaf } from './x509.ts';

/** The Secret, as the authority needs it. Implemented over the API server, and in memory by tests. */
export interface SecretStore {
  read(signal: AbortSignal): Promise<{ readonly data: Readonly<Record<string, string>>; readonly version: string } | undefined>;
  /** With a version only if the Secret still has it, without only if there is none. Answers false where another was faster. */
  write(data: Readonly<Record<string, string>>, version: string | undefined, signal: AbortSignal): Promise<boolean>;
}

/** The caBundle of the webhook configuration. */
export interface BundlePublisher {
  /** The bundles of all its webhooks (PEM, '' for none); undefined where there is no configuration. */
  read(signal: AbortSignal): Promise<readonly string[] | undefined>;
  publish(bundle: string, signal: AbortSignal): Promise<void>;
}

/** Where the server's certificate comes from. */
export interface CertificateSource {
  /** One look: renews what is due. Answers the keys to use from now on where they changed. Throws what failed. */
  look(signal: AbortSignal): Promise<KeyPair | undefined>;
  /** The certificate in use, with when it ends; undefined before the first. */
  readonly current: { readonly notAfter: number } | undefined;
}

export interface OwnAuthorityOptions {
  readonly secret: SecretStore;
  readonly publisher: BundlePublisher;
  /** DNS names (or addresses) by which the API server calls. */
  readonly names: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** Certificates by an authority of the webhook's own. */
export class OwnAuthority implements CertificateSource {
  readonly #options: OwnAuthorityOptions;
  #state: Authorities | undefined;
  #leaf: Pair | undefined;
  #signer: string | undefined;

  constructor(options: OwnAuthorityOptions) {
    this.#options = options;
  }

  get current(): { readonly notAfter: number } | undefined {
    return this.#leaf?.certificate;
  }

  async look(signal: AbortSignal): Promise<KeyPair | undefined> {
    const { log } = this.#options;
    let failure: unknown;
    try {
      await this.#share(signal);
    } catch (error) {
      failure = error;
    }
    // Renewal needs nobody: an API server that cannot be read must not let the certificate run out.
    const keys = this.#state && (await this.#renew(this.#state));
    if (failure === undefined) return keys;
    if (!keys) throw failure;
    log.warn('the authority could not be looked after; tried again', { error: messageOf(failure) });
    return keys;
  }

  /** Agrees with the other replicas on the authority, and makes it known. */
  async #share(signal: AbortSignal): Promise<void> {
    const { publisher, log } = this.#options;
    const bundles = await publisher.read(signal);
    this.#state = await this.#settle(bundles, signal);
    const bundle = bundleOf(this.#state);
    if (bundles?.every((found) => found === bundle) !== false) return;
    await publisher.publish(bundle, signal);
    log.info('the authority of the webhook is published', { certificates: readBundle(bundle).length });
  }

  /** A new leaf where one is due. */
  async #renew({ signing }: Authorities): Promise<KeyPair | undefined> {
    const { clock, names, log } = this.#options;
    const now = clock.now();
    const signer = signing.certificate.fingerprint;
    if (this.#leaf && this.#signer === signer && now < renewalTime(this.#leaf.certificate)) return undefined;
    this.#leaf = await signLeaf(signing, names, now);
    this.#signer = signer;
    log.info('a new certificate is in use', { until: new Date(this.#leaf.certificate.notAfter).toISOString() });
    return { cert: this.#leaf.certificate.pem, key: this.#leaf.key };
  }

  /** Brings the Secret to where it should be, together with the other replicas. */
  async #settle(bundles: readonly string[] | undefined, signal: AbortSignal): Promise<Authorities> {
    const { secret, clock, log } = this.#options;
    for (let attempt = 0; attempt < 10; attempt++) {
      const found = await secret.read(signal);
      const read = found && readSecretData(found.data);
      // A Secret that was deleted or damaged is written again as it was: the leaves in use stay trusted.
      const before = read ?? this.#state;
      const now = clock.now();
      const next = before?.next?.certificate.pem.trim();
      const isPublished = next !== undefined && (bundles ?? []).every((bundle) => bundle.includes(next));
      const step = nextStep(before, now, isPublished);
      if (step === 'keep' && read) return read;
      const fresh = step === 'create' || step === 'prepare' ? await createAuthority(now) : undefined;
      const after = applyStep(before, step, fresh, now);
      if (await secret.write(secretData(after), found?.version, signal)) {
        log.info('the authority of the webhook changed', { step: step === 'keep' ? 'restore' : step });
        return after;
      }
    }
    throw new Error('the Secret of the authority is changed by others all the time; is something else managing it?');
  }
}

/** Certificates from two files, read again whenever they change. */
export class FileCertificates implements CertificateSource {
  readonly #certFile: string;
  readonly #keyFile: string;
  #used = '';
  #notAfter: number | undefined;

  constructor(certFile: string, keyFile: string) {
    this.#certFile = certFile;
    this.#keyFile = keyFile;
  }

  get current(): { readonly notAfter: number } | undefined {
    return this.#notAfter === undefined ? undefined : { notAfter: this.#notAfter };
  }

  async look(signal: AbortSignal): Promise<KeyPair | undefined> {
    const read = (path: string): Promise<string> => readFile(path, { encoding: 'utf8', signal });
    const [cert, key] = await Promise.all([read(this.#certFile), read(this.#keyFile)]);
    if (cert + key === this.#used) return undefined;
    // Both are replaced, but not at one moment: a pair that does not fit yet is left for the next look.
    readPair(cert, key);
    this.#notAfter = readCertificate(cert).notAfter;
    this.#used = cert + key;
    return { cert, key };
  }
}

export interface KeeperOptions {
  readonly source: CertificateSource;
  readonly clock: Clock;
  readonly log: Logger;
  /** Between looks, milliseconds. @default 10000 */
  readonly everyMs?: number;
  /** Called with each new pair. */
  readonly onKeys: (keys: KeyPair) => void;
  /** Called after each look, with what failed. */
  readonly onLook?: (error: unknown) => void;
}

/** Looks until aborted; resolves then. */
export async function keepCertificates(options: KeeperOptions, signal: AbortSignal): Promise<void> {
  const { source, clock, log, onKeys, onLook } = options;
  while (!signal.aborted) {
    let failure: unknown;
    try {
      const keys = await source.look(signal);
      if (keys) onKeys(keys);
    } catch (error) {
      if (signal.aborted) return;
      failure = error;
      log.warn('the certificate could not be looked after; tried again', { error: messageOf(error) });
    }
    onLook?.(failure);
    try {
      await clock.sleep(options.everyMs ?? 10_000, signal);
    } catch {
      return;
    }
  }
}
