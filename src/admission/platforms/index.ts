/**
 * On which platform a pod is to run. What somebody said counts before what the pod looks like: the pod's annotation, the
 * namespace's label, the webhook's flag, then the signs of each platform in order, at last `generic`.
 */
import { PLATFORM_KEY } from '../names.ts';
import { type Json, textOf } from '../../lib/json.ts';
import { type Pod } from '../pod.ts';
import { alibabaEci } from './alibaba.ts';
import { azureVirtualNodes, azureVirtualNodesAddon } from './azure.ts';
import { eksFargate } from './eks-fargate.ts';
import { generic } from './generic.ts';
import { gkeAutopilot } from './gke-autopilot.ts';
import { huaweiCci } from './huawei.ts';
import { type Platform, signOf } from './platform.ts';
import { tencentTke } from './tencent.ts';
import { virtualNode } from './virtual-node.ts';
import { volcengineVci } from './volcengine.ts';

export type { Platform } from './platform.ts';

/** In the order in which signs are looked for: the particular before the general. */
export const platforms: readonly Platform[] = [
  eksFargate,
  gkeAutopilot,
  azureVirtualNodes,
  alibabaEci,
  huaweiCci,
  volcengineVci,
  tencentTke,
  azureVirtualNodesAddon,
  virtualNode,
  generic,
];

export const platformNames: readonly string[] = platforms.map(({ name }) => name);

/** A platform, and by what it was chosen. */
export interface FoundPlatform {
  readonly platform: Platform;
  readonly by: string;
}

/** What was named instead of a platform, and where. */
export interface UnknownPlatform {
  readonly unknown: string;
  readonly where: string;
}

/** `fallback` is the webhook's flag. */
export function findPlatform(pod: Pod, namespaceLabels: Json, fallback: string | undefined): FoundPlatform | UnknownPlatform {
  const said: readonly (readonly [unknown, string])[] = [
    [pod.annotations[PLATFORM_KEY], `the annotation ${PLATFORM_KEY}`],
    [namespaceLabels[PLATFORM_KEY], `the label ${PLATFORM_KEY} of the namespace`],
    [fallback, 'the flag --platform'],
  ];
  for (const [value, where] of said) {
    const name = textOf(value);
    if (name === undefined) continue;
    const platform = platforms.find((one) => one.name === name);
    return platform ? { platform, by: where } : { unknown: name, where };
  }
  for (const platform of platforms) {
    const sign = signOf(platform, pod, namespaceLabels);
    if (sign !== undefined) return { platform, by: sign };
  }
  return { platform: generic, by: 'no sign of another' };
}
