/**
 * The Secrets that a volume's spec names: which there are, and what is in them. They are read live whenever a volume is looked
 * at, and never kept: a rotated credential counts at once, and no cache of secrets can leak.
 */
import type { Reason } from '../../api/conditions.ts';
import type { TlsFiles } from '../../api/mount.ts';
import { keySecretName, passphraseSecretName } from '../../api/names.ts';
import type { JuiceVolume, VolumeSpec } from '../../api/volume.ts';
import type { KubeObject } from '../../kube/types.ts';

export interface SecretObject extends KubeObject {
  readonly type?: string;
  /** Values in base64. */
  readonly data?: Readonly<Record<string, string>>;
}

export interface ResolvedSecrets {
  readonly redisUsername?: string;
  readonly redisPassword?: string;
  readonly sentinelPassword?: string;
  /** Of PostgreSQL or MySQL. */
  readonly sqlUsername?: string;
  readonly sqlPassword?: string;
  /** PEM texts. */
  readonly ca?: string;
  readonly clientCert?: string;
  readonly clientKey?: string;
  /** Keys of the object store as JuiceFS calls them: for Azure the secret key is the account's, the token a signature. */
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
  /** Of an encrypted volume, where the spec names a Secret for it. */
  readonly passphrase?: string;
  /** PEM text; as above. */
  readonly privateKey?: string;
}

interface Need {
  readonly secret: string;
  readonly key: string;
  readonly member: keyof ResolvedSecrets;
  readonly required: boolean;
}

type Want = (secret: string, key: string, member: keyof ResolvedSecrets, required?: boolean) => void;

/** Keys of the object store. */
function storageNeeds({ s3, provider, gs, azure, webdav }: VolumeSpec['storage'], want: Want): void {
  const pair = (s3 ?? provider ?? gs)?.credentials?.secretRef;
  if (pair) {
    want(pair.name, pair.accessKeyIdKey, 'accessKey');
    want(pair.name, pair.secretAccessKeyKey, 'secretKey');
  }
  const token = (s3 ?? provider)?.credentials?.secretRef;
  if (token?.sessionTokenKey !== undefined) want(token.name, token.sessionTokenKey, 'sessionToken');
  if (azure) {
    const { name, accountKeyKey = 'accountKey', sasTokenKey } = azure.credentials.secretRef;
    if (sasTokenKey === undefined) want(name, accountKeyKey, 'secretKey');
    else want(name, sasTokenKey, 'sessionToken');
  }
  const user = webdav?.credentials?.secretRef;
  if (user) {
    want(user.name, user.usernameKey, 'accessKey');
    want(user.name, user.passwordKey, 'secretKey');
  }
}

function needs(spec: VolumeSpec): readonly Need[] {
  const list: Need[] = [];
  const want: Want = (secret, key, member, required = true) => void list.push({ secret, key, member, required });
  const auth = spec.metadata.redis?.authSecretRef;
  if (auth) {
    want(auth.name, auth.usernameKey, 'redisUsername', false);
    want(auth.name, auth.passwordKey, 'redisPassword');
  }
  const sentinel = spec.metadata.redis?.sentinel?.authSecretRef;
  if (sentinel) want(sentinel.name, sentinel.passwordKey, 'sentinelPassword');
  const sql = spec.metadata.postgres ?? spec.metadata.mysql;
  const { caSecretRef, clientCertSecretRef } = (spec.metadata.redis ?? sql)?.tls ?? {};
  if (sql) {
    want(sql.authSecretRef.name, sql.authSecretRef.usernameKey, 'sqlUsername');
    want(sql.authSecretRef.name, sql.authSecretRef.passwordKey, 'sqlPassword', clientCertSecretRef === undefined);
  }
  if (caSecretRef) want(caSecretRef.name, caSecretRef.key, 'ca');
  if (clientCertSecretRef) {
    want(clientCertSecretRef.name, clientCertSecretRef.certKey, 'clientCert');
    want(clientCertSecretRef.name, clientCertSecretRef.privateKeyKey, 'clientKey');
  }
  storageNeeds(spec.storage, want);
  const { passphraseSecretRef, keySecretRef } = spec.encryption ?? {};
  if (passphraseSecretRef) want(passphraseSecretRef.name, passphraseSecretRef.key, 'passphrase');
  // Only needed to format the volume: whether it is there is then said by EncryptionReady.
  if (keySecretRef) want(keySecretRef.name, keySecretRef.key, 'privateKey', false);
  return list;
}

/** PEM texts that clients need beside the metadata URL. */
export function tlsTexts({ ca, clientCert, clientKey }: ResolvedSecrets): TlsFiles {
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(clientCert === undefined ? {} : { cert: clientCert }),
    ...(clientKey === undefined ? {} : { key: clientKey }),
  };
}

/** Names of the Secrets a volume rests on: those of its spec, and those with a key or passphrase that the operator made. */
export function secretNames({ metadata, spec }: JuiceVolume): ReadonlySet<string> {
  const { encryption } = spec;
  return new Set([
    ...needs(spec).map(({ secret }) => secret),
    ...(encryption && !encryption.passphraseSecretRef ? [passphraseSecretName(metadata.name)] : []),
    ...(encryption && !encryption.keySecretRef ? [keySecretName(metadata.name)] : []),
  ]);
}

export type SecretsOutcome =
  | { readonly ok: true; readonly secrets: ResolvedSecrets }
  | { readonly ok: false; readonly reason: Reason; readonly message: string };

/** Reads what the spec needs; `read` answers undefined where there is no such Secret. Values never get into a message. */
export async function resolveSecrets(
  spec: VolumeSpec,
  read: (name: string) => Promise<SecretObject | undefined>,
): Promise<SecretsOutcome> {
  const found = new Map<string, SecretObject | undefined>();
  for (const name of new Set(needs(spec).map(({ secret }) => secret))) found.set(name, await read(name));
  const secrets: Partial<Record<keyof ResolvedSecrets, string>> = {};
  for (const { secret, key, member, required } of needs(spec)) {
    const object = found.get(secret);
    if (!object && !required) continue;
    if (!object) {
      const keys = needs(spec).filter((each) => each.secret === secret && each.required);
      return {
        ok: false,
        reason: 'SecretNotFound',
        message: `Secret ${secret} does not exist in the namespace of the volume; create it with the ${keys.length === 1 ? 'key' : 'keys'} ${keys.map((each) => each.key).join(', ')}`,
      };
    }
    const value = Buffer.from(object.data?.[key] ?? '', 'base64').toString('utf8');
    if (value !== '') secrets[member] = value;
    else if (required)
      return {
        ok: false,
        reason: 'SecretKeyMissing',
        message: `Secret ${secret} has no value under the key ${key}; its keys are ${Object.keys(object.data ?? {}).join(', ') || '(none)'}`,
      };
  }
  return { ok: true, secrets };
}
