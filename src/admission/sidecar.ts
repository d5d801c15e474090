/**
 * The two containers and the volumes that a pod gets, as plain objects. Pure.
 *
 * Both containers are native sidecars (init containers with restartPolicy Always), so they are there before the
 * application's own init containers and end after the application. Each volume is mounted on a child directory of one
 * emptyDir: the kubelet can always stat the emptyDir itself, and the application sees only the child. Privilege is needed
 * for mountPropagation Bidirectional; Kubernetes allows it on no other container.
 */
import { annotations } from '../api/group.ts';
import { SILENT_LOOKS, SILENT_SECONDS } from '../api/heartbeat.ts';
import type { Plan } from '../api/plan.ts';
import { roomFor } from '../api/plan-room.ts';
import {
  CACHE_ROOT,
  CACHE_VOLUME,
  CLIENT,
  HEARTBEAT,
  HOLDER,
  METRICS_PORT_NAME,
  MOUNT_ROOT,
  MOUNT_VOLUME,
  PLAN_FILE,
  PLAN_ROOT,
  PLAN_VOLUME,
  PROBLEM,
  SERVED,
  SERVING,
  RUN_ROOT,
  RUN_VOLUME,
  secretRoot,
  secretVolume,
  SOCKET,
} from './names.ts';
import type { Json } from '../lib/json.ts';
import { binaryQuantity } from './resources.ts';
import type { Settings } from './settings.ts';

const MIB = 2 ** 20;

export interface SidecarInput {
  readonly settings: Settings;
  readonly image: string;
  readonly plan: Plan;
  /** Names of the mount Secrets, one for each distinct volume, in the order of their numbers. */
  readonly secrets: readonly string[];
  readonly memoryCache: boolean;
  readonly clientResources: Json;
  readonly holderResources: Json;
  /** The group of the client's traffic; @default that of root */
  readonly group?: number;
  /** The pod has its node's network. */
  readonly hostNetwork?: boolean;
}

// The pod's own securityContext (runAsNonRoot, runAsUser) must not apply to who opens /dev/fuse and mounts.
const securityContext = { privileged: true, runAsUser: 0, runAsGroup: 0, runAsNonRoot: false };

/** How long one probe waits, seconds; the kubelet asks again. */
const PROBE_SECONDS = 15;
const STEP_SECONDS = 0.05;

/** Between two looks for the client's heartbeat, seconds. */
const LISTEN_SECONDS = 20;
/** What a client gets to end that was taken for dead, seconds: one that lives hands its mounts over, and loses nothing. */
const END_SECONDS = 10;

/** A command of sh that waits, in small steps, for at most so many seconds until all `conditions` (commands, too) have held, one after the other. */
const waiting = (conditions: readonly string[], seconds: number, last: string): readonly string[] => {
  const wait = `i=$((i+1)); test $i -lt ${Math.round(seconds / STEP_SECONDS)} || ${last}; sleep ${STEP_SECONDS}`;
  return ['sh', '-c', `i=0; ${conditions.map((one) => `until ${one}; do ${wait}; done`).join('; ')}`];
};

/**
 * The probe itself waits, so that a client that follows another is ready as soon as it serves. What it prints when it has waited in
 * vain, why the client does not serve, the kubelet puts into an event of the pod.
 */
const readiness: Json = {
  exec: {
    command: waiting([`test ! -s ${PROBLEM}`, `test -e ${SERVING}`], PROBE_SECONDS, `{ cat ${PROBLEM} 2> /dev/null; exit 1; }`),
  },
  periodSeconds: PROBE_SECONDS,
  timeoutSeconds: 2 * PROBE_SECONDS,
  failureThreshold: 1,
};

const shared: readonly Json[] = [
  { name: MOUNT_VOLUME, mountPath: MOUNT_ROOT, mountPropagation: 'Bidirectional' },
  { name: RUN_VOLUME, mountPath: RUN_ROOT },
];

/** Keeps the FUSE descriptors, guards the mount points, unmounts at the end. */
export function holderContainer({ settings, image, plan, holderResources }: SidecarInput): Json {
  return {
    name: HOLDER,
    image,
    imagePullPolicy: settings.imagePullPolicy,
    restartPolicy: 'Always',
    args: ['hold', '--socket', SOCKET, ...plan.mounts.flatMap((mount) => ['--mount', mount.target])],
    resources: holderResources,
    securityContext,
    // Not a probe: the kubelet would begin with it up to a second later, and the client would be as late. The holder rests on nothing
    // but its pod, so it is there at once, or ends; the kubelet tells nobody of a container whose hook still waits.
    lifecycle: { postStart: { exec: { command: waiting([`test -S ${SOCKET}`], PROBE_SECONDS, 'exit 1') } } },
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: shared,
  };
}

