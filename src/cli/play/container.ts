/**
 * A container of a played pod: a process of this machine, in a mount namespace and root of its own. The root is an empty
 * tmpfs in which the machine's top-level folders appear, and the pod's volumes at their mount paths. Volumes lie in a shared mount,
 * so a mount made by one container (`Bidirectional`) appears in the others (`HostToContainer`), as on a node.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';

export interface Bind {
  /** Folder or file of this machine. */
  readonly source: string;
  /** Absolute path in the container. */
  readonly target: string;
  readonly readOnly: boolean;
}

export interface ContainerSpec {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly binds: readonly Bind[];
  /** Scratch folder for the container's root; outside of every shared mount. */
  readonly root: string;
  /** True where an ordinary user runs: the namespace needs a user namespace around it. */
  readonly userNamespace: boolean;
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** Top-level folders of this machine in which a mount path must first be made; the machine's own are not written to. */
function overlaid(binds: readonly Bind[]): readonly string[] {
  const tops = binds
    .filter(({ target }) => !existsSync(target))
    .map(({ target }) => `/${posix.normalize(target).split('/')[1] ?? ''}`);
  return [...new Set(tops)].filter((top) => existsSync(top));
}

/** The script that builds the root and becomes the command. Kept free of anything but mount, mkdir and chroot. */
function script({ command, binds, root }: ContainerSpec): string {
  const lines = [
    'set -e',
    `mount -t tmpfs -o mode=755 tmpfs ${quote(root)}`,
    `for entry in /* /.[!.]*; do
  target=${quote(root)}$entry
  if [ -L "$entry" ]; then cp -P "$entry" "$target"
  elif [ -d "$entry" ]; then mkdir "$target"; mount --rbind "$entry" "$target"
  fi
done 2>/dev/null`,
    ...overlaid(binds).map((top) => {
      const scratch = join(root, '.overlay', top);
      const [upper, work] = [quote(join(scratch, 'upper')), quote(join(scratch, 'work'))];
      return `mkdir -p ${upper} ${work}; mount -t overlay overlay -o lowerdir=${quote(top)},upperdir=${upper},workdir=${work} ${quote(join(root, top))}`;
    }),
  ];
  for (const { source, target, readOnly } of binds) {
    const inside = quote(join(root, target));
    lines.push(
      `[ -d ${quote(source)} ] && mkdir -p ${inside} || { mkdir -p ${quote(join(root, posix.dirname(target)))}; : > ${inside}; }`,
    );
    lines.push(`mount --rbind ${quote(source)} ${inside}`);
    if (readOnly) lines.push(`mount -o remount,bind,ro ${inside}`);
  }
  lines.push(`exec chroot ${quote(root)} ${command.map(quote).join(' ')}`);
  return lines.join('\n');
}

/** Starts the container; its output is the caller's to read. */
export function startContainer(spec: ContainerSpec): ChildProcess {
  const args = spec.userNamespace
    ? ['--user', '--map-root-user', '--mount', '--propagation', 'slave']
    : ['--mount', '--propagation', 'unchanged'];
  // A group of its own: an interrupt at the terminal is ours to pass on, in order.
  return spawn('unshare', [...args, 'sh', '-c', script(spec)], {
    env: { ...process.env, ...spec.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
}

/** Runs a command inside a running container; true where it ended with 0. */
export function execIn(child: ChildProcess, command: readonly string[], timeoutMs: number): Promise<boolean> {
  return new Promise((done) => {
    const run = spawn('nsenter', ['--target', String(child.pid), '--mount', '--root', '--', ...command], {
      stdio: 'ignore',
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    run.once('error', () => done(false));
    run.once('exit', (code) => done(code === 0));
  });
}
