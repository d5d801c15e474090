/** What kustomize and Helm make of this project's folders, as objects that can be compared. */
import { execFile, spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { ensureKubernetes, kubernetesVersion } from '../cluster/build.ts';
import { helm } from '../tools.ts';

const run = promisify(execFile);

export const root = resolve(import.meta.dirname, '..', '..');
export const chart = join(root, 'charts', 'juicepod');

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

export function parseManifests(text: string): Manifest[] {
  const documents = parseAllDocuments(text);
  if (!Array.isArray(documents)) return [];
  for (const { errors } of documents) if (errors[0]) throw errors[0];
  return documents.map((document) => document.toJS() as Manifest | null).filter((object) => object !== null);
}

/** `Kind namespace/name` of an object. */
export const idOf = ({ kind, metadata }: Manifest): string => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;

/** What an overlay installs. */
export async function kustomize(folder: string): Promise<Manifest[]> {
  const kubectl = join(await ensureKubernetes(), 'kubectl');
  return parseManifests((await run(kubectl, ['kustomize', join(root, folder)], { maxBuffer: 1 << 26 })).stdout);
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs helm, whatever comes of it. Its remarks on symbolic links are left out. */
export async function runHelm(args: readonly string[], input = ''): Promise<Ran> {
  const options = { input, encoding: 'utf8', maxBuffer: 1 << 26, timeout: 120_000 } as const;
  const { status, stdout, stderr } = spawnSync(await helm(), args, options);
  return { status, stdout, stderr: stderr.replace(/^.*found symbolic link in path.*\n/gm, '') };
}

/** What the chart installs with these values. Throws what helm says. */
export async function template(values: object = {}, namespace = 'juicepod-system', from = chart): Promise<Manifest[]> {
  const args = ['template', 'juicepod', from, '--namespace', namespace, '--kube-version', kubernetesVersion()];
  const { status, stdout, stderr } = await runHelm([...args, '--values', '-'], JSON.stringify(values));
  if (status !== 0) throw new Error(stderr);
  return parseManifests(stdout);
}
