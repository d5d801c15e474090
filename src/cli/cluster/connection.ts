/** How commands for people reach a cluster: as kubectl does, with the same options. */
import { connect } from '../../kube/client.ts';
import { ApiError } from '../../kube/errors.ts';
import type { KubeClient } from '../../kube/types.ts';
import { UserError } from '../../lib/errors.ts';

export interface ConnectionOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
}

/** What the API server answered, with the next step; anything else as it is. */
export function forPeople(error: unknown, server: string): unknown {
  if (!(error instanceof ApiError)) return error;
  const user = (code: string, message: string, hint: string): UserError => new UserError(code, message, { hint, cause: error });
  const text = error.message;
  if (error.code === 0)
    return user(
      'ClusterUnreachable',
      `the cluster at ${server} does not answer: ${text}`,
      'See that it is up and that this kubeconfig is its: kubectl cluster-info, kubectl config current-context.',
    );
  if (error.code === 401)
    return user(
      'NotLoggedIn',
      `the cluster at ${server} does not know you: ${text}`,
      'Log in again as you do for kubectl: kubectl auth whoami.',
    );
  if (error.code === 403)
    return user(
      'Forbidden',
      text,
      'Ask somebody who may do that to run this. The roles juicepod-view and juicepod-edit (config/rbac/users.yaml) are what it takes.',
    );
  // Of an object that is missing the message names the kind and the object.
  if (error.code === 404 && /juicepod\.io/.test(text) && /page not found|could not find the requested resource/.test(text))
    return user(
      'NotInstalled',
      `Juicepod is not installed in the cluster at ${server}: it knows no JuiceVolumes`,
      'kubectl apply --server-side -k crds, then -k config/default (docs/install.md).',
    );
  return error;
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
  } catch (error) {
    throw forPeople(error, client.server);
  } finally {
    await client.close();
  }
}
