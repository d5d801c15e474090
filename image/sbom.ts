/**
 * What the image is made of, as a CycloneDX 1.6 document: the packages of package-lock.json that the program needs on Linux and one
 * processor, with their versions, hashes, licences and who needs whom. Packages for development, for other machines, and
 * those the image leaves out (the root's optional ones) are not in it. The same lock file gives the same bytes.
 * Source: https://cyclonedx.org/docs/1.6/json; npm's package-lock.json, version 3; purl-spec.
 *
 * Usage: node image/sbom.ts OUTPUT_FILE [--cpu x64|arm64] [--node VERSION]
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

interface LockedPackage {
  readonly name?: string;
  readonly version?: string;
  readonly integrity?: string;
  readonly license?: string;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly lockfileVersion: number;
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

export interface SbomOptions {
  /** As Node names processors. */
  readonly cpu: string;
  /** Version of the Node in the image. */
  readonly node?: string;
}

export interface Component {
  readonly type: string;
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly [field: string]: unknown;
}

export interface Sbom {
  readonly bomFormat: 'CycloneDX';
  readonly specVersion: '1.6';
  readonly serialNumber: string;
  readonly version: 1;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

/** npm's rule: a list of what is accepted, or of what is not (`!win32`). */
function accepts(list: readonly string[] | undefined, value: string): boolean {
  if (!list || list.length === 0) return true;
  if (list.includes(`!${value}`)) return false;
  return list.includes(value) || list.every((entry) => entry.startsWith('!'));
}

const purlOf = (name: string, version: string): string =>
  `pkg:npm/${name.startsWith('@') ? `%40${name.slice(1)}` : name}@${encodeURIComponent(version)}`;

/** The place that Node's resolution finds `name` in, for a package that lies at `from`. */
function place(lock: Lock, from: string, name: string): string | undefined {
  for (let folder = from; ;) {
    const path = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (lock.packages[path]) return path;
    if (folder === '') return undefined;
    const above = folder.lastIndexOf('/node_modules/');
    folder = above < 0 ? '' : folder.slice(0, above);
  }
}

const nameAt = (path: string): string => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);

function hashesOf(integrity: string | undefined): readonly { readonly alg: string; readonly content: string }[] {
  const [, algorithm, digest] = /^sha(\d+)-(\S+)/.exec(integrity ?? '') ?? [];
  return algorithm && digest ? [{ alg: `SHA-${algorithm}`, content: Buffer.from(digest, 'base64').toString('hex') }] : [];
}

function componentAt(lock: Lock, path: string): Component {
  const { name = nameAt(path), version = '0.0.0', integrity, license } = lock.packages[path] ?? {};
  const purl = purlOf(name, version);
  const hashes = hashesOf(integrity);
  return {
    type: 'library',
    'bom-ref': purl,
    name,
    version,
    purl,
    ...(license ? { licenses: [/[ ()]/.test(license) ? { expression: license } : { license: { id: license } }] } : {}),
    ...(hashes.length > 0 ? { hashes } : {}),
  };
}

/** The document of a lock file. Throws where a package that is needed is not in it. */
export function sbomOf(lock: Lock, { cpu, node }: SbomOptions): Sbom {
  if (lock.lockfileVersion !== 3) throw new Error(`package-lock.json has version ${lock.lockfileVersion}; 3 is wanted`);
  const needs = new Map<string, readonly string[]>();
  const fits = (path: string): boolean => {
    const { os, cpu: processors, libc } = lock.packages[path] ?? {};
    return accepts(os, 'linux') && accepts(processors, cpu) && accepts(libc, 'glibc');
  };
  const visit = (path: string, isRoot: boolean): void => {
    if (needs.has(path)) return;
    needs.set(path, []);
    const { dependencies = {}, optionalDependencies = {} } = lock.packages[path] ?? {};
    const found: string[] = [];
    for (const name of new Set([...Object.keys(dependencies), ...(isRoot ? [] : Object.keys(optionalDependencies))])) {
      const at = place(lock, path, name);
      if (at && fits(at)) found.push(at);
      else if (!at && !(name in optionalDependencies))
        throw new Error(`package-lock.json lacks ${name}, which ${path || 'the project'} needs`);
    }
    needs.set(path, found);
    for (const at of found) visit(at, false);
  };
  visit('', true);

  const root = { ...componentAt(lock, ''), type: 'application' };
  // One version may lie in several places; it is one component then, with what each place needs.
  const components = new Map<string, Component>();
  const graph = new Map<string, Set<string>>();
  for (const [path, found] of needs) {
    const component = path === '' ? root : componentAt(lock, path);
    if (path !== '') components.set(component.purl, component);
    const refs = graph.get(component.purl) ?? new Set();
    for (const at of found) refs.add(componentAt(lock, at).purl);
    graph.set(component.purl, refs);
  }
  if (node !== undefined) {
    const purl = `pkg:generic/node@${node}`;
    const licenses = [{ license: { id: 'MIT' } }];
    components.set(purl, { type: 'platform', 'bom-ref': purl, name: 'node', version: node, purl, licenses });
    graph.get(root.purl)?.add(purl);
    graph.set(purl, new Set());
  }
  const byRef = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
  const listed = [...components.values()].toSorted((a, b) => byRef(a.purl, b.purl));
  const dependencies = [...graph]
    .map(([ref, on]) => ({ ref, dependsOn: [...on].toSorted(byRef) }))
    .toSorted((a, b) => byRef(a.ref, b.ref));
  const digest = createHash('sha256')
    .update(JSON.stringify([root, listed, dependencies]))
    .digest('hex');
  const uuid = [
    digest.slice(0, 8),
    digest.slice(8, 12),
    `8${digest.slice(13, 16)}`,
    `a${digest.slice(17, 20)}`,
    digest.slice(20, 32),
  ];
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${uuid.join('-')}`,
    version: 1,
    metadata: { component: root },
    components: listed,
    dependencies,
  };
}

/** That of this project. */
export function readLock(): Lock {
  return JSON.parse(readFileSync(join(resolve(import.meta.dirname, '..'), 'package-lock.json'), 'utf8')) as Lock;
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { cpu: { type: 'string', default: process.arch }, node: { type: 'string' } },
  });
  const [output] = positionals;
  if (!output) throw new Error('usage: node image/sbom.ts OUTPUT_FILE [--cpu x64|arm64] [--node VERSION]');
  const sbom = sbomOf(readLock(), { cpu: values.cpu, ...(values.node ? { node: values.node } : {}) });
  writeFileSync(output, `${JSON.stringify(sbom, undefined, 2)}\n`);
}
