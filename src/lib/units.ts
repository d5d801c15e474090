/** Sizes and durations as JuiceFS's command line spells them. */
import { UserError } from './errors.ts';

const sizeUnits: Readonly<Record<string, number>> = { B: 0, K: 1, M: 2, G: 3, T: 4, P: 5, E: 6 };
const durationUnits: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Bytes of `300M`, `4M`, `1.5GiB`, `100g`, or of a bare number, which counts `unit`s (JuiceFS: MiB for buffers and caches,
 * KiB for block sizes). Units are powers of 1024. Throws UserError `InvalidSize` naming the option.
 */
export function parseSize(text: string, option: string, unit: 'K' | 'M' | 'G' | 'B' = 'M'): number {
  const match = /^(\d+(?:\.\d+)?)\s*([BKMGTPE])?(?:iB|B)?$/i.exec(text.trim());
  if (!match) throw new UserError('InvalidSize', `${option}: wanted a size such as 512M or 4G, found ${JSON.stringify(text)}`);
  const bytes = Number(match[1]) * 1024 ** (sizeUnits[(match[2] ?? unit).toUpperCase()] ?? 0);
  if (!Number.isSafeInteger(Math.floor(bytes)))
    throw new UserError('InvalidSize', `${option}: ${text} is more than this can count`);
  return Math.floor(bytes);
}

/** Milliseconds of `1.5s`, `100ms`, `1h30m`, or of a bare number of seconds. Throws UserError `InvalidDuration`. */
export function parseDuration(text: string, option: string): number {
  const trimmed = text.trim();
  if (/^\d+(?:\.\d+)?$/.test(trimmed)) return Number(trimmed) * 1000;
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+$/.test(trimmed))
    throw new UserError(
      'InvalidDuration',
      `${option}: wanted a duration such as 1s, 500ms or 1h30m, found ${JSON.stringify(text)}`,
    );
  let total = 0;
  for (const [, value, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)/g))
    total += Number(value) * (durationUnits[unit ?? 's'] ?? 0);
  return total;
}

const mbpsUnits: Readonly<Record<string, number>> = { M: 1, G: 1e3, T: 1e6, P: 1e9 };

/** Mbit/s of `100`, `100M` or `1.5G`, rounded down as JuiceFS does. Throws UserError `InvalidRate` naming the option. */
export function parseMbps(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)([MGTP])?$/i.exec(text.trim());
  const rate = match ? Math.floor(Number(match[1]) * (mbpsUnits[(match[2] ?? 'M').toUpperCase()] ?? 1)) : Number.NaN;
  if (!Number.isSafeInteger(rate))
    throw new UserError('InvalidRate', `${option}: wanted Mbit/s such as 100 or 1G, found ${JSON.stringify(text)}`);
  return rate;
}

/** `1.5 GiB`: three digits at most, for people. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < 5) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(value >= 1000 ? 4 : 3)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}
