/**
 * Quantities of Kubernetes as numbers, to compare and to merge them; all suffixes, unlike the sizes of our own resources.
 * Source: k8s.io/apimachinery/pkg/api/resource. Numbers are doubles: exact to 15 digits, which no cluster exceeds.
 */
import { factors } from '../api/units.ts';
import { type Json, mapOf } from '../lib/json.ts';

const SUFFIX: Readonly<Record<string, number>> = { ...factors, n: 1e-9, u: 1e-6, m: 1e-3, E: 1e18, Ei: 2 ** 60 };

/** The number that a quantity stands for, or undefined where it is none. */
export function quantityOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value !== 'string') return undefined;
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(value);
  if (!match) return undefined;
  const factor = match[2] === undefined ? SUFFIX[match[3] ?? ''] : 10 ** Number(match[2]);
  return factor === undefined ? undefined : Number(match[1]) * factor;
}

/** True where two quantities are the same amount ("1024Mi" and "1Gi"). */
export function sameQuantity(left: unknown, right: unknown): boolean {
  const [a, b] = [quantityOf(left), quantityOf(right)];
  return a !== undefined && b !== undefined && Math.abs(a - b) <= Math.abs(a) * 1e-12;
}

/** Bytes in the form that the API server itself gives them: the largest binary suffix that leaves a whole number. */
export function binaryQuantity(bytes: number): string {
  const suffixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'];
  let value = Math.ceil(bytes);
  let step = 0;
  while (value >= 1024 && value % 1024 === 0 && step < suffixes.length - 1) {
    value /= 1024;
    step++;
  }
  return `${value}${suffixes[step]}`;
}

/** Resources of a container. */
export interface Resources {
  readonly requests?: Readonly<Record<string, string | number>> | undefined;
  readonly limits?: Readonly<Record<string, string | number>> | undefined;
}

function larger(all: readonly Json[]): Json {
  const result: Record<string, unknown> = {};
  for (const amounts of all)
    for (const [name, amount] of Object.entries(amounts)) {
      const before = quantityOf(result[name]);
      if (before === undefined || (quantityOf(amount) ?? 0) > before) result[name] = amount;
    }
  return result;
}

/** The larger of each amount: one client serves all volumes, so it needs what the neediest asks for. */
export function mergeResources(all: readonly Resources[]): Json {
  const requests = larger(all.map((one) => mapOf(one.requests)));
  const limits = larger(all.map((one) => mapOf(one.limits)));
  // A request above the limit would be refused by the API server, for a container the user has not written.
  for (const [name, limit] of Object.entries(limits)) {
    const request = quantityOf(requests[name]);
    if (request !== undefined && request > (quantityOf(limit) ?? request)) (requests as Record<string, unknown>)[name] = limit;
  }
  return {
    ...(Object.keys(requests).length > 0 ? { requests } : {}),
    ...(Object.keys(limits).length > 0 ? { limits } : {}),
  };
}
