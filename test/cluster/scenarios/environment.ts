/**
 * What the scenarios must know of the cluster that KUBECONFIG names. Whoever brings the cluster up says it in variables
 * (`environmentVariables`); for a cluster that somebody else runs, the user sets those that differ.
 *
 * | variable | meaning | default |
 * |---|---|---|
 * | JUICEPOD_E2E_IMAGE | juicepod's image, present on the nodes or pullable | localhost/juicepod:dev |
 * | JUICEPOD_E2E_NEXT_IMAGE | a second name of it, with another digest | localhost/juicepod:next |
 * | JUICEPOD_E2E_SHELL_IMAGE | a busybox | localhost/busybox:1 |
 * | JUICEPOD_E2E_HOST | an address of this machine that pods reach | the one that reaches the API server |
 */
import { connect } from 'node:net';
import { kubectl } from './kubectl.ts';

export interface Environment {
  readonly image: string;
  readonly nextImage: string;
  readonly shellImage: string;
  /** Where the servers of the scenarios listen. */
  readonly host: string;
}

export const defaults = {
  image: 'localhost/juicepod:dev',
  nextImage: 'localhost/juicepod:next',
  shellImage: 'localhost/busybox:1',
} as const;

/** The variables that say `environment` to the scenarios. */
export function environmentVariables(environment: Partial<Environment>): Record<string, string> {
  const { image, nextImage, shellImage, host } = environment;
  return {
    ...(image && { JUICEPOD_E2E_IMAGE: image }),
    ...(nextImage && { JUICEPOD_E2E_NEXT_IMAGE: nextImage }),
    ...(shellImage && { JUICEPOD_E2E_SHELL_IMAGE: shellImage }),
    ...(host && { JUICEPOD_E2E_HOST: host }),
  };
}

/** Our own address on the way to the API server: on most local clusters the one that pods reach too. */
async function addressTowardsCluster(): Promise<string> {
  const server = await kubectl(['config', 'view', '--minify', '--output=jsonpath={.clusters[0].cluster.server}']);
  const { hostname, port } = new URL(server.trim());
  return await new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port || 443), timeout: 10_000 }, () => {
      resolve(socket.localAddress ?? hostname);
      socket.destroy();
    });
    socket.once('error', reject);
    socket.once('timeout', () => socket.destroy(new Error(`${server} does not answer within 10 s`)));
  });
}

export async function readEnvironment(): Promise<Environment> {
  const variables = process.env;
  return {
    image: variables['JUICEPOD_E2E_IMAGE'] ?? defaults.image,
    nextImage: variables['JUICEPOD_E2E_NEXT_IMAGE'] ?? defaults.nextImage,
    shellImage: variables['JUICEPOD_E2E_SHELL_IMAGE'] ?? defaults.shellImage,
    host: variables['JUICEPOD_E2E_HOST'] ?? (await addressTowardsCluster()),
  };
}
