/** GKE in Autopilot mode, and Autopilot compute classes in standard clusters. */
import { GIB, type Platform } from './platform.ts';

export const gkeAutopilot: Platform = {
  name: 'gke-autopilot',
  title: 'GKE Autopilot',
  signs: [
    [{ on: 'node', key: 'cloud.google.com/compute-class', values: ['autopilot', 'autopilot-spot', 'Autopilot'] }],
    // Written by Autopilot's own webhooks.
    [{ on: 'annotation', key: 'autopilot.gke.io/resource-adjustment' }],
    [{ on: 'annotation', key: 'autopilot.gke.io/warden-version' }],
  ],
  fuse: 'allowed',
  why: 'Autopilot admits privileged containers only from its list of allowed workloads',
  nativeSidecars: true,
  disk: { included: GIB, max: 10 * GIB },
  facts: [
    {
      fact: 'privileged containers are refused, but for workloads that an AllowlistSynchronizer of the cluster permits',
      source: 'https://cloud.google.com/kubernetes-engine/docs/how-to/run-autopilot-partner-workloads',
    },
    {
      fact: 'ephemeral storage: 1 GiB by default, 10 GiB for all containers of a pod together at most',
      source: 'https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests',
    },
    {
      fact: 'the annotation autopilot.gke.io/resource-adjustment tells that Autopilot changed the requests of a pod',
      source: 'https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests',
    },
    {
      fact: 'files above the 10 GiB cannot be kept in a pod',
      source: 'https://github.com/GoogleCloudPlatform/gcs-fuse-csi-driver/issues/21',
    },
  ],
};
