/**
 * Numbers of a benchmark as a table: medians, how ours stand to theirs, what misses its goal. Pure.
 *
 * A ratio is always "how many times better ours are": ours / theirs where more is better, theirs / ours where less is.
 */

/** One line: what was measured, and what each side gave, in the order of the rounds. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  /** The least ratio to the official client that is wanted. @default 1 */
  readonly goal?: number;
  /** Left out of the geometric mean: not a speed. */
  readonly aside?: boolean;
  readonly values: Readonly<Record<string, readonly number[]>>;
}

/** The middle number, or the mean of the two in the middle; 0 of none. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const upper = Math.floor(sorted.length / 2);
  const high = sorted[upper] ?? 0;
  return sorted.length % 2 === 1 ? high : (high + (sorted[upper - 1] ?? 0)) / 2;
}

/** Of positive numbers; NaN of none. */
export function geometricMean(numbers: readonly number[]): number {
  return Math.exp(numbers.reduce((sum, each) => sum + Math.log(each), 0) / numbers.length);
}

/** How many times better `side` is than `other` in a row; undefined where one of them was not measured. */
export function ratio(row: Row, side: string, other: string): number | undefined {
  const [ours, theirs] = [row.values[side], row.values[other]];
  if (!ours?.length || !theirs?.length) return undefined;
  const quotient = median(ours) / median(theirs);
  const result = row.better === 'more' ? quotient : 1 / quotient;
  return Number.isFinite(result) && result > 0 ? result : undefined;
}

/** Three digits, and no exponent. */
export function show(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return '–';
  return Math.abs(value) >= 999.5 ? value.toFixed(0) : value === 0 ? '0' : value.toPrecision(3);
}

export interface Summary {
  /** Of the ratios to the official client of all rows that are speeds. */
  readonly mean: number | undefined;
  /** Rows below their goal, the worst first. */
  readonly misses: readonly { readonly name: string; readonly ratio: number; readonly goal: number }[];
}

/** What the rows come to, ours beside the official client. */
export function summarize(rows: readonly Row[]): Summary {
  const measured = rows.flatMap((row) => {
    const value = ratio(row, 'juicepod', 'juicefs');
    return value === undefined ? [] : [{ row, value }];
  });
  const speeds = measured.filter(({ row }) => !row.aside).map(({ value }) => value);
  return {
    mean: speeds.length > 0 ? geometricMean(speeds) : undefined,
    misses: measured
      .filter(({ row, value }) => value < (row.goal ?? 1))
      .map(({ row, value }) => ({ name: row.name, ratio: value, goal: row.goal ?? 1 }))
      .toSorted((a, b) => a.ratio / a.goal - b.ratio / b.goal),
  };
}

/** The rows as a table in Markdown. */
export function table(rows: readonly Row[]): string {
  const lines = rows.map((row) => {
    const of = (side: string): string => (row.values[side]?.length ? show(median(row.values[side])) : '–');
    const goal = row.goal === undefined ? '' : ` (goal ${row.goal})`;
    const less = row.better === 'less' ? ', less is better' : '';
    return (
      `| ${row.name}, ${row.unit}${less} | ${of('juicepod')} | ${of('juicefs')} | ` +
      `${show(ratio(row, 'juicepod', 'juicefs'))}${goal} | ${of('disk')} | ${show(ratio(row, 'juicepod', 'disk'))} |`
    );
  });
  return ['| | juicepod | juicefs | ratio | local disk | ratio to the disk |', '|---|---|---|---|---|---|', ...lines].join('\n');
}

/** The summary in words. */
export function words({ mean, misses }: Summary): string {
  const lines = [`Geometric mean of the ratios to the official client: ${show(mean)}`];
  if (mean !== undefined)
    lines.push(
      misses.length === 0
        ? 'No cell misses its goal.'
        : `Below their goal (1 where none is named): ${misses
            .map(({ name, ratio: value, goal }) => `${name} ${value.toFixed(2)}${goal === 1 ? '' : ` of ${goal}`}`)
            .join('; ')}`,
    );
  return lines.join('\n');
}
