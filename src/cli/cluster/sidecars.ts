/**
 * Findings about a pod that is in the cluster: whether it has what the webhook adds, whether another webhook took something away,
 * and what its containers and events say. Pure.
 */
import { isOurContainer } from '../../admission/names.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { annotations, sidecars } from '../../api/group.ts';
import type { Check, Finding } from './findings.ts';

/** `juicepod mount` ends so where the volume is gone or changed. */
const EXIT_GONE = 11;
const EXIT_KILLED = 137;

const nameOf = (object: unknown): string => textOf(mapOf(object)['name']) ?? '';

const added: Check = ({ target }) => {
  if (!target.exists) return [];
  const { pod, namespace, name } = target;
  if (mapOf(mapOf(pod['metadata'])['annotations'])[annotations.volumes] === undefined) return [];
  const init = listOf(mapOf(pod['spec'])['initContainers']).map((container) => mapOf(container));
  const sidecars = init.filter((container) => isOurContainer(nameOf(container)));
  if (sidecars.length === 0)
    return [
      {
        severity: 'error',
        reason: 'SlippedThrough',
        message: `the pod has the annotation, but nothing was added to it: it was annotated later, or created while the webhook was not called`,
        todo: `delete it, so that it is created again: kubectl delete pod ${name} -n ${namespace}`,
      },
    ];
  const stripped = sidecars.filter((container) => container['restartPolicy'] !== 'Always').map(nameOf);
  if (stripped.length === 0) return [];
  return [
    {
      severity: 'error',
      reason: 'SidecarStripped',
      message: `another webhook took restartPolicy from ${stripped.join(' and ')}: the pod waits for it to end, for ever`,
      todo: 'find the webhook that writes whole pods (kubectl get mutatingwebhookconfigurations), update it or exclude such pods, then delete the pod',
    },
  ];
};

function waiting(container: string, state: Json): Finding | undefined {
  const reason = textOf(state['reason']) ?? '';
  const message = `${container}: ${reason}${textOf(state['message']) ? `: ${(textOf(state['message']) ?? '').slice(0, 400)}` : ''}`;
  switch (reason) {
    case 'ErrImagePull':
    case 'ImagePullBackOff':
    case 'InvalidImageName':
    case 'ErrImageNeverPull':
      return {
        severity: 'error',
        reason: 'ImageNotPulled',
        message,
        todo: 'the node cannot get the image of the sidecars: see --image of the webhook and spec.client.image of the volume, and imagePullSecrets of the pod (--image-pull-secret of the webhook gives them to all; each must be in the namespace of the pod)',
      };
    case 'CreateContainerConfigError':
    case 'CreateContainerError':
    case 'RunContainerError':
      return {
        severity: 'error',
        reason: 'ContainerNotCreated',
        message,
        todo: 'the message says what is missing; kubectl describe pod has more',
      };
    default:
      return undefined;
  }
}

/** What the kubelet tells of the probes of our containers: why a client waits, and that it ended one that hung. */
function probed(events: Parameters<Check>[0]['events']): { readonly waits?: string; readonly hung: boolean } {
  let waits: string | undefined;
  let hung = false;
  for (const event of events.state === 'found' ? events.value : []) {
    const message = textOf(event['message']) ?? '';
    waits = /^(?:Startup|Readiness) probe failed: (.* waits for its volume: [^]*)$/.exec(message)?.[1]?.trim() ?? waits;
    hung ||= message.includes(sidecars.client) && message.includes('failed liveness probe');
  }
  return { hung, ...(waits === undefined ? {} : { waits }) };
}

/** `pod`: as kubectl is told of it. */
function ended(pod: string, container: string, state: Json, restarts: number, hung: boolean): Finding | undefined {
  const code = Number(state['exitCode'] ?? 0);
  const said = (textOf(state['message']) ?? '').trim().split('\n').at(-1) ?? '';
  const message = `${container} ended with ${code}${restarts > 0 ? ` and was started again ${restarts === 1 ? 'once' : `${restarts} times`}` : ''}${said ? `; its last words: ${said.slice(0, 400)}` : ''}`;
  if (code === EXIT_GONE)
    return {
      severity: 'error',
      reason: 'VolumeGone',
      message: `${message} (11: the volume is gone, or is another one now)`,
      todo: 'see the volume’s conditions (kubectl describe jv); a pod does not go on with another volume: delete it',
    };
  if (hung && container === sidecars.client && code === EXIT_KILLED && textOf(state['reason']) !== 'OOMKilled')
    return {
      severity: 'warning',
      reason: 'ClientHung',
      message: `${message} (it lived and did nothing any more; the kubelet ended it, and programs went on with the next one)`,
      todo: `if it happens again: does the node give it processor time, does its disk hang? Else report it, with the log: kubectl logs ${pod} -c juicepod-client --previous`,
    };
  if (textOf(state['reason']) === 'OOMKilled' || code === EXIT_KILLED)
    return {
      severity: 'warning',
      reason: 'OutOfMemory',
      message: `${message} (killed${textOf(state['reason']) === 'OOMKilled' ? ' for want of memory' : ''})`,
      todo: 'raise spec.client.resources.limits.memory of the volume, or lower buffer.size of its cache policy',
    };
  if (code === 0) return undefined;
  return {
    severity: 'error',
    reason: 'ClientFailed',
    message,
    todo: `do what it says; the whole log: kubectl logs ${pod} -c ${container} --previous`,
  };
}

