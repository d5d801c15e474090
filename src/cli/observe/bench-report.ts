/** What benchmarks print: a bar while they run, and a table of results, coloured where one is fast or slow as in the official client. */
import { UserError } from '../../lib/errors.ts';
import { type Output, print } from '../report.ts';

/** How often a bar is drawn anew, milliseconds. */
const DRAW_MS = 200;

/** Says on standard error how far something is, where somebody looks at it. */
export class Bar implements Disposable {
  readonly #title: string;
  readonly #total: number;
  readonly #done: () => number;
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(title: string, total: number, done: () => number) {
    this.#title = title;
    this.#total = total;
    this.#done = done;
    if (process.stderr.isTTY) this.#timer = setInterval(() => this.#draw(), DRAW_MS);
  }

  #draw(): void {
    const done = this.#done();
    const percent = this.#total > 0 ? Math.floor((done / this.#total) * 100) : 100;
    process.stderr.write(`\r${this.#title}: ${done}/${this.#total} (${percent}%)\x1b[K`);
  }

  [Symbol.dispose](): void {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    process.stderr.write('\r\x1b[K');
  }
}

export interface Result {
  readonly item: string;
  readonly value: number;
  readonly unit: string;
  readonly cost: number;
  readonly costUnit: string;
  /** Digits behind the point of the value. */
  readonly digits: number;
  /**
   * What is thought of it: a value above the second number is good, above the first fair; a cost below the third good, below the
   * fourth fair. Source: the ranges of `juicefs bench` and `objbench`.
   */
  readonly range: readonly [number, number, number, number];
}

const [RED, GREEN, YELLOW] = [31, 32, 33] as const;

/** Rows of cells in a frame; the first row is the head. Widths are of what is seen. */
export function framed(rows: readonly (readonly string[])[]): string {
  // oxlint-disable-next-line no-control-regex -- colours take no room
  const seen = (text: string): number => text.replace(/\x1b\[[\d;]*m/g, '').length;
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => seen(row[at] ?? ''))));
  const rule = `+${widths.map((width) => '-'.repeat(width + 2)).join('+')}+\n`;
  const line = (row: readonly string[]): string =>
    `|${row.map((cell, at) => ` ${' '.repeat((widths[at] ?? 0) - seen(cell))}${cell} `).join('|')}|\n`;
  const [head = [], ...rest] = rows;
  return `${rule}${line(head)}${rule}${rest.map(line).join('')}${rule}`;
}

/** Prints results, with a line about what was measured. */
export function printResults(output: Output, about: string, settings: unknown, results: readonly Result[]): void {
  const isColoured = process.stdout.isTTY && !process.env['NO_COLOR'];
  const paint = (text: string, colour: number): string => (isColoured ? `\x1b[1;${colour}m${text}\x1b[0m` : text);
  const rows = results.map(({ item, value, unit, cost, costUnit, digits, range }) => {
    const [slow, fast, cheap, dear] = range;
    const valueColour = value > fast ? GREEN : value > slow ? YELLOW : RED;
    const costColour = cost < cheap ? GREEN : cost < dear ? YELLOW : RED;
    return [item, `${paint(value.toFixed(digits), valueColour)} ${unit}`, `${paint(cost.toFixed(2), costColour)} ${costUnit}`];
  });
  const shown = results.map(({ item, value, unit, cost, costUnit }) => ({ item, value, unit, cost, cost_unit: costUnit }));
  print(output, { settings, results: shown }, `${about}\n${framed([['ITEM', 'VALUE', 'COST'], ...rows])}`);
}

/** Told to end before it was done; everything was cleaned up. */
export class Interrupted extends UserError {
  constructor() {
    super('Interrupted', 'told to end: nothing was measured, and what was made for it is removed');
  }
}
