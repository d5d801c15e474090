/** Alibaba Cloud's Elastic Container Instances and Container Compute Service behind ACK virtual nodes. */
import { GIB, type Platform } from './platform.ts';

export const alibabaEci: Platform = {
  name: 'alibaba-eci',
  title: 'Alibaba ECI or ACS',
  signs: [
    [{ on: 'label', key: 'alibabacloud.com/eci', values: ['true'] }],
    [{ on: 'label', key: 'alibabacloud.com/acs', values: ['true'] }],
    [{ on: 'namespaceLabel', key: 'alibabacloud.com/eci', values: ['true'] }],
    [{ on: 'namespaceLabel', key: 'alibabacloud.com/acs', values: ['true'] }],
    [{ on: 'toleration', key: 'virtual-kubelet.io/provider', values: ['alibabacloud'] }],
  ],
  fuse: 'allowed',
  why: 'ECI gives privilege only to accounts for which it was enabled',
  nativeSidecars: true,
  disk: {
    included: 30 * GIB,
    max: 2048 * GIB,
    // On top of what is included.
    annotation: {
      name: 'k8s.aliyun.com/eci-extra-ephemeral-storage',
      value: (bytes) => `${Math.ceil(bytes / GIB) - 30}Gi`,
    },
  },
  facts: [
    {
      fact: 'pods go to ECI by the label alibabacloud.com/eci: "true" on them or their namespace; virtual nodes have the taint virtual-kubelet.io/provider=alibabacloud',
      source:
        'https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/configure-eci-scaling, https://www.alibabacloud.com/help/en/ack/serverless-kubernetes/user-guide/configure-eci-profile',
    },
    {
      fact: '30 GiB of disk are free; k8s.aliyun.com/eci-extra-ephemeral-storage asks for more',
      source: 'https://www.alibabacloud.com/help/en/elastic-container-instance/latest/eci-pod-annotation',
    },
    {
      fact: 'documents disagree on privileged containers; JuiceFS itself sends users of ECI to Fluid',
      source:
        'juicedata/juicefs-csi-driver docs/zh_cn/cookbook/serverless.md, https://help.aliyun.com/document_detail/462800.html',
    },
  ],
};
