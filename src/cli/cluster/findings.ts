/**
 * Why a pod does not get its volume: a list of checks, each a pure function from what was read to findings. A finding says what was
 * found and what to do. What could not be read is said too, so that silence means that all is well.
 */
import { planPod } from '../../admission/plan.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { type LabelSelector, matchesSelector } from '../../admission/selector.ts';
import { type Cluster, defaultSettings } from '../../admission/settings.ts';
import { readBundle } from '../../admission/x509.ts';
import { annotations, labels } from '../../api/group.ts';
import type { Found, Snapshot } from './snapshot.ts';

export type Severity = 'error' | 'warning' | 'unknown';

export interface Finding {
  readonly severity: Severity;
  /** CamelCase; explained in docs/analyze.md, or where it is a reason of the webhook, in docs/admission.md. */
  readonly reason: string;
  /** What was found. */
  readonly message: string;
  /** What to do. */
  readonly todo: string;
}

export type Check = (snapshot: Snapshot) => readonly Finding[];

const finding = (severity: Severity, reason: string, message: string, todo: string): Finding => ({
  severity,
  reason,
  message,
  todo,
});
const error = (reason: string, message: string, todo: string): readonly Finding[] => [finding('error', reason, message, todo)];
const warning = (reason: string, message: string, todo: string): readonly Finding[] => [
  finding('warning', reason, message, todo),
];
const nothing: readonly Finding[] = [];

/** Without the request that it answers, which says nothing to a person. */
const shorten = (message: string): string => message.replace(/^.*? answered \d+ ?\w*: /s, '').slice(0, 700);

/** One finding for what this user may not read. */
function unread(what: string, thing: Found<unknown>): readonly Finding[] {
  if (thing.state !== 'unknown') return nothing;
  return [
    finding(
      'unknown',
      'NotReadable',
      `${what} could not be read: ${shorten(thing.why)}`,
      'ask somebody who may read it to run this',
    ),
  ];
}

const webhooksOf = (configuration: Json): readonly Json[] => listOf(configuration['webhooks']).map((webhook) => mapOf(webhook));
const metadataOf = (object: Json): Json => mapOf(object['metadata']);
const labelsOf = (object: Json): Readonly<Record<string, string>> =>
  mapOf(metadataOf(object)['labels']) as Readonly<Record<string, string>>;
/** What follows when the cause is mended: a refused pod of a controller comes by itself, one that runs without its volume does not. */
function again({ target }: Pick<Snapshot, 'target'>, isRefused = false): string {
  const { kind, exists } = target;
  if (kind === 'Pod' && !exists) return 'then create the pod: volumes are added only when a pod is created';
  if (kind === 'Pod') return 'then create the pod again: volumes are added only when a pod is created';
  if (isRefused) return `then the pods of the ${kind} come by themselves, at the latest after a quarter of an hour`;
  return `then see that its pods are created again: volumes are added only when a pod is created`;
}

// --------------------------------------------------------------------------------------------------------- what was asked

/** What was probably meant to be the annotation, and has no effect where or as it is. */
function misplaced({ kind, pod, ownAnnotations = {} }: Snapshot['target']): string {
  if (ownAnnotations[annotations.volumes] !== undefined) return ` (it is on the ${kind} itself, where it has no effect)`;
  const like = [...Object.keys(mapOf(metadataOf(pod)['annotations'])), ...Object.keys(labelsOf(pod))].find((key) =>
    /^juice(pod|fs)?(\.io)?\/volumes?$/i.test(key),
  );
  return like === undefined ? '' : ` (${like} is not it)`;
}

const annotation: Check = (snapshot) => {
  const { target, annotationError } = snapshot;
  const value = mapOf(metadataOf(target.pod)['annotations'])[annotations.volumes];
  if (value === undefined)
    return error(
      'NotAnnotated',
      `${target.kind} ${target.name} has no annotation ${annotations.volumes}${target.kind === 'Pod' ? '' : ' in its pod template'}${misplaced(target)}`,
      `add ${annotations.volumes}: NAME=/path to the ${target.kind === 'Pod' ? `pod, ${again(snapshot)}` : 'template, spec.template.metadata'}`,
    );
  return annotationError === undefined
    ? nothing
    : error(
        'AnnotationInvalid',
        annotationError,
        `correct the annotation${target.kind === 'Pod' ? `, ${again(snapshot)}` : ` in the template of the ${target.kind}`}`,
      );
};

