/**
 * How much later a pod is Ready for having a volume: on the real one-node cluster of the tests, the same pod with and without the
 * annotation, in turns, each alone on the node; from sending the request that creates it until a watch shows it Ready. Prints seconds:
 * median, least and most. The kubelet looks at its containers once a second: pods are created at all moments of that second alike,
 * or the figures would tell how long after such a look the one before was gone. Exits with 77 where there can be no cluster. Argument: how many pods of each kind, 10 unless said.
 */
import { connect } from '../src/kube/client.ts';
import { Pods } from '../src/kube/resources.ts';
import type { Intent, KubeClient, KubeObject } from '../src/kube/types.ts';
import { ensureJuicepodImage } from '../test/cluster/image.ts';
import { idle, podOf } from '../test/cluster/scenarios/pods.ts';
import { createWorlds, type World } from '../test/cluster/scenarios/world.ts';
import { skipped, withCluster } from '../test/cluster/with-cluster.ts';
import { ensureDebian, ToolMissing, versitygw } from '../test/tools.ts';

const INSIDE = 'JUICEPOD_BENCH_INSIDE';
const NAMESPACE = 'juicepod-bench';
/** Seconds that a volume may cost. */
const TARGET = 1;
const each = Number(process.argv[2] ?? 10);

interface Pod extends KubeObject {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

const isReady = ({ status }: Pod): boolean =>
  status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false;

/** Creates a pod, so far into a second, and deletes it. Resolves with the seconds until it was Ready. */
async function start(client: KubeClient, world: World, name: string, into: number, volumes?: string): Promise<number> {
  const { namespace, environment } = world;
  const pods = client.resource<Pod>(Pods);
  const object = podOf({
    name,
    namespace,
    image: environment.shellImage,
    command: idle,
    ...(volumes === undefined ? {} : { volumes }),
  });
  const signal = AbortSignal.timeout(120_000);
  const { resourceVersion } = await pods.list({ namespace, signal });
  const events = pods.watch({ namespace, fieldSelector: `metadata.name=${name}`, resourceVersion, signal });
  await new Promise((done) => setTimeout(done, 1000 - ((performance.now() - into * 1000) % 1000)));
  const begin = performance.now();
  const created = pods.create(object as Intent, { signal });
  let seconds = 0;
  for await (const event of events) {
    if (event.type === 'BOOKMARK') continue;
    if (seconds === 0 && isReady(event.object)) {
      seconds = (performance.now() - begin) / 1000;
      await created;
      await pods.delete({ namespace, name }, { signal });
    }
    if (event.type === 'DELETED') return seconds;
  }
  throw new Error(`the watch ended before pod ${name} did`);
}

function show(what: string, times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const rest = `least ${sorted[0]?.toFixed(2)} s   most ${sorted.at(-1)?.toFixed(2)} s`;
  console.log(`${what.padEnd(28)} median ${middle.toFixed(2)} s   ${rest}`);
  return middle;
}

async function measure(): Promise<void> {
  await using worlds = await createWorlds([NAMESPACE]);
  const world = worlds.in.get(NAMESPACE);
  if (!world) throw new Error('there is no world');
  await world.createVolume('datasets');
  const client = connect();
  const [without, having]: [number[], number[]] = [[], []];
  for (let count = -1; count < each; count++) {
    const into = Math.max(0, count) / each;
    const [plain, mounted] = [
      await start(client, world, `plain-${count + 1}`, into),
      await start(client, world, `mounted-${count + 1}`, into, 'datasets=/data'),
    ];
    // The first of each kind finds nothing in memory.
    if (count < 0) continue;
    without.push(plain);
    having.push(mounted);
  }
  await client.close();
  console.log(`pods from creation to Ready: ${each} of each kind, one after the other`);
  const difference = -show('without a volume', without) + show('with a volume', having);
  console.log(`a volume costs               ${difference.toFixed(2)} s (target: at most ${TARGET} s)`);
}

async function main(): Promise<number> {
  if (process.env[INSIDE]) {
    await measure();
    return 0;
  }
  try {
    process.env[INSIDE] = 'yes';
    ensureDebian('redis-server');
    await versitygw();
    const again = [process.execPath, '--disable-warning=ExperimentalWarning', import.meta.filename, String(each)];
    return await withCluster(again, [await ensureJuicepodImage()]);
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    console.error(`# skipped: ${error.message}`);
    return skipped;
  }
}

process.exitCode = await main();
