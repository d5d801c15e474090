/** What the administrator decides for all pods, and what the decision may look up. */
import type { JuiceCachePolicy } from '../api/cachepolicy.ts';
import type { JuiceVolume } from '../api/volume.ts';
import type { LimitRange } from './limits.ts';
import type { Resources } from './resources.ts';

export interface Settings {
  /** Image of holder and client; its entrypoint is `juicepod`. */
  readonly image: string;
  readonly imagePullPolicy: 'Always' | 'IfNotPresent' | 'Never';
  /** Secrets of the pod's namespace for the registry of the sidecars; the pod's imagePullSecrets get those that they lack. */
  readonly imagePullSecrets: readonly string[];
  /**
   * A volume's own client image is used in pods of its namespace; in pods of other namespaces only where the image starts
   * with one of these. Else whoever shares a volume could run a privileged image of their choice in somebody else's pods.
   */
  readonly allowedImages: readonly string[];
  readonly clientResources: Resources;
  readonly holderResources: Resources;
  /** Pods get at least so many seconds to end: what was written must be uploaded. */
  readonly minGraceSeconds: number;
  /**
   * Seconds in which every mount must answer when a pod begins, before the client is started anew. Helps against nothing but a defect: a
   * client that cannot begin ends itself, and one that follows another waits for its volume with the programs. Not longer than needed:
   * the kubelet shows nothing of the client meanwhile.
   */
  readonly startSeconds: number;
  /** Port at which clients serve metrics; 0: they do not. Pods on the network of their node never do: two of them would collide. */
  readonly metricsPort: number;
  /** The platform of all pods that, and whose namespaces, do not say another; else it is told by the pod. */
  readonly platform?: string;
  /** Request the disk that cache, journal and copies may take as ephemeral-storage. */
  readonly requestDisk: boolean;
  /** Look at what Pod Security would refuse. False for clusters that exempt namespaces from Pod Security. */
  readonly checkPodSecurity: boolean;
  /** Accept volumes that live in files of one machine, which no other pod can reach. True for `inject` and `play`. */
  readonly localVolumes: boolean;
}

export const defaultSettings: Settings = {
  image: 'ghcr.io/juicepod/juicepod:0.1.0',
  imagePullPolicy: 'IfNotPresent',
  imagePullSecrets: [],
  allowedImages: [],
  clientResources: { requests: { cpu: '100m', memory: '256Mi' } },
  holderResources: { requests: { cpu: '10m', memory: '64Mi' } },
  minGraceSeconds: 60,
  startSeconds: 120,
  metricsPort: 9567,
  requestDisk: true,
  checkPodSecurity: true,
  localVolumes: false,
};

/** What the webhook's caches hold; read only, nothing waits. */
export interface Cluster {
  volume(namespace: string, name: string): JuiceVolume | undefined;
  policy(namespace: string, name: string): JuiceCachePolicy | undefined;
  /** Labels of a namespace; undefined where it is not known (yet). */
  namespaceLabels(name: string): Readonly<Record<string, string>> | undefined;
  /** LimitRanges of a namespace. */
  limitRanges(namespace: string): readonly LimitRange[];
  /** Names of the volumes of a namespace, for messages. */
  volumeNames(namespace: string): readonly string[];
}
