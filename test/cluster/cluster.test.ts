/** The cluster harness: status passed on, pods that run, and nothing left behind however it ends. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test, type TestContext } from 'node:test';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';
import { busyboxImage } from './image.ts';
import { prepareCluster, skipped } from './with-cluster.ts';

const program = join(import.meta.dirname, 'with-cluster.ts');

interface Running {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly status: Promise<number | null>;
}

/** Clusters of one test have a temporary folder of their own, so that whatever lies there is theirs. */
function start(t: TestContext, folder: string, script: string): Running {
  const args = ['--disable-warning=ExperimentalWarning', program, '--no-image', '--', 'sh', '-euc', script];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TMPDIR: folder },
    detached: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (data: Buffer) => (output += data.toString()));
  const status = new Promise<number | null>((resolve) => child.once('close', resolve));
  t.after(() => child.kill('SIGTERM'));
  return { child, output: () => output, status };
}

const folders = (folder: string): readonly string[] => readdirSync(folder).filter((name) => name.startsWith('juicepod-kube.'));

/** Whether any control group of the cluster in `name` is there. */
function controlGroups(name: string): boolean {
  const id = `juicepod-kube-${name.split('.')[1]}`;
  const roots = readFileSync('/proc/self/mounts', 'utf8').matchAll(/^\S+ (\S+) cgroup2? /gm);
  return [...roots].some(([, root]) => existsSync(join(root ?? '', id)));
}

async function printed(running: Running, text: string): Promise<void> {
  for (let attempt = 0; !running.output().includes(text); attempt++) {
    if (attempt > 1200 || running.child.exitCode !== null) throw new Error(`no ${text} in: ${running.output()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

let missing: string | undefined;
before(async () => {
  try {
    await prepareCluster();
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    missing = error.message;
  }
});

describe('a cluster', () => {
  test('runs a pod, passes the status of its command on, and leaves nothing behind', async (t) => {
    if (missing) return t.skip(missing);
    const folder = mkdtempSync(join(tmpdir(), 'juicepod-cluster-test-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const { status, output } = start(
      t,
      folder,
      `kubectl run hello --image=${busyboxImage} --restart=Never --command -- sh -c 'echo hello from $(hostname)' > /dev/null
      kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/hello --timeout=60s > /dev/null
      kubectl logs hello
      basename $TMPDIR/juicepod-kube.*
      exit 42`,
    );
    assert.equal(await status, 42, output());
    assert.match(output(), /^hello from hello$/m);
    const name = /juicepod-kube\.\w{6}/.exec(output())?.[0] ?? '';
    assert.deepEqual(folders(folder), []);
    assert.equal(controlGroups(name), false);
  });

  test('ends with TERM, and what a killed one leaves is removed by the next', async (t) => {
    if (missing) return t.skip(missing);
    const folder = mkdtempSync(join(tmpdir(), 'juicepod-cluster-test-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const first = start(t, folder, 'echo up; sleep 600');
    await printed(first, 'up\n');
    const [killed = ''] = folders(folder);
    assert.equal(controlGroups(killed), true);
    // The script itself dies, so nobody tidies up.
    const script = Number(
      readFileSync(`/proc/${first.child.pid}/task/${first.child.pid}/children`, 'utf8').trim().split(' ').at(-1),
    );
    process.kill(script, 'SIGKILL');
    assert.notEqual(await first.status, 0);
    assert.deepEqual(folders(folder), [killed]);
    // Its processes are killed, and hold the lock until they are gone; a cluster that still has one is left alone.
    await until(
      'all that was killed is gone',
      () => spawnSync('flock', ['--nonblock', join(folder, killed), 'true']).status === 0,
    );

    const second = start(t, folder, 'echo up; sleep 600');
    await printed(second, 'up\n');
    assert.equal(controlGroups(killed), false);
    const [own = ''] = folders(folder);
    assert.deepEqual(folders(folder), [own]);
    // As `timeout` and a terminal do it: to every process of the group, and more than once.
    for (let count = 0; count < 3; count++) {
      if (second.child.pid) process.kill(-second.child.pid, 'SIGTERM');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.notEqual(await second.status, 0);
    assert.deepEqual(folders(folder), []);
    assert.equal(controlGroups(own), false);
  });
});

test('the status that says "skipped" is the one that test runners know', () => assert.equal(skipped, 77));
