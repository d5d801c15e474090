/**
 * Sidecars that other injectors add, as far as they matter to ours. Pure.
 *
 * Order. Native sidecars start in the order of their list and end in the reverse one. A mesh that redirects the pod's traffic must
 * run before our client starts and after it has written everything: so ours stand right behind the mesh's native proxy. Where the
 * proxy is an ordinary container, it starts too late and ends too early for any place in the list; of Istio it is known that
 * traffic of its own group is not redirected, so our client runs in that group.
 *
 * Mounts. What an injector added is not the application: it sees a volume only where the annotation names it. So the result does
 * not depend on which webhook came first.
 *
 * Sources: istio/istio tools/istio-iptables/pkg/capture/run.go (`--gid-owner` of the proxy, 1337), pkg/kube/inject;
 * linkerd/linkerd2 charts/patch/templates/patch.json; hashicorp/vault-k8s agent-inject/agent; Kubernetes, "Sidecar Containers".
 */
import { quote } from './annotation.ts';
import { type Container, type Pod } from './pod.ts';

interface Neighbour {
  readonly product: string;
  /** Its proxy, through which the traffic of the pod is redirected. */
  readonly proxy?: true;
  /** Traffic of this group is not redirected. */
  readonly freeGroup?: number;
  /** How its traffic can be taken out, for warnings. */
  readonly exclude?: string;
}

const istio = { product: 'Istio' };
const linkerd = { product: 'Linkerd' };
const vault = { product: 'Vault' };

const KNOWN: Readonly<Record<string, Neighbour>> = {
  'istio-init': istio,
  'istio-validation': istio,
  'enable-core-dump': istio,
  'istio-proxy': {
    ...istio,
    proxy: true,
    freeGroup: 1337,
    exclude: 'sidecar.istio.io/nativeSidecar: "true"',
  },
  'linkerd-init': linkerd,
  'linkerd-network-validator': linkerd,
  'linkerd-debug': linkerd,
  'linkerd-proxy': { ...linkerd, proxy: true, exclude: 'config.linkerd.io/proxy-enable-native-sidecar: "true"' },
  'kuma-init': { product: 'Kuma' },
  'kuma-sidecar': { product: 'Kuma', proxy: true, exclude: 'traffic.kuma.io/exclude-outbound-ports' },
  'consul-connect-inject-init': { product: 'Consul' },
  'consul-dataplane': {
    product: 'Consul',
    proxy: true,
    exclude: 'consul.hashicorp.com/transparent-proxy-exclude-outbound-ports',
  },
  daprd: { product: 'Dapr' },
  'vault-agent-init': vault,
  'vault-agent': vault,
};

const known = (name: string): Neighbour | undefined => (Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined);

/** True for a container that another injector added, told by its name. */
export function isNeighbour({ name }: Container): boolean {
  return known(name) !== undefined;
}

const isNative = (container: Container): boolean => container.raw['restartPolicy'] === 'Always';

/** Where in `initContainers` ours go: behind the last native proxy of a mesh, else first. */
export function placeOfOurs(pod: Pod): number {
  return pod.initContainers.findLastIndex((container) => known(container.name)?.proxy === true && isNative(container)) + 1;
}

/** What the mesh of a pod means for our client. */
export interface Surroundings {
  /** The group our client runs in. */
  readonly group: number | undefined;
  readonly warning: string | undefined;
}

/** `ours`: position of our last sidecar; negative where the pod has none yet. */
export function surroundings(pod: Pod, ours: number): Surroundings {
  const late = pod.containers.find(({ name }) => known(name)?.proxy === true);
  const about = known(late?.name ?? '');
  if (late && about) {
    const group = about.freeGroup;
    return {
      group,
      warning:
        group === undefined
          ? `${quote(late.name)} of ${about.product} is an ordinary container and ends before what was written last is stored; make it a native sidecar or take the ports of Redis and S3 out (${about.exclude})`
          : `${quote(late.name)} of ${about.product} is an ordinary container, so Juicepod's traffic goes past it (group ${group}); ${about.exclude} makes it a native sidecar`,
    };
  }
  const behind = pod.initContainers.find(
    (container) => ours >= 0 && container.index > ours && known(container.name)?.proxy === true && isNative(container),
  );
  return {
    group: undefined,
    warning: behind
      ? `${quote(behind.name)} of ${known(behind.name)?.product} was put behind Juicepod's sidecars and ends before them: what was written last may not be stored; let its webhook run before Juicepod's`
      : undefined,
  };
}
