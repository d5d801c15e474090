/**
 * Kubernetes quantities (`4Mi`, `10G`, `1048576`) and Go durations (`1h30m`, `500ms`) as numbers. Only what sizes and times
 * of this API need: no exponents, no negative values, whole bytes. No imports beyond errors: the client loads this too.
 * Source: k8s.io/apimachinery/pkg/api/resource (suffixes), Go time.ParseDuration.
 */
import { UserError } from '../lib/errors.ts';

/** Suffixes of sizes, and what they stand for. */
export const factors: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

export const QUANTITY_PATTERN = '^[0-9]+(\\.[0-9]{1,6})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$';
export const DURATION_PATTERN = '^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$';

/** Bytes of a quantity, rounded up as Kubernetes does. Throws UserError where it is not one. */
export function parseQuantity(value: string | number): number {
  const match = new RegExp(QUANTITY_PATTERN).exec(String(value));
  const factor = factors[/[A-Za-z]+$/.exec(String(value))?.[0] ?? ''];
  const bytes = match && factor !== undefined ? Math.ceil(Number.parseFloat(String(value)) * factor) : Number.NaN;
  if (!Number.isSafeInteger(bytes))
    throw new UserError(
      'InvalidQuantity',
      `not a quantity: ${JSON.stringify(value)}; wanted a number with k, M, G, T, Ki, Mi, Gi or Ti`,
    );
  return bytes;
}

const milliseconds: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of a Go duration. Throws UserError where it is not one. */
export function parseDuration(value: string): number {
  if (!new RegExp(DURATION_PATTERN).test(value))
    throw new UserError('InvalidDuration', `not a duration: ${JSON.stringify(value)}; wanted something like 500ms, 30s, 1h30m`);
  let total = 0;
  for (const [, number, unit] of value.matchAll(/([0-9.]+)(ms|s|m|h)/g))
    total += Number(number) * (milliseconds[unit ?? ''] ?? 0);
  return total;
}

/** Bytes for people, in binary units with one digit: `1.2Gi`. */
export function formatBytes(bytes: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : Number(value.toFixed(1))}${units[unit]}`;
}
