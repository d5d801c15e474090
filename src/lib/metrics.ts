/**
 * Figures that cost next to nothing to count, and their two texts: Prometheus' exposition format, and the lines of JuiceFS's
 * `.stats`. Counting is an addition in an array of numbers; names, labels and texts are made only when somebody asks. What is not on
 * the way of each operation uses prom-client.
 *
 * Sources: Prometheus, "Exposition formats" 0.0.4; JuiceFS, `.stats` (one line for each sample, the values of the labels `method` and
 * `errno` behind the name, of a histogram its number of observations as `_total` and their sum as `_sum`).
 */

/** `count` bounds, each `factor` times the one before. */
export function exponential(start: number, factor: number, count: number): Float64Array {
  const bounds = new Float64Array(count);
  let bound = start;
  for (let at = 0; at < count; at++, bound *= factor) bounds[at] = bound;
  return bounds;
}

/** `count` bounds, each `width` more than the one before. */
export function linear(start: number, width: number, count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, at) => start + at * width);
}

/** How values are distributed: how many were at most each bound, and their sum. */
export class Histogram {
  readonly bounds: Float64Array;
  /** Observations by the first bound that they do not exceed; behind the last bound, what exceeds them all; then the sum. */
  readonly #cells: Float64Array;

  constructor(bounds: Float64Array) {
    this.bounds = bounds;
    this.#cells = new Float64Array(bounds.length + 2);
  }

  observe(value: number): void {
    const { bounds } = this;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= (bounds[middle] as number)) high = middle;
      else low = middle + 1;
    }
    const cells = this.#cells;
    cells[low] = (cells[low] as number) + 1;
    cells[bounds.length + 1] = (cells[bounds.length + 1] as number) + value;
  }

  get sum(): number {
    return this.#cells[this.bounds.length + 1] as number;
  }

  get count(): number {
    let count = 0;
    for (let at = 0; at <= this.bounds.length; at++) count += this.#cells[at] as number;
    return count;
  }

  /** Observations that were at most each bound, and all of them at the end. */
  cumulative(): readonly number[] {
    let count = 0;
    return Array.from({ length: this.bounds.length + 1 }, (_, at) => (count += this.#cells[at] as number));
  }
}

/** Counts and durations by the name of what was done; the names are known beforehand. */
export class Durations {
  readonly names: readonly string[];
  readonly counts: Float64Array;
  /** Seconds. */
  readonly seconds: Float64Array;
  /** Of all together, seconds. */
  readonly histogram: Histogram;

  constructor(names: readonly string[], bounds: Float64Array) {
    this.names = names;
    this.counts = new Float64Array(names.length);
    this.seconds = new Float64Array(names.length);
    this.histogram = new Histogram(bounds);
  }

  /** What has this place in `names` took so long. */
  done(at: number, seconds: number): void {
    this.counts[at] = (this.counts[at] as number) + 1;
    this.seconds[at] = (this.seconds[at] as number) + seconds;
    this.histogram.observe(seconds);
  }

  /** Samples of what was done at all, labelled by `label`. */
  *samples(values: Float64Array, label: string): Generator<Sample> {
    for (const [at, name] of this.names.entries())
      if ((this.counts[at] as number) > 0) yield { labels: { [label]: name }, value: values[at] as number };
  }
}

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels?: Labels;
  readonly value: number | Histogram;
}

export interface Family {
  /** Without prefix. */
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** The values of now. */
  readonly samples: () => Iterable<Sample>;
}

/** A family of one value without labels. */
export function single(type: Family['type'], name: string, help: string, value: () => number | Histogram): Family {
  return { type, name, help, samples: () => [{ value: value() }] };
}

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

function labelText(labels: Labels): string {
  const names = Object.keys(labels).toSorted();
  return names.map((name) => `${name}="${escaped(labels[name] ?? '')}"`).join(',');
}

/** Families of one name belong together, whoever has them: Prometheus takes each name once. */
function byName(families: readonly Family[]): readonly Family[] {
  return families.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Families and the labels that all their samples carry. */
export interface Labelled {
  readonly labels: Labels;
  readonly families: readonly Family[];
}

/** The text that Prometheus reads, a family at a time, with `prefix` before each name. */
export function* exposition(prefix: string, groups: readonly Labelled[]): Generator<string, void, undefined> {
  const all = byName(groups.flatMap(({ labels, families }) => families.map((family) => ({ ...family, own: labels }))));
  let last = '';
  for (const { name, help, type, samples, own } of all as readonly (Family & { readonly own: Labels })[]) {
    const full = `${prefix}${name}`;
    let text = '';
    for (const { labels, value } of samples()) {
      const common = labels ? { ...own, ...labels } : own;
      if (typeof value === 'number') {
        text += `${full}{${labelText(common)}} ${number(value)}\n`;
        continue;
      }
      const counts = value.cumulative();
      for (const [at, count] of counts.entries())
        text += `${full}_bucket{${labelText({ ...common, le: number(value.bounds[at] ?? Infinity) })}} ${count}\n`;
      text += `${full}_sum{${labelText(common)}} ${number(value.sum)}\n${full}_count{${labelText(common)}} ${counts.at(-1)}\n`;
    }
    if (text === '') continue;
    yield name === last
      ? text
      : `# HELP ${full} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${full} ${type}\n${text}`;
    last = name;
  }
}

const number = (value: number): string => (value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value));

/** Without exponent: what reads `.stats` may split at other characters than digits. */
function plain(value: number): string {
  const text = String(value);
  if (!text.includes('e')) return text;
  return Math.abs(value) < 1 ? value.toFixed(20).replace(/\.?0+$/, '') : String(BigInt(value));
}

/** The lines of `.stats`. */
export function statsLines(prefix: string, families: readonly Family[]): string {
  let text = '';
  for (const { name, samples } of byName(families))
    for (const { labels = {}, value } of samples()) {
      const values = Object.keys(labels)
        .toSorted()
        .filter((label) => label === 'method' || label === 'errno')
        .map((label) => `_${labels[label] ?? ''}`);
      const full = `${prefix}${name}${values.join('')}`;
      if (typeof value === 'number') text += `${full} ${plain(value)}\n`;
      else text += `${full}_total ${value.count}\n${full}_sum ${plain(value.sum)}\n`;
    }
  return text;
}
