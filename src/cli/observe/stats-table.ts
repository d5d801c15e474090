/**
 * The table of `juicepod stats`: which figures of `.stats` stand in which section, and how a difference of two readings is printed.
 * Pure. Source of sections, nicknames and widths: `juicefs stats`.
 */

export type Figures = ReadonlyMap<string, number>;

/** How a figure is shown. */
type Kind =
  /** As it is, in bytes. */
  | 'bytes'
  /** Growth per second, in bytes. */
  | 'byteRate'
  /** Growth per second. */
  | 'rate'
  /** Growth per second, as a part of one processor. */
  | 'processor'
  /** Of a histogram of seconds: operations per second, and how long one took, milliseconds. */
  | 'latency'
  | 'time';

interface Item {
  readonly nick: string;
  /** The first that is there counts. */
  readonly names: readonly string[];
  readonly kind: Kind;
}

export interface Section {
  readonly name: string;
  readonly items: readonly Item[];
}

const item = (nick: string, kind: Kind, ...names: readonly string[]): Item => ({ nick, kind, names });

/** By the letter of the schema; items of the second list with `verbose` only. */
const sections: Readonly<Record<string, (verbose: boolean) => Section>> = {
  t: () => ({ name: 'system', items: [item('time', 'time')] }),
  u: (verbose) => ({
    name: 'usage',
    items: [
      item('cpu', 'processor', 'juicefs_cpu_usage'),
      item('mem', 'bytes', 'juicefs_memory'),
      item('buf', 'bytes', 'juicefs_used_buffer_size_bytes'),
      ...(verbose ? [item('cache', 'bytes', 'juicefs_store_cache_size_bytes')] : []),
    ],
  }),
  f: () => ({
    name: 'fuse',
    items: [
      item('ops', 'latency', 'juicefs_fuse_ops_durations_histogram_seconds'),
      item('read', 'byteRate', 'juicefs_fuse_read_size_bytes_sum'),
      item('write', 'byteRate', 'juicefs_fuse_written_size_bytes_sum'),
    ],
  }),
  m: (verbose) => ({
    name: 'meta',
    items: [
      item('ops', 'latency', 'juicefs_meta_ops_durations_histogram_seconds'),
      ...(verbose
        ? [
            item('txn', 'latency', 'juicefs_transaction_durations_histogram_seconds'),
            item('retry', 'rate', 'juicefs_transaction_restart'),
          ]
        : []),
    ],
  }),
  c: () => ({
    name: 'blockcache',
    items: [
      item('read', 'byteRate', 'juicefs_blockcache_hit_bytes'),
      item('write', 'byteRate', 'juicefs_blockcache_write_bytes'),
    ],
  }),
  o: (verbose) => {
    const requests = (method: string): string => `juicefs_object_request_durations_histogram_seconds_${method}`;
    return {
      name: 'object',
      items: [
        item('get', 'byteRate', 'juicefs_object_request_data_bytes_GET'),
        ...(verbose ? [item('get_c', 'latency', requests('GET'))] : []),
        item('put', 'byteRate', 'juicefs_object_request_data_bytes_PUT'),
        ...(verbose ? [item('put_c', 'latency', requests('PUT')), item('del_c', 'latency', requests('DELETE'))] : []),
      ],
    };
  },
  // Of the official client's Go, or this client's Node.
  g: () => ({
    name: 'heap',
    items: [
      item('alloc', 'bytes', 'juicefs_go_memstats_alloc_bytes', 'juicefs_nodejs_heap_size_used_bytes'),
      item('sys', 'bytes', 'juicefs_go_memstats_sys_bytes', 'juicefs_nodejs_heap_size_total_bytes'),
    ],
  }),
};

export const SCHEMA_LETTERS: readonly string[] = Object.keys(sections);

/** The sections of a schema; undefined letters are the caller's to refuse. */
export function sectionsOf(schema: string, verbose: boolean): readonly Section[] {
  return schema.split('').flatMap((letter) => sections[letter]?.(verbose) ?? []);
}

/** How a text is coloured; the name of the colour is its number in a terminal. */
export type Paint = (text: string, colour: number, style?: 'dark' | 'underlined') => string;
export const plain: Paint = (text) => text;
export const coloured: Paint = (text, colour, style) =>
  `\x1b[${style === 'underlined' ? '4;1' : style === 'dark' ? '0' : '1'};${colour}m${text}\x1b[0m`;

const [BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE] = [30, 31, 32, 33, 34, 35, 36, 37] as const;
const TIME_WIDTH = 'MM-DD hh:mm:ss'.length;

function centred(text: string, width: number, fill: string): string {
  const before = Math.ceil((width - text.length) / 2);
  return text
    .padStart(text.length + before, fill)
    .padEnd(width, fill)
    .slice(0, width);
}

