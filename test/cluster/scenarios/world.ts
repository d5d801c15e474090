/**
 * What all scenarios share: juicepod installed as a user installs it (`config/default`), a Redis and an S3 server of our own
 * that pods reach, and volumes over them. Everything is made once and taken away at the end. Scenarios of different namespaces run
 * side by side, each namespace with volumes, databases and buckets of its own.
 */
import { resolve } from 'node:path';
import { Redis } from 'ioredis';
import { startRedis, startS3, type S3Server, type Server } from '../../servers.ts';
import { type Environment, readEnvironment } from './environment.ts';
import { apply, explain, get, kubectl, tryKubectl, until } from './kubectl.ts';
import { Nodes } from './node.ts';
import { annotation, podOf, tryCreate } from './pods.ts';

const project = resolve(import.meta.dirname, '../../..');

/** The image that the manifests name; replaced by the one under test, wherever it stands (containers, flags). */
const publishedImage = /ghcr\.io\/juicepod\/juicepod:[\w.-]+/g;
const system = 'juicepod-system';
const redisPassword = 'a-password-of-the-tests';

export interface JuiceVolume {
  readonly metadata: { readonly name: string; readonly namespace: string; readonly generation: number };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly observedGeneration?: number;
    readonly usage?: { readonly size: string; readonly bytes: number; readonly inodes: number };
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason: string;
      readonly message: string;
    }[];
  };
}

export interface World {
  readonly environment: Environment;
  readonly nodes: Nodes;
  readonly s3: S3Server;
  /** The namespace of volumes and applications. */
  readonly namespace: string;
  /** A pod as the API server answered to it before anything of juicepod was in the cluster. */
  readonly plainBefore: string;
  /** A JuiceVolume over a database of the Redis and a bucket, both its own; `spec` is laid over its spec. Not applied. */
  volume(name: string, spec?: object): object;
  /** Applies the volume and waits until it is ready. */
  createVolume(name: string, spec?: object): Promise<JuiceVolume>;
  /** The bucket of the volume of this name. */
  bucket(name: string): string;
  /** Number of the database of the volume of this name. */
  database(name: string): number;
  /** A connection to that database. */
  redis(name: string): Redis;
  /** What names it to a client that runs here. */
  metaUrl(name: string): string;
  /** Prints everything that explains a failure. */
  explain(): Promise<void>;
}

/** The worlds of all namespaces. */
export interface Worlds extends AsyncDisposable {
  readonly in: ReadonlyMap<string, World>;
}

/** A pod that nobody should change. Without a token: the API server gives that volume a random name. */
export const plainPod = (environment: Environment, namespace: string): object =>
  podOf({ name: 'plain', namespace, image: environment.shellImage, command: ['true'] });

/** The API server's answer to creating `pod`, without what differs from one creation to the next. */
export async function answerTo(pod: object): Promise<string> {
  const ran = await tryCreate(pod);
  if (ran.status !== 0) throw new Error(`a pod was refused: ${ran.stderr.trim()}`);
  const answer = JSON.parse(ran.stdout) as { metadata: Record<string, unknown> };
  for (const field of ['uid', 'creationTimestamp', 'managedFields']) delete answer.metadata[field];
  return JSON.stringify(answer);
}

async function install(environment: Environment, namespace: string): Promise<void> {
  const manifests = await kubectl(['kustomize', resolve(project, 'config/default')]);
  const ours = manifests.replaceAll(publishedImage, environment.image);
  await kubectl(['apply', '--server-side', '--force-conflicts', '-f', '-'], { input: ours });
  await kubectl(['wait', '--for=condition=Established', 'crd/juicevolumes.juicepod.io', '--timeout=30s']);
  const deployments = await kubectl(['get', 'deployments', `--namespace=${system}`, '--output=name']);
  for (const deployment of deployments.split('\n').filter(Boolean))
    await kubectl(['rollout', 'status', deployment, `--namespace=${system}`, '--timeout=180s'], { seconds: 200 });
  // The API server notices new webhooks within a second, and the webhook's certificate must have reached its configuration.
  const bad = { name: 'probe', namespace, image: environment.shellImage, command: ['true'], volumes: '=' };
  await until('the webhook refuses a bad annotation', 60, async () => {
    const { status, stderr } = await tryCreate(podOf(bad));
    if (status !== 0 && !stderr.includes(annotation)) throw new Error(stderr.trim());
    return status !== 0;
  });
}

