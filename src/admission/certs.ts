/**
 * Keeps the webhook's certificate valid: by an authority of its own, shared by the replicas through a Secret and made known to
 * the API server through caBundle; or from files that somebody else (cert-manager) keeps.
 *
 * Both look at the clock every few seconds instead of sleeping until a renewal is due: timers stop while a machine sleeps. A
 * failure leaves the certificate in use as it is and is tried again at the next look.
 *
 * The clock that counts is the API server's, because it is the one that checks: it is asked at each look, and where ours
 * differs by more than a minute, all times are reckoned by the API server's. So a node whose clock jumps neither throws
 * away a good authority nor signs leaves that nobody trusts.
 *
 * caBundle is written by compare-and-set: the configuration is read before the Secret, and written only if it is still the one
 * that was read. A replica that was held up between the two cannot put back an older bundle.
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
  /** The bundles of all its webhooks (PEM, '' for none), and its version; undefined where there is no configuration. */
  read(signal: AbortSignal): Promise<Published | undefined>;
  /** Only if the configuration still has that version. Answers false where another was faster. */
  publish(bundle: string, version: string, signal: AbortSignal): Promise<boolean>;
}

export interface Published {
  readonly bundles: readonly string[];
  readonly version: string;
}

/** Where the server's certificate comes from. */
export interface CertificateSource {
  /** One look: renews what is due. Answers the keys to use from now on where they changed. Throws what failed. */
  look(signal: AbortSignal): Promise<KeyPair | undefined>;
  /** The certificate in use, with when it ends; undefined before the first. */
  readonly current: { readonly notAfter: number } | undefined;
  /** How far the clock that counts is ahead of ours, milliseconds. */
  readonly skewMs: number;
}

/** Differences below this are left to the hour that certificates are dated back, milliseconds. */
const SKEW_MS = 60_000;

export interface OwnAuthorityOptions {
  readonly secret: SecretStore;
  readonly publisher: BundlePublisher;
  /** DNS names (or addresses) by which the API server calls. */
  readonly names: readonly string[];
  /** The API server's clock, milliseconds. @default ours */
  readonly serverTime?: (signal: AbortSignal) => Promise<number>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Certificates by an authority of the webhook's own. */
export class OwnAuthority implements CertificateSource {
  readonly #options: OwnAuthorityOptions;
  #state: Authorities | undefined;
  #leaf: Pair | undefined;
  #signer: string | undefined;
  #skewMs = 0;

  constructor(options: OwnAuthorityOptions) {
    this.#options = options;
  }

  get current(): { readonly notAfter: number } | undefined {
    return this.#leaf?.certificate;
  }

  get skewMs(): number {
    return this.#skewMs;
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

  #now(): number {
    return this.#options.clock.now() + this.#skewMs;
  }

  /** How far the API server's clock is from ours. */
  async #compareClocks(signal: AbortSignal): Promise<void> {
    const { serverTime, clock, log } = this.#options;
    if (!serverTime) return;
    let skew: number;
    try {
      skew = (await serverTime(signal)) - clock.now();
    } catch (error) {
      // Whoever may not ask, or cannot reach it, goes on with what is known.
      log.debug('the API server did not tell the time', { error: messageOf(error) });
      return;
    }
    const skewMs = Math.abs(skew) > SKEW_MS ? skew : 0;
    if (Math.abs(skewMs - this.#skewMs) > SKEW_MS)
      log.warn('the clock of this machine is not that of the API server, by which certificates are reckoned', {
        aheadSeconds: Math.round(-skew / 1000),
      });
    this.#skewMs = skewMs;
  }

  /** Agrees with the other replicas on the authority, and makes it known. */
  async #share(signal: AbortSignal): Promise<void> {
    const { publisher, log } = this.#options;
    await this.#compareClocks(signal);
    // Before the Secret: what is published then is never older than what this version was published from.
    const published = await publisher.read(signal);
    this.#state = await this.#settle(published?.bundles, signal);
    const bundle = bundleOf(this.#state);
    if (!published || published.bundles.every((found) => found === bundle)) return;
    // Where another was faster, the next look compares again.
    if (!(await publisher.publish(bundle, published.version, signal))) return;
    log.info('the authority of the webhook is published', { certificates: readBundle(bundle).length });
  }

  /** A new leaf where one is due. */
  async #renew({ signing }: Authorities): Promise<KeyPair | undefined> {
    const { names, log } = this.#options;
    const now = this.#now();
    const signer = signing.certificate.fingerprint;
    const leaf = this.#leaf?.certificate;
    if (leaf && this.#signer === signer && leaf.notBefore <= now && now < renewalTime(leaf)) return undefined;
    // An authority that is over signs nothing that is trusted; the next one comes with the API server.
    if (leaf && now >= signing.certificate.notAfter) return undefined;
    this.#leaf = await signLeaf(signing, names, now);
    this.#signer = signer;
    log.info('a new certificate is in use', { until: new Date(this.#leaf.certificate.notAfter).toISOString() });
    return { cert: this.#leaf.certificate.pem, key: this.#leaf.key };
  }

  /** Brings the Secret to where it should be, together with the other replicas. */
  async #settle(bundles: readonly string[] | undefined, signal: AbortSignal): Promise<Authorities> {
    const { secret, log } = this.#options;
    for (let attempt = 0; attempt < 10; attempt++) {
      const found = await secret.read(signal);
      const read = found && readSecretData(found.data);
      // A Secret that was deleted or damaged is written again as it was: the leaves in use stay trusted.
      const before = read ?? this.#state;
      const now = this.#now();
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
  /** Nobody's clock is asked: whoever writes the files decides when. */
  readonly skewMs = 0;
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
