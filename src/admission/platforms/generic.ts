/** Nodes with a kubelet of their own, on which privileged containers may run: what no other profile claims. */
import type { Platform } from './platform.ts';

export const generic: Platform = {
  name: 'generic',
  title: 'a cluster with nodes',
  signs: [],
  fuse: 'yes',
  why: '',
  nativeSidecars: true,
  facts: [
    {
      fact: 'mountPropagation Bidirectional is allowed to privileged containers, and to no others',
      source: 'https://kubernetes.io/docs/concepts/storage/volumes/#mount-propagation',
    },
    {
      fact: 'init containers with restartPolicy Always are on by default since 1.29',
      source: 'https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/',
    },
  ],
};
