/**
 * The condition `PodsServed` of a JuiceVolume: False while pods that ask for it run without it, or are refused; absent otherwise. It
 * names the first of them. Only namespaces that the volume allows count: others can put nothing into its status.
 */
import type { Condition } from '../../api/conditions.ts';
import { fieldManagers } from '../../api/group.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { findCondition, setConditions } from '../../kube/conditions.ts';
import { keyOf } from '../../kube/resources.ts';
import { watches } from '../../kube/source.ts';
import type { Manager, Reflector, Source } from '../../kube/types.ts';
import type { Clock } from '../../lib/clock.ts';
import { allowedNamespaces } from '../volume/namespaces.ts';
import type { Verdict } from '../volume/verdict.ts';
import type { Ledger, Unserved } from './ledger.ts';

const TYPE = 'PodsServed';
/** So many are named. */
const NAMED = 5;
const MAX_WHY = 300;
/** What an earlier process had found is kept for so long after the start, until everything was looked at again, milliseconds. */
const LOOK_MS = 120_000;

/** What the condition says of those who go without; undefined where nobody does. Pure. */
export function servedVerdict(unserved: readonly Unserved[]): Verdict | undefined {
  const without = unserved.filter(({ runs }) => runs);
  const refused = unserved.filter(({ runs }) => !runs);
  const list = (some: readonly Unserved[]): string => {
    const named = some.slice(0, NAMED).map(({ who, why }) => {
      const text = why.length > MAX_WHY ? `${why.slice(0, MAX_WHY)}…` : why;
      return `${who} (${text})`;
    });
    return `${named.join(', ')}${some.length > NAMED ? ` and ${some.length - NAMED} more` : ''}`;
  };
  if (unserved.length === 0) return undefined;
  const parts = [
    ...(without.length > 0 ? [`${without.length} pod(s) run without the volume: ${list(without)}`] : []),
    ...(refused.length > 0 ? [`the pods of ${refused.length} workload(s) are refused: ${list(refused)}`] : []),
  ];
  return { status: 'False', reason: without.length > 0 ? 'PodsWithoutVolume' : 'PodsRefused', message: parts.join('; ') };
}

const conditionsOf = (volume: JuiceVolume): readonly Condition[] => {
  const found = findCondition(volume.status?.conditions, TYPE);
  return found ? [found] : [];
};

/** Adds it to a manager that was not run yet. */
export function addServed(
  manager: Manager,
  ledger: Ledger,
  volumes: Reflector<JuiceVolume>,
  namespaces: Reflector,
  clock: Clock,
): void {
  const { resource } = volumes;
  let begun: number | undefined;
  const source: Source = { reflector: volumes, connect: (add) => ledger.onChange((volume) => add(volume)) };
  manager.controller({
    name: 'podsserved',
    sources: [
      source,
      watches(volumes, (volume) =>
        conditionsOf(volume).length > 0 || ledger.of(keyOf(volume)).length > 0 ? [keyOf(volume)] : [],
      ),
    ],
    reconcile: async (key, { signal }) => {
      begun ??= clock.now();
      const volume = volumes.store.get(key);
      if (!volume || volume.metadata.deletionTimestamp !== undefined || volume.spec.suspend) return {};
      const allowed = new Set(allowedNamespaces(volume, namespaces.store.values()));
      const verdict = servedVerdict(ledger.of(key).filter(({ namespace }) => allowed.has(namespace)));
      const before = conditionsOf(volume);
      const left = begun + LOOK_MS - clock.now();
      if (!verdict && before.length > 0 && left > 0) return { requeueAfterMs: left };
      const { generation, name, namespace = 'default', uid } = volume.metadata;
      const about = generation === undefined ? {} : { observedGeneration: generation };
      const conditions = verdict ? setConditions(before, [{ type: TYPE, ...verdict, ...about }], clock.now()) : [];
      const [is, was] = [conditions[0], before[0]];
      if (is?.reason === was?.reason && is?.message === was?.message) return {};
      const metadata = { name, namespace, ...(uid === undefined ? {} : { uid }) };
      // Nothing else of the status is this manager's.
      const status = conditions.length > 0 ? { conditions } : {};
      await manager.client
        .resource<JuiceVolume>(resource)
        .applyStatus({ metadata, status }, { fieldManager: fieldManagers.sweep, signal });
      return {};
    },
  });
}
