/** Azure Container Instances behind AKS: virtual nodes (second generation), and the older add-on. */
import type { Platform } from './platform.ts';

export const azureVirtualNodes: Platform = {
  name: 'azure-virtual-nodes',
  title: 'Azure virtual nodes',
  signs: [[{ on: 'node', key: 'virtualization', values: ['virtualnode2'] }]],
  fuse: 'no',
  why: 'Azure Container Instances run no privileged container',
  nativeSidecars: true,
  facts: [
    {
      fact: 'pods are placed by nodeSelector virtualization: virtualnode2 and a toleration of virtual-kubelet.io/provider; init containers and emptyDir work, privileged containers do not',
      source: 'https://learn.microsoft.com/azure/aks/virtual-nodes-v2',
    },
  ],
};

export const azureVirtualNodesAddon: Platform = {
  name: 'azure-virtual-nodes-addon',
  title: 'the virtual-node add-on of AKS',
  signs: [
    [{ on: 'toleration', key: 'azure.com/aci' }],
    [{ on: 'toleration', key: 'virtual-kubelet.io/provider', values: ['azure'] }],
    [
      { on: 'node', key: 'type', values: ['virtual-kubelet'] },
      { on: 'node', key: 'kubernetes.io/role', values: ['agent'] },
    ],
  ],
  fuse: 'no',
  why: 'Azure Container Instances run no privileged container',
  // Neither a sidecar that mounts nor one that copies can run.
  nativeSidecars: false,
  facts: [
    {
      fact: 'placed by nodeSelector type: virtual-kubelet and kubernetes.io/role: agent; no init containers that stay, no downward API, no persistent volumes',
      source: 'https://learn.microsoft.com/azure/aks/virtual-nodes, https://pkg.go.dev/github.com/virtual-kubelet/azure-aci',
    },
    {
      fact: 'FUSE does not work there',
      source: 'https://github.com/Azure/azure-storage-fuse/issues/422',
    },
  ],
};
