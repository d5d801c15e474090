/**
 * The names by which the project is known in a cluster: API group, labels, annotations, finalizers, field managers.
 * One place, so that the operator, the webhook and the client cannot differ. No imports: the client loads this too.
 */

export const GROUP = 'juicepod.io';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}`;
/** `kubectl get juice` lists every kind of the group. */
export const CATEGORY = 'juice';

export const annotations = {
  /** On a pod: which volumes it gets, and where. */
  volumes: `${GROUP}/volumes`,
  /** On an injected pod: the plan the client follows (JSON, no secrets). */
  plan: `${GROUP}/plan`,
  /** On an injected pod: what the roll-out of the client's image and options last did to it. */
  rollout: `${GROUP}/rollout`,
  /** On a JuiceVolume that is to be deleted with its data: must hold the object's name. */
  confirmDelete: `${GROUP}/confirm-delete`,
  /** On a JuiceVolume: any new value makes the operator look again at once; echoed in status.lastHandledReconcileAt. */
  reconcileAt: `${GROUP}/reconcile-at`,
  /** On a mount Secret: `namespace/name` of its JuiceVolume. */
  volume: `${GROUP}/volume`,
} as const;

export const labels = {
  /** On a namespace: `disabled` keeps every pod of it from being injected, and mount Secrets away. */
  injection: `${GROUP}/injection`,
  /** On a pod: `"false"` keeps it from being injected. */
  inject: `${GROUP}/inject`,
  /** On an injected pod with a volume in sync mode: `"true"`. The operator looks at what becomes of such pods. */
  sync: `${GROUP}/sync`,
  /** On a mount Secret: the UID of its JuiceVolume (names may be longer than a label value). */
  volumeUid: `${GROUP}/volume-uid`,
  managedBy: 'app.kubernetes.io/managed-by',
  partOf: 'app.kubernetes.io/part-of',
} as const;

/** Names of the containers that pods get. */
export const sidecars = { holder: 'juicepod-holder', client: 'juicepod-client', sync: 'juicepod-sync' } as const;

/**
 * How the sync sidecar's termination message begins the lines that the operator makes events of: `<reason>: <text for people>`.
 */
export const syncReports = { notFlushed: 'NotFlushed', conflictKept: 'ConflictKept' } as const;

/** The value of `labels.managedBy` on what the operator makes. */
export const MANAGED_BY = 'juicepod-operator';

/** Keeps a JuiceVolume until nobody uses it, and, where that was asked for, until its data is gone. */
export const VOLUME_FINALIZER = `${GROUP}/volume`;

/** Type of the Secrets that the client reads, and their one mandatory key. */
export const MOUNT_SECRET_TYPE = `${GROUP}/mount`;
export const MOUNT_SECRET_KEY = 'volume.json';

/** Field managers of server-side apply, one per controller. */
export const fieldManagers = {
  volume: 'juicepod-volume',
  cachePolicy: 'juicepod-cache-policy',
  rollout: 'juicepod-rollout',
  sweep: 'juicepod-sweep',
} as const;

/** The emptyDir of an injected pod that holds cache and journal of its client. */
export const CACHE_VOLUME = 'juicepod-cache';
