/**
 * Where S3 requests get their credentials: given, none (`anonymous`, as JuiceFS spells it), or the AWS SDK's chain
 * (environment, shared files, web identity, container and instance metadata). The SDK is loaded only for the chain.
 */
import { messageOf } from '../lib/errors.ts';
import type { Credentials } from './sigv4.ts';
import { ObjectError } from './store.ts';

/** Undefined means: do not sign. */
export interface CredentialSource {
  get(): Credentials | undefined | Promise<Credentials | undefined>;
  /** The last ones were refused as expired. */
  expired(): void;
}

/** What the SDK calls a provider; it caches and renews by itself. */
type Provider = (options?: { readonly forceRefresh?: boolean }) => Promise<Credentials>;

export function credentialSource(
  given: {
    readonly accessKey?: string | undefined;
    readonly secretKey?: string | undefined;
    readonly sessionToken?: string | undefined;
  },
  region: string,
): CredentialSource {
  if (given.accessKey === 'anonymous') return { get: () => undefined, expired() {} };
  if (given.accessKey) {
    if (!given.secretKey)
      throw new ObjectError('Invalid', 'the object store has an access key but no secret key: give both, or neither');
    const credentials = {
      accessKeyId: given.accessKey,
      secretAccessKey: given.secretKey,
      sessionToken: given.sessionToken || undefined,
    };
    return { get: () => credentials, expired() {} };
  }
  let provider: Promise<Provider> | undefined;
  let refresh = false;
  const load = async (): Promise<Provider> => {
    const { S3Client } = await import('@aws-sdk/client-s3');
    const client = new S3Client({ region });
    return client.config.credentials as Provider;
  };
  return {
    async get() {
      try {
        provider ??= load();
        const forceRefresh = refresh;
        refresh = false;
        return await (
          await provider
        )({ forceRefresh });
      } catch (error) {
        provider = undefined;
        throw new ObjectError(
          'AccessDenied',
          `no credentials for the object store: none were given, and the AWS chain found none (${messageOf(error)}); give an access key and a secret key, or a role`,
          { cause: error, retryable: true },
        );
      }
    },
    expired() {
      refresh = true;
    },
  };
}
