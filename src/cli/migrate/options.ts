/**
 * Mount options of JuiceFS, as they stand in StorageClasses and PersistentVolumes, turned into what stands for them here: fields of a
 * JuiceCachePolicy, or members of the pod's annotation. What has no counterpart is named, with what to do. Pure.
 */
import { cachePolicySpec } from '../../api/cachepolicy.ts';
import { messageOf } from '../../lib/errors.ts';
import { parseDuration, parseMbps, parseSize } from '../../lib/units.ts';

type Fields = { readonly [name: string]: string | number | boolean | Fields };

export interface Mapped {
  /** spec of a JuiceCachePolicy; empty where the defaults will do. */
  readonly policy: Fields;
  /** Directory of the volume, without slashes at the ends. */
  readonly subdir: string;
  readonly readOnly: boolean;
  /** Options without counterpart, and why. */
  readonly unsupported: readonly { readonly option: string; readonly why: string }[];
  /** Options that mean nothing here. */
  readonly dropped: readonly string[];
}

const MIB = 2 ** 20;
/** Whole MiB of a size that counts MiB. */
const mebibytes = (value: string, option: string): string => `${Math.max(1, Math.round(parseSize(value, option, 'M') / MIB))}Mi`;
const seconds = (value: string, option: string): string => `${parseDuration(value, option)}ms`.replace(/^(\d+)000ms$/, '$1s');
const count = (value: string): number => {
  if (!/^\d+$/.test(value)) throw new Error(`wanted a whole number, found ${JSON.stringify(value)}`);
  return Number(value);
};

/** Bytes per second of Mbit/s, in thousands; 0 is no limit. */
const rate = (value: string, option: string): string | undefined => {
  const mbps = parseMbps(value, option);
  return mbps === 0 ? undefined : `${mbps * 125}k`;
};

type Value = string | number | boolean | undefined;

/** Options with a field in the cache policy: where, and its value; undefined where the default says the same. */
type Field = readonly [path: string, value: (value: string, option: string) => Value];
const fields: Readonly<Record<string, Field>> = {
  'cache-size': ['local.size', mebibytes],
  'free-space-ratio': ['local.freeSpacePercent', (value) => Math.round(Number(value) * 100)],
  'cache-eviction': ['local.eviction', (value) => value],
  'cache-expire': ['local.expire', seconds],
  'verify-cache-checksum': ['local.verifyChecksum', (value) => value],
  'open-cache': ['metadata.openCache', seconds],
  'buffer-size': ['buffer.size', mebibytes],
  'max-readahead': ['readahead.max', mebibytes],
  'attr-cache': ['metadata.attrTTL', seconds],
  'entry-cache': ['metadata.entryTTL', seconds],
  'dir-entry-cache': ['metadata.dirTTL', seconds],
  'negative-entry-cache': ['metadata.negativeTTL', seconds],
  'max-uploads': ['io.maxUploads', count],
  'max-downloads': ['io.maxDownloads', count],
  'upload-limit': ['io.uploadLimit', rate],
  'download-limit': ['io.downloadLimit', rate],
  writeback: ['writeback.enabled', (value) => value !== 'false'],
  'upload-delay': ['writeback.uploadDelay', seconds],
};

function fieldOf(option: string, value: string): Field | undefined {
  if (option === 'cache-dir' && value === 'memory') return ['local.medium', () => 'Memory'];
  if (option === 'cache-size' && Number(value) === 0) return ['local.medium', () => 'None'];
  return Object.hasOwn(fields, option) ? fields[option] : undefined;
}

/** Options that need no counterpart: the default here, or of no meaning in a pod. */
const meaningless = new Set(
  [
    'allow_other',
    'allow-other',
    'default_permissions',
    'foreground',
    'no-syslog',
    'no-usage-report',
    'log',
    'metrics',
    'consul',
    'rw',
    '_netdev',
    'console',
    'no-color',
    'update-fstab',
  ].concat(['auto_unmount', 'async_dio', 'fsname', 'big_writes', 'heartbeat', 'backup-meta', 'get-timeout', 'put-timeout']),
);

const why: Readonly<Record<string, string>> = {
  'cache-dir':
    'the cache is an emptyDir of the pod (local.medium and local.size), not a directory of the node: pods of a node do not share it',
  'upload-hours': 'what is staged is uploaded at any hour; writeback.uploadDelay holds it back for a time',
  'max-stage-write': 'see writeback.maxStaging for how much may wait on the disk',
  'writeback-threshold-size': 'every write is staged, whatever its size',
  prefetch: 'blocks beside a random read are not fetched ahead',
  'no-bgjob': 'each client of a volume helps to clean up',
  'enable-xattr': 'extended attributes are switched on by the volume here, not by a mount',
  'root-squash': 'users are not mapped',
  'all-squash': 'users are not mapped',
  umask: 'the umask of the application counts',
};

function put(into: Record<string, unknown>, path: string, value: Value): void {
  const [head = '', rest] = path.split('.', 2);
  if (rest === undefined) into[head] = value;
  else into[head] = { ...(into[head] as object | undefined), [rest]: value };
}

/** Maps options; later ones count, as they do for the client. */
export function mapMountOptions(options: readonly string[]): Mapped {
  const policy: Record<string, unknown> = {};
  const unsupported: { option: string; why: string }[] = [];
  const dropped: string[] = [];
  let subdir = '';
  let readOnly = false;
  for (const text of options) {
    const equals = text.indexOf('=');
    const option = (equals < 0 ? text : text.slice(0, equals)).trim();
    const value = equals < 0 ? '' : text.slice(equals + 1).trim();
    const field = fieldOf(option, value);
    if (option === 'subdir') subdir = value.replace(/^\/+|\/+$/g, '');
    else if (option === 'ro' || option === 'read-only') readOnly = value !== 'false';
    else if (field) {
      const [path, read] = field;
      try {
        const wanted = read(value, option);
        if (wanted === undefined) continue;
        const next = { ...policy };
        put(next, path, wanted);
        const checked = cachePolicySpec.safeParse(next);
        if (!checked.success) throw new Error(checked.error.issues.map(({ message }) => message).join('; '));
        put(policy, path, wanted);
      } catch (error) {
        unsupported.push({ option: text, why: `its value is not possible here: ${messageOf(error)}` });
      }
    } else if (meaningless.has(option)) dropped.push(text);
    else
      unsupported.push({
        option: text,
        why: (Object.hasOwn(why, option) ? why[option] : undefined) ?? 'there is nothing like it',
      });
  }
  return { policy: policy as Fields, subdir, readOnly, unsupported, dropped };
}
