/** Names and paths of what is added to a pod. The client and the holder are started with them; nothing else knows them. */

import { CACHE_VOLUME, sidecars } from '../api/group.ts';
import { HEARTBEAT_FILE, PROBLEM_FILE, SERVED_FILE } from '../api/heartbeat.ts';

export const { holder: HOLDER, client: CLIENT, sync: SYNC } = sidecars;

export const MOUNT_VOLUME = 'juicepod-mnt';
export const RUN_VOLUME = 'juicepod-run';
export { CACHE_VOLUME };
export const PLAN_VOLUME = 'juicepod-plan';
export const syncVolume = (id: string): string => `juicepod-sync-${id}`;
export const secretVolume = (index: number): string => `juicepod-secret-${index}`;

/** Paths in the containers of Juicepod. */
export const MOUNT_ROOT = '/juicepod/mnt';
export const RUN_ROOT = '/juicepod/run';
export const SOCKET = `${RUN_ROOT}/hold.sock`;
/** Left by the client beside the socket. */
export const HEARTBEAT = `${RUN_ROOT}/${HEARTBEAT_FILE}`;
export const PROBLEM = `${RUN_ROOT}/${PROBLEM_FILE}`;
export const SERVED = `${RUN_ROOT}/${SERVED_FILE}`;
/** There while every mount is served; in the container's own file system, where no client finds what another left. */
export const SERVING = '/tmp/juicepod-serving';
export const CACHE_ROOT = '/juicepod/cache';
export const SYNC_ROOT = '/juicepod/sync';
/** Below the volume of a mount in sync mode: what the application sees, and beside it what it does not. */
export const SYNC_TREE = 'tree';
/** Where the application's files of a mount lie in the container of the sync sidecar. */
export const syncTarget = (id: string): string => `${SYNC_ROOT}/${id}/${SYNC_TREE}`;
export const PLAN_ROOT = '/etc/juicepod/pod';
export const PLAN_FILE = 'plan.json';
export const secretRoot = (index: number): string => `/etc/juicepod/volumes/${index}`;

/** Says on which platform the pod runs: annotation of a pod, label of a namespace. */
export const PLATFORM_KEY = 'juicepod.io/platform';
/** Annotation: how the pod gets at its volumes, and why; for people and `juicepod analyze`. */
export const MODE_REASON = 'juicepod.io/mode-reason';

/** Remembers what `terminationGracePeriodSeconds` was before it was raised. */
export const ORIGINAL_GRACE = 'juicepod.io/original-termination-grace-period-seconds';

/** True for the names of our containers, which nobody else may use. */
export function isOurContainer(name: string): boolean {
  return name === HOLDER || name === CLIENT || name === SYNC;
}

/** True for the volumes through which applications see files. */
export function isOurVolume(name: string): boolean {
  return name === MOUNT_VOLUME || name.startsWith(syncVolume(''));
}

/** The client's port of metrics, 15 characters at most. */
export const METRICS_PORT_NAME = 'juicefs-metrics';
