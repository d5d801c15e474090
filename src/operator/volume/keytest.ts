/** Keys and passphrases tried out: which passphrase opens which key. A few milliseconds of arithmetic, nothing read or written. */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { messageOf } from '../../lib/errors.ts';
import { checkEncryptionKey, openEncryptionKey } from '../../object/rsa-key.ts';
import type { KeysOutcome } from './keys.ts';
import type { EncryptionSeen } from './observation.ts';

function opened(pem: string, passphrase: string | undefined): KeyObject | undefined {
  try {
    return openEncryptionKey(pem, passphrase);
  } catch {
    return undefined;
  }
}

/** SHA-256 of the public half, in hexadecimal: names a key and says nothing of it. */
function fingerprintOf(key: KeyObject): string {
  return createHash('sha256')
    .update(createPublicKey(key).export({ type: 'spki', format: 'der' }))
    .digest('hex');
}

function problemOf(pem: string | undefined, passphrase: string | undefined): string | undefined {
  if (pem === undefined || passphrase === undefined) return undefined;
  try {
    checkEncryptionKey(pem, passphrase);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** `stored`: the key in the volume's settings, '' where there is none. `rewrapDue`: whether clients have had this passphrase long enough. */
export function tryKeys(keys: KeysOutcome, stored: string, rewrapDue: (passphrase: string) => boolean): EncryptionSeen {
  const nothing = { pemProblem: undefined, earlier: undefined, fingerprint: undefined, rewrapDue: false };
  if (!keys.ok) return { keys, ...nothing, opens: undefined };
  const { passphrase, earlier, pem } = keys.material;
  if (stored === '') return { keys, ...nothing, pemProblem: problemOf(pem, passphrase), opens: undefined };
  const wanted = passphrase === undefined ? undefined : opened(stored, passphrase);
  if (wanted) return { keys, ...nothing, opens: 'passphrase', fingerprint: fingerprintOf(wanted) };
  for (const each of earlier) {
    const key = opened(stored, each);
    if (!key) continue;
    const due = passphrase !== undefined && rewrapDue(passphrase);
    return { keys, ...nothing, opens: 'earlier', earlier: each, fingerprint: fingerprintOf(key), rewrapDue: due };
  }
  return { keys, ...nothing, opens: 'nothing' };
}
