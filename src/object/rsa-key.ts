/**
 * The RSA key of an encrypted volume, as text: a PEM, itself under a passphrase. Every object has a data key of its own,
 * wrapped by this one, so whoever has this key and its passphrase can read the volume, and nobody else.
 *
 * Accepted as JuiceFS does: the first block of the PEM is PKCS#1 (`RSA PRIVATE KEY`, in the clear or with a `DEK-Info` header)
 * or PKCS#8 (`PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`). Made here: PKCS#8, PBES2 with AES-256-CBC. A passphrase that is given
 * for a key in the clear is not used.
 *
 * Invariant: no message holds a passphrase or a part of a key.
 * Source: the JuiceFS format, §12.5 (pkg/object/encrypt.go of 1.4.1); RFC 8017, RFC 5958, RFC 1421.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { UserError } from '../lib/errors.ts';

/** A key for a new volume has this many bits at least, and one that is made here exactly these. */
const RSA_BITS = 2048;
/** Longer passphrases are cut by some readers of PEM. Bytes. */
const MAX_PASSPHRASE = 1024;

const CLEAR = new Set(['RSA PRIVATE KEY', 'PRIVATE KEY']);
const SEALED = 'ENCRYPTED PRIVATE KEY';
const GIVE_PASSPHRASE =
  'Give it in the environment variable JFS_RSA_PASSPHRASE; for a pod, the operator takes it from the Secret that the JuiceVolume names.';

function invalid(found: string): UserError {
  return new UserError('EncryptionKeyInvalid', `the encryption key should be the PEM of a private RSA key; ${found}`, {
    hint: 'Make one with: openssl genrsa -aes256 -out key.pem 2048',
  });
}

interface Pem {
  /** Whether a passphrase is needed to open it. */
  readonly sealed: boolean;
  /** From the first block on. */
  readonly text: string;
}

/** The first block of the text, by its label; others behind it do not count, as in JuiceFS. */
function readPem(text: string): Pem {
  const begin = /^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?$/m.exec(text);
  const label = begin?.[1];
  if (!begin || label === undefined) throw invalid(`there is no PEM block in these ${text.length} characters`);
  const end = text.indexOf(`-----END ${label}-----`, begin.index);
  if (end < 0) throw invalid(`its block "${label}" has no end`);
  if (label !== SEALED && !CLEAR.has(label)) throw invalid(`this is a block "${label}"`);
  const block = text.slice(begin.index, end);
  return {
    sealed: label === SEALED || /^Proc-Type:\s*4,\s*ENCRYPTED/m.test(block),
    text: `${block}-----END ${label}-----\n`,
  };
}

/** Whether the key can be used only with a passphrase. Throws UserError `EncryptionKeyInvalid` for what is no private key. */
export function isPassphraseProtected(pem: string): boolean {
  return readPem(pem).sealed;
}

/**
 * The key of a volume that is there. Throws UserError: `PassphraseMissing`, `PassphraseWrong` (what a wrong passphrase
 * leaves cannot be told from a damaged key), `EncryptionKeyInvalid`.
 */
export function openEncryptionKey(pem: string, passphrase: string | undefined): KeyObject {
  const { sealed, text } = readPem(pem);
  if (sealed && !passphrase)
    throw new UserError('PassphraseMissing', 'the encryption key is under a passphrase, and none was given', {
      hint: GIVE_PASSPHRASE,
    });
  let key: KeyObject;
  try {
    key = createPrivateKey(sealed ? { key: text, passphrase: passphrase ?? '' } : text);
  } catch (cause) {
    if (!sealed) throw invalid(`this one cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'no reason is told'})`);
    throw new UserError('PassphraseWrong', 'the encryption key does not open with the passphrase that was given', {
      cause,
      hint: 'Check the passphrase; after a rotation only the new one counts. If it is right, the key is damaged or encrypted in an unusual way: try openssl rsa -check on its file.',
    });
  }
  if (key.asymmetricKeyType !== 'rsa') throw invalid(`this one is of type ${key.asymmetricKeyType ?? 'unknown'}`);
  return key;
}

/**
 * Checks a key for a new volume. Throws UserError as `openEncryptionKey` does, and `EncryptionKeyShort` for less than
 * 2048 bits (a volume that is there is read with a shorter one too).
 */
export function checkEncryptionKey(pem: string, passphrase: string | undefined): void {
  const bits = openEncryptionKey(pem, passphrase).asymmetricKeyDetails?.modulusLength ?? 0;
  if (bits < RSA_BITS)
    throw new UserError('EncryptionKeyShort', `the encryption key has ${bits} bits; at least ${RSA_BITS} are needed`, {
      hint: `Make another: openssl genrsa -aes256 -out key.pem ${RSA_BITS}`,
    });
}

/** Throws UserError `PassphraseInvalid` for a passphrase that a key should not be put under. */
function checkPassphrase(passphrase: string): void {
  const bytes = Buffer.byteLength(passphrase);
  if (bytes === 0 || bytes > MAX_PASSPHRASE || /[\0\r\n]/.test(passphrase))
    throw new UserError(
      'PassphraseInvalid',
      `a passphrase should be one line of 1 to ${MAX_PASSPHRASE} bytes; this one has ${bytes} bytes${/[\r\n]/.test(passphrase) ? ' in several lines' : ''}`,
      { hint: 'A line break at the end of a file does not belong to it.' },
    );
}

const CIPHER = 'aes-256-cbc';

/** The key as PKCS#8 under a passphrase. */
function protect(key: KeyObject, passphrase: string): string {
  checkPassphrase(passphrase);
  return key.export({ type: 'pkcs8', format: 'pem', cipher: CIPHER, passphrase }).toString();
}

/** A new RSA key of 2048 bits as a PEM under the passphrase, for a new volume. Made in the thread pool. */
export async function generateEncryptionKey(passphrase: string): Promise<string> {
  checkPassphrase(passphrase);
  const { privateKey } = await promisify(generateKeyPair)('rsa', {
    modulusLength: RSA_BITS,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: CIPHER, passphrase },
  });
  return privateKey;
}

/** Whether two private keys are the same RSA key, whatever their form. */
export function isSameKey(one: KeyObject, other: KeyObject): boolean {
  return createPublicKey(one).equals(createPublicKey(other));
}

/**
 * The same RSA key under another passphrase; objects that it wrapped stay readable. The answer was opened again and
 * compared before it is given. Throws UserError as `openEncryptionKey`, and `PassphraseInvalid` for the new one.
 */
export async function rewrapEncryptionKey(
  pem: string,
  oldPassphrase: string | undefined,
  newPassphrase: string,
): Promise<string> {
  const key = openEncryptionKey(pem, oldPassphrase);
  const wrapped = protect(key, newPassphrase);
  if (!isSameKey(openEncryptionKey(wrapped, newPassphrase), key))
    throw new Error('the encryption key came out different when it was put under another passphrase');
  return Promise.resolve(wrapped);
}

/**
 * A key for a new volume as it is to be stored: as it was given, byte for byte; but one in the clear is put under the passphrase
 * where there is one, so that who gives a passphrase has one. Throws UserError as `checkEncryptionKey`.
 */
export function storedEncryptionKey(pem: string, passphrase: string | undefined): string {
  checkEncryptionKey(pem, passphrase);
  return passphrase && !isPassphraseProtected(pem) ? protect(openEncryptionKey(pem, undefined), passphrase) : pem;
}
