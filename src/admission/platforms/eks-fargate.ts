/** AWS Fargate under EKS: a virtual machine for each pod, chosen by a Fargate profile. */
import { GIB, type Platform } from './platform.ts';

export const eksFargate: Platform = {
  name: 'eks-fargate',
  title: 'EKS Fargate',
  signs: [
    // Written by the webhook of EKS, whose name (0500-amazon-eks-fargate-mutation…) comes before ours.
    [{ on: 'label', key: 'eks.amazonaws.com/fargate-profile' }],
    [{ on: 'scheduler', values: ['fargate-scheduler'] }],
    [{ on: 'node', key: 'eks.amazonaws.com/compute-type', values: ['fargate'] }],
    [{ on: 'toleration', key: 'eks.amazonaws.com/compute-type', values: ['fargate'] }],
  ],
  fuse: 'no',
  why: 'Fargate runs no privileged container and has no /dev/fuse',
  nativeSidecars: true,
  guaranteed: true,
  disk: { included: 20 * GIB, max: 175 * GIB },
  facts: [
    {
      fact: 'privileged containers, HostPort, HostNetwork and DaemonSets are not supported; a pod matches a profile by namespace and labels',
      source: 'https://docs.aws.amazon.com/eks/latest/userguide/fargate.html',
    },
    {
      fact: '20 GiB of disk, up to 175 GiB by the sum of the ephemeral-storage requests; requests must equal limits',
      source: 'https://docs.aws.amazon.com/eks/latest/userguide/fargate-pod-configuration.html',
    },
    {
      fact: 'no FUSE, and no plan for it',
      source: 'https://github.com/aws/containers-roadmap/issues/1000, https://github.com/aws/containers-roadmap/issues/412',
    },
    {
      fact: 'a profile can be chosen by the label eks.amazonaws.com/fargate-profile',
      source: 'https://docs.aws.amazon.com/eks/latest/userguide/fargate-profile.html',
    },
  ],
};
