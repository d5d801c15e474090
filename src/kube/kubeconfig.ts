/**
 * Where the API server is and who we are to it: a kubeconfig file, or the files that a pod is given.
 *
 * Files named in them (tokens, certificates) are read again when they change, looked at no more than every 10 s; a file
 * that cannot be read meanwhile (rotation) leaves the last content in force. Users with an exec or auth-provider plugin go
 * through @kubernetes/client-node, imported only then: it costs 400 ms and some 90 MB.
 */
import { readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { type Clock, systemClock } from '../lib/clock.ts';
import { UserError, messageOf } from '../lib/errors.ts';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const LOOK_AGAIN_MS = 10_000;

export interface TlsMaterial {
  readonly ca?: Buffer | undefined;
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
  readonly servername?: string | undefined;
  readonly rejectUnauthorized?: boolean | undefined;
}

/** What a request needs now. `tls` is the same object for as long as it is unchanged. */
export interface Credentials {
  readonly tls: TlsMaterial;
  readonly headers: Readonly<Record<string, string>>;
}

/** One cluster as one user. */
export interface ClusterAccess {
  /** "https://host:port", perhaps with a path. */
  readonly server: string;
  readonly namespace: string;
  readonly proxyUrl?: string | undefined;
  credentials(): Promise<Credentials>;
  /** After a 401: the next `credentials()` reads everything anew. */
  invalidate(): void;
}

export interface AccessOptions {
  /** A kubeconfig file. @default $KUBECONFIG, else the pod's service account, else ~/.kube/config */
  readonly kubeconfig?: string | undefined;
  /** A context of the kubeconfig. @default its current-context */
  readonly context?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
  /** The folder of the pod's service account. */
  readonly serviceAccount?: string;
}

/** A file read again when it has changed. */
class WatchedFile {
  readonly #path: string;
  readonly #clock: Clock;
  #content: Buffer | undefined;
  #stamp = '';
  #looked = -Infinity;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
  }

  forget(): void {
    this.#looked = -Infinity;
  }

  /** The same Buffer while the file is unchanged. Throws where it never could be read. */
  read(): Buffer {
    const now = this.#clock.monotonic();
    if (this.#content && now - this.#looked < LOOK_AGAIN_MS) return this.#content;
    try {
      const { mtimeMs, ino, size } = statSync(this.#path);
      const stamp = `${mtimeMs}:${ino}:${size}`;
      if (!this.#content || stamp !== this.#stamp) {
        const fresh = readFileSync(this.#path);
        if (fresh.length > 0 && !this.#content?.equals(fresh)) this.#content = fresh;
        this.#stamp = stamp;
      }
    } catch (error) {
      if (!this.#content)
        throw new UserError('KubeconfigUnreadable', `cannot read ${this.#path}: ${messageOf(error)}`, { cause: error });
    }
    this.#looked = now;
    if (!this.#content) throw new UserError('KubeconfigUnreadable', `${this.#path} is empty`);
    return this.#content;
  }
}

interface NamedEntry {
  readonly name?: string;
  readonly [key: string]: unknown;
}

type Fields = Readonly<Record<string, unknown>>;

const text = (fields: Fields, name: string): string | undefined => {
  const value = fields[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
};

/** Files of a kubeconfig joined as kubectl does: the first to name a thing wins; relative paths are relative to their file. */
function loadFiles(paths: readonly string[]): {
  readonly currentContext: string | undefined;
  find(kind: string, name: string): Fields;
} {
  const entries = new Map<string, Fields>();
  let currentContext: string | undefined;
  const lists = { clusters: 'cluster', users: 'user', contexts: 'context' } as const;
  for (const path of paths) {
    let document: unknown;
    try {
      document = parse(readFileSync(path, 'utf8'));
    } catch (error) {
      throw new UserError('KubeconfigUnreadable', `cannot read the kubeconfig ${path}: ${messageOf(error)}`, {
        cause: error,
        hint: 'Name another with --kubeconfig FILE, or in KUBECONFIG.',
      });
    }
    if (typeof document !== 'object' || document === null)
      throw new UserError('KubeconfigInvalid', `${path} is not a kubeconfig: a YAML mapping was expected`);
    const fields = document as Fields;
    currentContext ??= text(fields, 'current-context');
    for (const [list, kind] of Object.entries(lists)) {
      const items = fields[list];
      for (const item of Array.isArray(items) ? (items as NamedEntry[]) : []) {
        const value = item[kind];
        const key = `${kind}/${item.name ?? ''}`;
        if (!entries.has(key) && typeof value === 'object' && value !== null)
          entries.set(key, { ...(value as Fields), folder: dirname(resolve(path)) });
      }
    }
  }
  return {
    currentContext,
    find(kind, name) {
      const found = entries.get(`${kind}/${name}`);
      if (found) return found;
      const there = [...entries.keys()].filter((key) => key.startsWith(`${kind}/`)).map((key) => key.slice(kind.length + 1));
      throw new UserError(
        'KubeconfigInvalid',
        `the kubeconfig ${paths.join(delimiter)} has no ${kind} ${JSON.stringify(name)}; it has ${there.join(', ') || 'none'}`,
      );
    },
  };
}

/** Inline base64 data, else a file, else nothing. */
function material(fields: Fields, name: string, clock: Clock): (() => Buffer) | WatchedFile | undefined {
  const inline = text(fields, `${name}-data`);
  if (inline !== undefined) {
    const bytes = Buffer.from(inline, 'base64');
    return () => bytes;
  }
  const path = text(fields, name);
  if (path === undefined) return undefined;
  return new WatchedFile(isAbsolute(path) ? path : join(text(fields, 'folder') ?? '.', path), clock);
}

const readMaterial = (from: (() => Buffer) | WatchedFile | undefined): Buffer | undefined =>
  from === undefined ? undefined : from instanceof WatchedFile ? from.read() : from();

/** Keeps `tls` identical while its parts are. */
function stable(): (next: TlsMaterial) => TlsMaterial {
  let last: TlsMaterial | undefined;
  return (next) => {
    if (last && last.ca === next.ca && last.cert === next.cert && last.key === next.key) return last;
    return (last = next);
  };
}

function accessFromFiles(paths: readonly string[], options: AccessOptions, clock: Clock): ClusterAccess {
  const config = loadFiles(paths);
  const contextName = options.context ?? config.currentContext;
  if (contextName === undefined)
    throw new UserError('KubeconfigInvalid', `the kubeconfig ${paths.join(delimiter)} names no current-context`, {
      hint: 'Choose one with: kubectl config use-context NAME',
    });
  const context = config.find('context', contextName);
  const cluster = config.find('cluster', text(context, 'cluster') ?? '');
  const userName = text(context, 'user');
  const user: Fields = userName === undefined ? {} : config.find('user', userName);
  const server = text(cluster, 'server');
  if (server === undefined || !/^https?:\/\//.test(server))
    throw new UserError('KubeconfigInvalid', `the cluster of context ${contextName} has no server URL (https://host:port)`);
  const common = {
    server: server.replace(/\/+$/, ''),
    namespace: text(context, 'namespace') ?? 'default',
    proxyUrl: text(cluster, 'proxy-url'),
  };
  const ca = material(cluster, 'certificate-authority', clock);
  const fixed = {
    servername: text(cluster, 'tls-server-name'),
    rejectUnauthorized: cluster['insecure-skip-tls-verify'] === true ? false : undefined,
  };
  const same = stable();
  if ('exec' in user || 'auth-provider' in user)
    return pluginAccess(common, paths, contextName, (cert, key) => same({ ...fixed, ca: readMaterial(ca), cert, key }));
  const cert = material(user, 'client-certificate', clock);
  const key = material(user, 'client-key', clock);
  const tokenPath = text(user, 'tokenFile');
  const tokenFile = tokenPath === undefined ? undefined : material({ ...user, token: tokenPath }, 'token', clock);
  const token = text(user, 'token');
  const username = text(user, 'username');
  const basic =
    username === undefined ? undefined : Buffer.from(`${username}:${text(user, 'password') ?? ''}`).toString('base64');
  return {
    ...common,
    credentials: () => {
      const bearer = tokenFile ? readMaterial(tokenFile)?.toString('utf8').trim() : token;
      const authorization = bearer !== undefined ? `Bearer ${bearer}` : basic !== undefined ? `Basic ${basic}` : undefined;
      return Promise.resolve({
        tls: same({ ...fixed, ca: readMaterial(ca), cert: readMaterial(cert), key: readMaterial(key) }),
        headers: authorization === undefined ? {} : { authorization },
      });
    },
    invalidate: () => {
      for (const each of [ca, cert, key, tokenFile]) if (each instanceof WatchedFile) each.forget();
    },
  };
}

type Common = Pick<ClusterAccess, 'server' | 'namespace' | 'proxyUrl'>;

/** A user whose credentials a plugin makes: client-node runs it and keeps what it answers until it expires. */
function pluginAccess(
  common: Common,
  paths: readonly string[],
  context: string,
  tls: (cert: Buffer | undefined, key: Buffer | undefined) => TlsMaterial,
): ClusterAccess {
  interface Plugin {
    applyToHTTPSOptions(options: Record<string, unknown>): Promise<void>;
  }
  let plugin: Promise<Plugin> | undefined;
  const kept = new Map<string, Buffer>();
  const buffer = (name: string, value: unknown): Buffer | undefined => {
    if (typeof value !== 'string' && !Buffer.isBuffer(value)) return undefined;
    const bytes = Buffer.from(value as string);
    const old = kept.get(name);
    if (old?.equals(bytes)) return old;
    kept.set(name, bytes);
    return bytes;
  };
  return {
    ...common,
    async credentials() {
      plugin ??= (async () => {
        const { KubeConfig } = await import('@kubernetes/client-node');
        const config = new KubeConfig();
        config.loadFromFile(paths[0] ?? '');
        for (const path of paths.slice(1)) {
          const more = new KubeConfig();
          more.loadFromFile(path);
          config.mergeConfig(more, true);
        }
        config.setCurrentContext(context);
        return config;
      })();
      const options: Record<string, unknown> = { headers: {} };
      try {
        await (await plugin).applyToHTTPSOptions(options);
      } catch (error) {
        plugin = undefined;
        throw new UserError('CredentialPluginFailed', `the credential plugin of context ${context} failed: ${messageOf(error)}`, {
          cause: error,
          retryable: true,
          hint: 'Try: kubectl auth whoami',
        });
      }
      const headers = options['headers'] as Record<string, unknown>;
      const authorization = headers['Authorization'];
      return {
        tls: tls(buffer('cert', options['cert']), buffer('key', options['key'])),
        headers: typeof authorization === 'string' ? { authorization } : {},
      };
    },
    invalidate: () => (plugin = undefined),
  };
}

function accessFromPod(host: string, port: string, folder: string, clock: Clock): ClusterAccess {
  const token = new WatchedFile(join(folder, 'token'), clock);
  const ca = new WatchedFile(join(folder, 'ca.crt'), clock);
  const same = stable();
  let namespace = 'default';
  try {
    namespace = readFileSync(join(folder, 'namespace'), 'utf8').trim() || namespace;
  } catch {
    // The projection of the namespace may be left out of a pod; the token is what counts.
  }
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    namespace,
    credentials: () =>
      Promise.resolve({
        tls: same({ ca: ca.read() }),
        headers: { authorization: `Bearer ${token.read().toString('utf8').trim()}` },
      }),
    invalidate: () => {
      token.forget();
      ca.forget();
    },
  };
}

/** Finds the cluster. Throws UserError where there is none, or where its configuration cannot be used. */
export function findAccess(options: AccessOptions = {}): ClusterAccess {
  const env = options.env ?? process.env;
  const clock = options.clock ?? systemClock;
  if (options.kubeconfig !== undefined) return accessFromFiles([options.kubeconfig], options, clock);
  const named = (env['KUBECONFIG'] ?? '').split(delimiter).filter((path) => path !== '');
  if (named.length > 0) return accessFromFiles(named, options, clock);
  const host = env['KUBERNETES_SERVICE_HOST'];
  const folder = options.serviceAccount ?? SERVICE_ACCOUNT;
  if (host !== undefined && host !== '' && exists(join(folder, 'token')))
    return accessFromPod(host, env['KUBERNETES_SERVICE_PORT'] ?? '443', folder, clock);
  const usual = join(env['HOME'] ?? homedir(), '.kube', 'config');
  if (exists(usual)) return accessFromFiles([usual], options, clock);
  throw new UserError(
    'NoCluster',
    `no Kubernetes cluster: $KUBECONFIG is not set, this is not a pod with a service account, and there is no ${usual}`,
    { hint: 'Set KUBECONFIG to a kubeconfig file.' },
  );
}

function exists(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false;
  }
}
