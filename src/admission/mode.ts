/**
 * How a pod gets at a volume: `fuse` (a sidecar mounts it) or `sync` (a sidecar copies it into an emptyDir before the
 * application starts, and writes changes back). Pure: what the pod asks for, its platform, its namespace and itself in, a mode and
 * why, or a refusal, out.
 *
 * `auto` takes fuse where nothing stands against it, else sync; it never takes what was not possible. What is named is taken or
 * refused, never exchanged.
 */
import { quote, type RequestedMode } from '../api/annotation.ts';
import { type Json, textOf } from '../lib/json.ts';
import type { FoundPlatform } from './platforms/index.ts';
import type { Violation } from './violation.ts';

export type Mode = 'fuse' | 'sync';

export const ENFORCE = 'pod-security.kubernetes.io/enforce';

/** The level of Pod Security that a namespace enforces. */
export function enforcedLevel(namespaceLabels: Json): string | undefined {
  return textOf(namespaceLabels[ENFORCE]);
}

export interface ModeInput {
  readonly requested: RequestedMode;
  readonly found: FoundPlatform;
  readonly namespace: string;
  /** The level of Pod Security that the namespace enforces; undefined where none is, or it is not to be looked at. */
  readonly enforced: string | undefined;
  /** The pod has a user namespace of its own (`hostUsers: false`). */
  readonly ownUsers: boolean;
}

export interface ChosenMode {
  readonly mode: Mode;
  /** One clause for people. */
  readonly why: string;
}

type Obstacle = (input: ModeInput) => Violation | undefined;

const FORBIDS = new Set(['baseline', 'restricted']);

/** What stands against a privileged sidecar that mounts. */
const againstFuse: readonly Obstacle[] = [
  ({ found: { platform, by }, requested }) =>
    platform.fuse === 'no' || (platform.fuse === 'allowed' && requested === 'auto')
      ? {
          reason: 'PlatformForbids',
          message: `${platform.why} (the pod is for ${platform.title}, told by ${by})`,
        }
      : undefined,
  ({ enforced, namespace }) =>
    enforced !== undefined && FORBIDS.has(enforced)
      ? {
          reason: 'PodSecurity',
          message: `namespace ${quote(namespace)} is labelled ${ENFORCE}=${enforced}, which forbids the privileged container that mounts volumes`,
        }
      : undefined,
  ({ ownUsers }) =>
    ownUsers
      ? {
          reason: 'UserNamespace',
          message: 'the pod has a user namespace (hostUsers: false), from which mounts do not reach the other containers',
        }
      : undefined,
];

/** What stands against any sidecar at all. */
const againstSync: readonly Obstacle[] = [
  ({ found: { platform, by } }) =>
    platform.nativeSidecars
      ? undefined
      : {
          reason: 'PlatformForbids',
          message: `${platform.title} (told by ${by}) runs no init container that stays, so nothing can serve the volume beside the application; run the pod elsewhere`,
        },
  ({ found: { platform, by } }) =>
    platform.subPath === false
      ? {
          reason: 'PlatformForbids',
          message: `${platform.title} (told by ${by}) mounts no directory of an emptyDir (subPath), which both modes need; run the pod elsewhere`,
        }
      : undefined,
];

const WAY_OUT: Readonly<Record<string, string>> = {
  PlatformForbids: 'run it elsewhere, or say with the annotation juicepod.io/platform where it really runs',
  PodSecurity: `run the pod in a namespace labelled ${ENFORCE}=privileged`,
  UserNamespace: 'remove hostUsers',
};

const first = (obstacles: readonly Obstacle[], input: ModeInput): Violation | undefined => {
  for (const obstacle of obstacles) {
    const violation = obstacle(input);
    if (violation) return violation;
  }
  return undefined;
};

/** The mode of one volume in a pod, or why it can have none. */
export function chooseMode(input: ModeInput): ChosenMode | Violation {
  const { requested, found } = input;
  const noSync = first(againstSync, input);
  if (requested === 'sync') return noSync ?? { mode: 'sync', why: 'mode: sync was asked for' };
  // A platform without sidecars can neither mount nor copy: its own sentence says so.
  if (noSync) return noSync;
  const noFuse = first(againstFuse, input);
  if (!noFuse)
    return {
      mode: 'fuse',
      why: requested === 'fuse' ? 'mode: fuse was asked for' : `${found.platform.title} allows a privileged sidecar`,
    };
  if (requested === 'auto') return { mode: 'sync', why: noFuse.message };
  return { reason: noFuse.reason, message: `${noFuse.message}; write mode: sync, or ${WAY_OUT[noFuse.reason] ?? ''}` };
}
