/**
 * Storages that JuiceFS knows by a name of their own and that speak S3's protocol: where the protocol is spoken, for the addresses
 * that JuiceFS gives them (`https://BUCKET.ENDPOINT`), and which variables hold their keys.
 *
 * Sources: JuiceFS pkg/object (wasabi.go, scw.go, space.go, eos.go, oos.go: the very protocol there; names of the variables), and for
 * the others, whose own protocol JuiceFS speaks, their pages on S3: Alibaba Cloud "Accessing OSS with the AWS SDK" (s3.oss-REGION,
 * bucket in the host name only), Tencent Cloud COS, Huawei Cloud OBS, Volcengine TOS (tos-s3-REGION), Baidu BOS (s3.REGION), Google
 * Cloud Storage "Interoperability" (HMAC keys). Keys and bytes of objects are the same by either protocol.
 */
import { type BucketAddress, type Environment, invalidBucket, regionFrom, s3Address } from './s3-url.ts';

interface Known {
  /** How its address is written, for messages. */
  readonly example: string;
  /** Where S3 is spoken, from the endpoint in the address (the host without the bucket). @default the endpoint */
  readonly endpoint?: (endpoint: string) => string;
  /** From the same; undefined where it does not tell. */
  readonly region: (endpoint: string) => string | undefined;
  /** The bucket stands in the path. @default in the host name */
  readonly inPath?: (endpoint: string) => boolean;
  /** Variables of access key, secret key and token. */
  readonly keys: readonly string[];
}

const part = (endpoint: string, index: number): string | undefined => endpoint.split('.')[index];
const within = (pattern: RegExp) => (endpoint: string) => pattern.exec(endpoint)?.[1];

const known = {
  wasabi: {
    example: 'https://BUCKET.s3.REGION.wasabisys.com',
    region: within(/^s3\.([^.]+)\.wasabisys\.com$/),
    keys: [],
  },
  scw: {
    example: 'https://BUCKET.s3.REGION.scw.cloud',
    region: within(/^s3\.([^.]+)\.scw\.cloud$/),
    keys: ['SCW_ACCESS_KEY', 'SCW_SECRET_KEY'],
  },
  space: {
    example: 'https://BUCKET.REGION.digitaloceanspaces.com',
    region: within(/^([^.]+)\.digitaloceanspaces\.com$/),
    keys: [],
  },
  eos: {
    example: 'https://BUCKET.eos-REGION.cmecloud.cn',
    region: () => 'us-east-1',
    inPath: () => true,
    keys: ['EOS_ACCESS_KEY', 'EOS_SECRET_KEY', 'EOS_TOKEN'],
  },
  oos: {
    example: 'https://BUCKET.oos-REGION.ctyunapi.cn',
    region: (endpoint) => part(endpoint, 0)?.slice('oos-'.length),
    inPath: (endpoint) => !endpoint.toLowerCase().includes('xstore.ctyun.cn'),
    keys: [],
  },
  oss: {
    example: 'https://BUCKET.oss-REGION.aliyuncs.com',
    endpoint: (endpoint) => (/^oss-[^.]+\.aliyuncs\.com$/.test(endpoint) ? `s3.${endpoint}` : endpoint),
    region: within(/^(?:s3\.)?oss-(.+?)(?:-internal)?\.aliyuncs\.com$/),
    keys: ['ALICLOUD_ACCESS_KEY_ID', 'ALICLOUD_ACCESS_KEY_SECRET', 'SECURITY_TOKEN'],
  },
  cos: {
    example: 'https://BUCKET-APPID.cos.REGION.myqcloud.com',
    region: within(/^cos(?:-internal)?\.([^.]+)\.(?:myqcloud|tencentcos)\.c(?:om|n)$/),
    keys: ['COS_SECRETID', 'COS_SECRETKEY'],
  },
  obs: {
    example: 'https://BUCKET.obs.REGION.myhuaweicloud.com',
    region: within(/^obs\.([^.]+)\.myhuaweicloud\.com$/),
    keys: ['HWCLOUD_ACCESS_KEY', 'HWCLOUD_SECRET_KEY'],
  },
  tos: {
    example: 'https://BUCKET.tos-REGION.volces.com',
    endpoint: (endpoint) => endpoint.replace(/^tos-(?!s3-)(.+\.i?volces\.com)$/, 'tos-s3-$1'),
    region: within(/^tos-(?:s3-)?([^.]+)\.i?volces\.com$/),
    keys: [],
  },
  bos: {
    example: 'https://BUCKET.REGION.bcebos.com',
    endpoint: (endpoint) => endpoint.replace(/^([^.]+\.bcebos\.com)$/, 's3.$1'),
    region: within(/^(?:s3\.)?([^.]+)\.bcebos\.com$/),
    keys: ['BDCLOUD_ACCESS_KEY', 'BDCLOUD_SECRET_KEY'],
  },
  gs: {
    example: 'gs://BUCKET',
    endpoint: (endpoint) => (/googleapis\.com|localhost|:/.test(endpoint) ? endpoint : 'storage.googleapis.com'),
    region: () => 'auto',
    inPath: () => true,
    keys: ['GS_HMAC_ACCESS_ID', 'GS_HMAC_SECRET'],
  },
} satisfies Readonly<Record<string, Known>>;

export type NamedStorage = keyof typeof known;

/** Names of storages that are reached by S3's protocol, besides `s3` and `minio`. */
export const namedStorages = Object.keys(known) as readonly NamedStorage[];

export const isNamed = (storage: string): storage is NamedStorage => Object.hasOwn(known, storage);

/** Where a bucket of such a storage is. Throws ObjectError `Invalid` with the accepted form. */
export function namedAddress(storage: NamedStorage, text: string, environment: Environment): BucketAddress {
  const { example, endpoint: mapped, region, inPath }: Known = known[storage];
  const invalid = (why: string): Error => invalidBucket(text, storage, why, example);
  const full = text.includes('://') ? text.replace(/^gs:/, 'https:') : `https://${text}`;
  if (!URL.canParse(full)) throw invalid('not a URL');
  const url = new URL(full);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`the scheme ${url.protocol}// is not known`);
  if (url.username || url.password) throw invalid('credentials do not belong into the URL');
  const dot = url.host.indexOf('.');
  const bucket = dot < 0 ? url.host : url.host.slice(0, dot);
  const given = dot < 0 ? '' : url.host.slice(dot + 1);
  const endpoint = mapped ? mapped(given) : given;
  if (endpoint === '') throw invalid('the endpoint is missing: it is not looked up');
  const found = region(given) || regionFrom(environment);
  return s3Address({ url, endpoint, bucket, region: found, asHost: !inPath?.(given), invalid });
}

/** Keys of such a storage from its own variables, where the first is set. */
export function namedKeys(
  storage: NamedStorage,
  environment: Environment,
): { readonly accessKey?: string; readonly secretKey?: string; readonly sessionToken?: string } {
  const [access, secret, token] = (known[storage] as Known).keys.map((name) => environment[name]);
  if (!access) return {};
  return { accessKey: access, ...(secret ? { secretKey: secret } : {}), ...(token ? { sessionToken: token } : {}) };
}
