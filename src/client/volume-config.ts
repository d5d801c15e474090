/** What a mount says of itself in `.config`. */
import { type Format, redacted, serialiseFormat } from '../meta/format.ts';
import { SESSION_VERSION } from '../meta/sessions.ts';
import { shownCache } from './cache-options.ts';
import type { VolumeLimits } from './limits.ts';
import type { VolumeOptions } from './volume-options.ts';

/** What `.config` shows; durations in nanoseconds, no secrets. */
export function configOf(format: Format, limits: VolumeLimits, options: VolumeOptions, sid: number): object {
  const { semantics = {} } = options;
  const { squash } = semantics;
  const ns = (seconds: number): number => Math.round(seconds * 1e9);
  return {
    Meta: {
      Retries: 10,
      ReadOnly: options.readOnly,
      NoBGJob: options.backgroundJobs === false,
      OpenCache: (semantics.openCacheMs ?? 0) * 1e6,
      OpenCacheLimit: semantics.openCacheLimit ?? 10_000,
      SkipDirMtime: (semantics.skipDirMtimeMs ?? 0) * 1e6,
      SortDir: semantics.sortDir ?? false,
      FastStatfs: semantics.fastStatfs ?? false,
      Heartbeat: options.heartbeatMs * 1e6,
      MountPoint: options.mountPoint,
      Subdir: options.subPath,
      AtimeMode: semantics.atimeMode ?? 'noatime',
      Sid: sid,
    },
    Format: JSON.parse(serialiseFormat(redacted(format))) as unknown,
    Chunk: {
      ...shownCache(options.cache, format.uuid),
      Compress: format.compression,
      MaxUpload: options.maxUploads,
      MaxDownload: options.maxDownloads,
      UploadLimit: Math.round(limits.rates.upload),
      DownloadLimit: Math.round(limits.rates.download),
      Writeback: options.writeback !== undefined,
      UploadDelay: (options.writeback?.delayMs ?? 0) * 1e6,
      HashPrefix: format.hashPrefix,
      BlockSize: format.blockSize * 1024,
      BufferSize: options.bufferBytes,
      Readahead: options.readaheadBytes,
    },
    Version: SESSION_VERSION,
    AttrTimeout: ns(options.attrTimeout),
    DirEntryTimeout: ns(options.dirEntryTimeout),
    NegEntryTimeout: ns(options.negativeTimeout),
    EntryTimeout: ns(options.entryTimeout),
    ReaddirCache: semantics.readdirCache ?? false,
    HideInternal: options.hideInternal,
    Port: { PrometheusAgent: options.metricsAddress?.() ?? '' },
    ...(squash ? { [squash.everybody ? 'AllSquash' : 'RootSquash']: { Uid: squash.account.uid, Gid: squash.account.gid } } : {}),
    UMask: semantics.umask ?? 0xffff,
    Security: { EnableCap: semantics.capabilities ?? false, EnableSELinux: semantics.selinux ?? false },
    EnableIoctl: semantics.ioctl ?? false,
    Pid: process.pid,
    PPid: process.ppid,
  };
}
