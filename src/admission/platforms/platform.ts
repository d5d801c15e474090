/**
 * What a platform that runs pods lets them do, as a table per platform: by what a pod for it is recognised, what it allows, and
 * where each fact comes from. Pure data; `index.ts` chooses, `../mode.ts` draws the conclusion.
 *
 * A sign says that a pod may run there, not that it must: what holds on the stricter of two places holds on both.
 */
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { type Pod } from '../pod.ts';

export const GIB = 2 ** 30;

/** Something in a pod, or on its namespace, that tells where it is to run. `values` absent: any value. */
export interface Sign {
  readonly on: 'label' | 'annotation' | 'namespaceLabel' | 'node' | 'toleration' | 'scheduler' | 'runtimeClass';
  /** Name of the label, annotation, or taint; absent for scheduler and runtime class. */
  readonly key?: string;
  readonly values?: readonly string[];
  /** Values that say the contrary. */
  readonly not?: readonly string[];
}

export interface Fact {
  readonly fact: string;
  /** A page, or a file of a repository. */
  readonly source: string;
}

export interface Platform {
  /** As in `juicepod.io/platform`. */
  readonly name: string;
  readonly title: string;
  /** Each entry is a list of signs that must all be there; one entry suffices. */
  readonly signs: readonly (readonly Sign[])[];
  /**
   * Whether a privileged sidecar may open /dev/fuse and pass its mount on: `yes`; `allowed`, where somebody must have permitted
   * it for the account or cluster, so only who asks gets it; `no`.
   */
  readonly fuse: 'yes' | 'allowed' | 'no';
  /** Completes "…, because <reason>"; for `yes` not used. */
  readonly why: string;
  /** Whether init containers with `restartPolicy: Always` run beside the application; without them neither mode works. */
  readonly nativeSidecars: boolean;
  /** False: a container cannot mount a directory of an emptyDir. @default true */
  readonly subPath?: boolean;
  /** Requests must equal limits. */
  readonly guaranteed?: boolean;
  /** Room on the disk of a pod. */
  readonly disk?: {
    /** What a pod has without asking, bytes. */
    readonly included: number;
    /** The most that it can have, bytes. */
    readonly max: number;
    /** The annotation that asks for more than is included; absent: the sum of the requests does. */
    readonly annotation?: { readonly name: string; readonly value: (bytes: number) => string };
  };
  readonly facts: readonly Fact[];
}

const fits = (sign: Sign, value: string | undefined): boolean =>
  value !== undefined && (sign.values === undefined || sign.values.includes(value)) && !sign.not?.includes(value);

const own = (map: Json, key: string): string | undefined => (Object.hasOwn(map, key) ? textOf(map[key]) : undefined);

/** True where every term of the required node affinity asks for the label with values of the sign only. */
function requiredByAffinity(pod: Pod, sign: Sign): boolean {
  const affinity = mapOf(mapOf(pod.spec['affinity'])['nodeAffinity']);
  const terms = listOf(mapOf(affinity['requiredDuringSchedulingIgnoredDuringExecution'])['nodeSelectorTerms']);
  return (
    terms.length > 0 &&
    terms.every((term) =>
      listOf(mapOf(term)['matchExpressions']).some((expression) => {
        const { key, operator, values } = mapOf(expression);
        const wanted = listOf(values);
        return key === sign.key && operator === 'In' && wanted.length > 0 && wanted.every((value) => fits(sign, textOf(value)));
      }),
    )
  );
}

function tolerated(pod: Pod, sign: Sign): boolean {
  return listOf(pod.spec['tolerations']).some((entry) => {
    const { key, operator, value } = mapOf(entry);
    if (key !== sign.key) return false;
    // A toleration of any value fits the sign only where the sign asks for none.
    return operator === 'Exists' ? sign.values === undefined : fits(sign, textOf(value) ?? '');
  });
}

function has(sign: Sign, pod: Pod, namespaceLabels: Json): boolean {
  const key = sign.key ?? '';
  switch (sign.on) {
    case 'label':
      return fits(sign, own(pod.labels, key));
    case 'annotation':
      return fits(sign, own(pod.annotations, key));
    case 'namespaceLabel':
      return fits(sign, own(namespaceLabels, key));
    case 'node':
      return fits(sign, own(mapOf(pod.spec['nodeSelector']), key)) || requiredByAffinity(pod, sign);
    case 'toleration':
      return tolerated(pod, sign);
    case 'scheduler':
      return fits(sign, textOf(pod.spec['schedulerName']));
    case 'runtimeClass':
      return fits(sign, textOf(pod.spec['runtimeClassName']));
    default:
      return sign.on satisfies never;
  }
}

const SPELLED: Readonly<Record<Sign['on'], string>> = {
  label: 'the label',
  annotation: 'the annotation',
  namespaceLabel: 'the label of the namespace',
  node: 'the node label',
  toleration: 'the toleration of',
  scheduler: 'schedulerName',
  runtimeClass: 'runtimeClassName',
};

const spell = ({ on, key, values }: Sign): string =>
  [SPELLED[on], [key, values?.join('|')].filter((part) => part !== undefined).join('=')].join(' ');

/** By what the pod is recognised as one for the platform, for people; undefined where it is not. */
export function signOf(platform: Platform, pod: Pod, namespaceLabels: Json): string | undefined {
  const found = platform.signs.find((signs) => signs.every((sign) => has(sign, pod, namespaceLabels)));
  return found?.map(spell).join(' and ');
}
