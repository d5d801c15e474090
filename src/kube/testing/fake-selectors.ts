/** Label and field selectors as the fake API server reads them. */
import type { KubeObject } from '../types.ts';
import { isMap } from './fake-fields.ts';

export type Selector = (object: KubeObject) => boolean;

function splitTop(text: string): string[] {
  return text.split(/,(?![^(]*\))/).map((part) => part.trim());
}

function labelTerm(term: string): (labels: Readonly<Record<string, string>>) => boolean {
  const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
  if (set) {
    const [, name = '', how, list = ''] = set;
    const values = new Set(list.split(',').map((each) => each.trim()));
    return how === 'in'
      ? (labels) => name in labels && values.has(labels[name] ?? '')
      : (labels) => !values.has(labels[name] ?? '\0');
  }
  const equality = /^([^=!\s]+)\s*(==|=|!=)\s*(.*)$/.exec(term);
  if (equality) {
    const [, name = '', how, value] = equality;
    return how === '!=' ? (labels) => labels[name] !== value : (labels) => labels[name] === value;
  }
  if (term.startsWith('!')) return (labels) => !(term.slice(1).trim() in labels);
  return (labels) => term in labels;
}

/** Both selectors as one test. */
export function selector(labelSelector: string, fieldSelector: string): Selector {
  const labels = labelSelector === '' ? [] : splitTop(labelSelector).map(labelTerm);
  const fields = fieldSelector === '' ? [] : splitTop(fieldSelector);
  return (object) =>
    labels.every((term) => term(object.metadata.labels ?? {})) &&
    fields.every((term) => {
      const [, path = '', how, wanted] = /^([^=!]+)(==|=|!=)(.*)$/.exec(term) ?? [];
      let value: unknown = object;
      for (const name of path.split('.')) value = isMap(value) ? value[name] : undefined;
      const found = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
      return (found === wanted) === (how !== '!=');
    });
}
