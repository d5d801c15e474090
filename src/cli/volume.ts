/** What several commands need of a volume that is named by its metadata URL. */
import { UserError } from '../lib/errors.ts';
import type { MetaEngine } from '../meta/engine.ts';
import { type Format, parseFormat } from '../meta/format.ts';
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

/** The format with secrets in plain text, for opening its store. */
export function plainFormat(format: Format): Format {
  return decryptSecrets(format);
}
