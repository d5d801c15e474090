/** Which namespaces may use a volume, and so get its mount Secret. Pure. */
import { labels } from '../../api/group.ts';
import type { JuiceVolume, VolumeSpec } from '../../api/volume.ts';

export type Selector = NonNullable<VolumeSpec['access']['allowedNamespaces']['selector']>;

/** The system's own namespaces never run pods of users, so credentials have no business there. */
const system = new Set(['kube-system', 'kube-public', 'kube-node-lease']);

export interface NamespaceInfo {
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
}

/** As Kubernetes matches: all requirements hold; an empty selector matches everything. */
export function matchesSelector(selector: Selector, set: Readonly<Record<string, string>>): boolean {
  const wanted = Object.entries(selector.matchLabels ?? {});
  if (!wanted.every(([name, value]) => Object.hasOwn(set, name) && set[name] === value)) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const present = Object.hasOwn(set, key);
    switch (operator) {
      case 'In':
        return present && values.includes(set[key] ?? '');
      case 'NotIn':
        return !present || !values.includes(set[key] ?? '');
      case 'Exists':
        return present;
      default:
        return !present;
    }
  });
}

/** Names, sorted. The volume's own namespace is always among them. */
export function allowedNamespaces(volume: JuiceVolume, namespaces: Iterable<NamespaceInfo>): readonly string[] {
  const own = volume.metadata.namespace ?? 'default';
  const { from, selector } = volume.spec.access.allowedNamespaces;
  const names = [own];
  if (from !== 'Same')
    for (const { metadata } of namespaces) {
      if (metadata.name === own || metadata.deletionTimestamp !== undefined || system.has(metadata.name)) continue;
      if (metadata.labels?.[labels.injection] === 'disabled') continue;
      if (from === 'All' || matchesSelector(selector ?? {}, metadata.labels ?? {})) names.push(metadata.name);
    }
  return names.toSorted();
}
