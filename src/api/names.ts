/** Names of children that are computed, never looked up: the same input gives the same name everywhere. */
import { createHash } from 'node:crypto';

const LIMIT = 63;
const HASH = 10;

/** At most 63 characters: a longer name keeps its beginning and gets a hash of the whole. */
export function boundedName(name: string): string {
  if (name.length <= LIMIT) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, HASH);
  return `${name.slice(0, LIMIT - HASH - 1).replace(/[^a-z0-9]+$/, '')}-${hash}`;
}

/**
 * The Secret in `podNamespace` that holds what a client needs to mount a volume: `juicepod-mount-<name>` in the volume's own
 * namespace, `juicepod-mount.<namespace>.<name>` elsewhere. With dashes only, volume `b` of namespace `a-b` and volume `b-b`
 * of namespace `a` would share a name; a namespace cannot hold a dot, so this form is unambiguous.
 */
export function mountSecretName(volumeNamespace: string, volumeName: string, podNamespace: string): string {
  if (volumeNamespace === podNamespace) return boundedName(`juicepod-mount-${volumeName}`);
  return boundedName(`juicepod-mount.${volumeNamespace}.${volumeName}`);
}

/** The Secret with the copy of a generated RSA key, in the namespace of the volume. The key is under its passphrase. */
export function keySecretName(volumeName: string): string {
  return boundedName(`juicepod-key-${volumeName}`);
}

/** The Secret with a generated passphrase; apart from the key, so that who may read one need not be given the other. */
export function passphraseSecretName(volumeName: string): string {
  return boundedName(`juicepod-passphrase-${volumeName}`);
}
