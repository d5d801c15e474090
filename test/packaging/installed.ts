/**
 * A real API server with an overlay of config/ on it. Operator and webhook run in the process of the test, as the service
 * accounts that the overlay makes; the webhook's configuration calls them there.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '../../src/kube/client.ts';
import type { KubeClient } from '../../src/kube/types.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from '../cluster/api-server.ts';
import { freePort } from '../servers.ts';
import { kustomize, type Manifest } from './manifests.ts';
import { until } from '../until.ts';

export const system = 'juicepod-system';

export interface Installed extends AsyncDisposable {
  readonly api: ApiServer;
  /** Where the webhook is to listen on 127.0.0.1. */
  readonly port: number;
  /** What was installed. */
  readonly manifests: readonly Manifest[];
  readonly folder: string;
  /** A kubeconfig of a service account of juicepod-system. */
  kubeconfigOf(account: string): Promise<string>;
  /** A client as that account; closed with the rest. */
  clientOf(account: string): Promise<KubeClient>;
  /** Runs kubectl as the administrator; answers what it says, whatever comes of it. */
  readonly attempt: (args: readonly string[], input?: string) => Promise<{ readonly ok: boolean; readonly output: string }>;
}

/** Sends reviews to 127.0.0.1 instead of the Service. */
export function callHere(object: Manifest, port: number, caBundle?: string): Manifest {
  if (object.kind !== 'MutatingWebhookConfiguration') return object;
  const webhooks = (object['webhooks'] as readonly Record<string, unknown>[]).map((webhook) => ({
    ...webhook,
    clientConfig: { url: `https://127.0.0.1:${port}/mutate`, ...(caBundle === undefined ? {} : { caBundle }) },
  }));
  return { ...object, webhooks };
}

export interface InstallOptions extends ApiServerOptions {
  /** Namespaces that are made before. */
  readonly namespaces?: readonly string[];
  /** Base64, for a webhook that does not write it itself. */
  readonly caBundle?: string;
}

/** Starts an API server and installs config/<overlay>; resources of cert-manager are left out. Throws ToolMissing. */
export async function install(overlay: string, options: InstallOptions = {}): Promise<Installed> {
  const api = await startApiServer(options);
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-installed-'));
  const clients: KubeClient[] = [];
  const end = async (): Promise<void> => {
    await Promise.all(clients.map((client) => client.close()));
    await api.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  const attempt: Installed['attempt'] = async (args, input) => {
    try {
      return { ok: true, output: await api.kubectl(args, input) };
    } catch (error) {
      return { ok: false, output: (error as { stderr?: string }).stderr ?? String(error) };
    }
  };
  const kubeconfigOf = async (account: string): Promise<string> => {
    const token = (await api.kubectl(['create', 'token', account, '-n', system])).trim();
    const path = join(folder, `${account}.kubeconfig`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster: { server: api.url, 'certificate-authority': join(api.folder, 'ca.crt') } }],
      users: [{ name: 'u', user: { token } }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u', namespace: system } }],
      'current-context': 'c',
    };
    writeFileSync(path, JSON.stringify(config));
    return path;
  };
  try {
    await until('there are namespaces', async () => (await attempt(['get', 'namespace', 'default'])).ok);
    for (const name of options.namespaces ?? []) await api.kubectl(['create', 'namespace', name]);
    const port = await freePort();
    const rendered = await kustomize(join('config', overlay));
    const manifests = rendered.filter(({ apiVersion }) => !apiVersion.startsWith('cert-manager.io/'));
    const applied = manifests.map((object) => callHere(object, port, options.caBundle));
    await api.kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: applied }));
    await api.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
    return {
      api,
      port,
      manifests,
      folder,
      attempt,
      kubeconfigOf,
      async clientOf(account) {
        const client = connect({ kubeconfig: await kubeconfigOf(account), fieldManager: account });
        clients.push(client);
        return client;
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}
