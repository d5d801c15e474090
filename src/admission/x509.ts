/**
 * Certificates of the webhook: an authority (ECDSA P-384, one year) and the leaves it signs (P-384, seven days). Only made and
 * read here; when, is decided in authority.ts.
 */
// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 needs what it adds to Reflect, before it is loaded itself
import 'reflect-metadata';
import { randomBytes, X509Certificate, createPrivateKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' } as const;
const DAY = 86_400_000;
export const CA_LIFE_MS = 365 * DAY;
export const LEAF_LIFE_MS = 7 * DAY;
// Clocks of nodes differ; a certificate that is not valid yet stops every pod.
const BACKDATE_MS = 3_600_000;

/** A certificate that was read. */
export interface Certificate {
  readonly pem: string;
  readonly notBefore: number;
  readonly notAfter: number;
  /** SHA-256 of the certificate. */
  readonly fingerprint: string;
}

/** A certificate and its private key (PKCS #8), PEM. */
export interface Pair {
  readonly certificate: Certificate;
  readonly key: string;
}

/** Reads one PEM certificate. Throws where it is none. */
export function readCertificate(pem: string): Certificate {
  const parsed = new X509Certificate(pem);
  return {
    pem: parsed.toString(),
    notBefore: Date.parse(parsed.validFrom),
    notAfter: Date.parse(parsed.validTo),
    fingerprint: parsed.fingerprint256,
  };
}

/** All certificates of a PEM text. Throws where one cannot be read. */
export function readBundle(pem: string): readonly Certificate[] {
  return [...pem.matchAll(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)].map(([one]) => readCertificate(one));
}

/** Reads a certificate and its key. Throws where they do not belong together. */
export function readPair(cert: string, key: string): Pair {
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
    throw new Error('the private key does not belong to the certificate');
  return { certificate: readCertificate(cert), key };
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)).toString('base64');
  return `-----BEGIN PRIVATE KEY-----\n${der.replace(/(.{64})(?=.)/g, '$1\n')}\n-----END PRIVATE KEY-----\n`;
}

const newKeys = (): Promise<webcrypto.CryptoKeyPair> => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

// Positive and never zero, as RFC 5280 wants.
const serial = (): string => `4${randomBytes(15).toString('hex').slice(1)}`;

/** Makes an authority that is valid from `now` (milliseconds) on. */
export async function createAuthority(now: number): Promise<Pair> {
  const keys = await newKeys();
  const serialNumber = serial();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber,
    // Authorities that follow each other have names of their own, so that none is taken for the other.
    name: `CN=juicepod-webhook-ca-${serialNumber.slice(0, 8)}`,
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + CA_LIFE_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: readCertificate(certificate.toString('pem')), key: await keyPem(keys.privateKey) };
}

/** Signs a server certificate for these DNS names (or IP addresses); it never outlives the authority. */
export async function signLeaf(authority: Pair, names: readonly string[], now: number): Promise<Pair> {
  const keys = await newKeys();
  const signer = new x509.X509Certificate(authority.certificate.pem);
  const der = createPrivateKey(authority.key).export({ type: 'pkcs8', format: 'der' });
  const signingKey = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
  const isAddress = (name: string): boolean => /^[0-9.]+$|:/.test(name);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: 'CN=juicepod-webhook',
    issuer: signer.subject,
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(Math.min(now + LEAF_LIFE_MS, authority.certificate.notAfter)),
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isAddress(value) ? ('ip' as const) : ('dns' as const), value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: readCertificate(certificate.toString('pem')), key: await keyPem(keys.privateKey) };
}
