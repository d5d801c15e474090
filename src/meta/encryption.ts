/**
 * The key of an encrypted volume in its format: opening what objects are sealed with, and putting the key under another
 * passphrase. The RSA key itself never changes, for it has wrapped the data key of every object there is; so a rotation touches
 * one text in the database and no object. Whoever has the old passphrase *and* an old copy of the database keeps the key.
 */
import type { Random } from '../lib/random.ts';
import { UserError } from '../lib/errors.ts';
import { type Envelope, openEnvelope } from '../object/envelope.ts';
import { isPassphraseProtected, openEncryptionKey, rewrapEncryptionKey } from '../object/rsa-key.ts';
import type { MetaEngine } from './engine.ts';
import type { Format } from './format.ts';
import { decryptSecrets, encryptSecrets } from './format-secrets.ts';
import { changeSetting } from './setting.ts';

/**
 * What the objects of a volume are sealed with; undefined where they are not. Secrets of the format as stored or in plain text.
 * Of several passphrases the first that opens the key counts: while it is rotated, nobody knows which of the two it is under.
 * Throws UserError: `PassphraseMissing`, `PassphraseWrong`, `EncryptionKeyInvalid`, `UnsupportedEncryption`, and as `decryptSecrets`.
 */
export function envelopeOf(format: Format, passphrases: string | readonly string[] | undefined): Envelope | undefined {
  if (format.encryptKey === '') return undefined;
  const { encryptKey: key, encryptAlgo: algorithm } = decryptSecrets(format);
  const candidates = typeof passphrases === 'string' ? [passphrases] : (passphrases ?? []);
  const opening = candidates.find((passphrase) => opens(key, passphrase));
  return openEnvelope({ key, passphrase: opening ?? candidates[0], algorithm });
}

export interface PassphraseRotation {
  /** Opens the key as it is now; not needed for a key in the clear. */
  readonly oldPassphrase: string | undefined;
  readonly newPassphrase: string;
}

/**
 * Puts the volume's key under a new passphrase. One write that replaces the format as it was read, or none: after a crash at
 * any moment either the old passphrase opens the key or the new one, and calling again ends it. Clients that run hold the
 * key and go on; those that start later need the new passphrase.
 *
 * False where the new passphrase opens the key already and nothing was to be done.
 * Throws UserError: `NoVolume`, `NotEncrypted`, `PassphraseMissing`, `PassphraseWrong`, `PassphraseInvalid`, and as `changeSetting`.
 */
export async function rotatePassphrase(
  engine: MetaEngine,
  { oldPassphrase, newPassphrase }: PassphraseRotation,
  random: Random,
): Promise<boolean> {
  const { before, after } = await changeSetting(engine, async (found) => {
    const format = decryptSecrets(found);
    if (format.encryptKey === '')
      throw new UserError('NotEncrypted', `the volume "${format.name}" is not encrypted, so there is no passphrase to change`, {
        hint: 'Encryption is chosen when a volume is made: juicepod format --encrypt-rsa-key FILE.',
      });
    if (isPassphraseProtected(format.encryptKey) && opens(format.encryptKey, newPassphrase)) return found;
    const encryptKey = await rewrapEncryptionKey(format.encryptKey, oldPassphrase, newPassphrase);
    return encryptSecrets({ ...format, encryptKey }, random);
  });
  return after !== before;
}

function opens(pem: string, passphrase: string): boolean {
  try {
    openEncryptionKey(pem, passphrase);
    return true;
  } catch {
    return false;
  }
}
