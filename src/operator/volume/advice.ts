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
  if (reason !== 'StorageDenied' || !spec.storage.s3) return undefined;
  const keys = spec.storage.s3.credentials?.secretRef;
  return keys
    ? `check ${keys.accessKeyIdKey} and ${keys.secretAccessKeyKey} in the Secret ${keys.name} (spec.storage.s3.credentials.secretRef), and that they may list, read, write and delete in the bucket`
    : 'there is no spec.storage.s3.credentials: the role of the operator, and that of each pod, must be allowed to list, read, write and delete in the bucket';
}

/** The failure with what a person can do about it, where that is known. */
export function advised(failure: Failure, spec: VolumeSpec): Failure {
  const advice = credentialsOf(spec, failure.reason);
  return advice === undefined ? failure : { ...failure, message: `${failure.message.replace(/\.$/, '')}; ${advice}` };
}