const optedOut: Check = (snapshot) => {
  const { target, namespace } = snapshot;
  return [
    ...(labelsOf(target.pod)[labels.inject] === 'false'
      ? error('PodOptedOut', `the pod is labelled ${labels.inject}=false`, `remove the label, ${again(snapshot)}`)
      : nothing),
    ...(namespace.state === 'found' && labelsOf(namespace.value)[labels.injection] === 'disabled'
      ? error(
          'NamespaceOptedOut',
          `namespace ${target.namespace} is labelled ${labels.injection}=disabled`,
          `kubectl label namespace ${target.namespace} ${labels.injection}-, ${again(snapshot)}`,
        )
      : nothing),
  ];
};

// ------------------------------------------------------------------------------------------------------------ the webhook

const INSTALL = 'install Juicepod (docs/install.md), or the part that is missing';

/** Nothing of it is there: one thing to do, not three. */
const isInstalled = ({ configuration, webhook, operator }: Snapshot): boolean =>
  [configuration, webhook, operator].some(({ state }) => state !== 'absent');

const configured: Check = (snapshot) => {
  const { configuration, target, namespace, system } = snapshot;
  if (!isInstalled(snapshot))
    return error(
      'NotInstalled',
      `Juicepod is not installed: there is no MutatingWebhookConfiguration juicepod-webhook, and neither operator nor webhook in namespace ${system}`,
      `kubectl apply --server-side -k config/default, or the chart (docs/install.md); name another namespace with --system`,
    );
  if (configuration.state === 'unknown') return unread('the webhook’s configuration', configuration);
  if (configuration.state === 'absent')
    return error(
      'WebhookMissing',
      'there is no MutatingWebhookConfiguration juicepod-webhook: no pod is given a volume',
      INSTALL,
    );
  const found: Finding[] = [];
  for (const webhook of webhooksOf(configuration.value)) {
    const of = (key: string): LabelSelector => mapOf(webhook[key]);
    if (namespace.state === 'found') {
      const known = { ...labelsOf(namespace.value), 'kubernetes.io/metadata.name': target.namespace };
      const isOptedOut = known[labels.injection as keyof typeof known] === 'disabled';
      if (!isOptedOut && !matchesSelector(of('namespaceSelector'), known))
        found.push(
          ...error(
            'NamespaceExcluded',
            `the webhook’s namespaceSelector leaves namespace ${target.namespace} out`,
            `run the pod in another namespace, or add this one (watchNamespaces of the chart, config/namespaced)`,
          ),
        );
    }
    if (labelsOf(target.pod)[labels.inject] !== 'false' && !matchesSelector(of('objectSelector'), labelsOf(target.pod)))
      found.push(
        ...error(
          'PodExcluded',
          'the webhook’s objectSelector leaves the pod’s labels out',
          `change the labels, ${again(snapshot)}`,
        ),
      );
    if (webhook['failurePolicy'] === 'Ignore')
      found.push(
        ...warning(
          'FailsOpen',
          'the webhook’s failurePolicy is Ignore: while it is away, pods are created without their volumes',
          'set failurePolicy: Fail; only pods with the annotation depend on it',
        ),
      );
  }
  return found;
};

const DAY = 86_400_000;

/** Known to have no pod that answers: what follows from that is not said as well. */
const isDown = ({ endpoints, webhook }: Snapshot): boolean =>
  webhook.state === 'absent' || (endpoints.state === 'found' && endpoints.value === 0);

