/**
 * The resources of our containers, made to fit the LimitRanges of the namespace: the API server checks them after us, and would
 * refuse a pod for containers that its author has not written; or fill in a default limit below our request. Pure.
 *
 * Source: k8s.io/kubernetes plugin/pkg/admission/limitranger (which must exist, what is compared), and the API's own defaults
 * (a request that is absent is the limit). Sums over a pod count init containers that stay, and the largest of the others.
 */
import { quote } from '../api/annotation.ts';
import { type Json, listOf, mapOf, textOf } from '../lib/json.ts';
import { type Container, type Pod } from './pod.ts';
import type { Violation } from './violation.ts';
import { binaryQuantity, quantityOf } from './resources.ts';

/** A LimitRange as the API has it: name, and the raw list `spec.limits`. */
export interface LimitRange {
  readonly name: string;
  readonly limits: readonly unknown[];
}

/** The bounds of one resource, all LimitRanges of a namespace together; the strictest counts. */
interface Bounds {
  readonly max?: number;
  readonly min?: number;
  readonly limit?: number;
  readonly request?: number;
  /** Limit divided by request, at most. */
  readonly ratio?: number;
  /** Of which LimitRange `max` is. */
  readonly by?: string;
}

type Kind = 'Container' | 'Pod';

function boundsOf(ranges: readonly LimitRange[], kind: Kind, resource: string): Bounds {
  let found: Bounds = {};
  for (const { name, limits } of ranges)
    for (const entry of limits) {
      const item = mapOf(entry);
      if (item['type'] !== kind) continue;
      const amount = (field: string): number | undefined => quantityOf(mapOf(item[field])[resource]);
      const [max, min, ratio] = [amount('max'), amount('min'), amount('maxLimitRequestRatio')];
      const [limit, request] = [amount('default'), amount('defaultRequest')];
      if (max !== undefined && max < (found.max ?? Infinity)) found = { ...found, max, by: name };
      if (min !== undefined && min > (found.min ?? 0)) found = { ...found, min };
      if (ratio !== undefined && ratio < (found.ratio ?? Infinity)) found = { ...found, ratio };
      if (limit !== undefined) found = { ...found, limit: found.limit ?? limit };
      if (request !== undefined) found = { ...found, request: found.request ?? request };
    }
  return found;
}

const resourcesIn = (ranges: readonly LimitRange[]): readonly string[] => [
  ...new Set(
    ranges.flatMap(({ limits }) =>
      limits.flatMap((entry) =>
        ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'].flatMap((field) =>
          Object.keys(mapOf(mapOf(entry)[field])),
        ),
      ),
    ),
  ),
];

const amountOf = (container: Json, side: 'requests' | 'limits', resource: string): number =>
  quantityOf(mapOf(mapOf(container['resources'])[side])[resource]) ?? 0;

/** What the containers of others take of a resource, as a pod's sum is counted. */
export function sumOfOthers(others: readonly Container[], side: 'requests' | 'limits', resource: string): number {
  let [lasting, largest] = [0, 0];
  for (const { list, raw } of others)
    if (list === 'initContainers') {
      const amount = amountOf(raw, side, resource);
      if (raw['restartPolicy'] === 'Always') lasting += amount;
      else largest = Math.max(largest, lasting + amount);
    }
  const running = others.reduce(
    (sum, { list, raw }) => sum + (list === 'containers' ? amountOf(raw, side, resource) : 0),
    lasting,
  );
  return Math.max(running, largest);
}

/** A resource's amount as Kubernetes writes it. */
function spelled(resource: string, amount: number): string {
  if (resource === 'cpu') return `${Math.max(1, Math.floor(amount * 1000 + 1e-6))}m`;
  return binaryQuantity(Math.floor(amount));
}

export interface Fitting {
  /** The container's name, for messages. */
  readonly name: string;
  readonly resources: Json;
  /** What it cannot do without, in bytes or cores. */
  readonly needs: Readonly<Record<string, number>>;
}

export interface Fitted {
  readonly resources: Json;
  readonly warnings: readonly string[];
}

interface Room {
  /** Of the Pod's sums, for one container of ours. */
  readonly limit: number;
  readonly request: number;
  readonly by: string | undefined;
}

/** What a container is left with at least where a limit must be named: cores, and bytes for its log. */
const LEAST: Readonly<Record<string, number>> = { cpu: 0.2, 'ephemeral-storage': 64 * 2 ** 20 };

interface Amounts {
  readonly r?: number | undefined;
  readonly l?: number | undefined;
}

