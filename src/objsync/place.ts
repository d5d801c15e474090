/**
 * The place that a URL names, as JuiceFS's `sync` spells it: `[NAME://][ACCESS_KEY:SECRET_KEY[:TOKEN]@]BUCKET[.ENDPOINT][/PREFIX]`,
 * `file://` or a bare path for a folder, `jfs://NAME/PATH` for a volume, whose metadata URL is in the variable NAME, or is NAME itself
 * with `%` escapes.
 *
 * Source: JuiceFS cmd/sync.go (createSyncStorage). No secret of a URL is ever in a message.
 */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { UserError } from '../lib/errors.ts';
import { storageNames } from '../object/open.ts';

export type Place =
  | { readonly kind: 'folder'; readonly path: string }
  /** `prefix` is a path in the volume, without `/` at its beginning. */
  | { readonly kind: 'volume'; readonly metaUrl: string; readonly prefix: string }
  | {
      readonly kind: 'store';
      readonly storage: string;
      readonly bucket: string;
      /** Before every key. */
      readonly prefix: string;
      readonly accessKey: string;
      readonly secretKey: string;
      readonly sessionToken: string;
    };

/** A URL without what could be a secret in it. */
export function redacted(text: string): string {
  return text.replace(/^([a-z0-9]+:\/\/)[^@/]*@/i, '$1***@').replace(/^jfs:\/\/[^/]*%[^/]*/i, 'jfs://***');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The bucket stands in the path there. */
const isInPath = (host: string): boolean => {
  const name = host.replace(/:\d*$/, '');
  return name === 'localhost' || isIP(name.replace(/^\[|\]$/g, '')) !== 0 || /^s3[.-].*\.amazonaws\.com$/.test(name);
};

const isPlain = (storage: string, host: string): boolean => {
  if (storage === 'minio') return true;
  if (storage === 'oss') return host.includes('.vpc100-oss') || host.includes('internal.aliyuncs.com');
  // BUCKET.1.2.3.4
  return storage === 's3' && isIP(host.replace(/:\d*$/, '').split('.').slice(1).join('.')) !== 0;
};

export interface PlaceOptions {
  /** Speak plain HTTP. */
  readonly noHttps: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Reads a URL. Throws UserError `InvalidPlace`, `UnsupportedStorage`, which name `argument`. */
export function placeOf(text: string, argument: string, { noHttps, environment }: PlaceOptions): Place {
  const invalid = (why: string): UserError =>
    new UserError('InvalidPlace', `${argument}: ${redacted(text)}: ${why}`, {
      hint: 'Write a path, file:///path/, jfs://NAME/path/ with the metadata URL in the variable NAME, or s3://ACCESS_KEY:SECRET_KEY@BUCKET.ENDPOINT/PREFIX/.',
    });
  if (text === '') throw invalid('it is empty');
  const [, scheme = '', rest = ''] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? [];
  if (scheme === '' || scheme.toLowerCase() === 'file') {
    const path = scheme === '' ? text : decode(rest.replace(/^localhost(?=\/)/, ''));
    if (scheme !== '' && !path.startsWith('/')) throw invalid('the path of a file:// URL begins with a slash: file:///path/');
    if (scheme === '' && /^[^/]+:/.test(text) && !text.startsWith('.'))
      throw new UserError('UnsupportedStorage', `${argument}: ${redacted(text)} is a place reached by ssh, which this cannot`, {
        hint: 'Mount it, or write ./ before a path that has a colon.',
      });
    const absolute = resolve(path);
    return { kind: 'folder', path: path.endsWith('/') && absolute !== '/' ? `${absolute}/` : absolute };
  }
  const storage = scheme.toLowerCase();
  const slash = rest.indexOf('/');
  const [authority, path] = slash < 0 ? [rest, ''] : [rest.slice(0, slash), rest.slice(slash + 1)];
  if (storage === 'jfs') {
    const name = decode(authority);
    const metaUrl = environment[name] || name;
    if (!metaUrl.includes('://'))
      throw new UserError(
        'NoMetaUrl',
        `${argument}: jfs://${name}: there is no variable ${name} with the metadata URL of a volume`,
        {
          hint: `Set it, for this command: ${/^\w+$/.test(name) ? name : 'NAME'}=redis://localhost/1 juicepod sync …`,
        },
      );
    return { kind: 'volume', metaUrl, prefix: decode(path).replace(/^\/+/, '') };
  }
  if (!storageNames.includes(storage))
    throw new UserError(
      'UnsupportedStorage',
      `${argument}: storage ${storage} is not supported; the supported ones are jfs, ${storageNames.join(', ')}`,
    );
  // Keys may have slashes in them, where nobody escaped them: the last @ before the host counts.
  const at = authority.lastIndexOf('@');
  const [accessKey = '', secretKey = '', ...token] = at < 0 ? [] : authority.slice(0, at).split(':');
  const host = authority.slice(at + 1);
  if (host === '') throw invalid('the bucket is missing');
  const secure = !noHttps && !isPlain(storage, host);
  let bucket = `${secure ? 'https' : 'http'}://${host}`;
  let prefix = decode(path);
  if (storage === 'minio' || (storage === 's3' && isInPath(host))) {
    const cut = path.indexOf('/');
    const name = cut < 0 ? path : path.slice(0, cut);
    if (name === '') throw invalid('the bucket is missing: it stands behind the host here');
    bucket += `/${name}`;
    prefix = cut < 0 ? '' : decode(path.slice(cut + 1));
  } else if (storage === 's3' && !host.includes('.')) bucket = host;
  else if (storage === 'webdav' || storage === 'gs') bucket = storage === 'gs' ? `gs://${host}` : bucket;
  return {
    kind: 'store',
    storage,
    bucket,
    prefix,
    accessKey: decode(accessKey),
    secretKey: decode(secretKey),
    sessionToken: decode(token.join(':')),
  };
}
