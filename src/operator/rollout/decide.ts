/**
 * What to do next in a roll-out, from how the pods are. Pure: pods, image and limits in, steps and a report out.
 *
 * Never more than `maxUnavailable` clients are restarting. A pod whose client does not serve again in time, or cannot be started,
 * gets the image and the options back that it had, and no further pod is begun with until others are wanted.
 */
import { digestOf, type RolloutPod } from './pod.ts';

export interface RolloutInput {
  readonly image: string;
  readonly pods: readonly RolloutPod[];
  readonly maxUnavailable: number;
  readonly timeoutMs: number;
  readonly paused: boolean;
  /** Why the roll-out of this image and these options was stopped before, where it was: the pod that failed may be gone. */
  readonly stopped?: string | undefined;
  /** Pods that failed are begun with again. @default false */
  readonly retry?: boolean;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

export type Step =
  | { readonly do: 'update'; readonly pod: RolloutPod }
  /** Gives the former image and options back. */
  | { readonly do: 'revert'; readonly pod: RolloutPod; readonly to: Former; readonly why: string };

/** What a client had before. */
export interface Former {
  readonly image: string;
  readonly plan: string;
}

export interface RolloutReport {
  readonly state: 'Complete' | 'Progressing' | 'Paused' | 'Failed';
  readonly image: string;
  readonly total: number;
  readonly updated: number;
  /** `namespace/name` */
  readonly failed: readonly string[];
  readonly updating: readonly string[];
  readonly message: string;
}

export interface RolloutDecision {
  readonly steps: readonly Step[];
  readonly report: RolloutReport;
}

/** What waiting will not change: the application is paused meanwhile, so the former image is better at once. */
const HOPELESS = new Set(['InvalidImageName', 'ErrImageNeverPull', 'ImagePullBackOff', 'CreateContainerConfigError']);

type Phase =
  | { readonly is: 'outdated' | 'updating' | 'updated' | 'left' }
  | { readonly is: 'failed'; readonly why: string }
  | { readonly is: 'lost'; readonly to: Former; readonly why: string };

export const podKey = ({ namespace, name }: Pick<RolloutPod, 'namespace' | 'name'>): string => `${namespace}/${name}`;

/** Where one pod is in the roll-out of an image. */
export function phaseOf(
  pod: RolloutPod,
  { image, timeoutMs, now, retry }: Pick<RolloutInput, 'image' | 'timeoutMs' | 'now' | 'retry'>,
): Phase {
  const { record } = pod;
  if (!pod.running) return { is: 'left' };
  const isOurs = record?.image === image && (record.plan ?? digestOf(pod.wantedPlan)) === digestOf(pod.wantedPlan);
  const ours = isOurs ? record : undefined;
  if (pod.image !== image || pod.plan !== pod.wantedPlan)
    return ours?.failed === undefined || retry ? { is: 'outdated' } : { is: 'failed', why: ours.failed };
  // It began with them, somebody else changed it, or the client takes it up as it runs: nothing of ours to wait for.
  if (!ours || ours.failed !== undefined || ours.live) return { is: 'updated' };
  // A status from before the change says nothing of the new client.
  if (pod.serves && pod.restarts > ours.restarts) return { is: 'updated' };
  const said = pod.waiting && [pod.waiting.reason, pod.waiting.message].filter(Boolean).join(': ').slice(0, 300);
  const to = { image: ours.from, plan: ours.fromPlan ?? pod.plan };
  if (pod.waiting && HOPELESS.has(pod.waiting.reason)) return { is: 'lost', to, why: said ?? '' };
  if (now - ours.at > timeoutMs) {
    const late = `within ${Math.round(timeoutMs / 1000)} s`;
    // One that was not even restarted, and serves as before: it knows nothing of plans that change.
    const old = pod.restarts === ours.restarts && ours.from === image && pod.serves;
    const why = old
      ? `its client did not take up the new options ${late} (is its image too old for that, or is much staged that must be uploaded first?)`
      : `its client did not serve again ${late}${said ? ` (${said})` : ''}`;
    return { is: 'lost', to, why };
  }
  return { is: 'updating' };
}

export function decide(input: RolloutInput): RolloutDecision {
  const { image, maxUnavailable, paused } = input;
  const phases = input.pods
    .toSorted((a, b) => (podKey(a) < podKey(b) ? -1 : 1))
    .map((pod) => ({ pod, phase: phaseOf(pod, input) }));
  const of = (is: Phase['is']): RolloutPod[] => phases.filter(({ phase }) => phase.is === is).map(({ pod }) => pod);
  const [outdated, updating, updated] = [of('outdated'), of('updating'), of('updated')];
  const reverts = phases.flatMap(({ pod, phase }): Step[] =>
    phase.is === 'lost' ? [{ do: 'revert', pod, to: phase.to, why: phase.why }] : [],
  );
  const failures = phases.flatMap(({ pod, phase }) =>
    phase.is === 'failed' || phase.is === 'lost' ? [{ key: podKey(pod), why: phase.why }] : [],
  );
  const total = phases.length - of('left').length;
  const done = `${updated.length} of ${total} clients have the image and the options`;
  const report = (state: RolloutReport['state'], message: string): RolloutReport => ({
    state,
    image,
    total,
    updated: updated.length,
    failed: failures.map(({ key }) => key),
    updating: updating.map(podKey),
    message,
  });
  const [failure] = failures;
  if (failure)
    return {
      steps: reverts,
      report: report(
        'Failed',
        `${done}; stopped at pod ${failure.key}, which has its former ones again: ${failure.why}. It goes on with another image, or other options`,
      ),
    };
  if (paused && outdated.length > 0) return { steps: [], report: report('Paused', `${done}; paused`) };
  if (input.stopped !== undefined && outdated.length > 0) return { steps: [], report: report('Failed', input.stopped) };
  const steps = outdated.slice(0, Math.max(0, maxUnavailable - updating.length)).map((pod): Step => ({ do: 'update', pod }));
  if (outdated.length === 0 && updating.length === 0)
    return {
      steps,
      report: report('Complete', total === 0 ? 'no pod runs' : `all ${total} clients have the image and the options`),
    };
  const now = updating.map(podKey).concat(steps.map(({ pod }) => podKey(pod)));
  return {
    steps,
    report: report('Progressing', `${done}; restarting: ${now.slice(0, 3).join(', ')}${now.length > 3 ? ', …' : ''}`),
  };
}
