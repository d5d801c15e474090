/** A virtual node whose provider the pod does not say: nothing is taken for granted that only machines of one's own have. */
import type { Platform } from './platform.ts';

export const virtualNode: Platform = {
  name: 'virtual-node',
  title: 'a virtual node',
  signs: [[{ on: 'node', key: 'type', values: ['virtual-kubelet'] }], [{ on: 'toleration', key: 'virtual-kubelet.io/provider' }]],
  fuse: 'allowed',
  why: 'virtual nodes seldom run privileged containers',
  nativeSidecars: true,
  facts: [
    {
      fact: 'nodes of virtual-kubelet have the label type=virtual-kubelet and the taint virtual-kubelet.io/provider',
      source: 'https://github.com/virtual-kubelet/virtual-kubelet',
    },
  ],
};
