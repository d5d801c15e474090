/**
 * What the replicas of the webhook share: their authorities, kept in one Secret; and when these change. Pure.
 *
 * Rotation never breaks a connection: at two thirds of the life of the signing authority a next one is made and published beside
 * it in caBundle; only when the API server has been given both is it promoted; the old one stays in the bundle until it
 * expires. Each replica signs a leaf of its own, so private keys of leaves never leave a process. An authority that is over, or
 * that begins in the future (somebody's clock was wrong), is replaced at once: nothing it signs would be trusted.
 *
 * Keys of the Secret: tls.crt, tls.key (the signing authority), next.crt, next.key (the next one, while there is one), ca.crt (all
 * that clients are to trust). Model: cert-manager's DynamicAuthority, with the two-CA bundle it lacks.
 */
import { CA_LIFE_MS, type Certificate, LEAF_LIFE_MS, type Pair, readBundle, readPair } from './x509.ts';

/** How long both authorities are published before the next one signs: every API server has read the bundle by then. */
const PUBLISH_MS = 10 * 60_000;
/** How many former authorities the bundle holds at most; with one a year there is one. */
const MAX_OLD = 4;

export interface Authorities {
  readonly signing: Pair;
  readonly next: Pair | undefined;
  /** Authorities that signed before and may still be trusted. */
  readonly old: readonly Certificate[];
}

export type Step = 'create' | 'prepare' | 'promote' | 'prune' | 'keep';

/** The moment at which two thirds of a certificate's life are over. */
export function renewalTime({ notBefore, notAfter }: Certificate): number {
  return notBefore + ((notAfter - notBefore) * 2) / 3;
}

/** Whether an authority can sign a leaf that is trusted at `now` and for its whole life. */
function canSign({ notBefore, notAfter }: Certificate, now: number): boolean {
  return notBefore <= now && now < notAfter - LEAF_LIFE_MS;
}

/**
 * What is to be done at `now` (the API server's clock, milliseconds). `published`: whether the API server has been given the next authority.
 */
export function nextStep(state: Authorities | undefined, now: number, published: boolean): Step {
  if (!state) return 'create';
  const { signing, next, old } = state;
  const isOver = !canSign(signing.certificate, now);
  if (isOver) return next && canSign(next.certificate, now) ? 'promote' : 'create';
  if (next) {
    // A certificate is dated back, so that its beginning is no measure of its age; its end is.
    const age = now - (next.certificate.notAfter - CA_LIFE_MS);
    return published && age >= PUBLISH_MS ? 'promote' : 'keep';
  }
  if (now >= renewalTime(signing.certificate)) return 'prepare';
  return old.some((certificate) => now >= certificate.notAfter) ? 'prune' : 'keep';
}

/** The state after a step; `fresh` is the new authority of `create` and `prepare`. */
export function applyStep(state: Authorities | undefined, step: Step, fresh: Pair | undefined, now: number): Authorities {
  const alive = (certificates: readonly Certificate[]): readonly Certificate[] =>
    certificates.filter((certificate) => certificate.notAfter > now).slice(0, MAX_OLD);
  if (!state || step === 'create') {
    if (!fresh) throw new TypeError(`${step} needs a new authority`);
    return { signing: fresh, next: undefined, old: state ? alive([state.signing.certificate, ...state.old]) : [] };
  }
  switch (step) {
    case 'prepare':
      return { ...state, next: fresh };
    case 'promote':
      if (!state.next) throw new TypeError('there is no next authority to promote');
      return { signing: state.next, next: undefined, old: alive([state.signing.certificate, ...state.old]) };
    case 'prune':
      return { ...state, old: alive(state.old) };
    case 'keep':
      return state;
    default:
      return step satisfies never;
  }
}

/** All certificates that the API server is to trust, PEM. */
export function bundleOf({ signing, next, old }: Authorities): string {
  return [signing.certificate, ...(next ? [next.certificate] : []), ...old].map(({ pem }) => pem.trimEnd() + '\n').join('');
}

/** The data of the Secret, as plain texts. */
export function secretData(state: Authorities): Readonly<Record<string, string>> {
  const { signing, next } = state;
  return {
    'tls.crt': signing.certificate.pem,
    'tls.key': signing.key,
    ...(next ? { 'next.crt': next.certificate.pem, 'next.key': next.key } : {}),
    'ca.crt': bundleOf(state),
  };
}

/** Reads the Secret's data. Undefined where it cannot be used (damaged by hand): then it is made anew. */
export function readSecretData(data: Readonly<Record<string, string>>): Authorities | undefined {
  try {
    const signing = readPair(data['tls.crt'] ?? '', data['tls.key'] ?? '');
    const next = data['next.crt'] && data['next.key'] ? readPair(data['next.crt'], data['next.key']) : undefined;
    const known = new Set([signing.certificate.fingerprint, next?.certificate.fingerprint]);
    return { signing, next, old: readBundle(data['ca.crt'] ?? '').filter(({ fingerprint }) => !known.has(fingerprint)) };
  } catch {
    return undefined;
  }
}
