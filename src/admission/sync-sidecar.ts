/**
 * The container and the volumes of `sync` mode, as plain objects. Pure.
 *
 * Each mount is an emptyDir of its own. The application sees its subdirectory `tree`; beside it, out of the application's
 * sight but in the same file system (so that a rename is atomic), the sidecar keeps what it knows and what is under way. The
 * sidecar is a native sidecar (before the application, and ended after it) that needs nothing: no privilege, no
 * capability, no writable root; Pod Security `restricted` admits it. It runs as the user that the application runs as, so that
 * both may read and write the files.
 */
import { annotations } from '../api/group.ts';
import type { Plan, PlanMount, SyncPlan } from '../api/plan.ts';
import {
  PLAN_FILE,
  PLAN_ROOT,
  PLAN_VOLUME,
  RUN_ROOT,
  RUN_VOLUME,
  secretRoot,
  secretVolume,
  SYNC,
  SYNC_ROOT,
  SYNC_TREE,
  syncVolume,
} from './names.ts';
import { type Json, mapOf } from '../lib/json.ts';
import { type Container, type Pod } from './pod.ts';
import { binaryQuantity } from './resources.ts';
import type { Settings } from './settings.ts';

const MIB = 2 ** 20;
/** The sidecar's user where the application's is not known and must not be root: that of the image. */
const OWN_USER = 65_532;
/** The startup probe passes when this is there; the sidecar makes it when every mount is hydrated. */
const SYNC_READY = `${RUN_ROOT}/sync-ready`;
/** What the sidecar keeps beside the tree: base state, files under way. MiB, and as a share of the limit. */
const OVERHEAD_MIB = 128;
const OVERHEAD = 0.1;

/** Who the sidecar runs as, and whether what it makes must be opened up to the application's user. */
export interface SyncIdentity {
  readonly runAsUser: number;
  readonly runAsGroup: number | undefined;
  readonly share: NonNullable<SyncPlan['share']>;
  /** Secret files can be read through the pod's fsGroup. */
  readonly groupReadable: boolean;
}

const numberOf = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);

/**
 * The user of the containers that see a sync mount. Where they have several, or one that only the image knows, the files are
 * opened up to the pod's fsGroup, else to everybody in the pod.
 */
export function syncIdentity(pod: Pod, targets: readonly Container[]): SyncIdentity {
  const whole = mapOf(pod.spec['securityContext']);
  const contexts = targets.map(({ raw }) => mapOf(raw['securityContext']));
  const one = (name: string): number | undefined | 'several' => {
    const found = new Set((contexts.length > 0 ? contexts : [{}]).map((context: Json) => numberOf(context[name] ?? whole[name])));
    return found.size > 1 ? 'several' : [...found][0];
  };
  const user = one('runAsUser');
  const group = one('runAsGroup');
  const notRoot = contexts.some((context) => (context['runAsNonRoot'] ?? whole['runAsNonRoot']) === true);
  const fsGroup = numberOf(whole['fsGroup']);
  const known = typeof user === 'number';
  // Root without capabilities is the user that images run as unless they say otherwise.
  const runAsUser = known ? user : notRoot || user === 'several' ? OWN_USER : 0;
  return {
    runAsUser,
    runAsGroup: typeof group === 'number' ? group : undefined,
    share: known ? 'none' : fsGroup === undefined ? 'all' : 'group',
    groupReadable: fsGroup !== undefined,
  };
}

export interface SyncSidecarInput {
  readonly settings: Settings;
  readonly image: string;
  readonly plan: Plan;
  /** Names of the mount Secrets, one for each distinct volume, in the order of their numbers. */
  readonly secrets: readonly string[];
  readonly resources: Json;
  readonly identity: SyncIdentity;
}

export const isSync = (mount: PlanMount): boolean => mount.mode === 'sync';

/** Hydrates every mount of mode `sync`, then writes changes back. It has started when all files are there. */
export function syncContainer({ settings, image, plan, secrets, resources, identity }: SyncSidecarInput): Json {
  const mounts = plan.mounts.filter(isSync);
  return {
    name: SYNC,
    image,
    imagePullPolicy: settings.imagePullPolicy,
    restartPolicy: 'Always',
    args: [
      'sync-sidecar',
      '--plan',
      `${PLAN_ROOT}/${PLAN_FILE}`,
      '--ready',
      SYNC_READY,
      ...(identity.share === 'none' ? [] : ['--share', identity.share]),
    ],
    resources,
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: identity.runAsUser !== 0,
      runAsUser: identity.runAsUser,
      ...(identity.runAsGroup === undefined ? {} : { runAsGroup: identity.runAsGroup }),
      seccompProfile: { type: 'RuntimeDefault' },
    },
    // The probe itself waits, so that the application starts at once when the files are there. It never fails the container:
    // how long a hydration takes nobody knows; what cannot be hydrated ends the sidecar with a message.
    startupProbe: {
      exec: { command: ['sh', '-c', `for i in $(seq 1 500); do test -e ${SYNC_READY} && exit 0; sleep 0.1; done; exit 1`] },
      periodSeconds: 1,
      timeoutSeconds: 60,
      failureThreshold: 100_000,
    },
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      ...mounts.map(({ id }) => ({ name: syncVolume(id), mountPath: `${SYNC_ROOT}/${id}` })),
      { name: RUN_VOLUME, mountPath: RUN_ROOT },
      { name: PLAN_VOLUME, mountPath: PLAN_ROOT, readOnly: true },
      ...secrets.map((_, index) => ({ name: secretVolume(index), mountPath: secretRoot(index), readOnly: true })),
    ],
  };
}

/** The pod's volumes that it needs; those that the sidecars of FUSE mode have too are equal in all but the Secrets' modes. */
export function syncVolumes({ plan, secrets, identity }: SyncSidecarInput): readonly Json[] {
  return [
    ...plan.mounts.filter(isSync).map(({ id, sync }) => ({
      name: syncVolume(id),
      emptyDir:
        sync?.limitMiB === undefined
          ? {}
          : { sizeLimit: binaryQuantity(Math.ceil(sync.limitMiB * (1 + OVERHEAD) + OVERHEAD_MIB) * MIB) },
    })),
    { name: RUN_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
    {
      name: PLAN_VOLUME,
      downwardAPI: {
        items: [{ path: PLAN_FILE, fieldRef: { apiVersion: 'v1', fieldPath: `metadata.annotations['${annotations.plan}']` } }],
      },
    },
    // Only the sidecar mounts them. With an fsGroup the kubelet gives them to that group; else their user must be everybody.
    ...secrets.map((secretName, index) => ({
      name: secretVolume(index),
      secret: { secretName, defaultMode: identity.groupReadable ? 0o440 : 0o444 },
    })),
  ];
}

/** What an application container gets for one mount. */
export function syncApplicationMount(id: string, mountPath: string, readOnly: boolean): Json {
  return { name: syncVolume(id), mountPath, subPath: SYNC_TREE, ...(readOnly ? { readOnly: true } : {}) };
}
