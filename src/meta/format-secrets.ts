/**
 * The secrets of a format (access to the store, key of the encryption) as they lie in the database: AES-128-GCM under a
 * key that is made of the volume's UUID alone, so it keeps them from a casual eye and from nobody else.
 *
 * Source: the JuiceFS format, §1.3. value = base64(nonce[12] ‖ ciphertext ‖ tag[16]), key = MD5(UUID), no AAD.
 */
import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { UserError } from '../lib/errors.ts';
import type { Random } from '../lib/random.ts';
import { type Format, jsonName, REMOVED } from './format.ts';

const secrets = ['encryptKey', 'secretKey', 'sessionToken'] as const;
const CIPHER = 'aes-128-gcm';
const NONCE = 12;
const TAG = 16;

function keyOf(format: Format): Buffer {
  if (format.encryptAlgo === 'sm4gcm')
    throw new UserError(
      'UnsupportedEncryption',
      `The volume "${format.name}" is encrypted with sm4gcm, which this client has not.`,
      {
        hint: 'Use aes256gcm-rsa or chacha20-rsa, or the official client.',
      },
    );
  return createHash('md5').update(format.uuid).digest();
}

function map(format: Format, change: (value: string, name: string) => string, keyEncrypted: boolean): Format {
  const changed = secrets.filter((each) => format[each] !== '').map((each) => [each, change(format[each], jsonName(each))]);
  return { ...format, ...(Object.fromEntries(changed) as Partial<Format>), keyEncrypted };
}

/** The format as it may be stored. One that holds no secret, or only encrypted ones, is answered as it is. */
export function encryptSecrets(format: Format, random: Random): Format {
  if (format.keyEncrypted || secrets.every((each) => format[each] === '')) return format;
  const key = keyOf(format);
  const encrypt = (plain: string): string => {
    const nonce = random.bytes(NONCE);
    const cipher = createCipheriv(CIPHER, key, nonce);
    return Buffer.concat([nonce, cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64');
  };
  return map(format, encrypt, true);
}

/**
 * The format with its secrets in plain text, for the use of this process only.
 * Throws UserError SecretRemoved where a dump took them out, SecretUnreadable where they are not what was written.
 */
export function decryptSecrets(format: Format): Format {
  if (!format.keyEncrypted) return format;
  const key = keyOf(format);
  const decrypt = (value: string, name: string): string => {
    if (value === REMOVED)
      throw new UserError('SecretRemoved', `The ${name} of volume "${format.name}" was removed when it was dumped or printed.`, {
        hint:
          name === jsonName('encryptKey')
            ? 'Without it no object can be read. Load a dump of the metadata that was made with --keep-secret-key.'
            : 'Set it again with `juicefs config`.',
      });
    const sealed = Buffer.from(value, 'base64');
    try {
      if (sealed.length < NONCE + TAG) throw new RangeError(`${sealed.length} bytes`);
      const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, NONCE), { authTagLength: TAG });
      decipher.setAuthTag(sealed.subarray(-TAG));
      return Buffer.concat([decipher.update(sealed.subarray(NONCE, -TAG)), decipher.final()]).toString('utf8');
    } catch (cause) {
      throw new UserError(
        'SecretUnreadable',
        `The ${name} of volume "${format.name}" cannot be decrypted: it was not encrypted for UUID ${format.uuid}.`,
        { cause, hint: 'Set it again with `juicefs config`.' },
      );
    }
  };
  return map(format, decrypt, false);
}
