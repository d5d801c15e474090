/**
 * docs/platforms.md is what `juicepod inject` says of the sample for each platform, with the facts that the profile rests on.
 * UPDATE_GOLDEN=1 writes the page anew; read the difference before committing it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { injectFile, type InjectReason } from '../../src/admission/inject.ts';
import { type Platform, platforms } from '../../src/admission/platforms/index.ts';
import { tell } from '../../src/cli/inject.ts';

const root = join(import.meta.dirname, '..', '..');
const samples = join('config', 'samples');
const read = (...path: readonly string[]): string => readFileSync(join(root, ...path), 'utf8');
const sampleOf = ({ name }: Platform): string => read(samples, 'platforms', `${name}.yaml`);

const HEAD = `# Pods on each platform

A pod for each platform that Juicepod knows, and what the webhook makes of it: the mode of its volume, what that gives up, and the client's plan.
On which platform a pod runs is told by the pod itself, as below, or once for a namespace (label \`juicepod.io/platform\`) or a cluster (the
webhook's \`--platform\`); [admission.md](admission.md) has the whole table. Of these only \`generic\` could be tried by the project's tests; the
other profiles follow the providers' documents, which are named.

Each block is what this prints:
\`\`\`sh
juicepod inject -f config/samples/volume.yaml -f config/samples/cachepolicy.yaml -f config/samples/platforms/NAME.yaml
\`\`\`
The pod itself, with sidecars and volumes, comes on standard output (\`-o diff\` prints what is added alone).
`;

/** What is decided about the sample. */
function reasonsOf(platform: Platform): readonly InjectReason[] {
  const files = [read(samples, 'volume.yaml'), read(samples, 'cachepolicy.yaml'), sampleOf(platform)];
  return injectFile(files.join('\n---\n')).reasons;
}

/** What `juicepod inject` says of it on standard error. */
const said = (platform: Platform): string => reasonsOf(platform).map(tell).join('');

function section(platform: Platform): string {
  const { name, title, facts } = platform;
  return [
    `## ${title.slice(0, 1).toUpperCase()}${title.slice(1)}: \`${name}\``,
    '',
    '```yaml',
    sampleOf(platform).trimEnd(),
    '```',
    '```text',
    said(platform).trimEnd(),
    '```',
    'What the profile rests on:',
    ...facts.map(({ fact, source }) => `- ${fact} (${source})`),
    '',
  ].join('\n');
}

/** The platform of one's own first, then in the order in which signs are looked for. */
const ordered = platforms.toSorted((a, b) => Number(b.name === 'generic') - Number(a.name === 'generic'));
const page = [HEAD, ...ordered.map(section)].join('\n');

test('docs/platforms.md is what inject says of the sample for each platform', () => {
  const path = join(root, 'docs', 'platforms.md');
  if (process.env['UPDATE_GOLDEN']) writeFileSync(path, page);
  assert.equal(readFileSync(path, 'utf8'), page);
});

test('each sample is recognised as one for its platform by what the pod says, and each platform has one', () => {
  for (const platform of platforms) {
    const [decided] = reasonsOf(platform);
    // Where it is refused, the sentence names the platform.
    if (decided?.explanation) assert.equal(decided.explanation.platform, platform.name);
    else assert.ok(decided?.action === 'refuse' && decided.message.includes(platform.title), platform.name);
  }
  const files = readdirSync(join(root, samples, 'platforms')).filter((name) => name !== 'kustomization.yaml');
  assert.deepEqual(files.toSorted(), platforms.map(({ name }) => `${name}.yaml`).toSorted());
});
