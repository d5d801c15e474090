/**
 * The images of the cluster tests, built without Docker into the tools' cache:
 *
 * - `localhost/busybox:1`: Debian's static busybox with its applets; the sandbox ("pause") container and the applications.
 * - `localhost/juicepod:dev`: what `image/Dockerfile` describes. Node from the npm package, its libraries as `ldd` prints
 *   them, util-linux's mount, umount and flock, busybox for a shell, the bundled project. `localhost/juicepod:next` is the same
 *   program under another name and digest, to change a running container's image to.
 *
 * An archive is named by the hash of what goes in; others of its kind are removed when a new one is written.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { bundle } from '../../image/bundle.ts';
import { fillCompiled } from '../../image/compiled.ts';
import { cacheRoot, ensureDebian, onPath, ToolMissing } from '../tools.ts';
import { type Layer, packLayer, writeArchive } from './oci.ts';

const project = resolve(import.meta.dirname, '../..');
const folder = join(cacheRoot, 'images');

export const busyboxImage = 'localhost/busybox:1';
export const juicepodImage = 'localhost/juicepod:dev';
export const nextJuicepodImage = 'localhost/juicepod:next';

/** Bumped when the recipe below changes: part of every archive's name. */
const recipe = 4;

function place(root: string, from: string, to: string): void {
  const path = join(root, to);
  if (existsSync(path)) return;
  mkdirSync(dirname(path), { recursive: true });
  cpSync(realpathSync(from), path);
  chmodSync(path, 0o755);
}

/** Puts the libraries that `binary` needs at their own paths below `root`; none for a static program. */
function addLibraries(root: string, binary: string): void {
  let libraries: string;
  try {
    libraries = execFileSync('ldd', [binary], { encoding: 'utf8', stdio: 'pipe' });
  } catch {
    return; // not dynamic
  }
  for (const [, path] of libraries.matchAll(/(?:^|=>)\s*(\/\S+) \(0x/gm)) if (path) place(root, path, path);
}

function addProgram(root: string, program: string, target: string): void {
  place(root, program, target);
  addLibraries(root, program);
}

function addBusybox(root: string): void {
  ensureDebian('busybox');
  const busybox = onPath('busybox');
  if (!busybox) throw new ToolMissing('busybox: apt-get install busybox-static');
  // Debian's static one, or, where the machine had another before, that and its libraries.
  addProgram(root, busybox, '/bin/busybox');
  for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n'))
    if (applet !== 'busybox' && !existsSync(join(root, 'bin', applet))) symlinkSync('busybox', join(root, 'bin', applet));
}

function addAccounts(root: string): void {
  mkdirSync(join(root, 'etc'), { recursive: true });
  mkdirSync(join(root, 'tmp'), { recursive: true });
  chmodSync(join(root, 'tmp'), 0o1777);
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\njuicepod:x:1000:1000:juicepod:/:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\njuicepod:x:1000:\n');
}

/** Makes `name` in the cache out of layers, once; `fill` makes each layer's tree. */
async function cached(kind: string, hash: string, make: (archive: string, scratch: string) => Promise<void>): Promise<string> {
  const archive = join(folder, `${kind}-${hash}.tar`);
  if (existsSync(archive)) return archive;
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, `.${kind}-`));
  try {
    await make(archive, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  for (const name of readdirSync(folder))
    if (name.startsWith(`${kind}-`) && join(folder, name) !== archive)
      rmSync(join(folder, name), { recursive: true, force: true });
  return archive;
}

/** A layer kept in the cache, because Node alone is 120 MB and stays when the project changes. */
async function cachedLayer(kind: string, hash: string, fill: (root: string) => void): Promise<Layer> {
  const file = await cached(kind, hash, async (archive, scratch) => {
    const root = join(scratch, 'root');
    mkdirSync(root);
    fill(root);
    await packLayer(root, join(scratch, 'layer'));
    renameSync(join(scratch, 'layer'), archive);
  });
  const digest = execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64);
  return { file, digest, size: statSync(file).size };
}

