/** The object store of a volume that a command works on; apart from volume.ts, for commands that need none load none of this. */
import { UserError } from '../lib/errors.ts';
import type { FormatInput } from '../meta/format-input.ts';
import type { Envelope } from '../object/envelope.ts';
import { openObjectStore } from '../object/open.ts';
import { ObjectError, type ObjectStore } from '../object/store.ts';
import type { StorageOptions } from './volume.ts';

/** The store of a volume; what a store refuses becomes a sentence for people. */
export function storeOf(
  input: Pick<FormatInput, 'name' | 'bucket'> & StorageOptions & { readonly shards?: number; readonly storageClass?: string },
  encryption?: Envelope,
): ObjectStore {
  try {
    const { name, bucket, storage, accessKey, secretKey, sessionToken, shards, storageClass } = input;
    return openObjectStore({
      name,
      bucket,
      storage: storage ?? 'file',
      accessKey,
      secretKey,
      sessionToken,
      shards,
      storageClass,
      encryption,
      retry: { retries: 1 },
    });
  } catch (error) {
    throw storeError(error);
  }
}

/** An ObjectError as a UserError with what to do; other errors as they are. */
export function storeError(error: unknown): unknown {
  if (!(error instanceof ObjectError)) return error;
  const hints: Partial<Record<ObjectError['code'], string>> = {
    AccessDenied: 'Check --access-key and --secret-key, and that the key may list, read, write and delete in the bucket.',
    NoSuchBucket: 'Make the bucket first, or check --bucket.',
    Unavailable: 'Check the address in --bucket, and that the store is up.',
    Timeout: 'Check the address in --bucket, and that the store is up.',
    NoSpace: 'Free some space, or choose another --bucket.',
  };
  const hint = hints[error.code];
  return new UserError(`Storage${error.code}`, error.message, { cause: error, ...(hint ? { hint } : {}) });
}
