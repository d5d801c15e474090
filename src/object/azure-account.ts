/**
 * Where an Azure container is and what opens it, from the way JuiceFS spells it (pkg/object/azure.go): the bucket is
 * `https://CONTAINER[.ENDPOINT]`, the access key the account's name, the secret key its key; or a shared access signature as the
 * session token; or all of that in AZURE_STORAGE_CONNECTION_STRING, which comes first.
 *
 * Sources: Azure Storage documentation, "Configure connection strings" and "Authorize with Shared Key".
 */
import { createHmac } from 'node:crypto';
import { ObjectError } from './store.ts';

export interface AzureAccount {
  readonly name: string;
  /** Decoded. */
  readonly key: Buffer;
}

export interface AzureAddress {
  /** `https://account.blob.core.windows.net` */
  readonly origin: string;
  /** Before the container: empty, or the account where it does not stand in the host name (the emulator). */
  readonly basePath: string;
  readonly container: string;
  /** What requests are signed with. */
  readonly account: AzureAccount | undefined;
  /** Query of a shared access signature, without `?`; empty for none. */
  readonly sas: string;
}

const DEFAULT_ENDPOINT = 'blob.core.windows.net';
const FORMS = 'write https://CONTAINER or https://CONTAINER.core.windows.net';

function accountOf(name: string, key: string): AzureAccount {
  const decoded = Buffer.from(key, 'base64');
  if (decoded.length === 0 || decoded.toString('base64').replaceAll('=', '') !== key.replaceAll('=', ''))
    throw new ObjectError('Invalid', `the key of the Azure account ${name} is not base64: give the account key as it is shown`);
  return { name, key: decoded };
}

/** Reads an address. Throws ObjectError `Invalid`, never with a secret in it. */
export function parseContainer(
  text: string,
  given: {
    readonly accountName?: string | undefined;
    readonly accountKey?: string | undefined;
    readonly sas?: string | undefined;
  },
  environment: Readonly<Record<string, string | undefined>>,
): AzureAddress {
  const full = text.includes('://') ? text : `https://${text}`;
  const invalid = (why: string): ObjectError =>
    new ObjectError(
      'Invalid',
      `bucket ${JSON.stringify(text.replace(/\/\/[^/@]*@/, '//***@'))} of storage wasb: ${why}; ${FORMS}`,
    );
  if (!URL.canParse(full)) throw invalid('not a URL');
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`the scheme ${url.protocol}// is not known`);
  const dot = url.host.indexOf('.');
  const container = dot < 0 ? url.host : url.host.slice(0, dot);
  if (!/^[a-z0-9$][a-z0-9-]{2,62}$/.test(container)) throw invalid(`${JSON.stringify(container)} is no name of a container`);
  const connection = environment['AZURE_STORAGE_CONNECTION_STRING'];
  if (connection) return { container, ...parseConnection(connection) };
  const { accountName, accountKey } = given;
  const sas = (given.sas ?? '').trim().replace(/^\?/, '');
  if (!accountName || (!accountKey && sas === ''))
    throw new ObjectError(
      'Invalid',
      'storage wasb needs the name of the account as access key, and its key as secret key (or a shared access signature as session token), or AZURE_STORAGE_CONNECTION_STRING',
    );
  const domain = dot < 0 ? DEFAULT_ENDPOINT : url.host.slice(dot + 1);
  const endpoint = domain.startsWith('blob') ? domain : `blob.${domain}`;
  return {
    origin: `${url.protocol}//${accountName}.${endpoint}`,
    basePath: '',
    container,
    account: accountKey ? accountOf(accountName, accountKey) : undefined,
    sas: accountKey ? '' : sas,
  };
}

function parseConnection(text: string): Omit<AzureAddress, 'container'> {
  const values = new Map(
    text.split(';').flatMap((part) => {
      const at = part.indexOf('=');
      return at < 0 ? [] : [[part.slice(0, at).trim().toLowerCase(), part.slice(at + 1).trim()] as const];
    }),
  );
  const name = values.get('accountname');
  const key = values.get('accountkey');
  const sas = values.get('sharedaccesssignature')?.replace(/^\?/, '') ?? '';
  const endpoint =
    values.get('blobendpoint') ??
    (name &&
      `${values.get('defaultendpointsprotocol') ?? 'https'}://${name}.blob.${values.get('endpointsuffix') ?? 'core.windows.net'}`);
  if (!endpoint || !URL.canParse(endpoint) || !((name && key) || sas))
    throw new ObjectError(
      'Invalid',
      'AZURE_STORAGE_CONNECTION_STRING needs AccountName and AccountKey (or BlobEndpoint and SharedAccessSignature)',
    );
  const url = new URL(endpoint);
  return {
    origin: url.origin,
    basePath: url.pathname.replace(/\/+$/, ''),
    account: name && key ? accountOf(name, key) : undefined,
    sas: name && key ? '' : sas,
  };
}

export interface AzureRequest {
  readonly method: string;
  /** Encoded, from `/` on, without the query. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Bytes of the body. */
  readonly length: number;
}

/** The Authorization header of a request with an account's key. */
export function signShared(account: AzureAccount, { method, path, query, headers, length }: AzureRequest): string {
  const standard = [
    headers['content-encoding'],
    headers['content-language'],
    length === 0 ? '' : String(length),
    headers['content-md5'],
    headers['content-type'],
    '', // Date: x-ms-date takes its place
    headers['if-modified-since'],
    headers['if-match'],
    headers['if-none-match'],
    headers['if-unmodified-since'],
    headers['range'],
  ].map((value) => value ?? '');
  const own = Object.keys(headers)
    .filter((name) => name.startsWith('x-ms-'))
    .toSorted()
    .map((name) => `${name}:${headers[name]!.trim()}\n`);
  const parameters = Object.keys(query)
    .toSorted()
    .map((name) => `\n${name.toLowerCase()}:${query[name]}`);
  const text = `${[method, ...standard].join('\n')}\n${own.join('')}/${account.name}${path}${parameters.join('')}`;
  return `SharedKey ${account.name}:${createHmac('sha256', account.key).update(text, 'utf8').digest('base64')}`;
}
