/** What a pod's plan says, as options of the client: one entry per mount. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type MountConfig, parseMountConfig, storageChangeOf } from '../api/mount.ts';
import { parsePlan, type Plan, type PlanMount } from '../api/plan.ts';
import { messageOf, UserError } from '../lib/errors.ts';
import { type ClientLimits, clientLimits } from './limits.ts';
import { wholeFilesShare } from './semantics.ts';
import type { ServeOptions } from './mount.ts';

const MIB = 1024 * 1024;

function read(path: string, what: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UserError('PlanUnreadable', `${what} ${path} cannot be read: ${messageOf(error)}`, {
      hint: 'The webhook adds it to the pod; see `kubectl describe pod`.',
    });
  }
}

const passphrasesOf = ({ passphrase, previous }: NonNullable<MountConfig['encryption']>): readonly string[] =>
  previous === undefined ? [passphrase] : [passphrase, previous];

/** How long blocks are uploaded at the end that an earlier client with write-back left, milliseconds. */
const LEFTOVERS_MS = 60_000;

export interface ReadPlan {
  readonly plan: Plan;
  /** As it stands in the file. */
  readonly text: string;
  readonly mounts: readonly ServeOptions[];
  /** Shared by all mounts. */
  readonly limits: ClientLimits;
}

/** Reads a plan and the volume.json of each mount of one mode: those of the other are another sidecar's. Throws UserError. */
export function readPlan(path: string, mode: 'fuse' | 'sync' = 'fuse'): ReadPlan {
  const text = read(path, 'the plan');
  const plan = parsePlan(text);
  const cache = plan.cache;
  const shares = plan.mounts.length;
  const served = plan.mounts.filter((mount) => (mount.mode ?? 'fuse') === mode);
  const limits = clientLimits(plan);
  const optionsOf = (mount: PlanMount): ServeOptions => {
    const folder = dirname(mount.config);
    const config = parseMountConfig(read(mount.config, 'the configuration of a volume'), folder);
    const readOnly = mount.readOnly || config.readOnly === true;
    return {
      mount: { target: mount.target, source: `JuiceFS:${config.name}`, readOnly, nonEmpty: true, onTop: true },
      volume: {
        metaUrl: config.metaUrl,
        expect: { name: config.name, uuid: config.uuid },
        storage: storageChangeOf(config.storage),
        configFile: mount.config,
        ...(config.generation === undefined ? {} : { generation: config.generation }),
        ...(config.encryption ? { passphrases: passphrasesOf(config.encryption) } : {}),
        subPath: mount.subPath,
        ...(mount.directory ? { directory: mount.directory } : {}),
        readOnly,
        xattr: true,
        hideInternal: true,
        attrTimeout: plan.attrTTL,
        entryTimeout: plan.entryTTL,
        dirEntryTimeout: plan.dirEntryTTL,
        negativeTimeout: plan.negativeTTL,
        ...(plan.openCache === undefined ? {} : { semantics: { openCacheMs: plan.openCache * 1000 } }),
        ...(cache
          ? {
              cache: {
                folder: cache.directory,
                bytes: Math.floor((cache.sizeMiB * MIB) / shares),
                freeRatio: cache.freeSpaceRatio,
                ...(cache.eviction === undefined ? {} : { eviction: cache.eviction }),
                ...(cache.expire === undefined ? {} : { expireMs: cache.expire * 1000 }),
                ...(cache.checksum === undefined ? {} : { checksum: cache.checksum }),
              },
            }
          : {}),
        ...(cache && readOnly ? { wholeFiles: wholeFilesShare(Math.floor((cache.sizeMiB * MIB) / shares)) } : {}),
        ...(cache && plan.writeback && !mount.readOnly
          ? {
              writeback: {
                maxBytes: Math.floor((plan.writeback.maxStagingMiB * MIB) / shares),
                delayMs: plan.writeback.uploadDelay * 1000,
                drainMs: plan.writeback.drainTimeout * 1000,
              },
            }
          : {}),
        ...(cache && !plan.writeback && !mount.readOnly ? { leftovers: { delayMs: 0, drainMs: LEFTOVERS_MS } } : {}),
        limits,
        bufferBytes: Math.max(32 * MIB, Math.floor((plan.bufferMiB * MIB) / shares)),
        readaheadBytes: plan.readaheadMiB * MIB,
        maxUploads: plan.maxUploads,
        maxDownloads: plan.maxDownloads,
        heartbeatMs: 12_000,
        backgroundJobs: true,
        ...(plan.journal === undefined ? {} : { journalFolder: join(plan.journal, `journal-${mount.id}`) }),
      },
    };
  };
  const mounts = served.map((mount) => ({ ...optionsOf(mount), reread: () => optionsOf(mount).volume }));
  return { plan, text, mounts, limits };
}
