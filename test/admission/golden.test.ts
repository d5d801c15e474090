/**
 * Pods and what becomes of them, as files that people can read: `test/golden/admission/NAME.yaml` is injected, with the
 * volumes of `volumes.yaml`, into `NAME.injected.yaml`. UPDATE_GOLDEN=1 writes the latter anew; read the difference before
 * committing it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { injectFile } from '../../src/admission/inject.ts';
import { platformNames } from '../../src/admission/platforms/index.ts';

const folder = join(import.meta.dirname, '..', 'golden', 'admission');
const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
const volumes = read('volumes.yaml');
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.yaml') && !name.endsWith('.injected.yaml') && name !== 'volumes.yaml')
  .map((name) => name.slice(0, -'.yaml'.length));

/** What `juicepod inject` prints for the pods alone, the reasons as comments before it. */
function inject(pods: string): string {
  const { documents } = injectFile(volumes);
  const { text, reasons } = injectFile(`${volumes}---\n${pods}`, { settings: { image: 'juicepod:golden' } });
  const rest = text
    .split(/^---\n/m)
    .slice(documents.length)
    .join('---\n');
  const lines = reasons.flatMap(({ kind, name, action, reason, message, warnings }) => [
    `# ${kind} ${name}: ${action}, ${reason}: ${message}`,
    ...warnings.map((warning) => `# warning: ${warning}`),
  ]);
  return `${lines.join('\n')}\n${rest}`;
}

for (const name of names)
  test(`${name}.yaml is injected as ${name}.injected.yaml says, and once more changes nothing`, () => {
    const injected = inject(read(`${name}.yaml`));
    if (process.env['UPDATE_GOLDEN']) writeFileSync(join(folder, `${name}.injected.yaml`), injected);
    assert.equal(injected, read(`${name}.injected.yaml`));
    const again = injectFile(`${volumes}---\n${injected}`, { settings: { image: 'juicepod:golden' } });
    assert.equal(again.diff, '');
    assert.ok(again.reasons.every(({ reason }) => reason !== 'Injected'));
  });

test('there is a golden file for each kind of pod, and one for each platform', () => {
  const features = names.filter((name) => !name.startsWith('platform-'));
  assert.deepEqual(features.toSorted(), [
    'chosen-containers',
    'cronjob',
    'fsgroup',
    'init-containers',
    'istio',
    'istio-classic',
    'job',
    'limitrange',
    'linkerd',
    'plain',
    'refused',
    'restricted',
    'statefulset',
    'vault',
  ]);
  const [particular, all] = [new Set(names), platformNames.filter((name) => name !== 'generic' && name !== 'virtual-node')];
  const file = (name: string): string => (name === 'azure-virtual-nodes-addon' ? 'platform-azure-addon' : `platform-${name}`);
  assert.deepEqual(
    all.filter((name) => !particular.has(file(name))),
    [],
  );
});
