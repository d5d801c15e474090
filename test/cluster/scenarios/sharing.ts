/** The main promise: what one pod writes, another reads, on whatever node and whenever it comes. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, relative, resolve } from 'node:path';
import type { Scenario } from './scenario.ts';
import { apply, get, kubectl, until } from './kubectl.ts';
import { deletePod, exitCode, idle, inside, jobOf, type Pod, podOf, shell, startPod } from './pods.ts';
import { readContent, writeContent } from './programs.ts';
import type { JuiceVolume, World } from './world.ts';

/** A package of some three thousand files that `npm ci` has put there. */
const tree = realpathSync(resolve(import.meta.dirname, '../../../node_modules/@kubernetes/client-node'));
const bigBytes = 1100 * 2 ** 20;

/** `sha256sum` of every file below `root`, in the order of their names. */
function checksums(root: string): readonly string[] {
  return readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => `${createHash('sha256').update(readFileSync(file)).digest('hex')}  ./${relative(root, file)}`)
    .toSorted();
}

async function checksumsInside(pod: Pod, folder: string): Promise<readonly string[]> {
  const output = await shell(pod, `cd ${folder}; find . -type f -print0 | xargs -0 sha256sum`);
  return output.trim().split('\n').toSorted();
}

/** Copies the tree into the pod, which fetches it: the input of an exec is no way for many files on a loaded machine. */
async function copyTree({ environment }: World, pod: Pod, folder: string): Promise<void> {
  const server = createServer((_, answer) => {
    spawn('tar', ['-C', tree, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] }).stdout.pipe(answer);
  });
  server.listen(0, environment.host);
  await once(server, 'listening');
  try {
    const url = `http://${environment.host}:${(server.address() as AddressInfo).port}/`;
    const fetch = `require("node:http").get("${url}", (answer) => answer.pipe(process.stdout))`;
    await shell(pod, `mkdir ${folder}; node -e '${fetch}' | tar -C ${folder} -x`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

export const sharing: readonly Scenario[] = [
  {
    name: 'two pods in turn: the second reads the tree and the file over 1 GiB that the first wrote',
    async run(world) {
      const { environment, namespace } = world;
      const application = { namespace, image: environment.image, command: idle };
      const writer = await startPod({ ...application, name: 'writer', volumes: 'datasets=/data' });
      await copyTree(world, writer, '/data/tree');
      await shell(
        writer,
        'mkdir /data/results; ln -s tree /data/link; chmod 640 /data/tree/package.json; chown 1000:1000 /data/tree/package.json',
      );
      const written = (await inside(writer, ['node', '-e', writeContent, '/data/big', String(bigBytes)])).trim();
      await deletePod(writer, 90);

      const reader = await startPod({ ...application, name: 'reader', volumes: 'datasets=/input:ro' });
      const local = checksums(tree);
      assert.ok(local.length > 2000, `the tree has only ${local.length} files`);
      assert.deepEqual(await checksumsInside(reader, '/input/tree'), local);
      assert.equal(
        await shell(reader, 'readlink /input/link; stat -c "%a %u %g" /input/link/package.json'),
        'tree\n640 1000 1000\n',
      );
      const read = JSON.parse(await inside(reader, ['node', '-e', readContent, '/input/big'])) as object;
      assert.deepEqual(read, { sha256: written, size: bigBytes });
      await assert.rejects(shell(reader, 'touch /input/new'), /Read-only file system/);
      await deletePod(reader);
    },
  },
  {
    name: 'kubectl get jv shows that the volume is ready and how much it holds',
    async run({ namespace }) {
      // The operator looks once a minute, or when it is asked to.
      const at = `juicepod.io/reconcile-at=${Date.now()}`;
      await kubectl(['annotate', '--overwrite', 'juicevolume/datasets', at, `--namespace=${namespace}`]);
      const { status } = await until('the usage of the volume is known', 90, async () => {
        const volume = await get<JuiceVolume>(namespace, 'juicevolume', 'datasets');
        return (volume.status?.usage?.bytes ?? 0) > bigBytes && volume;
      });
      const table = await kubectl(['get', 'jv', `--namespace=${namespace}`]);
      process.stderr.write(table.replaceAll(/^/gm, '# '));
      const [header = '', row = ''] = table.split('\n');
      const columns = [...header.matchAll(/\S+ */g)].map((match) => [match[0].trim(), match.index, match[0].length] as const);
      const shown = Object.fromEntries(columns.map(([name, at, length]) => [name, row.slice(at, at + length).trim()]));
      assert.equal(shown['NAME'], 'datasets');
      assert.equal(shown['READY'], 'True');
      assert.equal(shown['USED'], status?.usage?.size);
      assert.match(shown['USED'] ?? '', /^1\.1Gi$|^1[12]\d\dMi$/);
    },
  },
  {
    name: 'a Job with the sidecar completes, and what it wrote without a sync is there',
    async run(world) {
      const { environment, namespace } = world;
      const bytes = 64 * 2 ** 20;
      await apply(
        jobOf({
          name: 'producer',
          namespace,
          image: environment.image,
          command: ['node', '-e', writeContent, '/out/result', String(bytes)],
          volumes: JSON.stringify([{ name: 'datasets', mountPath: '/out', subPath: 'results' }]),
        }),
      );
      await kubectl(['wait', '--for=condition=Complete', 'job/producer', `--namespace=${namespace}`, '--timeout=90s']);
      const written = (await kubectl(['logs', 'job/producer', '--container=app', `--namespace=${namespace}`])).trim();
      const consumer = { name: 'consumer', namespace, image: environment.image, volumes: 'datasets=/data:ro' };
      await apply(podOf({ ...consumer, command: ['node', '-e', readContent, '/data/results/result'] }));
      const pod = await get<Pod>(namespace, 'pod', 'consumer');
      assert.equal(await exitCode(pod, 90), 0);
      const read = await kubectl(['logs', 'consumer', '--container=app', `--namespace=${namespace}`]);
      assert.deepEqual(JSON.parse(read), { sha256: written, size: bytes });
      await kubectl(['delete', 'job/producer', 'pod/consumer', `--namespace=${namespace}`]);
    },
  },
  {
    name: 'a deleted pod ends cleanly: no mount is left on the node and no session in the database',
    async run(world) {
      const { environment, namespace } = world;
      const connection = world.redis('datasets');
      const sessions = async (): Promise<number> => await connection.zcard('allSessions');
      await until('the sessions of earlier pods are closed', 60, async () => (await sessions()) === 0);
      const application = { namespace, image: environment.image, command: idle };
      const pod = await startPod({ ...application, name: 'ending', volumes: 'datasets=/data' });
      assert.equal(await sessions(), 1);
      const node = pod.spec.nodeName ?? '';
      assert.ok((await world.nodes.mounts(node, pod.metadata.uid)).some((line) => line.includes('juicepod-mnt')));
      await deletePod(pod);
      assert.deepEqual(await world.nodes.mounts(node, pod.metadata.uid), []);
      assert.equal(await sessions(), 0);
    },
  },
  {
    name: 'a volume that is deleted keeps its data, and has it again when it is declared again',
    async run(world) {
      const { environment, namespace } = world;
      await world.createVolume('keepsake');
      const application = { namespace, image: environment.image, volumes: 'keepsake=/data' };
      const writer = { ...application, name: 'keeper', command: ['sh', '-c', 'echo kept > /data/file'] };
      await apply(podOf(writer));
      const pod = await get<Pod>(namespace, 'pod', 'keeper');
      assert.equal(await exitCode(pod, 90), 0);
      await deletePod(pod);

      const connection = world.redis('keepsake');
      const blocks = (): string =>
        execFileSync('find', [join(world.s3.folder, world.bucket('keepsake')), '-type', 'f', '-path', '*/chunks/*'], {
          encoding: 'utf8',
        });
      const [keys, stored] = [(await connection.keys('*')).toSorted(), blocks()];
      assert.ok(keys.includes('setting') && stored.length > 0);
      await kubectl(['delete', 'juicevolume', 'keepsake', `--namespace=${namespace}`, '--timeout=60s']);
      const secrets = await kubectl(['get', 'secrets', `--namespace=${namespace}`, '--output=name']);
      assert.ok(!secrets.includes('keepsake'), `credentials of a deleted volume are still there: ${secrets}`);
      assert.deepEqual((await connection.keys('*')).toSorted(), keys);
      assert.equal(blocks(), stored);

      await world.createVolume('keepsake');
      const reader = await startPod({ ...application, name: 'keeper-2', command: idle });
      assert.equal(await shell(reader, 'cat /data/file'), 'kept\n');
      await deletePod(reader);
    },
  },
];
