/**
 * The RSA key and the passphrase of an encrypted volume, in Secrets: those that a spec names, or those that the operator makes.
 * Ours are two, so that whoever may read one need not be given the other; neither is owned by the JuiceVolume, or the garbage
 * collector would take the key of data that is kept. Only the finalizer removes them, after the data itself.
 *
 * Our passphrase Secret: `passphrase`, `generation`, and while a change is on its way `previous`. Our key Secret: `key.pem`, a
 * copy of what lies in the volume's settings; they are what counts.
 */
import { annotations, labels, MANAGED_BY } from '../../api/group.ts';
import { keySecretName, passphraseSecretName } from '../../api/names.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { keyOf } from '../../kube/resources.ts';
import type { Intent, JsonPatchOperation } from '../../kube/types.ts';
import type { Random } from '../../lib/random.ts';
import type { SecretObject, SecretsOutcome } from './secrets.ts';

/** 256 bits, in characters that no shell and no URL changes. */
const PASSPHRASE_BYTES = 32;

export interface KeyMaterial {
  /** What the key shall be under; undefined where it is still to be made, or was lost. */
  readonly passphrase: string | undefined;
  /** Passphrases that it may be under as yet, the likeliest first. */
  readonly earlier: readonly string[];
  /** PEM: the key that was given, or the copy of the one that was made. */
  readonly pem: string | undefined;
  /** Of our passphrase Secret, where it is ours and there. */
  readonly passphraseSecret: SecretObject | undefined;
  /** The same of the key. */
  readonly keySecret: SecretObject | undefined;
  /** Which generated passphrase this is. */
  readonly generation: number;
}

export type KeysOutcome =
  { readonly ok: true; readonly material: KeyMaterial } | { readonly ok: false; readonly message: string };

const decode = (secret: SecretObject | undefined, key: string): string | undefined => {
  const value = Buffer.from(secret?.data?.[key] ?? '', 'base64').toString('utf8');
  return value === '' ? undefined : value;
};
const encode = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

/** Whether the operator makes the passphrase. */
export function makesPassphrase({ spec }: JuiceVolume): boolean {
  return spec.encryption !== undefined && spec.encryption.passphraseSecretRef === undefined;
}

/** Whether the operator makes the key. */
export function makesKey({ spec }: JuiceVolume): boolean {
  return spec.encryption !== undefined && spec.encryption.keySecretRef === undefined;
}

/** Ours for this volume, by what it says of itself; one of an earlier object of the same name counts, its data may be here. */
function isOurs(secret: SecretObject, volume: JuiceVolume): boolean {
  return (
    secret.metadata.labels?.[labels.managedBy] === MANAGED_BY &&
    secret.metadata.annotations?.[annotations.volume] === keyOf(volume)
  );
}

/**
 * Reads what there is. `mounted`: the passphrases in the mount Secret of the volume's own namespace, which is where one that was
 * replaced or lost is still found. Undefined for a volume that is not to be encrypted.
 */
export async function readKeys(
  volume: JuiceVolume,
  given: SecretsOutcome,
  mounted: readonly string[],
  read: (name: string) => Promise<SecretObject | undefined>,
): Promise<KeysOutcome | undefined> {
  if (!volume.spec.encryption || !given.ok) return undefined;
  const { name } = volume.metadata;
  const passphraseSecret = makesPassphrase(volume) ? await read(passphraseSecretName(name)) : undefined;
  const keySecret = makesKey(volume) ? await read(keySecretName(name)) : undefined;
  for (const secret of [passphraseSecret, keySecret])
    if (secret && !isOurs(secret, volume))
      return {
        ok: false,
        message: `Secret ${secret.metadata.name} exists and was not made for this volume; delete or rename it, or name your own in spec.encryption`,
      };
  // A line break at the end of a file does not belong to a passphrase.
  const passphrase = makesPassphrase(volume)
    ? decode(passphraseSecret, 'passphrase')
    : given.secrets.passphrase?.replace(/\r?\n$/, '');
  const previous = decode(passphraseSecret, 'previous');
  return {
    ok: true,
    material: {
      passphrase,
      earlier: [...new Set([...(previous === undefined ? [] : [previous]), ...mounted])].filter((each) => each !== passphrase),
      pem: makesKey(volume) ? decode(keySecret, 'key.pem') : given.secrets.privateKey,
      passphraseSecret,
      keySecret,
      generation: Number(decode(passphraseSecret, 'generation') ?? '1'),
    },
  };
}

/** A passphrase that nobody guesses. */
export function newPassphrase(random: Random): string {
  return random.bytes(PASSPHRASE_BYTES).toString('base64url');
}

/** A Secret of ours. It belongs to the data, not to the object: nobody owns it. */
export function keptSecret(volume: JuiceVolume, name: string, data: Readonly<Record<string, string>>): Intent {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name,
      namespace: volume.metadata.namespace,
      labels: { [labels.managedBy]: MANAGED_BY, [labels.partOf]: 'juicepod' },
      annotations: { [annotations.volume]: keyOf(volume) },
    },
    type: 'Opaque',
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, encode(value)])),
  };
}

/** Changes members of a Secret as it was read, and only as it was; undefined removes one. */
export function changeSecret(
  secret: SecretObject,
  data: Readonly<Record<string, string | undefined>>,
): readonly JsonPatchOperation[] {
  const operations = Object.entries(data).flatMap(([key, value]): JsonPatchOperation[] => {
    const path = `/data/${key}`;
    if (value !== undefined) return [{ op: 'add', path, value: encode(value) }];
    return secret.data?.[key] === undefined ? [] : [{ op: 'remove', path }];
  });
  return [
    { op: 'test', path: '/metadata/resourceVersion', value: secret.metadata.resourceVersion },
    ...(secret.data === undefined ? [{ op: 'add', path: '/data', value: {} } as const] : []),
    ...operations,
  ];
}
