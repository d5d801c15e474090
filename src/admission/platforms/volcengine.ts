/** Volcengine Container Instance, into which VKE clusters burst. */
import type { Platform } from './platform.ts';

export const volcengineVci: Platform = {
  name: 'volcengine-vci',
  title: 'Volcengine VCI',
  signs: [[{ on: 'annotation', key: 'vke.volcengine.com/burst-to-vci', not: ['disable', 'off', 'false'] }]],
  fuse: 'no',
  why: 'VCI passes mounts on by annotations of its own, not by mountPropagation of a privileged container',
  nativeSidecars: true,
  facts: [
    {
      fact: 'pods go to VCI by the annotation vke.volcengine.com/burst-to-vci: enforce',
      source: 'https://www.volcengine.com/docs/6460/110394, juicedata/juicefs-csi-driver docs/zh_cn/cookbook/serverless.md',
    },
    {
      fact: 'FUSE containers there are neither privileged nor Bidirectional; vci.vke.volcengine.com/config-bidirectional-mount-propagation names their mounts',
      source: 'juicedata/juicefs-csi-driver pkg/juicefs/mount/builder/vci-serverless.go',
    },
  ],
};
