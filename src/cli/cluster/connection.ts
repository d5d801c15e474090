/** How commands for people reach a cluster: as kubectl does, with the same options. */
import { connect } from '../../kube/client.ts';
import type { KubeClient } from '../../kube/types.ts';

export interface ConnectionOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
}

/** Runs `body` with a client that is closed afterwards. `namespace` is undefined for all of them. */
export async function withCluster<T>(
  { kubeconfig, context, namespace, allNamespaces }: ConnectionOptions,
  body: (client: KubeClient, namespace: string | undefined, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const client = connect({
    userAgent: 'juicepod-cli',
    fieldManager: 'juicepod-cli',
    requestsPerSecond: 50,
    burst: 100,
    ...(kubeconfig ? { kubeconfig } : {}),
    ...(context ? { context } : {}),
  });
  try {
    return await body(client, allNamespaces ? undefined : (namespace ?? client.namespace), AbortSignal.timeout(60_000));
  } finally {
    await client.close();
  }
}