/** The two lines above the figures. */
export function header(list: readonly Section[], paint: Paint): string {
  const cells = list.map(({ items }) =>
    items.flatMap(({ nick, kind }) => [
      centred(nick, kind === 'time' ? TIME_WIDTH : 5, ' '),
      ...(kind === 'latency' ? [' lat '] : []),
    ]),
  );
  const names = list.map(({ name }, at) => paint(centred(name, (cells[at] ?? []).join(' ').length, '-'), BLUE, 'dark'));
  const nicks = cells.map((each) => each.map((cell) => paint(cell, BLUE, 'underlined')).join(' '));
  return `${names.join(' ')}\n${nicks.join(paint('|', BLUE, 'dark'))}`;
}

const units = [
  [' ', RED],
  ['K', YELLOW],
  ['M', GREEN],
  ['G', BLUE],
  ['T', MAGENTA],
  ['P', CYAN],
] as const;

/** Five characters: four digits at most and a unit of 1024. */
function amount(value: number, inBytes: boolean, paint: Paint): string {
  if (!(value > 0)) return paint('   0 ', BLACK);
  let at = 0;
  let rest = Math.floor(value);
  for (; rest >= 10_000 && at < units.length - 1; at++) rest = Math.floor(rest / 1024);
  const [unit, colour] = units[at] ?? units[0];
  return paint(String(rest).padStart(4), colour) + paint(at === 0 && inBytes ? 'B' : unit, BLACK);
}

/** Five characters, milliseconds. */
function milliseconds(value: number, paint: Paint): string {
  if (!(value > 0)) return paint('   0 ', BLACK);
  if (value < 10) return paint(`${value.toFixed(2)} `, GREEN);
  if (value < 100) return paint(`${value.toFixed(1)} `, YELLOW);
  if (value < 10_000) return paint(`${String(Math.round(value)).padStart(4)} `, RED);
  return paint(value.toExponential(0).replace('e+', 'e').padEnd(5), MAGENTA);
}

/** Five characters, percent of one processor. */
function percent(value: number, paint: Paint): string {
  const hundred = value * 100;
  const colour = !(hundred > 0) ? WHITE : hundred < 30 ? GREEN : hundred < 100 ? YELLOW : RED;
  const text = hundred < 100 ? Math.max(0, hundred).toFixed(1) : String(Math.round(hundred));
  return paint(text.padStart(4), colour) + paint('%', BLACK);
}

function valueOf(figures: Figures, names: readonly string[], suffix = ''): number {
  for (const name of names) {
    const value = figures.get(name + suffix);
    if (value !== undefined) return value;
  }
  return 0;
}

/** What one item shows: its numbers, in bytes, seconds (of processors: parts) and per second. */
function numbersOf({ kind, names }: Item, before: Figures, now: Figures, seconds: number): readonly number[] {
  const growth = (suffix = ''): number => valueOf(now, names, suffix) - valueOf(before, names, suffix);
  if (kind === 'time') return [];
  if (kind === 'bytes') return [valueOf(now, names)];
  if (kind !== 'latency') return [growth() / seconds];
  const count = growth('_total');
  return [count / seconds, count > 0 ? growth('_sum') / count : 0];
}

/** The line of figures for what happened between two readings. `clock` is what the section `t` shows. */
export function line(
  list: readonly Section[],
  before: Figures,
  now: Figures,
  seconds: number,
  clock: string,
  paint: Paint,
): string {
  const cell = (each: Item): string => {
    const [first = 0, second = 0] = numbersOf(each, before, now, seconds);
    if (each.kind === 'time') return paint(clock.padEnd(TIME_WIDTH), WHITE);
    if (each.kind === 'processor') return percent(first, paint);
    if (each.kind === 'latency') return `${amount(first, false, paint)} ${milliseconds(second * 1000, paint)}`;
    return amount(first, each.kind !== 'rate', paint);
  };
  return list.map(({ items }) => items.map(cell).join(' ')).join(paint('|', BLUE, 'dark'));
}

/** The same as data: by section and nickname; rates per second, latencies in seconds. */
export function values(
  list: readonly Section[],
  before: Figures,
  now: Figures,
  seconds: number,
): Readonly<Record<string, Readonly<Record<string, number>>>> {
  return Object.fromEntries(
    list
      .filter(({ name }) => name !== 'system')
      .map(({ name, items }) => [
        name,
        Object.fromEntries(
          items.flatMap((each) => {
            const [first = 0, second = 0] = numbersOf(each, before, now, seconds);
            return each.kind === 'latency'
              ? [
                  [each.nick, first],
                  [`${each.nick}_latency`, second],
                ]
              : [[each.nick, first]];
          }),
        ),
      ]),
  );
}
