/**
 * What to look at where a database or store does not let us in: the Secret of the volume, and its keys. A library can only speak of the
 * URL or environment it was given; in a cluster the credentials come from a Secret. Names only, no values. Pure.
 */
import type { VolumeSpec } from '../../api/volume.ts';
import type { Failure } from './observation.ts';

function credentialsOf(spec: VolumeSpec, reason: Failure['reason']): string | undefined {
  if (reason === 'MetadataDenied') {
    const { redis, postgres, mysql } = spec.metadata;
    const kind = redis ? 'redis' : postgres ? 'postgres' : 'mysql';
    const auth = (redis ?? postgres ?? mysql)?.authSecretRef;
    if (!auth) return `name a Secret with user and password in spec.metadata.${kind}.authSecretRef`;
    const sentinel = redis?.sentinel?.authSecretRef;
    const also = sentinel ? `, and ${sentinel.passwordKey} in the Secret ${sentinel.name} for the Sentinels` : '';
    const made = redis ? '' : '; the database must have been created, and the user have the right to make tables in it';
    return `check ${auth.usernameKey} and ${auth.passwordKey} in the Secret ${auth.name} (spec.metadata.${kind}.authSecretRef)${also}${made}`;
  }
  return reason === 'StorageDenied' ? storageAdvice(spec.storage) : undefined;
}

/** What is to be allowed. */
const RIGHTS = 'list, read, write and delete';

function storageAdvice({ s3, provider, gs, azure, webdav, file }: VolumeSpec['storage']): string | undefined {
  const within = (kind: string, name: string): string => `in the Secret ${name} (spec.storage.${kind}.credentials.secretRef)`;
  if (azure) {
    const { name, accountKeyKey = 'accountKey', sasTokenKey } = azure.credentials.secretRef;
    return sasTokenKey === undefined
      ? `check ${accountKeyKey} ${within('azure', name)}: one of the two keys of the account ${azure.account}, in base64; the account must allow access by key`
      : `check ${sasTokenKey} ${within('azure', name)}: the signature must not have expired, and allow to read, add, create, write, delete and list in the container ${azure.container}`;
  }
  if (webdav) {
    const keys = webdav.credentials?.secretRef;
    return keys
      ? `check ${keys.usernameKey} and ${keys.passwordKey} ${within('webdav', keys.name)}, and that the user may ${RIGHTS} below ${webdav.path}`
      : `there is no spec.storage.webdav.credentials: name a Secret with user and password there, or let everybody ${RIGHTS} below ${webdav.path}`;
  }
  if (file) return `the operator, and each pod, must be allowed to ${RIGHTS} in the directory ${file.path}`;
  const pair = (s3 ?? provider ?? gs)?.credentials?.secretRef;
  if (!pair)
    return `there is no spec.storage.s3.credentials: the role of the operator, and that of each pod, must be allowed to ${RIGHTS} in the bucket`;
  const kind = s3 ? 's3' : provider ? 'provider' : 'gs';
  const token = (s3 ?? provider)?.credentials?.secretRef.sessionTokenKey;
  const keys = `check ${pair.accessKeyIdKey} and ${pair.secretAccessKeyKey} ${within(kind, pair.name)}`;
  const hmac = gs ? ': an HMAC key of a service account, not its JSON key' : '';
  const expiry = token === undefined ? '' : `, that the session token in ${token} has not expired`;
  return `${keys}${hmac}${expiry}, and that they may ${RIGHTS} in the bucket`;
}

/** The failure with what a person can do about it, where that is known. */
export function advised(failure: Failure, spec: VolumeSpec): Failure {
  const advice = credentialsOf(spec, failure.reason);
  return advice === undefined ? failure : { ...failure, message: `${failure.message.replace(/\.$/, '')}; ${advice}` };
}
