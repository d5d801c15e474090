/**
 * Our containers and volumes for one pod, whatever the modes of its volumes: holder and client where something is mounted, the
 * sync sidecar where something is copied; with resources that platform and LimitRanges let pass. Pure.
 */
import type { Plan } from '../api/plan.ts';
import { type Disk, limitFor } from './disk.ts';
import { fitResources, type LimitRange } from './limits.ts';
import { CLIENT, HOLDER, SYNC } from './names.ts';
import type { Platform } from './platforms/index.ts';
import { type Json, mapOf } from '../lib/json.ts';
import { type Container, type Pod } from './pod.ts';
import type { Violation } from './violation.ts';
import { binaryQuantity, mergeResources, quantityOf, type Resources } from './resources.ts';
import type { Settings } from './settings.ts';
import { clientContainer, holderContainer, podVolumes } from './sidecar.ts';
import { isSync, syncContainer, syncIdentity, syncVolumes } from './sync-sidecar.ts';

const STORAGE = 'ephemeral-storage';

export interface SidecarsInput {
  readonly pod: Pod;
  readonly settings: Settings;
  readonly image: string;
  readonly plan: Plan;
  /** Names of the mount Secrets, in the order of their numbers. */
  readonly secrets: readonly string[];
  readonly memoryCache: boolean;
  /** What each volume asks for. */
  readonly resources: readonly Resources[];
  /** Bytes of memory without which the client cannot work. */
  readonly neededMemory: number;
  readonly disk: Disk;
  readonly platform: Platform;
  /** The group our network traffic must come from. */
  readonly group: number | undefined;
  readonly others: readonly Container[];
  readonly ranges: readonly LimitRange[];
  /** Containers that see a volume in sync mode. */
  readonly syncTargets: readonly Container[];
}

export interface Sidecars {
  /** In the order in which they start. */
  readonly sidecars: readonly Json[];
  /** The one of them that moves the data. */
  readonly client: Json;
  readonly volumes: readonly Json[];
  readonly warnings: readonly string[];
}

/** The disk as request, and as limit where the pod's sum of limits counts. What the volume itself asks for stays. */
function withDisk(resources: Json, bytes: number, limited: boolean, settings: Settings): Json {
  if (bytes === 0 || !settings.requestDisk) return resources;
  const [requests, limits] = [mapOf(resources['requests']), mapOf(resources['limits'])];
  const amount = requests[STORAGE] ?? binaryQuantity(bytes);
  const limit = limits[STORAGE] ?? (limited ? binaryQuantity(limitFor(bytes)) : undefined);
  return {
    ...resources,
    requests: { ...requests, [STORAGE]: amount },
    ...(limit === undefined ? {} : { limits: { ...limits, [STORAGE]: limit } }),
  };
}

/** What the client needs besides buffer and cache, bytes. */
const OWN_MEMORY = 128 * 2 ** 20;

/** Requests and limits of processor and memory made equal: the larger one counts, and never less than what is needed. */
function guaranteed(resources: Json, needed: number): Json {
  const [requests, limits] = [{ ...mapOf(resources['requests']) }, { ...mapOf(resources['limits']) }];
  for (const name of ['cpu', 'memory']) {
    const [request, limit] = [requests[name], limits[name]];
    const amount = (quantityOf(limit) ?? 0) > (quantityOf(request) ?? 0) ? limit : request;
    if (amount === undefined) continue;
    const isEnough = name !== 'memory' || (quantityOf(amount) ?? 0) >= needed || limit !== undefined;
    requests[name] = isEnough ? amount : binaryQuantity(needed);
    limits[name] = requests[name];
  }
  return { ...resources, requests, limits };
}

/** Volumes of both modes; of one name only one, the later. */
function joined(...lists: readonly (readonly Json[])[]): readonly Json[] {
  const all = new Map<unknown, Json>();
  for (const volume of lists.flat()) all.set(volume['name'], volume);
  return [...all.values()];
}

export function buildSidecars(input: SidecarsInput): Sidecars | Violation {
  const { pod, settings, image, plan, secrets, memoryCache, disk, platform, group, others, ranges } = input;
  const hasSync = plan.mounts.some(isSync);
  const hasFuse = plan.mounts.some((mount) => !isSync(mount));
  const asked = mergeResources(input.resources);
  const shape = (resources: Json, needed: number): Json => (platform.guaranteed ? guaranteed(resources, needed) : resources);
  const needs = (memory: number, bytes: number) => ({
    memory,
    ...(bytes > 0 && settings.requestDisk ? { [STORAGE]: bytes } : {}),
  });
  const holderMemory = quantityOf(mapOf(settings.holderResources.requests)['memory']) ?? 0;
  const wanted = [
    ...(hasFuse
      ? [
          { name: HOLDER, resources: shape(settings.holderResources as Json, 0), needs: needs(holderMemory, 0) },
          {
            name: CLIENT,
            resources: withDisk(shape(asked, input.neededMemory + OWN_MEMORY), disk.client, disk.limited, settings),
            needs: needs(input.neededMemory + OWN_MEMORY, disk.client),
          },
        ]
      : []),
    ...(hasSync
      ? [
          {
            name: SYNC,
            resources: withDisk(shape(asked, input.neededMemory + OWN_MEMORY), disk.sync, disk.limited, settings),
            needs: needs(input.neededMemory + OWN_MEMORY, disk.sync),
          },
        ]
      : []),
  ];
  const fitted = fitResources(wanted, others, ranges);
  if ('reason' in fitted) return fitted;
  const of = (name: string): Json => fitted[wanted.findIndex((one) => one.name === name)]?.resources ?? {};

  const fuse = {
    settings,
    image,
    plan: { ...plan, mounts: plan.mounts.filter((mount) => !isSync(mount)) },
    secrets,
    memoryCache,
    clientResources: of(CLIENT),
    holderResources: of(HOLDER),
    ...(group === undefined ? {} : { group }),
    hostNetwork: pod.spec['hostNetwork'] === true,
  };
  const sync = { settings, image, plan, secrets, resources: of(SYNC), identity: syncIdentity(pod, input.syncTargets) };
  const sidecars = [
    ...(hasFuse ? [holderContainer(fuse), clientContainer(fuse)] : []),
    ...(hasSync ? [syncContainer(sync)] : []),
  ];
  return {
    sidecars,
    client: sidecars.at(-1) ?? {},
    volumes: joined(hasFuse ? podVolumes(fuse) : [], hasSync ? syncVolumes(sync) : []),
    warnings: fitted.flatMap(({ warnings }) => warnings),
  };
}
