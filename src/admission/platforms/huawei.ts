/** Huawei Cloud Container Instance, into which CCE clusters burst. */
import type { Platform } from './platform.ts';

export const huaweiCci: Platform = {
  name: 'huawei-cci',
  title: 'Huawei CCI',
  signs: [
    [{ on: 'label', key: 'virtual-kubelet.io/burst-to-cci', not: ['off', 'false'] }],
    [{ on: 'label', key: 'bursting.cci.io/burst-to-cci', not: ['off', 'false'] }],
    [{ on: 'toleration', key: 'virtual-kubelet.io/provider', values: ['huawei'] }],
  ],
  fuse: 'no',
  why: 'CCI runs no privileged container, and passes mounts on by a volume driver of its own only',
  nativeSidecars: true,
  subPath: false,
  facts: [
    {
      fact: 'pods go to CCI by the label virtual-kubelet.io/burst-to-cci',
      source: 'https://support.huaweicloud.com/usermanual-cce/cce_10_0135.html',
    },
    {
      fact: 'JuiceFS mounts there with SYS_ADMIN, MKNOD and the inline volume juicefs.csi.everest.io, without propagation; subPath of an emptyDir does not work',
      source:
        'juicedata/juicefs-csi-driver pkg/juicefs/mount/builder/cci-serverless.go, https://support.huaweicloud.com/cci_faq/cci_01_0156.html',
    },
  ],
};