const state: Check = ({ target, events: told }) => {
  if (!target.exists) return [];
  const pod = `${target.name} -n ${target.namespace}`;
  const { waits, hung } = probed(told);
  const statuses = listOf(mapOf(target.pod['status'])['initContainerStatuses']).map((each) => mapOf(each));
  return statuses
    .filter((status) => isOurContainer(nameOf(status)))
    .flatMap((status) => {
      const container = nameOf(status);
      const now = mapOf(status['state']);
      const restarts = Number(status['restartCount'] ?? 0);
      const past = mapOf(mapOf(status['lastState'])['terminated']);
      const terminated = Object.keys(mapOf(now['terminated'])).length > 0 ? mapOf(now['terminated']) : past;
      const found = [
        Object.keys(mapOf(now['waiting'])).length > 0 ? waiting(container, mapOf(now['waiting'])) : undefined,
        Object.keys(terminated).length > 0 ? ended(pod, container, terminated, restarts, hung) : undefined,
      ].filter((each) => each !== undefined);
      const isStarting =
        Object.keys(mapOf(now['running'])).length > 0 && (status['started'] === false || status['ready'] === false);
      if (isStarting && waits !== undefined && container === sidecars.client)
        return [
          {
            severity: 'error' as const,
            reason: 'WaitsForVolume',
            message: `${container} follows one that ended, and cannot open its volume: ${waits.slice(0, 400)}`,
            todo: 'programs wait, and nothing is lost: mend what it names (the Secret of the JuiceVolume, database, store), and it goes on by itself',
          },
        ];
      if (found.length === 0 && isStarting)
        return [
          {
            severity: 'warning' as const,
            reason: 'NotStarted',
            message: `${container} runs, but its volumes do not answer yet`,
            todo: `wait, or see what it waits for: kubectl logs ${pod} -c ${container}`,
          },
        ];
      return found;
    });
};

/** Events that stop a pod, by what Kubernetes calls them. */
const known: readonly { readonly event: RegExp; readonly reason: string; readonly todo: string }[] = [
  {
    event: /^FailedMount$/,
    reason: 'VolumeNotSetUp',
    todo: 'the kubelet waits for what the message names; a Secret juicepod-mount… is written by the operator when the volume is ready',
  },
  {
    event: /^FailedScheduling$/,
    reason: 'NotScheduled',
    todo: 'no node has room: the cache counts as ephemeral storage; make local.size of the cache policy smaller, or add room',
  },
  {
    event: /^Evicted$/,
    reason: 'Evicted',
    todo: 'the cache outgrew its limit or the node was short; make local.size of the cache policy smaller',
  },
  { event: /^FailedCreatePodSandBox$/, reason: 'ContainerNotCreated', todo: 'the node could not begin; the message says why' },
];

const events: Check = ({ events: found, target }) => {
  if (found.state === 'unknown')
    return [
      {
        severity: 'unknown',
        reason: 'NotReadable',
        message: `events could not be read: ${found.why}`,
        todo: 'ask somebody who may read them to run this',
      },
    ];
  if (found.state !== 'found') return [];
  const isRunning = mapOf(target.pod['status'])['phase'] === 'Running';
  const last = new Map<string, Finding>();
  for (const event of found.value) {
    if (event['type'] !== 'Warning') continue;
    const rule = known.find((each) => each.event.test(textOf(event['reason']) ?? ''));
    if (!rule || (isRunning && rule.reason !== 'Evicted')) continue;
    const message = `${textOf(event['reason'])}: ${(textOf(event['message']) ?? '').slice(0, 500)}`;
    last.set(rule.reason, { severity: 'error', reason: rule.reason, message, todo: rule.todo });
  }
  return [...last.values()];
};

/** All checks of a pod that is there. */
export const podChecks: readonly Check[] = [added, state, events];
