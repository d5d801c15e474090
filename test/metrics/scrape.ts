/** What Prometheus would read of a client. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Scraped {
  readonly type: string;
  readonly help: string;
  /** Names of the labels of all its samples, `le` left out. */
  readonly labels: ReadonlySet<string>;
  /** By the text of the labels that were asked for. */
  readonly samples: readonly {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
  }[];
}

/** Reads the exposition format; throws where a line is none of it. */
export function parseExposition(text: string): ReadonlyMap<string, Scraped> {
  const families = new Map<string, { type: string; help: string; labels: Set<string>; samples: Scraped['samples'][number][] }>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const head = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (head) {
      const [, kind, name = '', value = ''] = head;
      const family = families.get(name) ?? { type: '', help: '', labels: new Set<string>(), samples: [] };
      families.set(name, kind === 'HELP' ? { ...family, help: value } : { ...family, type: value });
      continue;
    }
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!sample) throw new Error(`not a line of the exposition format: ${line}`);
    const [, name = '', labelText = '', value] = sample;
    const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
    if (!family) throw new Error(`a sample before its head: ${line}`);
    const labels = Object.fromEntries(
      Array.from(labelText.matchAll(/(\w+)="((?:[^"\\]|\\.)*)",?/g), ([, label = '', text = '']) => [label, text]),
    );
    for (const label of Object.keys(labels)) if (label !== 'le') family.labels.add(label);
    family.samples.push({ name, labels, value: Number(value) });
  }
  return families;
}

/** Where a mount, of either client, serves its metrics. */
export function metricsUrl(mountPoint: string): string {
  const { Port } = JSON.parse(readFileSync(join(mountPoint, '.config'), 'utf8')) as { Port: { PrometheusAgent: string } };
  return `http://${Port.PrometheusAgent}/metrics`;
}

export async function scrape(mountPoint: string): Promise<ReadonlyMap<string, Scraped>> {
  const response = await fetch(metricsUrl(mountPoint));
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return parseExposition(await response.text());
}

/** The sum of a family's samples with these labels. */
export function total(
  families: ReadonlyMap<string, Scraped>,
  family: string,
  labels: Readonly<Record<string, string>> = {},
  name = family,
): number {
  const samples = families.get(family)?.samples ?? [];
  return samples
    .filter((sample) => sample.name === name && Object.entries(labels).every(([label, text]) => sample.labels[label] === text))
    .reduce((sum, { value }) => sum + value, 0);
}

/** Lines of `.stats`. */
export function statsOf(mountPoint: string): ReadonlyMap<string, number> {
  const lines = readFileSync(join(mountPoint, '.stats'), 'utf8').trimEnd().split('\n');
  return new Map(
    lines.map((line) => {
      const match = /^(\w+) (-?\d+(?:\.\d+)?)$/.exec(line);
      if (!match) throw new Error(`not a line of .stats: ${line}`);
      return [match[1] ?? '', Number(match[2])];
    }),
  );
}
