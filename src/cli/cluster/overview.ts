/** `juicepod cluster status`, `volumes` and `pods`: what there is, and how it is. Reads only. */
import { CLIENT, SYNC } from '../../admission/names.ts';
import { JuiceVolumes } from '../../api/kinds.ts';
import { type Json, listOf, mapOf, textOf } from '../../lib/json.ts';
import { annotations } from '../../api/group.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { findCondition } from '../../kube/conditions.ts';
import { Deployments, Pods } from '../../kube/resources.ts';
import type { KubeClient } from '../../kube/types.ts';
import { UserError } from '../../lib/errors.ts';
import { type Output, print } from '../report.ts';
import { type ConnectionOptions, withCluster } from './connection.ts';
import { found } from './snapshot.ts';

export interface VolumeRow {
  readonly namespace: string;
  readonly name: string;
  readonly ready: string;
  readonly reason: string;
  readonly used: string;
  readonly sessions: number | undefined;
  readonly storage: string;
}

export interface PodRow {
  readonly namespace: string;
  readonly name: string;
  readonly phase: string;
  /** Whether the sidecar that serves the volume has started. */
  readonly client: 'ready' | 'not ready' | 'ended';
  readonly restarts: number;
  /** `namespace/name` of each volume, and where its containers see it. */
  readonly volumes: readonly { readonly volume: string; readonly mode: string; readonly readOnly: boolean }[];
  readonly node: string;
}

async function volumeRows(client: KubeClient, namespace: string | undefined, signal: AbortSignal): Promise<VolumeRow[]> {
  const rows: VolumeRow[] = [];
  for await (const { items } of client.resource(JuiceVolumes).pages({ namespace, signal }))
    for (const item of items) {
      const { metadata, status } = item as unknown as JuiceVolume;
      const ready = findCondition(status?.conditions, 'Ready');
      rows.push({
        namespace: metadata.namespace ?? '',
        name: metadata.name,
        ready: ready?.status ?? 'Unknown',
        reason: ready?.reason ?? 'NotLookedAt',
        used: status?.usage?.size ?? '',
        sessions: status?.sessions?.active,
        storage: status?.storage ?? '',
      });
    }
  return rows;
}

/** What a pod says of its volumes; undefined for one without. */
function podRow(pod: Json): PodRow | undefined {
  const metadata = mapOf(pod['metadata']);
  const text = textOf(mapOf(metadata['annotations'])[annotations.plan]);
  if (text === undefined) return undefined;
  let plan: Json = {};
  try {
    plan = mapOf(JSON.parse(text));
  } catch {
    // An annotation that somebody damaged: the pod is shown, without its volumes.
  }
  const status = mapOf(pod['status']);
  const sidecars = listOf(status['initContainerStatuses'])
    .map((each) => mapOf(each))
    .filter((each) => [CLIENT, SYNC].some((name) => each['name'] === name));
  const phase = textOf(status['phase']) ?? 'Pending';
  const isUp = sidecars.length > 0 && sidecars.every((each) => each['started'] === true && each['ready'] !== false);
  return {
    namespace: textOf(metadata['namespace']) ?? '',
    name: textOf(metadata['name']) ?? '',
    phase,
    client: phase === 'Succeeded' || phase === 'Failed' ? 'ended' : isUp ? 'ready' : 'not ready',
    restarts: sidecars.reduce((sum, each) => sum + Number(each['restartCount'] ?? 0), 0),
    volumes: listOf(plan['mounts']).map((entry) => {
      const mount = mapOf(entry);
      return {
        volume: textOf(mount['volume']) ?? '?',
        mode: textOf(mount['mode']) ?? 'fuse',
        readOnly: mount['readOnly'] === true,
      };
    }),
    node: textOf(mapOf(pod['spec'])['nodeName']) ?? '',
  };
}

async function podRows(client: KubeClient, namespace: string | undefined, signal: AbortSignal): Promise<PodRow[]> {
  const rows: PodRow[] = [];
  // Annotations cannot be selected by: every page is looked through, and dropped.
  for await (const { items } of client.resource(Pods).pages({ namespace, signal }))
    for (const item of items) {
      const row = podRow(item as unknown as Json);
      if (row) rows.push(row);
    }
  return rows;
}

