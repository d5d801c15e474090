/** Limits of a volume that a pod runs into, and that grow under it. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { ROOT_INO } from '../../../src/lib/int64.ts';
import { openMeta } from '../../../src/meta/open.ts';
import { get, kubectl, until } from './kubectl.ts';
import { clientContainer, deletePod, holderContainer, inside, shell, startPod, statusOf } from './pods.ts';
import { fillUp, type Filling, readContent } from './programs.ts';
import type { Scenario } from './scenario.ts';
import type { World } from './world.ts';

const MIB = 2 ** 20;
const volume = 'limited';
const { EDQUOT, ENOSPC } = constants.errno;

async function limit({ namespace }: World, capacity: string, directory: string): Promise<void> {
  const quota = { capacity, directories: [{ path: '/team', capacity: directory }] };
  const patch = JSON.stringify({ spec: { quota } });
  await kubectl(['patch', 'juicevolume', volume, `--namespace=${namespace}`, '--type=merge', `--patch=${patch}`]);
}

/** A directory for everybody, before there is a pod that could make it. */
async function makeDirectory(world: World, name: string): Promise<void> {
  const meta = await openMeta(world.metaUrl(volume), { backgroundJobs: false });
  await meta.newSession('/test');
  await meta.mkdir({ uid: 0, gid: 0, pid: 1 }, ROOT_INO, Buffer.from(name), 0o777, 0);
  await meta.close();
}

export const quotas: readonly Scenario[] = [
  {
    name: 'limits of a volume and of a directory grow under a pod that has hit both: the same writes go on, and nothing is restarted',
    async run(world) {
      const { environment, namespace } = world;
      await world.createVolume(volume);
      await makeDirectory(world, 'team');
      await limit(world, '48Mi', '8Mi');
      await until('the limits are in the volume', 30, async () => {
        const { status } = await get<{ status: { quotas?: readonly { readonly name: string }[] } }>(
          namespace,
          'juicevolume',
          volume,
        );
        return status.quotas?.some(({ name }) => name === '/team');
      });
      const [team, all] = [20 * MIB, 60 * MIB];
      const fill = (path: string, bytes: number, state: string): string => `node -e "$0" ${path} ${bytes} ${state}`;
      const script = [
        'trap "exit 0" TERM',
        `${fill('/data/team/file', team, '/tmp/team')} &`,
        // The directory is full before the volume is.
        `until grep -qs '"refused":.[0-9]' /tmp/team; do sleep 0.1; done`,
        `${fill('/data/file', all, '/tmp/all')} & wait`,
      ].join('\n');
      const pod = await startPod({
        name: 'filling',
        namespace,
        image: environment.image,
        volumes: `${volume}=/data`,
        command: ['sh', '-euc', script, fillUp],
      });
      const state = async (of: string): Promise<Filling> => JSON.parse(await inside(pod, ['cat', `/tmp/${of}`])) as Filling;
      const [inDirectory, inVolume] = await until('both are refused', 60, async () => {
        const both = await Promise.all([state('team'), state('all')]);
        return both.every(({ refused }) => refused.length > 0) && both;
      });
      assert.equal(inDirectory.refused[0], EDQUOT);
      assert.deepEqual(inVolume.refused, [ENOSPC]);
      assert.ok(inDirectory.written <= 8 * MIB, `the directory took ${inDirectory.written} bytes`);
      assert.ok(inDirectory.written + inVolume.written <= 48 * MIB, `the volume took ${inVolume.written} bytes more`);

      await limit(world, '128Mi', '64Mi');
      const written = await until('both have written everything', 60, async () => {
        const both = await Promise.all([state('team'), state('all')]);
        return both.every(({ sha256 }) => sha256 !== undefined) && both;
      });
      // The full volume refuses what is in the directory, too; a limit that has grown refuses nothing.
      assert.deepEqual(new Set(written.flatMap(({ refused }) => refused)), new Set([EDQUOT, ENOSPC]));
      for (const [index, path] of ['/data/team/file', '/data/file'].entries()) {
        const read = JSON.parse(await inside(pod, ['node', '-e', readContent, path])) as object;
        assert.deepEqual(read, { sha256: written[index]?.sha256, size: [team, all][index] });
      }
      assert.match(await shell(pod, 'df -k /data | tail -n 1'), / 131072 /);
      for (const container of ['app', clientContainer, holderContainer])
        assert.equal((await statusOf(pod, container)).restartCount, 0, container);
      await deletePod(pod);
    },
  },
];
