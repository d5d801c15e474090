/**
 * Mount options of JuiceFS, as they stand in StorageClasses and PersistentVolumes, turned into what stands for them here: fields of a
 * JuiceCachePolicy, or members of the pod's annotation. What has no counterpart is named, with what to do. Pure.
 */
import { cachePolicySpec } from '../../api/cachepolicy.ts';
import { messageOf } from '../../lib/errors.ts';
import { parseDuration, parseSize } from '../../lib/units.ts';

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

/** Options with a field in the cache policy: where, and its value. */
const fields: Readonly<Record<string, readonly [path: string, value: (value: string, option: string) => string | number]>> = {
  'cache-size': ['local.size', mebibytes],
  'free-space-ratio': ['local.freeSpacePercent', (value) => Math.round(Number(value) * 100)],
  'buffer-size': ['buffer.size', mebibytes],
  'max-readahead': ['readahead.max', mebibytes],
  'attr-cache': ['metadata.attrTTL', seconds],
  'entry-cache': ['metadata.entryTTL', seconds],
  'dir-entry-cache': ['metadata.dirTTL', seconds],
  'negative-entry-cache': ['metadata.negativeTTL', seconds],
  'max-uploads': ['io.maxUploads', count],
  'max-downloads': ['io.maxDownloads', count],
};

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
    'cache-dir',
    'console',
    'no-color',
    'update-fstab',
  ].concat(['auto_unmount', 'async_dio', 'fsname', 'big_writes', 'heartbeat', 'backup-meta', 'get-timeout', 'put-timeout']),
);

const why: Readonly<Record<string, string>> = {
  writeback:
    'writes are acknowledged when they are stored; see the fields of JuiceCachePolicy for what this version offers instead',
  'upload-limit': 'set io.uploadLimit of the JuiceCachePolicy, in bytes per second (1 Mbps is 125k)',
  'download-limit': 'set io.downloadLimit of the JuiceCachePolicy, in bytes per second (1 Mbps is 125k)',
  'open-cache': 'files that are opened are always looked up: close-to-open is kept',
  prefetch: 'blocks beside a random read are not fetched ahead',
  'no-bgjob': 'each client of a volume helps to clean up',
  'enable-xattr': 'extended attributes are switched on by the volume here, not by a mount',
  'root-squash': 'users are not mapped',
  'all-squash': 'users are not mapped',
  umask: 'the umask of the application counts',
};

function put(into: Record<string, unknown>, path: string, value: string | number): void {
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
    const field = Object.hasOwn(fields, option) ? fields[option] : undefined;
    if (option === 'subdir') subdir = value.replace(/^\/+|\/+$/g, '');
    else if (option === 'ro' || option === 'read-only') readOnly = value !== 'false';
    else if (option === 'cache-dir' && value === 'memory') put(policy, 'local.medium', 'Memory');
    else if (option === 'cache-size' && Number(value) === 0) put(policy, 'local.medium', 'None');
    else if (field) {
      const [path, read] = field;
      const wanted = { ...policy };
      try {
        put(wanted, path, read(value, option));
        const checked = cachePolicySpec.safeParse(wanted);
        if (!checked.success) throw new Error(checked.error.issues.map(({ message }) => message).join('; '));
        put(policy, path, read(value, option));
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
