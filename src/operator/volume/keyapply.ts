/**
 * The steps on keys and passphrases that are writes to Secrets. Each is one write that fails where somebody else was faster, so
 * that no passphrase and no key that is in use is ever overwritten by one that was just made.
 */
import { keySecretName, passphraseSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { refOf } from '../../kube/resources.ts';
import type { ResourceClient } from '../../kube/types.ts';
import type { Random } from '../../lib/random.ts';
import { generateEncryptionKey } from '../../object/rsa-key.ts';
import type { KeyStep } from './encryption.ts';
import { changeSecret, type KeyMaterial, keptSecret, newPassphrase } from './keys.ts';
import type { SecretObject } from './secrets.ts';

export type SecretStep = Exclude<KeyStep, { readonly do: 'rewrap' }>;

export interface KeyWriter {
  readonly volume: JuiceVolume;
  /** As it was when the step was decided. */
  readonly material: KeyMaterial;
  readonly secrets: ResourceClient<SecretObject>;
  readonly fieldManager: string;
  readonly random: Random;
  readonly signal: AbortSignal;
}

/** Throws ApiError; a Conflict where the Secret is not as it was. */
export async function performKeyStep(step: SecretStep, writer: KeyWriter): Promise<void> {
  const { volume, material, secrets, random, signal, fieldManager } = writer;
  const options = { fieldManager, signal };
  const { passphraseSecret, keySecret } = material;
  const { name } = volume.metadata;
  /** Makes a Secret that is not there, changes one that is. */
  const put = async (existing: SecretObject | undefined, as: string, data: Readonly<Record<string, string>>): Promise<void> => {
    if (existing) await secrets.patch(refOf(existing), changeSecret(existing, data), options);
    else await secrets.create(keptSecret(volume, as, data), options);
  };
  switch (step.do) {
    case 'makePassphrase':
      await put(passphraseSecret, passphraseSecretName(name), {
        passphrase: newPassphrase(random),
        generation: String(volume.spec.encryption?.passphraseGeneration ?? 1),
      });
      return;
    case 'restorePassphrase':
      await put(passphraseSecret, passphraseSecretName(name), {
        passphrase: step.passphrase,
        generation: String(volume.status?.encryption?.passphraseGeneration ?? 1),
      });
      return;
    case 'makeKey': {
      if (material.passphrase === undefined) throw new TypeError('a key is made under a passphrase');
      await put(keySecret, keySecretName(name), { 'key.pem': await generateEncryptionKey(material.passphrase) });
      return;
    }
    case 'copyKey':
      await put(keySecret, keySecretName(name), { 'key.pem': step.pem });
      return;
    case 'renewPassphrase':
      if (!passphraseSecret || material.passphrase === undefined)
        throw new TypeError(`there is no passphrase beside ${keySecretName(name)} to be replaced`);
      await secrets.patch(
        refOf(passphraseSecret),
        changeSecret(passphraseSecret, {
          passphrase: newPassphrase(random),
          previous: material.passphrase,
          generation: String(step.generation),
        }),
        options,
      );
      return;
    case 'endRotation':
      if (passphraseSecret)
        await secrets.patch(refOf(passphraseSecret), changeSecret(passphraseSecret, { previous: undefined }), options);
  }
}