/** `isLast`: nobody after it needs what is left of the pod's sum. */
function fitOne(given: Amounts, need: number, bounds: Bounds, room: Room, resource: string, isLast: boolean): Amounts {
  let { r, l } = given;
  const max = Math.min(bounds.max ?? Infinity, room.limit);
  // A limit that the API server would fill in, or ask for.
  if (l === undefined && bounds.limit !== undefined) l = Math.max(bounds.limit, need, r ?? 0);
  if (l === undefined && max !== Infinity) l = isLast ? max : Math.max(need, r ?? 0, LEAST[resource] ?? 0);
  if (l === undefined && bounds.ratio !== undefined) l = Math.max(need, (r ?? bounds.request ?? 0) * bounds.ratio);
  if (l !== undefined) l = Math.max(Math.min(l, max), bounds.min ?? 0);
  if (r === undefined && (bounds.min !== undefined || bounds.ratio !== undefined)) r = bounds.request ?? bounds.min ?? l;
  if (r !== undefined) {
    r = Math.min(Math.max(r, bounds.min ?? 0), l ?? Infinity, Math.max(room.request, 0));
    if (l !== undefined && bounds.ratio !== undefined) r = Math.max(r, l / bounds.ratio);
  } else if (l !== undefined) {
    // An absent request becomes the limit; a smaller one is what was meant.
    r = Math.min(bounds.request ?? need, l);
  }
  return { r, l };
}

/**
 * The resources with which the containers pass the LimitRanges; unchanged where there are none. A violation where one of them
 * cannot have what it needs.
 */
export function fitResources(
  ours: readonly Fitting[],
  others: readonly Container[],
  ranges: readonly LimitRange[],
): readonly Fitted[] | Violation {
  const taken: Record<string, number> = {};
  const fitted: Fitted[] = [];
  const named = resourcesIn(ranges);
  for (const [index, { name, resources, needs }] of ours.entries()) {
    const requests: Record<string, unknown> = { ...mapOf(resources['requests']) };
    const limits: Record<string, unknown> = { ...mapOf(resources['limits']) };
    const warnings: string[] = [];
    for (const resource of named) {
      const bounds = boundsOf(ranges, 'Container', resource);
      const whole = boundsOf(ranges, 'Pod', resource);
      const left = (side: 'requests' | 'limits'): number =>
        whole.max === undefined
          ? Infinity
          : whole.max - sumOfOthers(others, side, resource) - (taken[`${side} ${resource}`] ?? 0);
      const room = { limit: left('limits'), request: left('requests'), by: whole.by };
      const [r, l] = [quantityOf(requests[resource]), quantityOf(limits[resource])];
      const need = needs[resource] ?? 0;
      const strict = Math.min(bounds.max ?? Infinity, room.limit, room.request);
      if (strict < need || strict <= 0)
        return {
          reason: 'LimitRange',
          message: `LimitRange ${quote((bounds.max ?? Infinity) <= Math.min(room.limit, room.request) ? (bounds.by ?? '') : (room.by ?? ''))} leaves ${spelled(resource, Math.max(strict, 0))} of ${resource} to ${name}, which needs ${spelled(resource, need)} (buffer and cache of the cache policy); lower those, or raise the LimitRange`,
        };
      const fit = fitOne({ r, l }, need, bounds, room, resource, index === ours.length - 1);
      if ((r !== undefined && fit.r !== undefined && fit.r < r) || (l !== undefined && fit.l !== undefined && fit.l < l))
        warnings.push(`${name} gets less ${resource} than it was to have: the LimitRanges of the namespace allow no more`);
      if (fit.r !== undefined && fit.r !== r) requests[resource] = spelled(resource, fit.r);
      if (fit.l !== undefined && fit.l !== l) limits[resource] = spelled(resource, fit.l);
      taken[`limits ${resource}`] = (taken[`limits ${resource}`] ?? 0) + (quantityOf(limits[resource]) ?? 0);
      taken[`requests ${resource}`] = (taken[`requests ${resource}`] ?? 0) + (quantityOf(requests[resource]) ?? 0);
    }
    fitted.push({
      resources: {
        ...resources,
        ...(Object.keys(requests).length > 0 ? { requests } : {}),
        ...(Object.keys(limits).length > 0 ? { limits } : {}),
      },
      warnings,
    });
  }
  return fitted;
}

/** The most that a disk amount may be by the LimitRanges of a namespace, others of the pod taken off; Infinity where none says. */
export function largestAllowed(resource: string, others: readonly Container[], ranges: readonly LimitRange[]): number {
  const container = boundsOf(ranges, 'Container', resource).max ?? Infinity;
  const whole = boundsOf(ranges, 'Pod', resource).max ?? Infinity;
  return Math.min(container, whole - sumOfOthers(others, 'limits', resource), whole - sumOfOthers(others, 'requests', resource));
}

/** True where somebody limits the resource for the pod, so that its sum of limits counts for us too. */
export function isLimited(resource: string, others: readonly Container[], ranges: readonly LimitRange[]): boolean {
  return (
    others.some(({ raw }) => mapOf(mapOf(raw['resources'])['limits'])[resource] !== undefined) ||
    (['Container', 'Pod'] as const).some((kind) => {
      const { limit, max } = boundsOf(ranges, kind, resource);
      return limit !== undefined || max !== undefined;
    })
  );
}

/** A LimitRange from the API. */
export function limitRangeOf(object: unknown): LimitRange {
  const { metadata, spec } = mapOf(object);
  return { name: textOf(mapOf(metadata)['name']) ?? '', limits: listOf(mapOf(spec)['limits']) };
}

/** The containers that are not ours. */
export function containersOf(pod: Pod, isOurs: (name: string) => boolean): readonly Container[] {
  return [...pod.initContainers, ...pod.containers].filter(({ name }) => !isOurs(name));
}