/**
 * A client that turns its loop leaves a heartbeat; asked for in files of the pod's memory only, by what a shell has built in. It
 * never goes through a mount: a probe that waits there could not be ended, nor its container. See src/api/heartbeat.ts.
 */
const liveness: Json = {
  exec: {
    command: [
      'sh',
      '-c',
      `test ! -e ${HEARTBEAT} || { read -r up _ < /proc/uptime; read -r beat < ${HEARTBEAT}; test $((\${up%%.*} - beat)) -le ${SILENT_SECONDS}; }`,
    ],
  },
  periodSeconds: LISTEN_SECONDS,
  timeoutSeconds: 10,
  failureThreshold: SILENT_LOOKS,
  terminationGracePeriodSeconds: END_SECONDS,
};

/** Serves all volumes of the pod; ready when it says that every mount answers. Nothing looks into one (src/api/heartbeat.ts). */
export function clientContainer(input: SidecarInput): Json {
  const { settings, image, secrets, clientResources, group, hostNetwork = false } = input;
  const metricsPort = hostNetwork ? 0 : settings.metricsPort;
  return {
    name: CLIENT,
    image,
    imagePullPolicy: settings.imagePullPolicy,
    restartPolicy: 'Always',
    args: [
      'mount',
      '--plan',
      `${PLAN_ROOT}/${PLAN_FILE}`,
      '--socket',
      SOCKET,
      '--serving',
      SERVING,
      ...(metricsPort > 0 ? ['--metrics', `:${metricsPort}`] : []),
    ],
    // By this name Prometheus finds it.
    ...(metricsPort > 0 ? { ports: [{ name: METRICS_PORT_NAME, containerPort: metricsPort, protocol: 'TCP' }] } : {}),
    resources: clientResources,
    securityContext: group === undefined ? securityContext : { ...securityContext, runAsGroup: group },
    // A hook, and a probe only for what comes later: after a startup probe the kubelet begins with the application up to two seconds
    // later. It publishes neither state nor log while a hook waits, so this one waits for the first client of the pod only.
    lifecycle: { postStart: { exec: { command: waiting([`test -e ${SERVED}`], settings.startSeconds, 'exit 1') } } },
    readinessProbe: readiness,
    livenessProbe: liveness,
    terminationMessagePolicy: 'FallbackToLogsOnError',
    volumeMounts: [
      ...shared,
      { name: PLAN_VOLUME, mountPath: PLAN_ROOT, readOnly: true },
      ...secrets.map((_, index) => ({ name: secretVolume(index), mountPath: secretRoot(index), readOnly: true })),
      { name: CACHE_VOLUME, mountPath: CACHE_ROOT },
    ],
  };
}

/** The pod's volumes that both need. */
export function podVolumes({ plan, secrets, memoryCache }: SidecarInput): readonly Json[] {
  // The kubelet evicts a pod whose emptyDir outgrows its limit: the client may overshoot while it evicts blocks, and the
  // journal of written data lies there too, also in a pod without a cache.
  const limit = binaryQuantity(roomFor(plan.cache?.sizeMiB ?? 0, plan.bufferMiB + (plan.writeback?.maxStagingMiB ?? 0)) * MIB);
  return [
    { name: MOUNT_VOLUME, emptyDir: {} },
    { name: RUN_VOLUME, emptyDir: { medium: 'Memory', sizeLimit: '16Mi' } },
    {
      name: PLAN_VOLUME,
      downwardAPI: {
        items: [{ path: PLAN_FILE, fieldRef: { apiVersion: 'v1', fieldPath: `metadata.annotations['${annotations.plan}']` } }],
      },
    },
    ...secrets.map((secretName, index) => ({ name: secretVolume(index), secret: { secretName, defaultMode: 0o400 } })),
    { name: CACHE_VOLUME, emptyDir: { ...(memoryCache ? { medium: 'Memory' } : {}), sizeLimit: limit } },
  ];
}

/** What an application container gets for one mount. */
export function applicationMount(id: string, mountPath: string, readOnly: boolean): Json {
  return {
    name: MOUNT_VOLUME,
    mountPath,
    subPath: id,
    mountPropagation: 'HostToContainer',
    ...(readOnly ? { readOnly: true } : {}),
  };
}