const hashOf = (...parts: readonly string[]): string =>
  createHash('sha256')
    .update(JSON.stringify([recipe, process.arch, ...parts]))
    .digest('hex')
    .slice(0, 16);

/** A program's identity without reading it whole. */
const identity = (file: string): string => {
  const { size, mtimeMs } = statSync(realpathSync(file));
  return `${file} ${size} ${mtimeMs}`;
};

/** Hash of all files below `root`: names and contents. */
function treeHash(root: string): string {
  const digest = createHash('sha256');
  const files = readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  for (const file of files) digest.update(`${relative(root, file)}\0`).update(readFileSync(file));
  return digest.digest('hex');
}

/** The archive of `busyboxImage`. */
export async function ensureBusyboxImage(): Promise<string> {
  ensureDebian('busybox');
  return cached('busybox', hashOf(identity(onPath('busybox') ?? '')), async (archive, scratch) => {
    const root = join(scratch, 'root');
    mkdirSync(root);
    addBusybox(root);
    addAccounts(root);
    const layer = await packLayer(root, join(scratch, 'layer'));
    writeArchive(archive, [layer], [{ name: busyboxImage, command: ['sleep', '2147483647'] }]);
  });
}

function nodeProgram(): string {
  const program = join(project, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
  if (!existsSync(program)) throw new ToolMissing(`Node for the image: ${program} is not there; npm ci installs it on Linux`);
  return program;
}

/**
 * The archive of `juicepodImage` and `nextJuicepodImage`.
 *
 * @param entry the program that the image runs. @default src/main.ts
 */
export async function ensureJuicepodImage(entry: string = join(project, 'src', 'main.ts')): Promise<string> {
  const node = nodeProgram();
  const tools = ['mount', 'umount', 'flock'].map((name) => onPath(name) ?? '');
  if (tools.includes('')) throw new ToolMissing('mount, umount and flock: apt-get install mount util-linux');
  ensureDebian('busybox');
  const base = await cachedLayer('node', hashOf(...[node, ...tools, onPath('busybox') ?? ''].map(identity)), (root) => {
    addProgram(root, node, '/usr/local/bin/node');
    for (const tool of tools) addProgram(root, tool, join('/usr/bin', basename(tool)));
    addBusybox(root);
    addAccounts(root);
  });
  mkdirSync(folder, { recursive: true });
  const bundled = mkdtempSync(join(folder, '.bundle-'));
  try {
    await bundle(bundled, entry);
    const launcher = readFileSync(join(project, 'image', 'juicepod'));
    return await cached('juicepod', hashOf(base.digest, treeHash(bundled), launcher.toString()), async (archive, scratch) => {
      const root = join(scratch, 'root');
      mkdirSync(join(root, 'usr/local/bin'), { recursive: true });
      cpSync(bundled, join(root, 'usr/local/lib/juicepod'), { recursive: true });
      if (existsSync(join(bundled, 'start.cjs'))) fillCompiled(join(root, 'usr/local/lib/juicepod'), node);
      writeFileSync(join(root, 'usr/local/bin/juicepod'), launcher);
      chmodSync(join(root, 'usr/local/bin/juicepod'), 0o755);
      for (const binary of readdirSync(bundled, { recursive: true, encoding: 'utf8' }))
        if (binary.endsWith('.node')) addLibraries(root, join(bundled, binary));
      const own = await packLayer(root, join(scratch, 'layer'));
      linkSync(base.file, join(scratch, 'base'));
      const entrypoint = ['/usr/local/bin/juicepod'];
      writeArchive(
        archive,
        [{ ...base, file: join(scratch, 'base') }, own],
        [
          { name: juicepodImage, entrypoint },
          { name: nextJuicepodImage, entrypoint, labels: { 'juicepod.io/build': 'next' } },
        ],
      );
    });
  } finally {
    rmSync(bundled, { recursive: true, force: true });
  }
}
