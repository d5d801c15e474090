/**
 * `juicepod analyze POD`: why a pod does not get its volume. Also for a pod that could not be created: from a file, or the
 * template of a workload (`deployment/NAME`). Ends with 1 where something stands in the way.
 */
import { parseAllDocuments } from 'yaml';
import { type Json, mapOf, textOf } from '../../lib/json.ts';
import { podTemplates } from '../../admission/templates.ts';
import { CronJobs, DaemonSets, Deployments, Jobs, Namespaces, Pods, ReplicaSets, StatefulSets } from '../../kube/resources.ts';
import type { KubeClient, Resource } from '../../kube/types.ts';
import { UserError } from '../../lib/errors.ts';
import { readText } from '../options.ts';
import { type Output, print, wrapped } from '../report.ts';
import { type ConnectionOptions, withCluster } from './connection.ts';
import { type Check, checks, type Finding } from './findings.ts';
import { podChecks } from './sidecars.ts';
import { found, type Target, takeSnapshot } from './snapshot.ts';

/** Kinds that make pods, and what they are called. */
const workloads: readonly { readonly names: readonly string[]; readonly resource: Resource }[] = [
  { names: ['pod', 'pods', 'po'], resource: Pods },
  { names: ['deployment', 'deployments', 'deploy'], resource: Deployments },
  { names: ['statefulset', 'statefulsets', 'sts'], resource: StatefulSets },
  { names: ['replicaset', 'replicasets', 'rs'], resource: ReplicaSets },
  { names: ['daemonset', 'daemonsets', 'ds'], resource: DaemonSets },
  { names: ['job', 'jobs'], resource: Jobs },
  { names: ['cronjob', 'cronjobs', 'cj'], resource: CronJobs },
];

const inside = (object: Json, path: readonly string[]): Json => path.reduce<Json>((at, key) => mapOf(at[key]), object);

/** The pod that a manifest or a workload describes. */
function targetOf(object: Json, namespace: string, exists: boolean): Target | undefined {
  const kind = textOf(object['kind']) ?? '';
  const workload = workloads.find(({ resource }) => resource.kind === kind);
  if (!workload) return undefined;
  const metadata = mapOf(object['metadata']);
  return {
    kind,
    name: textOf(metadata['name']) ?? textOf(metadata['generateName']) ?? 'pod',
    namespace: textOf(metadata['namespace']) ?? namespace,
    pod: inside(object, podTemplates[kind] ?? []),
    exists: exists && kind === 'Pod',
    ...(kind === 'Pod' ? {} : { ownAnnotations: mapOf(metadata['annotations']) }),
  };
}

/** The first pod or workload of a YAML file. Throws UserError. */
export function targetOfFile(path: string, namespace: string): Target {
  const documents = parseAllDocuments(readText(path, '--filename'));
  for (const document of Array.isArray(documents) ? documents : []) {
    if (document.errors[0]) throw new UserError('FileUnreadable', `${path}: ${document.errors[0].message}`);
    const target = targetOf(mapOf(document.toJS()), namespace, false);
    if (target) return target;
  }
  throw new UserError('PodMissing', `${path} holds no pod and no workload`, {
    hint: `It should hold one of ${workloads.map(({ resource }) => resource.kind).join(', ')}.`,
  });
}

/** A pod by its name, or a workload by `kind/name`. Throws UserError. */
export async function targetOfName(
  client: KubeClient,
  reference: string,
  namespace: string,
  signal: AbortSignal,
): Promise<Target> {
  const slash = reference.indexOf('/');
  const word = slash < 0 ? 'pod' : reference.slice(0, slash).toLowerCase().replace(/\..*$/, '');
  const name = reference.slice(slash + 1);
  const workload = workloads.find(({ names }) => names.includes(word));
  if (!workload)
    throw new UserError('KindUnknown', `${reference}: ${JSON.stringify(word)} is no kind that makes pods`, {
      hint: `Known are ${workloads.map(({ names }) => names[0]).join(', ')}.`,
    });
  const object = await client.resource(workload.resource).find({ namespace, name }, signal);
  const target = object && targetOf({ ...(object as unknown as Json), kind: workload.resource.kind }, namespace, true);
  if (!target && (await found(() => client.resource(Namespaces).find({ name: namespace }, signal))).state === 'absent')
    throw new UserError('NamespaceMissing', `there is no namespace ${namespace}`, { hint: 'kubectl get namespaces lists them.' });
  if (!target)
    throw new UserError('PodMissing', `there is no ${workload.resource.kind} ${name} in namespace ${namespace}`, {
      hint: 'A pod that was refused is not there: name what wants it (deployment/NAME, job/NAME), or give its manifest with -f.',
    });
  return target;
}

const order = { error: 0, warning: 1, unknown: 2 } as const;

/** All findings about a pod, errors first, each once. */
export async function analyze(
  client: KubeClient,
  target: Target,
  system: string,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const snapshot = await takeSnapshot(client, target, system, signal);
  const all: readonly Check[] = [...checks, ...podChecks];
  const findings = all.flatMap((check) => check(snapshot));
  // The dry run and our own look at the same thing often find the same.
  const distinct = findings.filter(
    (each, index) =>
      findings.findIndex(
        (other) =>
          other.reason === each.reason &&
          other.severity === each.severity &&
          (other.reason !== 'NotReadable' || other.message === each.message),
      ) === index,
  );
  return distinct.toSorted((a, b) => order[a.severity] - order[b.severity]);
}

interface AnalyzeOptions extends ConnectionOptions {
  readonly filename?: string;
  readonly system: string;
  readonly output: Output;
}

function textFor(target: Target, findings: readonly Finding[]): string {
  const who = `${target.kind} ${target.namespace}/${target.name}`;
  if (findings.length === 0) return `${who}: nothing stands in the way of its volumes.\n`;
  const marks = { error: '✗', warning: '!', unknown: '?' } as const;
  const lines = findings.map(
    ({ severity, reason, message, todo }) =>
      `${wrapped(`${marks[severity]} ${reason}: ${message}`, '  ')}${wrapped(`  → ${todo}`, '    ')}`,
  );
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  return `${who}: ${errors === 0 ? 'nothing that was found stops its volumes' : `${errors} thing${errors > 1 ? 's' : ''} to correct`}\n\n${lines.join('\n')}`;
}

export async function analyzeCommand(reference: string | undefined, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as AnalyzeOptions;
  if ((reference === undefined) === (options.filename === undefined))
    throw new UserError('TargetMissing', 'name a pod, or a file with one (-f), and not both', {
      hint: 'juicepod analyze my-pod -n my-namespace',
    });
  await withCluster(options, async (client, namespace = 'default', signal) => {
    const target =
      options.filename === undefined
        ? await targetOfName(client, reference ?? '', namespace, signal)
        : targetOfFile(options.filename, namespace);
    const findings = await analyze(client, target, options.system, signal);
    const { kind, name } = target;
    print(options.output, { kind, namespace: target.namespace, name, findings }, textFor(target, findings));
    if (findings.some(({ severity }) => severity === 'error')) process.exitCode = 1;
  });
}
