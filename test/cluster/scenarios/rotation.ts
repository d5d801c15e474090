/** Credentials of a volume that are replaced, and taken away, under an application that writes. */
import assert from 'node:assert/strict';
import { everyLineIsThere, goesOn, startAppending } from './failover.ts';
import { apply, kubectl, until } from './kubectl.ts';
import { type Pod, shell, statusOf } from './pods.ts';
import type { Scenario } from './scenario.ts';
import type { World } from './world.ts';

const volume = 'rotating';
const volumes = `${volume}=/data`;

/** The Secrets that the volume names, with the user and the key of a generation; both are made. */
async function makeCredentials(world: World, generation: string): Promise<readonly object[]> {
  const { namespace, s3 } = world;
  const secret = (name: string, stringData: object): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace },
    stringData,
  });
  await world
    .redis(volume)
    .call('ACL', 'SETUSER', `user-${generation}`, 'reset', 'on', `>pass-${generation}`, '~*', '&*', '+@all');
  await s3.createKey(`key-${generation}`, `secret-${generation}`);
  return [
    secret('redis-rotating', { username: `user-${generation}`, password: `pass-${generation}` }),
    secret('s3-rotating', { accessKeyId: `key-${generation}`, secretAccessKey: `secret-${generation}` }),
  ];
}

/** Users that have a connection to the volume's database. */
async function users(world: World): Promise<ReadonlySet<string>> {
  const list = String(await world.redis(volume).call('CLIENT', 'LIST'));
  return new Set(
    [...list.matchAll(new RegExp(`db=${world.database(volume)} .*user=(user-\\w+)`, 'g'))].map(([, user]) => user ?? ''),
  );
}

/** The kubelet looks at the Secrets of a pod when the pod changes, else about once a minute. */
const nudge = (pod: Pod, generation: string): Promise<string> =>
  kubectl([
    'annotate',
    'pod',
    pod.metadata.name,
    `--namespace=${pod.metadata.namespace}`,
    '--overwrite',
    `test/credentials=${generation}`,
  ]);

export const rotation: readonly Scenario[] = [
  {
    name: 'user and keys of a volume are replaced under a pod that writes, and the old ones taken away: no error, nothing lost',
    async run(world) {
      const { namespace, s3 } = world;
      const first = await makeCredentials(world, 'one');
      const object = world.volume(volume) as { spec: { metadata: { redis: object }; storage: { s3: object } } };
      const { metadata, storage } = object.spec;
      const spec = {
        ...object.spec,
        metadata: { redis: { ...metadata.redis, authSecretRef: { name: 'redis-rotating' } } },
        storage: { s3: { ...storage.s3, credentials: { secretRef: { name: 's3-rotating' } } } },
      };
      await apply(...first, { ...object, spec });
      await kubectl(['wait', '--for=condition=Ready', `juicevolume/${volume}`, `--namespace=${namespace}`, '--timeout=60s']);
      const pod = await startAppending(world, volume, volumes);
      await goesOn(pod, 50);

      await apply(...(await makeCredentials(world, 'two')));
      await until('every client uses the new user', 180, async () => {
        await nudge(pod, String(Date.now()));
        const now = await users(world);
        return now.has('user-two') && !now.has('user-one');
      });
      await world.redis(volume).call('ACL', 'DELUSER', 'user-one');
      // The client may not have the new key yet: it looks for it when the old one is refused.
      await s3.deleteKey('key-one');
      await goesOn(pod, 50);
      await shell(pod, `dd if=/dev/zero of=/data/${volume}/blocks bs=1M count=20 2> /dev/null; rm /data/${volume}/blocks`);

      await apply(...(await makeCredentials(world, 'three')));
      await until('every client uses the third user', 180, async () => {
        await nudge(pod, String(Date.now()));
        const now = await users(world);
        return now.has('user-three') && !now.has('user-two');
      });
      await world.redis(volume).call('ACL', 'DELUSER', 'user-two');
      await s3.deleteKey('key-two');
      await goesOn(pod, 50);
      for (const container of ['app', 'juicepod-client', 'juicepod-holder'])
        assert.equal((await statusOf(pod, container)).restartCount, 0, container);
      const { errors, longest, lines } = await everyLineIsThere(world, pod, volumes);
      process.stderr.write(`# credentials replaced twice under ${lines} appended lines: longest pause ${longest} ms\n`);
      assert.deepEqual(errors, []);
    },
  },
];
