/** An installation as a former release left it (freeze.ts), brought to life on an API server and a Redis of the tests. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { Redis } from 'ioredis';
import type { ApiServer } from '../../cluster/api-server.ts';

export interface FrozenObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly [other: string]: unknown;
  };
  readonly [other: string]: unknown;
}

export interface FrozenSecret extends FrozenObject {
  readonly stringData: Readonly<Record<string, string>>;
}

export interface Frozen {
  readonly crds: readonly FrozenObject[];
  readonly rights: readonly FrozenObject[];
  readonly secrets: readonly FrozenSecret[];
  readonly policies: readonly FrozenObject[];
  readonly volumes: readonly FrozenObject[];
  readonly pods: readonly FrozenObject[];
  /** Keys by number of the database; the settings as text, others as DUMP answers them, in base64. */
  readonly databases: Readonly<Record<string, readonly (readonly [key: string, value: string])[]>>;
  /** Objects of the stores, in base64. */
  readonly files: Readonly<Record<string, string>>;
}

export interface Thawed {
  readonly frozen: Frozen;
  /** Of database `index`, which is that of the volume with that index. */
  readonly database: (index: number) => Redis;
}

const applied = (objects: readonly object[]): string => JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });

/** `name`: of a file in test/golden/upgrade. `redis`: one without data, with the password "secret". `folder`: for the stores. */
export async function thaw(name: string, api: ApiServer, redis: { readonly port: number }, folder: string): Promise<Thawed> {
  const path = resolve(import.meta.dirname, '../../golden/upgrade', `${name}.json`);
  const text = readFileSync(path, 'utf8').replaceAll('@PORT@', String(redis.port)).replaceAll('@FOLDER@', folder);
  const frozen = JSON.parse(text) as Frozen;
  const database = (index: number): Redis => new Redis({ port: redis.port, password: 'secret', db: index });
  for (const [index, keys] of Object.entries(frozen.databases)) {
    const client = database(Number(index));
    for (const [key, value] of keys)
      if (key === 'setting') await client.set(key, value);
      else await client.restore(key, 0, Buffer.from(value, 'base64'));
    client.disconnect();
  }
  for (const [file, content] of Object.entries(frozen.files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), Buffer.from(content, 'base64'));
  }
  const apply = (objects: readonly object[], ...more: readonly string[]): Promise<string> =>
    api.kubectl(['apply', '--server-side', '--force-conflicts', ...more, '-f', '-'], applied(objects));
  await api.kubectl(['apply', '--server-side', '-k', resolve(import.meta.dirname, '../../../config/namespace')]);
  await apply([...frozen.crds, ...frozen.rights]);
  await api.kubectl([
    'wait',
    '--for=condition=Established',
    'crd/juicevolumes.juicepod.io',
    'crd/juicecachepolicies.juicepod.io',
  ]);
  for (const namespace of ['data', 'training']) await api.kubectl(['create', 'namespace', namespace]);
  // What was written is written again as though by its writer; an API server gives UIDs of its own, by which mount Secrets know their volume.
  const bare = ({ metadata: { uid: _uid, ...metadata }, status: _status, ...rest }: FrozenObject): object => ({
    ...rest,
    metadata,
  });
  const withStatus = ({ apiVersion, kind, metadata, status }: FrozenObject): object => ({
    apiVersion,
    kind,
    metadata: { name: metadata.name, namespace: metadata.namespace },
    status,
  });
  await apply(frozen.policies.map(bare));
  await apply(frozen.volumes.map(bare));
  let secrets = JSON.stringify(frozen.secrets.map(bare));
  for (const { metadata } of frozen.volumes) {
    const get = ['get', 'jv', metadata.name, `--namespace=${metadata.namespace}`, '--output=jsonpath={.metadata.uid}'];
    // In volume.json it is the UUID of the file system, which stays.
    const uid = await api.kubectl(get);
    for (const where of ['"juicepod.io/volume-uid":"', '"uid":"'])
      secrets = secrets.replaceAll(`${where}${metadata.uid}"`, `${where}${uid}"`);
  }
  await apply(JSON.parse(secrets) as object[]);
  await apply(frozen.pods.map(bare));
  for (const [objects, manager] of [
    [frozen.policies, 'juicepod-cache-policy'],
    [frozen.volumes, 'juicepod-volume'],
  ] as const)
    await apply(objects.map(withStatus), '--subresource=status', '--validate=false', `--field-manager=${manager}`);
  return { frozen, database };
}
