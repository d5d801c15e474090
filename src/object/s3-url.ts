/**
 * Where a bucket is, from the way JuiceFS spells it (pkg/object/s3.go newS3, minio.go): `http://host:9000/bucket`,
 * `https://bucket.s3.eu-central-1.amazonaws.com`, `https://s3.eu-central-1.amazonaws.com/bucket`,
 * `https://bucket.endpoint`, or a bucket's bare name on AWS.
 */
import { ObjectError } from './store.ts';

export interface BucketAddress {
  /** `https://host:port`, where requests go. */
  readonly origin: string;
  /** The Host header. */
  readonly host: string;
  /** What stands before every key in the path: `/bucket/` (path style) or `/` (virtual-host style). */
  readonly pathPrefix: string;
  readonly bucket: string;
  readonly region: string;
  /** False with `disable-checksum=true` in the URL: no `x-amz-meta-crc32c`. */
  readonly checksum: boolean;
}

export type Environment = Readonly<Record<string, string | undefined>>;

const DEFAULT_REGION = 'us-east-1';

/** The region that the environment names. @default us-east-1 */
export const regionFrom = (environment: Environment): string =>
  environment['AWS_REGION'] || environment['AWS_DEFAULT_REGION'] || DEFAULT_REGION;

/** Says what is wrong with a bucket's address, without what could be a secret in it. */
export function invalidBucket(text: string, storage: string, why: string, wanted: string): ObjectError {
  const shown = JSON.stringify(text.replace(/\/\/[^/@]*@/, '//***@'));
  return new ObjectError('Invalid', `bucket ${shown} of storage ${storage}: ${why}; write ${wanted}`);
}

/** The address of a bucket at an endpoint (`host[:port]`), in its host name or in its path. */
export function s3Address(at: {
  readonly url: URL;
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly asHost: boolean;
  readonly invalid: (why: string) => Error;
}): BucketAddress {
  const { url, endpoint, bucket, region, asHost } = at;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/.test(bucket)) throw at.invalid(`${JSON.stringify(bucket)} is no bucket name`);
  const checksum = url.searchParams.get('disable-checksum')?.toLowerCase() !== 'true';
  const host = asHost ? `${bucket}.${endpoint}` : endpoint;
  return { origin: `${url.protocol}//${host}`, host, pathPrefix: asHost ? '/' : `/${bucket}/`, bucket, region, checksum };
}

function regionOfAws(endpoint: string): string {
  const rest = endpoint.replace(/^s3[-.]/, '').replace(/^dualstack\./, '');
  if (rest.startsWith('amazonaws.com')) return DEFAULT_REGION;
  const region = rest.split('.')[0] ?? '';
  return region === 'external-1' ? DEFAULT_REGION : region;
}

/**
 * Reads a bucket's address. `environment` gives AWS_REGION, AWS_DEFAULT_REGION, MINIO_REGION and JFS_S3_VHOST_STYLE.
 * Throws ObjectError `Invalid` with the accepted forms.
 */
export function parseBucketUrl(text: string, storage: 's3' | 'minio', environment: Environment): BucketAddress {
  const invalid = (why: string): ObjectError =>
    invalidBucket(text, storage, why, 'http://host:port/bucket or https://bucket.s3.region.amazonaws.com');
  let full = text;
  if (!text.includes('://')) {
    const secure = storage === 's3' && (!text.includes('.') || text.endsWith('.amazonaws.com')) && !text.includes('/');
    full = `${secure ? 'https' : 'http'}://${text}`;
  }
  if (!URL.canParse(full)) throw invalid('not a URL');
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`the scheme ${url.protocol}// is not known`);
  if (url.username || url.password) throw invalid('credentials do not belong into the URL');
  const environmentRegion = regionFrom(environment);
  const virtualHost = !['', '0', 'false'].includes(environment['JFS_S3_VHOST_STYLE'] ?? '');
  const at = (endpoint: string, bucket: string, region: string, asHost: boolean): BucketAddress =>
    s3Address({ url, endpoint, bucket, region, asHost, invalid });
  const segments = url.pathname.split('/').filter((part) => part !== '');
  const aws = /\.amazonaws\.com(\.cn)?$/.test(url.hostname);

  if (storage === 'minio') {
    if (segments[0] === 'minio' && segments.length > 1) segments.shift();
    if (!segments[0]) throw invalid('the name of the bucket is missing');
    const region = url.searchParams.get('region') || environment['MINIO_REGION'] || DEFAULT_REGION;
    return at(url.host, segments[0], region, virtualHost);
  }
  if (segments[0]) {
    if (aws) return at(url.host, segments[0], regionOfAws(url.host), !segments[0].includes('.'));
    return at(url.host, segments[0], environmentRegion, virtualHost);
  }
  const dot = url.host.indexOf('.');
  if (dot < 0) return at(`s3.${environmentRegion}.amazonaws.com`, url.hostname, environmentRegion, true);
  if (aws && !url.host.includes('.vpce.')) {
    const cut = url.host.search(/\.s3[-.]/);
    if (cut < 0) throw invalid('the name of the bucket is missing');
    const endpoint = url.host.slice(cut + 1);
    const bucket = url.host.slice(0, cut);
    return at(endpoint, bucket, regionOfAws(endpoint), !bucket.includes('.'));
  }
  const endpoint = url.host.slice(dot + 1);
  const known =
    /\.([^.]+)\.vpce\.amazonaws\.com/.exec(endpoint) ??
    /\.compat\.objectstorage\.([^.]+)\.oraclecloud\.com/.exec(endpoint) ??
    /^s3\.(\w+)(?:\.\w+)?\.cloud\.ovh\.net$/.exec(endpoint);
  return at(endpoint, url.host.slice(0, dot), known?.[1] ?? environmentRegion, virtualHost);
}

/** The same bucket where the store says that it is in another region; on AWS each region has an address of its own. */
export function inRegion(address: BucketAddress, region: string): BucketAddress {
  const aws = /^(.*?\.)?s3(?:[.-](dualstack))?(?:[.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?$/.exec(address.host);
  if (!aws) return { ...address, region };
  const [, bucket = '', dualstack, china = ''] = aws;
  const host = `${bucket}s3.${dualstack ? 'dualstack.' : ''}${region}.amazonaws.com${china}`;
  return { ...address, region, host, origin: `${address.origin.slice(0, address.origin.indexOf('//'))}//${host}` };
}