/** Rows under their heads, as kubectl prints them. */
function grid(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd();
  return [line(heads), ...rows.map(line)].map((text) => `${text}\n`).join('');
}

const volumeGrid = (rows: readonly VolumeRow[]): string =>
  rows.length === 0
    ? 'There are no volumes.\n'
    : grid(
        ['NAMESPACE', 'VOLUME', 'READY', 'REASON', 'USED', 'SESSIONS', 'STORAGE'],
        rows.map((row) => [row.namespace, row.name, row.ready, row.reason, row.used, String(row.sessions ?? ''), row.storage]),
      );

const podGrid = (rows: readonly PodRow[]): string =>
  rows.length === 0
    ? 'No pod has a volume.\n'
    : grid(
        ['NAMESPACE', 'POD', 'PHASE', 'CLIENT', 'RESTARTS', 'VOLUMES', 'NODE'],
        rows.map((row) => [
          row.namespace,
          row.name,
          row.phase,
          row.client,
          String(row.restarts),
          row.volumes.map(({ volume, mode, readOnly }) => `${volume}${readOnly ? ':ro' : ''} (${mode})`).join(', '),
          row.node,
        ]),
      );

type OverviewOptions = ConnectionOptions & { readonly output: Output; readonly system: string };

export async function volumesCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as OverviewOptions;
  const rows = await withCluster(options, volumeRows);
  print(options.output, rows, volumeGrid(rows));
}

export async function podsCommand(volume: string | undefined, raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as OverviewOptions;
  const rows = await withCluster(options, async (client, namespace, signal) => {
    if (volume === undefined) return await podRows(client, namespace, signal);
    const home = volume.includes('/')
      ? volume.slice(0, volume.indexOf('/'))
      : (namespace ?? options.namespace ?? client.namespace);
    const name = volume.slice(volume.indexOf('/') + 1);
    const object = await client.resource(JuiceVolumes).find({ namespace: home, name }, signal);
    if (!object)
      throw new UserError('VolumeNotFound', `there is no JuiceVolume ${name} in namespace ${home}`, {
        hint: 'juicepod cluster volumes -A lists them; write namespace/name for one of another namespace.',
      });
    // Pods of other namespaces may have it, too.
    const { allowedNamespaces } = (object as unknown as JuiceVolume).spec.access;
    const where = allowedNamespaces.from === 'Same' ? home : undefined;
    const all = await podRows(client, options.allNamespaces ? undefined : where, signal);
    return all.filter((row) => row.volumes.some((each) => each.volume === `${home}/${name}`));
  });
  print(options.output, rows, podGrid(rows));
}

export async function statusCommand(raw: Readonly<Record<string, unknown>>): Promise<void> {
  const options = raw as unknown as OverviewOptions;
  const shown = await withCluster(
    { ...options, allNamespaces: options.allNamespaces ?? options.namespace === undefined },
    async (client, namespace, signal) => {
      const deployment = async (name: string): Promise<string> => {
        const read = await found(
          async () => await client.resource(Deployments).find({ namespace: options.system, name }, signal),
        );
        if (read.state !== 'found') return read.state === 'absent' ? 'not installed' : 'may not be read by you';
        const object = read.value as unknown as Json;
        return `${Number(mapOf(object['status'])['availableReplicas'] ?? 0)} of ${Number(mapOf(object['spec'])['replicas'] ?? 1)} available`;
      };
      return {
        operator: await deployment('juicepod-operator'),
        webhook: await deployment('juicepod-webhook'),
        volumes: await volumeRows(client, namespace, signal),
        pods: await podRows(client, namespace, signal),
      };
    },
  );
  const away = [shown.operator, shown.webhook].some((each) => each.startsWith('0 of') || each === 'not installed');
  const unready = shown.volumes.find(({ ready }) => ready !== 'True');
  const next = [
    ...(away
      ? [`Operator and webhook: kubectl -n ${options.system} describe pods; docs/install.md says how to install them.\n`]
      : []),
    ...(unready ? [`Why a volume is not ready: kubectl -n ${unready.namespace} describe jv ${unready.name}\n`] : []),
  ].join('');
  const text = `operator  ${shown.operator}\nwebhook   ${shown.webhook}\n\n${volumeGrid(shown.volumes)}\n${podGrid(shown.pods)}${next === '' ? '' : `\n${next}`}`;
  print(options.output, shown, text);
}