/** Deletes what a namespace holds: its pods, then its volumes while their operator is there to let them go. */
async function clear(namespace: string): Promise<void> {
  const seconds = { seconds: 100 };
  await tryKubectl(['delete', 'pods,jobs', '--all', `--namespace=${namespace}`, '--timeout=90s'], seconds);
  await tryKubectl(['delete', 'juicevolumes', '--all', `--namespace=${namespace}`, '--timeout=60s'], seconds);
  await tryKubectl(['delete', 'namespace', namespace, '--wait=false'], seconds);
}

/** Installs juicepod, starts the servers, and makes a world in each of the namespaces. */
export async function createWorlds(namespaces: readonly string[]): Promise<Worlds> {
  const environment = await readEnvironment();
  const { host } = environment;
  const servers: Server[] = [];
  const connections: Redis[] = [];
  const databases = new Map<string, number>();
  const nodes = new Nodes(environment.shellImage);
  const end = async (): Promise<void> => {
    for (const connection of connections) connection.disconnect();
    await Promise.all(namespaces.map(clear));
    await nodes.stop();
    // Last: a volume does not go without its servers.
    for (const server of servers) await server.stop();
  };
  try {
    const plainBefore = new Map<string, string>();
    for (const namespace of namespaces) {
      await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
      await until('the namespace has its service account', 30, () => get(namespace, 'serviceaccount', 'default'));
      plainBefore.set(namespace, await answerTo(plainPod(environment, namespace)));
    }
    const redis = await startRedis(['--bind', host, '127.0.0.1', '--requirepass', redisPassword, '--databases', '64']);
    servers.push(redis);
    const s3 = await startS3(host);
    servers.push(s3);
    const secret = (namespace: string, name: string, stringData: object): object => ({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name, namespace },
      stringData,
    });
    for (const namespace of namespaces)
      await apply(
        secret(namespace, 'redis', { password: redisPassword }),
        secret(namespace, 's3', { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey }),
      );
    await install(environment, namespaces[0] ?? 'default');

    const worldIn = (namespace: string): World => {
      const database = (name: string): number => {
        const key = `${namespace}/${name}`;
        const number = databases.get(key) ?? databases.size;
        databases.set(key, number);
        return number;
      };
      const bucket = (name: string): string => `${namespace}-${name}`;
      const volume = (name: string, spec: object = {}): object => ({
        apiVersion: 'juicepod.io/v1alpha1',
        kind: 'JuiceVolume',
        metadata: { name, namespace },
        spec: {
          metadata: {
            redis: { addresses: [`${host}:${redis.port}`], database: database(name), authSecretRef: { name: 'redis' } },
          },
          storage: {
            s3: { bucket: bucket(name), endpoint: s3.endpoint, credentials: { secretRef: { name: 's3' } } },
          },
          ...spec,
        },
      });
      return {
        environment,
        nodes,
        s3,
        namespace,
        plainBefore: plainBefore.get(namespace) ?? '',
        volume,
        async createVolume(name, spec) {
          await apply(volume(name, spec));
          await kubectl(['wait', '--for=condition=Ready', `juicevolume/${name}`, `--namespace=${namespace}`, '--timeout=90s']);
          return await get<JuiceVolume>(namespace, 'juicevolume', name);
        },
        bucket,
        database,
        redis(name) {
          const connection = new Redis({ host: '127.0.0.1', port: redis.port, db: database(name), password: redisPassword });
          connections.push(connection);
          return connection;
        },
        metaUrl: (name) => `redis://:${redisPassword}@127.0.0.1:${redis.port}/${database(name)}`,
        explain: () => explain([namespace, system]),
      };
    };
    return { in: new Map(namespaces.map((name) => [name, worldIn(name)])), [Symbol.asyncDispose]: end };
  } catch (error) {
    await explain([...namespaces, system]);
    await end();
    throw error;
  }
}
