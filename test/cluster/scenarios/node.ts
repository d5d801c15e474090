/**
 * What only the node can do or see, on any cluster that admits a privileged pod: a process of a container ended with a signal
 * that the container itself cannot send to its first process, and the mounts of a pod that is gone.
 */
import { type Pod } from './pods.ts';
import { apply, get, kubectl } from './kubectl.ts';

const namespace = 'juicepod-e2e-node';

export class Nodes {
  readonly #image: string;
  readonly #ready = new Map<string, Promise<string>>();

  constructor(shellImage: string) {
    this.#image = shellImage;
  }

  /** Runs a shell script in the PID namespace of `node`, as root. */
  async run(node: string, script: string): Promise<string> {
    let shell = this.#ready.get(node);
    if (!shell) this.#ready.set(node, (shell = this.#start(node)));
    return await kubectl(['exec', `--namespace=${namespace}`, await shell, '--', 'sh', '-c', script]);
  }

  async #start(node: string): Promise<string> {
    const name = `shell-${node.replaceAll(/[^a-z0-9-]/g, '-')}`;
    await apply(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels: { 'juicepod.io/injection': 'disabled' } } },
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace },
        spec: {
          nodeName: node,
          hostPID: true,
          terminationGracePeriodSeconds: 0,
          tolerations: [{ operator: 'Exists' }],
          containers: [{ name: 'shell', image: this.#image, command: ['sleep', '86400'], securityContext: { privileged: true } }],
        },
      },
    );
    await kubectl(['wait', '--for=condition=Ready', `pod/${name}`, `--namespace=${namespace}`, '--timeout=60s']);
    return name;
  }

  /** Sends SIGKILL to every process of the containers, all in one go. Resolves with how many processes there were. */
  async kill(pod: Pod, ...containers: readonly string[]): Promise<number> {
    const { spec, status } = await get<Pod>(pod.metadata.namespace, 'pod', pod.metadata.name);
    const all = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
    const ids = containers.map((name) => {
      const id = all.find((each) => each.name === name)?.containerID?.replace(/^.*\/\//, '');
      if (!id) throw new Error(`pod ${pod.metadata.name} has no running container ${name}`);
      return id;
    });
    const script = `
      victims=
      for each in /proc/[0-9]*; do
        if grep -qE '${ids.join('|')}' $each/cgroup 2> /dev/null; then victims="$victims \${each#/proc/}"; fi
      done
      kill -9 $victims
      echo $victims | wc -w`;
    const killed = Number(await this.run(spec.nodeName ?? '', script));
    if (!(killed > 0)) throw new Error(`no process of ${containers.join(', ')} was found on the node`);
    return killed;
  }

  /** The mounts that the node still has for a pod, as /proc/mounts lines. */
  async mounts(node: string, uid: string): Promise<readonly string[]> {
    const lines = await this.run(node, `grep -F '${uid}' /proc/1/mounts || true`);
    return lines.split('\n').filter(Boolean);
  }

  async stop(): Promise<void> {
    if (this.#ready.size === 0) return;
    await kubectl(['delete', 'namespace', namespace, '--ignore-not-found', '--wait=false']);
  }
}
