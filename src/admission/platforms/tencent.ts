/** Tencent Kubernetes Engine without nodes: serverless clusters (EKS) and super nodes. */
import { GIB, type Platform } from './platform.ts';

export const tencentTke: Platform = {
  name: 'tencent-tke',
  title: 'Tencent TKE Serverless',
  signs: [
    [{ on: 'node', key: 'node.kubernetes.io/instance-type', values: ['eklet'] }],
    [{ on: 'toleration', key: 'eks.tke.cloud.tencent.com/eklet' }],
    [{ on: 'annotation', key: 'eks.tke.cloud.tencent.com/cpu' }],
    [{ on: 'annotation', key: 'eks.tke.cloud.tencent.com/mem' }],
  ],
  // Each pod has a kernel of its own; JuiceFS's privileged sidecar is documented to work.
  fuse: 'yes',
  why: '',
  nativeSidecars: true,
  disk: {
    included: 20 * GIB,
    max: 2048 * GIB,
    annotation: { name: 'eks.tke.cloud.tencent.com/root-cbs-size', value: (bytes) => String(Math.ceil(bytes / GIB)) },
  },
  facts: [
    {
      fact: 'the privileged sidecar of JuiceFS CSI works there without a label or annotation',
      source: 'juicedata/juicefs-csi-driver docs/zh_cn/cookbook/serverless.md',
    },
    {
      fact: 'super nodes are chosen by node.kubernetes.io/instance-type: eklet and have the taint eks.tke.cloud.tencent.com/eklet',
      source: 'https://www.tencentcloud.com/document/product/457/40027',
    },
    {
      fact: '20 GiB of disk, images included; the annotation eks.tke.cloud.tencent.com/root-cbs-size asks for more',
      source: 'https://www.tencentcloud.com/document/product/457/39760, https://www.tencentcloud.com/document/product/457/36162',
    },
  ],
};
