/**
 * All figures of a mount, as families of metrics by JuiceFS's names: those of its parts, how full volume and quotas are, what it shows of
 * the volume, and those of the process.
 */
import { type Family, type Histogram, type Sample, single } from '../lib/metrics.ts';
import { formatIno } from '../lib/int64.ts';
import type { QuotaKey, QuotaRecord } from '../meta/quota.ts';
import { processFamilies } from './process-figures.ts';

export interface Fullness {
  readonly volume: {
    readonly totalBytes: number;
    readonly usedBytes: number;
    readonly usedInodes: number;
    readonly availableInodes: number;
  };
  readonly quotas: readonly QuotaRecord[];
}

/** Prefix of the names, and the label that tells whose. */
const quotaNames: Readonly<Record<QuotaKey['kind'], readonly [prefix: string, label: string]>> = {
  directory: ['dir', 'inode'],
  user: ['user', 'uid'],
  group: ['group', 'gid'],
};

const quotaFigures: readonly (readonly [name: string, help: string, value: (record: QuotaRecord) => number])[] = [
  ['max_space_bytes', 'bytes that it may hold; 0 is no limit', ({ limits }) => Math.max(0, limits.space)],
  ['max_inodes', 'inodes that it may hold; 0 is no limit', ({ limits }) => Math.max(0, limits.inodes)],
  ['used_space_bytes', 'bytes that it holds', ({ used }) => Math.max(0, used.space)],
  ['used_inodes', 'inodes that it holds', ({ used }) => Math.max(0, used.inodes)],
];

function quotaFamilies(records: readonly QuotaRecord[]): Family[] {
  const limited = records.filter(({ limits }) => limits.space > 0 || limits.inodes > 0);
  return (Object.keys(quotaNames) as QuotaKey['kind'][]).flatMap((kind) => {
    const [prefix, label] = quotaNames[kind];
    const own = limited.filter(({ quota }) => quota.kind === kind);
    return quotaFigures.map(([name, help, value]): Family => ({
      type: 'gauge',
      name: `${prefix}_quota_${name}`,
      help: `Quota of a ${kind}: ${help}`,
      samples: () =>
        own.map((record): Sample => {
          const { quota } = record;
          const id = quota.kind === 'directory' ? formatIno(quota.id) : String(quota.id);
          return { labels: { [label]: id }, value: value(record) };
        }),
    }));
  });
}

/** The values of now; `subPath` is the directory of the volume that the mount shows, empty for its root. */
function volumeFamilies({ volume, quotas }: Fullness, subPath: string): readonly Family[] {
  return [
    single('gauge', 'used_space', 'Bytes in the volume', () => volume.usedBytes),
    single('gauge', 'used_inodes', 'Inodes of the volume', () => volume.usedInodes),
    single('gauge', 'total_space', 'Bytes that the volume may hold', () => volume.totalBytes),
    single('gauge', 'total_inodes', 'Inodes that the volume may hold', () => volume.usedInodes + volume.availableInodes),
    {
      type: 'gauge',
      name: 'subdir_info',
      help: 'The directory of the volume that is mounted; empty for its root',
      samples: () => [{ labels: { subdir: subPath === '' ? '' : `/${subPath.replace(/^\//, '')}` }, value: 1 }],
    },
    ...quotaFamilies(quotas),
  ];
}

export interface MountFigures {
  /** What counts for itself. */
  readonly parts: readonly { families(): readonly Family[] }[];
  readonly fullness: Fullness;
  /** The directory of the volume that the mount shows; empty for its root. */
  readonly subPath: string;
  readonly openHandles: number;
  /** Bytes of slices that were made of several. */
  readonly compacted: Histogram;
  /** Changes to other credentials, and whether new ones cannot be used. */
  readonly switches: number;
  readonly refused: boolean;
}

/** The values of now. */
export function mountFamilies(mount: MountFigures): readonly Family[] {
  return [
    ...mount.parts.flatMap((part) => part.families()),
    ...volumeFamilies(mount.fullness, mount.subPath),
    ...processFamilies(),
    single('gauge', 'fuse_open_handlers', 'Files and directories that programs have open', () => mount.openHandles),
    single('histogram', 'compact_size_histogram_bytes', 'Bytes of slices that were made of several', () => mount.compacted),
    single('counter', 'credentials_switches', 'Changes to other credentials (not a name of JuiceFS)', () => mount.switches),
    single('gauge', 'credentials_refused', '1 where new credentials cannot be used (not a name of JuiceFS)', () =>
      mount.refused ? 1 : 0,
    ),
  ];
}
