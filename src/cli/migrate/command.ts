/** `juicepod migrate`: reads, plans, prints. Nothing is changed, in the cluster or in a volume. */
import { parseAllDocuments, stringify } from 'yaml';
import { type Json, mapOf } from '../../lib/json.ts';
import {
  CronJobs,
  DaemonSets,
  Deployments,
  Jobs,
  PersistentVolumeClaims,
  PersistentVolumes,
  Pods,
  Secrets,
  StatefulSets,
  StorageClasses,
} from '../../kube/resources.ts';
import type { KubeClient, Resource } from '../../kube/types.ts';
import { UserError } from '../../lib/errors.ts';
import { withCluster } from '../cluster/connection.ts';
import { readText } from '../options.ts';
import { type Output, print, wrapped } from '../report.ts';
import { type Migration, planMigration } from './plan.ts';
import { secretOfClass, secretOfVolume, type Sources, sortSources } from './sources.ts';

/** The longest text that is read, characters. */
const MAX_FILE = 64 * 1024 * 1024;

function readFiles(names: readonly string[]): Sources {
  const objects: Json[] = [];
  for (const name of names) {
    const text = readText(name, '--filename');
    if (text.length > MAX_FILE) throw new UserError('FileUnreadable', `${name} is longer than 64 MiB`);
    const documents = parseAllDocuments(text);
    for (const document of Array.isArray(documents) ? documents : []) {
      if (document.errors[0]) throw new UserError('FileUnreadable', `${name}: ${document.errors[0].message}`);
      objects.push(mapOf(document.toJS({ maxAliasCount: 1000 })));
    }
  }
  return sortSources(objects);
}

async function readCluster(client: KubeClient, namespace: string | undefined, signal: AbortSignal): Promise<Sources> {
  const objects: Json[] = [];
  const read = async (resource: Resource, within?: string): Promise<void> => {
    const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`;
    for await (const { items } of client.resource(resource).pages({ namespace: within, signal }))
      for (const item of items) objects.push({ ...(item as unknown as Json), apiVersion, kind: resource.kind });
  };
  await read(StorageClasses);
  await read(PersistentVolumes);
  for (const resource of [PersistentVolumeClaims, Deployments, StatefulSets, DaemonSets, Jobs, CronJobs, Pods])
    await read(resource, namespace);
  // Of the Secrets only those that are named.
  const found = sortSources(objects);
  const wanted = new Set(
    [...found.volumes.map(secretOfVolume), ...found.classes.map(secretOfClass)].filter((id) => id !== undefined),
  );
  const secrets: Json[] = [];
  for (const id of wanted) {
    const [home = '', name = ''] = id.split('/');
    const secret = await client.resource(Secrets).find({ namespace: home, name }, signal);
    if (secret) secrets.push(secret as unknown as Json);
  }
  return { ...found, secrets };
}

/** Objects as YAML, then the patches as commands in comments. */
function yamlOf({ objects, workloads }: Migration): string {
  const documents = objects.map((object) => `---\n${stringify(object, { lineWidth: 0 })}`).join('');
  const patches = workloads.map(({ kind, namespace, name, annotation, patch }) => {
    const head = `# ${kind} ${namespace}/${name}: juicepod.io/volumes: ${annotation}\n`;
    if (!patch) return head;
    return `${head}#   kubectl -n ${namespace} patch ${kind.toLowerCase()} ${name} --type=strategic -p '${JSON.stringify(patch).replaceAll("'", `'\\''`)}'\n`;
  });
  return documents + (patches.length > 0 ? `---\n${patches.join('')}` : '');
}

function remarksOf({ todos, obstacles, unsupported }: Migration): string {
  const list = (head: string, lines: readonly string[]): string =>
    lines.length === 0
      ? ''
      : `${head}\n${lines.map((line, index) => wrapped(`  ${index + 1}. ${line}`, '     ', process.stderr)).join('')}`;
  return [
    list('Cannot be brought over:', obstacles),
    list(
      'Mount options without counterpart:',
      unsupported.map(({ where, option, why }) => `${where}: ${option}: ${why}`),
    ),
    list('To do:', todos),
  ].join('');
}

interface MigrateOptions {
  readonly filename?: readonly string[];
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly secrets?: boolean;
  readonly output: Output;
}

export async function migrateCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as MigrateOptions;
  const { filename, namespace } = options;
  if (filename && (options.kubeconfig ?? options.context))
    throw new UserError('SourceTwice', 'give files (-f) or a cluster (--kubeconfig, --context), not both');
  const sources = filename
    ? readFiles(filename)
    : await withCluster({ ...options, allNamespaces: namespace === undefined }, readCluster);
  if (sources.classes.length + sources.volumes.length === 0)
    throw new UserError(
      'NothingToMigrate',
      'there is no StorageClass and no PersistentVolume of csi.juicefs.com in what was read',
      {
        hint: filename
          ? 'Files that have them: kubectl get sc,pv,pvc,secret,deploy,sts -A -o yaml > all.yaml'
          : 'The cluster has none that you may read. Is it another one (--context)? Files are read with -f.',
      },
    );
  const migration = planMigration(sources, { values: options.secrets === true });
  print(options.output, migration, yamlOf(migration));
  if (options.output === 'text') process.stderr.write(remarksOf(migration));
  if (migration.obstacles.length > 0) process.exitCode = 1;
}
