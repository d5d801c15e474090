/**
 * What to do about the key of an encrypted volume. Pure. The RSA key in the volume's settings is what counts; it is never made
 * twice, and never replaced by another: a change of the passphrase puts the same key under the new one.
 *
 * | the database is empty | next |            | the passphrase opens the key | next |
 * |---|---|                                   |---|---|
 * | no passphrase of ours | makePassphrase |  | yes, copy missing or old | copyKey |
 * | no key of ours | makeKey |                | yes, `previous` still kept | endRotation |
 * | both | format |                           | yes, a higher generation is wanted | renewPassphrase |
 * |                                           | | an earlier one does | wait until clients have both, then rewrap |
 * |                                           | | ours is lost, the mount Secret's does | restorePassphrase |
 *
 * Each step is one write, and each state between two of them is a row of this table: so it may stop anywhere.
 */
import { keySecretName, passphraseSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import type { Verdict } from './verdict.ts';
import { makesKey, makesPassphrase } from './keys.ts';
import type { EncryptionSeen, MetadataObservation } from './observation.ts';

export type KeyStep =
  | { readonly do: 'makePassphrase' }
  | { readonly do: 'makeKey' }
  | { readonly do: 'copyKey'; readonly pem: string }
  | { readonly do: 'renewPassphrase'; readonly generation: number }
  | { readonly do: 'restorePassphrase'; readonly passphrase: string }
  | { readonly do: 'rewrap'; readonly from: string; readonly to: string }
  | { readonly do: 'endRotation' };

export interface KeyDecision {
  readonly step: KeyStep | undefined;
  readonly verdict: Verdict;
}

const yes = (message: string, step?: KeyStep): KeyDecision => ({
  step,
  verdict: { status: 'True', reason: 'Succeeded', message },
});
const no = (reason: Verdict['reason'], message: string, step?: KeyStep): KeyDecision => ({
  step,
  verdict: { status: 'False', reason, message },
});
const unknown = (message: string): KeyDecision => ({
  step: undefined,
  verdict: { status: 'Unknown', reason: 'NotChecked', message },
});

function beforeFormat(volume: JuiceVolume, { keys, pemProblem }: EncryptionSeen): KeyDecision {
  if (!keys.ok) return no('SecretRefused', keys.message);
  const { passphrase, pem } = keys.material;
  if (passphrase === undefined) return no('Progressing', 'a passphrase is about to be made', { do: 'makePassphrase' });
  if (pem === undefined) {
    if (makesKey(volume)) return no('Progressing', 'a key is about to be made', { do: 'makeKey' });
    const { name = '', key = '' } = volume.spec.encryption?.keySecretRef ?? {};
    return no('SecretNotFound', `Secret ${name} with a value under the key ${key} is needed to format the volume`);
  }
  if (pemProblem !== undefined) return no('KeyInvalid', pemProblem);
  return yes('key and passphrase are there');
}

function withVolume(volume: JuiceVolume, pem: string, seen: EncryptionSeen): KeyDecision {
  const { keys, opens, earlier } = seen;
  if (!keys.ok) return no('SecretRefused', keys.message);
  const { material } = keys;
  const wanted = volume.spec.encryption?.passphraseGeneration ?? 1;
  if (material.passphrase === undefined) {
    if (opens === 'earlier' && earlier !== undefined)
      return no('Progressing', 'the passphrase is about to be put back', { do: 'restorePassphrase', passphrase: earlier });
    return no(
      'PassphraseWrong',
      `the volume is encrypted, and Secret ${passphraseSecretName(volume.metadata.name)} with its passphrase is not there: restore it, or name one in spec.encryption.passphraseSecretRef`,
    );
  }
  if (opens === 'nothing' || opens === undefined)
    return no(
      'PassphraseWrong',
      'the passphrase does not open the key of the volume, and none that is known from before does; put the right one into the Secret',
    );
  if (opens === 'earlier') {
    const step = { do: 'rewrap', from: earlier ?? '', to: material.passphrase } as const;
    const message = 'the passphrase is changing: clients are given both, then the key is put under the new one';
    return { step: seen.rewrapDue ? step : undefined, verdict: { status: 'True', reason: 'Rotating', message } };
  }
  const ready = 'the passphrase opens the key';
  // The copy first: what ends a rotation forgets the passphrase that an old copy is under.
  if (makesKey(volume) && material.pem !== pem) return yes(ready, { do: 'copyKey', pem });
  if (material.passphraseSecret?.data?.['previous'] !== undefined) return yes(ready, { do: 'endRotation' });
  if (makesPassphrase(volume) && wanted > material.generation) return yes(ready, { do: 'renewPassphrase', generation: wanted });
  return yes(ready);
}

/** Undefined where the spec asks for no encryption. */
export function decideKeys(
  volume: JuiceVolume,
  seen: EncryptionSeen | undefined,
  metadata: MetadataObservation | undefined,
): KeyDecision | undefined {
  if (!volume.spec.encryption) return undefined;
  if (!seen) return unknown('the Secrets were not looked at');
  if (metadata?.state === 'empty')
    // A key for a volume that is not going to be made would be in the way of the right one.
    return volume.status?.uuid !== undefined || volume.spec.adopt
      ? unknown('there is no volume that it could be the key of')
      : beforeFormat(volume, seen);
  if (metadata?.state !== 'volume') return unknown('the database was not asked');
  // Said by `Formatted`.
  if (metadata.format.encryptKey === '') return unknown('the volume is not encrypted');
  return withVolume(volume, metadata.format.encryptKey, seen);
}

/** Whether a decision waits for clients to take up both passphrases. */
export function isRotating(decision: KeyDecision | undefined): boolean {
  return decision?.verdict.reason === 'Rotating';
}

/** Names of the Secrets that the operator keeps for the volume. */
export function ownKeySecrets(volume: JuiceVolume): readonly string[] {
  const { name } = volume.metadata;
  return [...(makesPassphrase(volume) ? [passphraseSecretName(name)] : []), ...(makesKey(volume) ? [keySecretName(name)] : [])];
}
