/** The bundle that images carry, and the archives that are written without Docker. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { bundle } from '../../image/bundle.ts';
import { packLayer, writeArchive } from './oci.ts';

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-image-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const program = join(import.meta.dirname, 'fixtures', 'program.ts');
const expected = `arguments:
  - one
native: true
compressed: true
file: a file that goes along
same: true
worker: a worker answered
served: served
lazy: 1
`;

test('a bundled program finds its native code, worker and files wherever it lies', async (t) => {
  const output = join(scratch(t), 'bundle');
  await bundle(output, program);
  const shown = execFileSync(process.execPath, [join(output, 'main.js'), 'one'], { cwd: '/', encoding: 'utf8' });
  assert.equal(shown, expected);
  const files = readdirSync(join(output, 'node_modules', 'koffi'));
  assert.ok(!files.includes('vendor'), 'headers for compiling are not needed in an image');
});

test('a program that looks beside itself in a way that bundling would break is refused', async (t) => {
  const folder = scratch(t);
  const entry = join(folder, 'entry.ts');
  writeFileSync(entry, 'process.stdout.write(import.meta.dirname);');
  await assert.rejects(bundle(join(folder, 'bundle'), entry), /entry\.ts uses import\.meta\.dirname: name the file by new URL/);
});

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly annotations: Readonly<Record<string, string>>;
}

test('an archive holds what its digests say, and the same contents give the same archive', async (t) => {
  const folder = scratch(t);
  const root = join(folder, 'root');
  mkdirSync(join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'bin', 'hello'), '#!/bin/sh\necho hello\n', { mode: 0o755 });
  const images = [
    { name: 'localhost/a:1', command: ['/bin/hello'] },
    { name: 'localhost/a:2', command: ['/bin/hello'], labels: { other: 'yes' } },
  ];
  const archives: Buffer[] = [];
  for (const name of ['one.tar', 'two.tar']) {
    const layer = await packLayer(root, join(folder, `${name}.layer`));
    writeArchive(join(folder, name), [layer], images);
    archives.push(readFileSync(join(folder, name)));
  }
  assert.ok(archives[1] && archives[0]?.equals(archives[1]));

  const open = join(folder, 'open');
  mkdirSync(open);
  execFileSync('tar', ['-xf', join(folder, 'one.tar'), '-C', open]);
  const blob = (digest: string): Buffer => {
    const bytes = readFileSync(join(open, 'blobs', 'sha256', digest.replace('sha256:', '')));
    assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest);
    return bytes;
  };
  const index = JSON.parse(readFileSync(join(open, 'index.json'), 'utf8')) as { manifests: readonly Descriptor[] };
  assert.deepEqual(
    index.manifests.map((each) => each.annotations['io.containerd.image.name']),
    ['localhost/a:1', 'localhost/a:2'],
  );
  assert.notEqual(index.manifests[0]?.digest, index.manifests[1]?.digest);
  for (const each of index.manifests) {
    const bytes = blob(each.digest);
    assert.equal(bytes.length, each.size);
    const manifest = JSON.parse(bytes.toString()) as { config: Descriptor; layers: readonly Descriptor[] };
    const config = JSON.parse(blob(manifest.config.digest).toString()) as { rootfs: { diff_ids: readonly string[] } };
    assert.deepEqual(
      config.rootfs.diff_ids,
      manifest.layers.map((layer) => layer.digest),
    );
    const layer = join(folder, 'layer');
    writeFileSync(layer, blob(manifest.layers[0]?.digest ?? ''));
    const listing = execFileSync('tar', ['-tvf', layer], { encoding: 'utf8' });
    assert.match(listing, /^-rwxr-xr-x 0\/0 +21 1970-01-01 \d\d:\d\d \.\/bin\/hello$/m);
  }
  assert.equal(existsSync(`${join(folder, 'one.tar')}.tar`), false);
});
