/**
 * Encryption at rest, as a JuiceVolume declares it: JuiceFS's own. Each object has a random key, wrapped by the volume's RSA
 * key; that RSA key lies in the volume's settings under a passphrase, and the passphrase in a Secret apart from it.
 */
import { z } from 'zod';
import { choice, declare, fixedPresence, immutable, object, objectName, type Rule, secretKey, text } from './schema.ts';

interface Sources {
  readonly keySecretRef?: object | undefined;
  readonly passphraseSecretRef?: object | undefined;
  readonly passphraseGeneration: number;
}

const keyNeedsPassphrase: Rule<Sources> = {
  cel: 'has(self.passphraseSecretRef) || !has(self.keySecretRef)',
  message: 'keySecretRef needs passphraseSecretRef',
  holds: (value) => value.passphraseSecretRef !== undefined || value.keySecretRef === undefined,
};

const onlyGenerated: Rule<Sources> = {
  cel: '!has(self.passphraseSecretRef) || self.passphraseGeneration == 1',
  message:
    'passphraseGeneration asks for another generated passphrase; with passphraseSecretRef, change what is in the Secret instead',
  holds: (value) => value.passphraseSecretRef === undefined || value.passphraseGeneration === 1,
};

const onlyForward: Rule<number> = {
  cel: 'self >= oldSelf',
  message: 'passphraseGeneration can only grow',
};

export const encryptionSpec = object(
  'Encryption of each object before it is stored. It can neither be switched on nor off later. Names, sizes and times in the database are not encrypted.',
  {
    algorithm: choice(
      'The cipher of the objects: AES-256-GCM or ChaCha20-Poly1305. Immutable.',
      ['AES256GCM', 'ChaCha20Poly1305'],
      [immutable],
    ),
    keySecretRef: object(
      'An RSA private key of yours, in PEM and encrypted with the passphrase. Without it a key of 2048 bits is generated, and a copy (encrypted) kept in a Secret. Only read while the volume is formatted, and when the passphrase changes.',
      {
        name: objectName('Name of the Secret, in the namespace of the volume.'),
        key: secretKey('Key of the PEM text.').default('key.pem'),
      },
    ).optional(),
    passphraseSecretRef: object(
      'A passphrase of yours. When it changes, the RSA key is encrypted with the new one; no data is written again. Without it a passphrase is generated, in a Secret apart from the key.',
      {
        name: objectName('Name of the Secret, in the namespace of the volume.'),
        key: secretKey('Key of the passphrase.').default('passphrase'),
      },
    ).optional(),
    passphraseGeneration: declare(
      z.int().min(1).max(1_000_000),
      'Which generated passphrase is wanted: a higher number makes a new one. No data is written again.',
      [onlyForward],
    ).default(1),
  },
  [keyNeedsPassphrase, onlyGenerated, fixedPresence('keySecretRef'), fixedPresence('passphraseSecretRef')],
);

export const encryptionStatus = object('How objects are encrypted, and with which key.', {
  algorithm: text('The cipher, as JuiceFS names it.', { max: 32 }),
  keyFingerprint: text('SHA-256 of the public half of the RSA key, in hexadecimal.', { max: 64 }),
  passphraseGeneration: z
    .int()
    .min(1)
    .describe('Which generated passphrase opens the key now; absent with passphraseSecretRef.')
    .optional(),
  passphraseSecret: text('Name of the Secret with the passphrase.', { max: 253 }).optional(),
  keySecret: text('Name of the Secret with the copy of the key that was generated.', { max: 253 }).optional(),
  rotatingSince: z
    .string()
    .meta({
      format: 'date-time',
      description: 'Since when clients are given both passphrases, the new one and the one before. Absent otherwise.',
    })
    .optional(),
});
