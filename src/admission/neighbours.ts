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
import { quote } from '../api/annotation.ts';
import { isOurContainer, isOurVolume } from './names.ts';
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

/** Where our containers are to be moved: as many as `count`, one after the other, from place `from` to behind place `behind`. */
export interface Reorder {
  readonly from: number;
  readonly count: number;
  readonly behind: number;
}

/**
 * How ours get behind a native proxy that another webhook put behind them. Undefined where none did, where ours do not stand
 * together, or where a container in between already mounts a volume of ours: it would then run before it is there.
 */
export function reorderOf(pod: Pod): Reorder | undefined {
  const all = pod.initContainers;
  const from = all.findIndex(({ name }) => isOurContainer(name));
  const last = all.findLastIndex(({ name }) => isOurContainer(name));
  const behind = placeOfOurs(pod) - 1;
  if (from < 0 || behind < last || !all.slice(from, last + 1).every(({ name }) => isOurContainer(name))) return undefined;
  const between = all.slice(last + 1, behind + 1);
  if (between.some(({ mounts }) => mounts.some(({ volume }) => isOurVolume(volume)))) return undefined;
  return { from, count: last - from + 1, behind };
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
  const isAfter = ({ name, index }: Container): boolean => index > ours && known(name)?.proxy === true;
  const behind =
    ours < 0 || reorderOf(pod) ? undefined : pod.initContainers.find((container) => isAfter(container) && isNative(container));
  return {
    group: undefined,
    warning: behind
      ? `${quote(behind.name)} of ${known(behind.name)?.product} was put behind Juicepod's sidecars and ends before them: what was written last may not be stored; let its webhook run before Juicepod's`
      : undefined,
  };
}
