/** docs/admission.md says what to do about every reason that the webhook gives, and its examples are read as it says. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { injectFile } from '../../src/admission/inject.ts';
import { platformNames } from '../../src/admission/platforms/index.ts';
import { parseVolumes } from '../../src/admission/annotation.ts';

const root = join(import.meta.dirname, '..', '..');
const page = readFileSync(join(root, 'docs', 'admission.md'), 'utf8');
const source = ['annotation', 'disk', 'limits', 'mode', 'plan', 'policies', 'review', 'server']
  .map((name) => readFileSync(join(root, 'src', 'admission', `${name}.ts`), 'utf8'))
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

/** What inject says of the golden pod of each platform, without the plan. */
function samples(): string {
  const folder = join(root, 'test', 'golden', 'admission');
  const volumes = readFileSync(join(folder, 'volumes.yaml'), 'utf8');
  const files = readdirSync(folder).filter((name) => /^platform-[a-z-]+\.yaml$/.test(name));
  const parts = files.toSorted().map((name) => {
    const { reasons } = injectFile(`${volumes}---\n${readFileSync(join(folder, name), 'utf8')}`);
    const lines = reasons.flatMap(({ action, message, explanation }) => [
      `${name}: ${action}${explanation ? '' : `: ${message}`}`,
      ...(explanation?.volumes ?? []).map(({ volume, mode, why }) => `  ${volume}: ${mode}: ${why}`),
    ]);
    return lines.join('\n');
  });
  return parts.join('\n');
}

test('the samples for each platform are what inject says of them', () => {
  const inPage = /```text\n(platform-[\s\S]*?)\n```/.exec(page)?.[1];
  assert.equal(inPage, samples());
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
