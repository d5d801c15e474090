/** What several commands need of a volume that is named by its metadata URL. */
import type { Envelope } from '../object/envelope.ts';
import { ObjectError } from '../object/store.ts';
import { openObjectStore } from '../object/open.ts';
import type { ObjectStore } from '../object/store.ts';
import { UserError } from '../lib/errors.ts';
import type { MetaEngine } from '../meta/engine.ts';
import { type Format, parseFormat } from '../meta/format.ts';
import type { FormatInput } from '../meta/format-input.ts';
import { decryptSecrets } from '../meta/format-secrets.ts';
import { redactUrl } from '../meta/url.ts';

/** How long a command that a person waits for looks for the metadata server, milliseconds. */
export const COMMAND_PATIENCE_MS = 10_000;

/** Options of the object store as the command line has them. */
export interface StorageOptions {
  readonly storage?: string;
  readonly bucket?: string;
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
}

/** Takes keys from the environment where the options do not give them. */
export function storageOptions(options: StorageOptions, environment: NodeJS.ProcessEnv = process.env): StorageOptions {
  const accessKey = options.accessKey ?? environment['ACCESS_KEY'];
  const secretKey = options.secretKey ?? environment['SECRET_KEY'];
  const sessionToken = options.sessionToken ?? environment['SESSION_TOKEN'];
  return {
    ...(options.storage === undefined ? {} : { storage: options.storage }),
    ...(options.bucket === undefined ? {} : { bucket: options.bucket }),
    ...(accessKey ? { accessKey } : {}),
    ...(secretKey ? { secretKey } : {}),
    ...(sessionToken ? { sessionToken } : {}),
  };
}

/** The format of the volume that the database holds, secrets as stored. Throws UserError `NoVolume` where it holds none. */
export async function formatOf(engine: MetaEngine, url: string): Promise<Format> {
  const text = await engine.readSetting();
  if (text === undefined)
    throw new UserError('NoVolume', `${redactUrl(url)} holds no volume`, {
      hint: `Make one with: juicepod format '${redactUrl(url)}' NAME`,
    });
  return parseFormat(text);
}

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

/** The format with secrets in plain text, for opening its store. */
export function plainFormat(format: Format): Format {
  return decryptSecrets(format);
}
