/** What the operator needs of an API server: its namespace, the resources, and its rights. */
import { join, resolve } from 'node:path';
import type { ApiServer } from '../cluster/api-server.ts';

const root = resolve(import.meta.dirname, '..', '..');

/** Applies them, and further kustomizations of the project; afterwards the API server takes our resources. */
export async function installResources(api: ApiServer, ...more: readonly string[]): Promise<void> {
  for (const base of ['config/namespace', 'crds', 'config/rbac', ...more])
    await api.kubectl(['apply', '--server-side', '-k', join(root, base)]);
  await api.kubectl([
    'wait',
    '--for=condition=Established',
    'crd/juicevolumes.juicepod.io',
    'crd/juicecachepolicies.juicepod.io',
  ]);
}
