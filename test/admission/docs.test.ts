/** docs/admission.md says what to do about every reason that the webhook gives, and its examples are read as it says. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { platformNames } from '../../src/admission/platforms/index.ts';
import { parseVolumes } from '../../src/api/annotation.ts';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'admission.md'), 'utf8');
const source = [
  'api/annotation',
  ...['disk', 'limits', 'mode', 'plan', 'policies', 'review', 'server'].map((name) => `admission/${name}`),
]
  .map((name) => readFileSync(join(root, 'src', `${name}.ts`), 'utf8'))
  .join('\n');

test('every reason for a refusal is explained', () => {
  const inCode = new Set([...source.matchAll(/'([A-Z][a-z]+(?:[A-Z][a-z]+)+)'/g)].map((match) => match[1] ?? ''));
  // What is not a refusal: words of the API, and why a pod is left alone.
  const others = ['NotAnnotated', 'NotAPodCreation', 'AlreadyInjected', 'MirrorPod', 'PodOptedOut', 'NamespaceOptedOut'];
  for (const word of [...others, 'AnnotationError', 'AdmissionReview']) inCode.delete(word);
  const table = page.slice(page.indexOf('## Why a pod is refused'), page.indexOf('## Running the webhook'));
  const inPage = new Set(
    [...table.matchAll(/^\| (.*?) \|/gm)].flatMap((row) => [...(row[1] ?? '').matchAll(/`(\w+)`/g)].map((m) => m[1] ?? '')),
  );
  assert.deepEqual(
    [...inPage].toSorted((a, b) => a.localeCompare(b)),
    [...inCode].toSorted((a, b) => a.localeCompare(b)),
  );
});

test('every field of the annotation has its row', () => {
  const table = page.slice(page.indexOf('| field | meaning |'), page.indexOf('At most 16 volumes'));
  const rows = [...table.matchAll(/^\| (.*?) \|/gm)].flatMap((row) => [...(row[1] ?? '').matchAll(/`(\w+)`/g)].map((m) => m[1]));
  let told = '';
  try {
    parseVolumes('[{bogus: 1}]');
  } catch (error) {
    told = String(error);
  }
  const accepted = /accepted are ([\w, ]+)/.exec(told)?.[1]?.split(', ');
  assert.deepEqual(new Set(rows), new Set(accepted));
});

test('every platform has its row', () => {
  const table = page.slice(page.indexOf('## Platforms'), page.indexOf('## Why a pod is refused'));
  const rows = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map((row) => row[1]);
  assert.deepEqual(new Set(rows), new Set(platformNames));
  assert.equal(rows.length, platformNames.length);
});

test('the examples are accepted', () => {
  const blocks = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
  const texts = blocks.map((block) => {
    const read = parse(block) as { metadata?: { annotations: Record<string, string> }; 'juicepod.io/volumes'?: string };
    return read.metadata?.annotations['juicepod.io/volumes'] ?? read['juicepod.io/volumes'] ?? '';
  });
  assert.deepEqual(
    texts.map((text) => parseVolumes(text).map(({ name, mountPath }) => `${name} ${mountPath}`)),
    [
      ['datasets /data', 'checkpoints /ckpt'],
      ['datasets /data', 'checkpoints /ckpt'],
    ],
  );
});
