/** Whether two spellings of a bucket lead to the same objects: JuiceFS takes several for most kinds of store. Pure. */
import { parseContainer } from './azure-account.ts';
import { isNamed, namedAddress } from './s3-names.ts';
import { type BucketAddress, parseBucketUrl } from './s3-url.ts';

export interface BucketSpelling {
  /** JuiceFS's name of the driver. */
  readonly storage: string;
  readonly bucket: string;
  /** Names the account of Azure; of no account elsewhere. */
  readonly accessKey?: string | undefined;
}

function placeOfS3({ bucket, host }: BucketAddress): string {
  return `${bucket} ${host.startsWith(`${bucket}.`) ? host.slice(bucket.length + 1) : host}`;
}

/** A text that is the same for the same place. Throws ObjectError for what is no address. */
function placeOf({ storage, bucket, accessKey }: BucketSpelling): string {
  if (storage === 's3' || storage === 'minio') return placeOfS3(parseBucketUrl(bucket, storage, {}));
  if (isNamed(storage)) return placeOfS3(namedAddress(storage, bucket, {}));
  if (storage === 'wasb') {
    // Where it is does not depend on the key, and a key that is none is somebody else's to tell.
    const { container, origin } = parseContainer(bucket, { accountName: accessKey, sas: 'none' }, {});
    return `${container} ${origin}`;
  }
  if (storage === 'webdav') {
    const { origin, pathname } = new URL(bucket.includes('://') ? bucket : `http://${bucket}`);
    return `${origin}${pathname.replace(/\/*$/, '/')}`;
  }
  return bucket;
}

/** True where both mean one bucket of one service; what cannot be read is the same as nothing else. */
export function sameBucket(one: BucketSpelling, other: BucketSpelling): boolean {
  try {
    return placeOf(one) === placeOf(other);
  } catch {
    return false;
  }
}