const trusted: Check = (snapshot) => {
  const { configuration, now, system } = snapshot;
  if (configuration.state !== 'found') return nothing;
  const found: Finding[] = [];
  for (const webhook of webhooksOf(configuration.value)) {
    const text = textOf(mapOf(webhook['clientConfig'])['caBundle']) ?? '';
    const log = `kubectl -n ${system} logs deployment/juicepod-webhook`;
    if (text === '') {
      // The webhook writes it when it runs.
      if (isDown(snapshot)) continue;
      found.push(
        ...error(
          'CaBundleEmpty',
          'caBundle of the webhook’s configuration is empty: the API server trusts no certificate of it',
          `it is written by the webhook (or by cert-manager’s CA injector); see why not: ${log}`,
        ),
      );
      continue;
    }
    try {
      const certificates = readBundle(Buffer.from(text, 'base64').toString());
      if (certificates.length === 0) throw new Error('it holds no certificate');
      const valid = certificates.filter(({ notBefore, notAfter }) => notBefore <= now && now < notAfter);
      if (valid.length === 0)
        found.push(
          ...error(
            'CaBundleExpired',
            `no authority in caBundle is valid now; the last one ended ${new Date(Math.max(...certificates.map(({ notAfter }) => notAfter))).toISOString()}`,
            `the webhook renews it by itself when it runs (${log}); with cert-manager or files, renew the certificate there`,
          ),
        );
      else if (valid.every(({ notAfter }) => notAfter - now < DAY))
        found.push(
          ...warning('CaBundleEnding', 'every authority in caBundle ends within a day', `see why it is not renewed: ${log}`),
        );
    } catch (cause) {
      found.push(
        ...error(
          'CaBundleDamaged',
          `caBundle cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
          `empty it, so that it is written again: ${log}`,
        ),
      );
    }
  }
  return found;
};

const replicas = (deployment: Json): number => Number(mapOf(deployment['status'])['availableReplicas'] ?? 0);

const running: Check = (snapshot) => {
  const { endpoints, webhook, operator, lease, now, system } = snapshot;
  if (!isInstalled(snapshot)) return nothing;
  const found: Finding[] = [];
  const pods = `kubectl -n ${system} describe pods`;
  if (webhook.state === 'absent')
    found.push(
      ...error(
        'WebhookNotInstalled',
        `there is no Deployment juicepod-webhook in namespace ${system}`,
        `${INSTALL}; name another namespace with --system`,
      ),
    );
  else if (endpoints.state === 'found' && endpoints.value === 0)
    found.push(
      ...error(
        'WebhookDown',
        `no pod of the webhook is ready${webhook.state === 'found' ? ` (${replicas(webhook.value)} of ${Number(mapOf(webhook.value['spec'])['replicas'] ?? 1)} available)` : ''}: pods with the annotation cannot be created`,
        `see why: ${pods} -l app.kubernetes.io/name=juicepod-webhook`,
      ),
    );
  if (operator.state === 'absent')
    found.push(...error('OperatorNotInstalled', `there is no Deployment juicepod-operator in namespace ${system}`, INSTALL));
  else if (operator.state === 'found') {
    const renewed = lease.state === 'found' ? Date.parse(textOf(mapOf(lease.value['spec'])['renewTime']) ?? '') : Number.NaN;
    const isAway = lease.state === 'absent' || (lease.state === 'found' && !(now - renewed < 60_000));
    if (isAway)
      found.push(
        ...error(
          'OperatorAway',
          `the operator does not work: its Lease ${lease.state === 'absent' ? 'was never taken' : `was last renewed ${Number.isNaN(renewed) ? 'never' : new Date(renewed).toISOString()}`}`,
          `volumes do not become ready, and Secrets are not written; see why: ${pods} -l app.kubernetes.io/name=juicepod-operator`,
        ),
      );
  }
  for (const [what, thing] of [
    ['the webhook’s Deployment', webhook],
    ['the webhook’s endpoints', endpoints],
  ] as const)
    found.push(...unread(what, thing));
  return found;
};

const tried: Check = (snapshot) => {
  const { trial, configuration, system } = snapshot;
  switch (trial.state) {
    case 'injected':
      return nothing;
    case 'unknown':
      return trial.why === 'not annotated'
        ? nothing
        : [
            finding(
              'unknown',
              'NotTried',
              `a dry run of the pod could not be made: ${shorten(trial.why)}`,
              'ask somebody who may create pods here to run this',
            ),
          ];
    case 'untouched':
      return configuration.state === 'absent'
        ? nothing
        : error(
            'NotInjected',
            'a dry run of such a pod is accepted, and nothing is added to it: the API server does not call the webhook for it',
            'the other findings say why; else see namespaceSelector, objectSelector and matchConditions of the MutatingWebhookConfiguration juicepod-webhook',
          );
    case 'refused': {
      const message = shorten(trial.message);
      if (isDown(snapshot) && /failed calling webhook "pods\.juicepod\.io"/.test(trial.message)) return nothing;
      if (/x509|certificate|tls:/i.test(trial.message) && /failed calling webhook/.test(trial.message))
        return error(
          'CertificateNotTrusted',
          `the API server does not trust the webhook’s certificate: ${message}`,
          `it heals by itself within seconds; if not: kubectl -n ${system} logs deployment/juicepod-webhook`,
        );
      if (/failed calling webhook "pods\.juicepod\.io"/.test(trial.message))
        return error(
          'WebhookUnreachable',
          `the API server cannot reach the webhook: ${message}`,
          'see that its pods are ready, that a network policy or firewall lets the API server reach port 8443 of them, and that the Service is there',
        );
      if (/denied the request/.test(trial.message) && /pods\.juicepod\.io/.test(trial.message))
        return error(
          trial.reason || 'Refused',
          message.replace(/^.*denied the request: /s, ''),
          `do what it says (docs/admission.md explains each reason), ${again(snapshot, true)}`,
        );
      // The API server's own check of what the webhook should have added (config/policies).
      if (/ValidatingAdmissionPolicy 'juicepod-/.test(trial.message))
        return error(
          'NotInjected',
          `nothing, or not enough, was added to a dry run of such a pod: ${message}`,
          'the other findings say why; else another webhook removes the sidecars: kubectl get mutatingwebhookconfigurations',
        );
      return warning(
        'RefusedByOthers',
        `a dry run of such a pod is refused, but not by Juicepod: ${message}`,
        'what refuses it says what to do',
      );
    }
    default:
      return trial satisfies never;
  }
};

// ------------------------------------------------------------------------------------------------- volumes, policies, Secrets

/** The same decision that the webhook makes, on what was read here: it has the platform, the mode and Pod Security in it. */
const planned: Check = (snapshot) => {
  const { target, volumes, policies, volumeNames, namespace, annotationError, requests } = snapshot;
  if (annotationError !== undefined || requests.length === 0) return nothing;
  const unreadable = [...volumes].flatMap(([key, volume]) => unread(`JuiceVolume ${key}`, volume));
  if (unreadable.length > 0) return unreadable;
  const valueOf = <T>(thing: Found<T> | undefined): T | undefined => (thing?.state === 'found' ? thing.value : undefined);
  const cluster = {
    volume: (home: string, name: string) => valueOf(volumes.get(`${home}/${name}`)),
    policy: (home: string, name: string) => valueOf(policies.get(`${home}/${name}`)),
    namespaceLabels: (name: string) =>
      name === target.namespace && namespace.state === 'found'
        ? { ...labelsOf(namespace.value), 'kubernetes.io/metadata.name': name }
        : undefined,
    volumeNames: (home: string) => volumeNames.get(home) ?? [],
    // What limits of the namespace would refuse, the dry run tells.
    limitRanges: () => [],
  } satisfies Cluster & Record<string, unknown>;
  const decision = planPod({ pod: target.pod, namespace: target.namespace, cluster, settings: defaultSettings });
  if (decision.action === 'refuse') return error(decision.reason, decision.message, `do what it says, ${again(snapshot, true)}`);
  if (decision.action === 'ignore') return nothing;
  return decision.warnings.map((each) => finding('warning', 'Warned', each, 'the pod gets its volumes all the same'));
};

const mountSecrets: Check = ({ secrets, volumes, target }) =>
  [...secrets].flatMap(([key, { name, found }]) => {
    const volume = volumes.get(key);
    if (volume?.state !== 'found') return nothing;
    const isReady = volume.value.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
    const [home = '', volumeName = ''] = key.split('/');
    const look = `kubectl describe jv ${volumeName} -n ${home}`;
    if (found.state === 'absent')
      return isReady
        ? error(
            'MountSecretMissing',
            `the Secret ${name} with what the client needs for volume ${key} is not in namespace ${target.namespace}`,
            `the operator writes it when the volume is ready and the namespace allowed; see ${look}`,
          )
        : nothing;
    return found.state === 'unknown' ? unread(`Secret ${name}`, found) : nothing;
  });

/** All checks of what does not need a running pod, in the order of how early they stop a pod. */
export const checks: readonly Check[] = [annotation, optedOut, configured, running, trusted, tried, planned, mountSecrets];
