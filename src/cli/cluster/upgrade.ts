/**
 * `juicepod upgrade`: brings an image of the client into running pods, one after the other, with the code of the operator, and
 * with the rights of who runs it. Says what it will do (--dry-run), what it does, and what came of it; ends with 1 where a pod
 * did not come back. What it did stands in the pods, so it can be interrupted and started again.
 */
import { JuiceVolumes, parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { connect } from '../../kube/client.ts';
import { isForbidden } from '../../kube/errors.ts';
import { keyOf } from '../../kube/resources.ts';
import type { KubeClient, KubeObject } from '../../kube/types.ts';
import { type Clock, systemClock } from '../../lib/clock.ts';
import { UserError } from '../../lib/errors.ts';
import { parseDuration } from '../../lib/units.ts';
import { apply, observe } from '../../operator/rollout/apply.ts';
import { decide, phaseOf, podKey, type RolloutInput, type RolloutReport } from '../../operator/rollout/decide.ts';
import { endingSignal, wholeNumberOf } from '../options.ts';
import { type Output, print } from '../report.ts';
import { forPeople } from './connection.ts';

/** Pause between two looks at the pods, milliseconds. */
const LOOK_MS = 1000;

export interface UpgradeOptions {
  readonly kubeconfig?: string;
  readonly namespace?: string;
  readonly image?: string;
  readonly maxUnavailable: string;
  readonly timeout: string;
  readonly retry?: boolean;
  readonly dryRun?: boolean;
  readonly output: Output;
}

/** What is told of a volume. */
export interface UpgradeResult extends Omit<RolloutReport, 'updating'> {
  readonly volume: string;
  readonly pods: readonly { readonly pod: string; readonly image: string; readonly phase: string }[];
}

export interface Upgrade {
  readonly client: KubeClient;
  readonly volume: JuiceVolume;
  readonly find: (key: string) => JuiceVolume | undefined;
  readonly image: string;
  readonly limits: Pick<RolloutInput, 'maxUnavailable' | 'timeoutMs'>;
  readonly retry: boolean;
  readonly dryRun: boolean;
  readonly clock: Clock;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** One volume, to its end: complete, or stopped at a pod that failed. */
async function upgradeVolume(upgrade: Upgrade): Promise<UpgradeResult> {
  const { client, volume, find, image, limits, dryRun, clock, say, signal } = upgrade;
  const key = keyOf(volume);
  let said = '';
  // Only those that failed before: one that fails now ends it.
  let { retry } = upgrade;
  for (;;) {
    // Whoever runs this may change these pods or not: that is for the API server to say.
    const { pods } = await observe({ client, volume, find, standardImage: undefined, image, allowedImages: [''], signal });
    const input = { ...limits, image, pods, paused: false, retry, now: clock.now() };
    const { steps, report } = decide(input);
    const { updating: _, ...rest } = report;
    const result = {
      ...rest,
      volume: key,
      pods: pods.map((pod) => ({ pod: podKey(pod), image: pod.image, phase: phaseOf(pod, input).is })),
    };
    if (dryRun) return result;
    for (const step of steps)
      say(
        step.do === 'update'
          ? `${podKey(step.pod)}: ${step.pod.image} → ${image}`
          : `${podKey(step.pod)}: back to ${step.to.image}: ${step.why}`,
      );
    await apply(client, steps, image, clock.now(), signal);
    if (retry && !pods.some((pod) => pod.record?.failed !== undefined && pod.record.image === image)) retry = false;
    if (report.message !== said) say(`${key}: ${report.message}`);
    said = report.message;
    if (report.state === 'Complete') return result;
    // What restarts is waited for, also where another pod has failed.
    if (report.state === 'Failed' && steps.length === 0 && report.updating.length === 0) return result;
    await clock.sleep(LOOK_MS, signal);
  }
}

async function volumesIn(
  client: KubeClient,
  namespace: string | undefined,
  signal: AbortSignal,
): Promise<readonly JuiceVolume[]> {
  const { items } = await client.resource<JuiceVolume & KubeObject>(JuiceVolumes).list({ namespace, signal });
  return items.map((item) => parseJuiceVolume(item));
}

function imageFor(volume: JuiceVolume, wanted: string | undefined): string {
  const own = volume.spec.client.image;
  const key = keyOf(volume);
  if (wanted !== undefined && own !== wanted && volume.spec.client.rollout.strategy === 'PodByPod')
    throw new UserError(
      'OperatorDecides',
      `the operator gives the pods of ${key} the image ${own ?? 'of the webhook'} (spec.client.rollout.strategy is PodByPod), and would undo this`,
      {
        hint: `Change the volume instead: kubectl patch jv ${volume.metadata.name} --type=merge -p '{"spec":{"client":{"image":"${wanted}"}}}'`,
      },
    );
  const image = wanted ?? own;
  if (image !== undefined && /\s|^$/.test(image))
    throw new UserError('ImageInvalid', `${JSON.stringify(image)} is no image`, {
      hint: 'Such as ghcr.io/juicepod/juicepod:0.2.0',
    });
  if (image === undefined)
    throw new UserError('ImageMissing', `the volume ${key} names no image of the client`, { hint: 'Say which: --image IMAGE' });
  return image;
}

function describe({ volume, image, message, pods }: UpgradeResult, dryRun: boolean): string {
  const lines = pods.map(
    ({ pod, image: current, phase }) => `  ${pod}  ${phase === 'outdated' ? `${current} → ${image}` : `${phase}, ${current}`}\n`,
  );
  return dryRun
    ? `${volume}: to ${image}\n${lines.join('')}${lines.length === 0 ? '  no pod has it mounted\n' : ''}`
    : `${volume}: ${message}\n`;
}

export async function upgradeCommand(names: readonly string[], raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as UpgradeOptions;
  const signal = endingSignal();
  const limits = {
    maxUnavailable: wholeNumberOf(options.maxUnavailable, '--max-unavailable', 1, 1000),
    timeoutMs: parseDuration(options.timeout, '--timeout'),
  };
  const client = connect({ fieldManager: 'juicepod-upgrade', ...(options.kubeconfig ? { kubeconfig: options.kubeconfig } : {}) });
  try {
    const namespace = options.namespace ?? client.namespace;
    // Other volumes of the same pods may have a say; who may not see them goes by those of the namespace.
    const all = await volumesIn(client, undefined, signal).catch((error: unknown) => {
      if (isForbidden(error)) return volumesIn(client, namespace, signal);
      throw error;
    });
    const byKey = new Map(all.map((volume) => [keyOf(volume), volume]));
    const find = (key: string): JuiceVolume | undefined => byKey.get(key);
    const wanted =
      names.length > 0
        ? names.map((name) => `${namespace}/${name}`)
        : [...byKey.keys()].filter((key) => key.startsWith(`${namespace}/`));
    const volumes = wanted.map((key) => {
      const volume = find(key);
      if (!volume)
        throw new UserError('VolumeMissing', `there is no JuiceVolume ${key}`, {
          hint: 'kubectl get jv -A lists them; -n names another namespace.',
        });
      return { volume, image: imageFor(volume, options.image) };
    });
    const dryRun = options.dryRun === true;
    const say = options.output === 'text' ? (line: string): void => void process.stdout.write(`${line}\n`) : (): void => {};
    const results: UpgradeResult[] = [];
    for (const { volume, image } of volumes) {
      const upgrade = {
        client,
        volume,
        find,
        image,
        limits,
        retry: options.retry === true,
        dryRun,
        clock: systemClock,
        say,
        signal,
      };
      results.push(await upgradeVolume(upgrade));
      if (results.at(-1)?.state === 'Failed' && !dryRun) break;
    }
    if (results.length === 0)
      print(options.output, { dryRun, volumes: [] }, `There is no JuiceVolume in namespace ${namespace}.`);
    else if (options.output === 'json') print('json', { dryRun, volumes: results }, '');
    else if (dryRun) for (const result of results) print('text', undefined, describe(result, dryRun));
    if (!dryRun && results.some(({ state }) => state === 'Failed')) process.exitCode = 1;
  } catch (error) {
    throw forPeople(error, client.server);
  } finally {
    await client.close();
  }
}
