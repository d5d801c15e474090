/** The sidecar as a process, as the kubelet runs it: an ordinary user without any right, killed and started again, ended by SIGTERM. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { juicepod } from '../mounted.ts';

const main = resolve(import.meta.dirname, '../../src/main.ts');
const USER = 1000;
const root = process.getuid?.() === 0;

class Place implements AsyncDisposable {
  readonly work: string;
  #pods = 0;
  readonly #children: ChildProcess[] = [];

  constructor() {
    this.work = mkdtempSync(join(tmpdir(), 'juicepod-sidecar-'));
    chmodSync(this.work, 0o777);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all(this.#children.map((child) => ended(child)));
    rmSync(this.work, { recursive: true, force: true });
  }

  /** Everything in it belongs to the user that the sidecar runs as. */
  give(path: string): void {
    if (!root) return;
    chownSync(path, USER, USER);
    if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) this.give(join(path, name));
  }

  async format(): Promise<void> {
    const url = `sqlite3://${join(this.work, 'meta.db')}`;
    await juicepod(['format', url, 'volume', '--storage', 'file', '--bucket', join(this.work, 'store')]);
    const { Setting } = JSON.parse(await juicepod(['status', url, '--output', 'json'])) as { Setting: { UUID: string } };
    writeFileSync(join(this.work, 'volume.json'), JSON.stringify({ name: 'volume', uuid: Setting.UUID, metaUrl: url }));
    for (const name of readdirSync(this.work)) this.give(join(this.work, name));
  }

  /** A pod's directories, and how its sidecar is started. */
  pod(sync: object = {}) {
    const folder = join(this.work, `pod-${++this.#pods}`);
    const tree = join(folder, 'sync/0/tree');
    mkdirSync(tree, { recursive: true });
    const plan = join(folder, 'plan.json');
    const mount = { id: '0', volume: 'default/volume', config: join(this.work, 'volume.json'), target: tree, mode: 'sync', sync };
    writeFileSync(plan, JSON.stringify({ version: 1, mounts: [mount] }));
    this.give(folder);
    const ready = join(folder, 'ready');
    const termination = join(folder, 'termination');
    const start = (): ChildProcess & { output: () => string } => {
      const child = spawn(
        process.execPath,
        [
          '--disable-warning=ExperimentalWarning',
          main,
          'sync-sidecar',
          '--plan',
          plan,
          '--ready',
          ready,
          '--pod',
          `pod-${this.#pods}`,
          '--termination',
          termination,
        ],
        { stdio: ['ignore', 'pipe', 'pipe'], ...(root ? { uid: USER, gid: USER } : {}), env: { ...process.env, HOME: folder } },
      );
      let text = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
      this.#children.push(child);
      return Object.assign(child, { output: () => text });
    };
    return { folder, tree, ready, termination, start };
  }
}

function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((done) => child.once('exit', (code) => done(code)));
}

async function until(what: string, done: () => boolean, more: () => string = () => ''): Promise<void> {
  for (let attempt = 0; !done(); attempt++) {
    if (attempt > 1800) throw new Error(`${what} did not come about in 90 s ${more()}`);
    await sleep(50);
  }
}

function contents(folder: string, path = ''): Record<string, string> {
  return Object.fromEntries(
    readdirSync(join(folder, path), { withFileTypes: true })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => {
        const at = path === '' ? entry.name : `${path}/${entry.name}`;
        return entry.isDirectory()
          ? [[`${at}/`, ''], ...Object.entries(contents(folder, at))]
          : [[at, readFileSync(join(folder, at), 'latin1')]];
      }),
  );
}

test(
  'an application writes, its sidecar is killed again and again, and the next pod has every byte',
  { timeout: 180_000 },
  async () => {
    await using place = new Place();
    await place.format();
    const one = place.pod({ scanSeconds: 1 });
    let sidecar = one.start();
    await until(
      'ready',
      () => existsSync(one.ready),
      () => sidecar.output(),
    );
    mkdirSync(join(one.tree, 'run'));
    place.give(one.tree);
    let serial = 0;
    for (let life = 0; life < 5; life++) {
      const until = performance.now() + 700 + life * 100;
      while (performance.now() < until) {
        const name = join(one.tree, 'run', `f${serial++ % 40}`);
        writeFileSync(`${name}.new`, `${serial} `.repeat(1 + ((serial * 7919) % 20_000)));
        renameSync(`${name}.new`, name);
        if (serial % 9 === 0) unlinkSync(name);
        await sleep(5);
      }
      sidecar.kill('SIGKILL');
      await ended(sidecar);
      sidecar = one.start();
    }
    // A restarted sidecar finds the files hydrated: nothing is brought again.
    await until(
      'running',
      () => sidecar.output().includes('sync: running'),
      () => sidecar.output(),
    );
    assert.equal(sidecar.output().includes('sync: hydrating'), false);
    writeFileSync(join(one.tree, 'last'), 'written just before the end');
    sidecar.kill('SIGTERM');
    assert.equal(await ended(sidecar), 0, sidecar.output());
    const written = contents(one.tree);
    assert.deepEqual(
      Object.keys(written).filter((name) => name.includes('conflict')),
      [],
    );
    assert.ok(Object.keys(written).length > 20);

    const two = place.pod();
    const second = two.start();
    await until(
      'ready',
      () => existsSync(two.ready),
      () => second.output(),
    );
    assert.deepEqual(contents(two.tree), written);
    if (root) assert.equal(lstatSync(join(two.tree, 'last')).uid, USER);
    second.kill('SIGTERM');
    assert.equal(await ended(second), 0, second.output());
  },
);

test('what does not fit, and what was not written back, Kubernetes is told', { timeout: 120_000 }, async () => {
  await using place = new Place();
  await place.format();
  const one = place.pod({ flushSeconds: 2 });
  const sidecar = one.start();
  await until(
    'ready',
    () => existsSync(one.ready),
    () => sidecar.output(),
  );
  writeFileSync(join(one.tree, 'big'), Buffer.alloc(3 * 2 ** 20, 'x'));
  const status = join(one.folder, 'sync/0/state/status.json');
  await until(
    'sent',
    () => existsSync(status) && readFileSync(status, 'utf8').includes('"push": 1'),
    () => sidecar.output(),
  );
  // The store is gone.
  renameSync(join(place.work, 'store'), join(place.work, 'gone'));
  writeFileSync(join(place.work, 'store'), 'in the way');
  writeFileSync(join(one.tree, 'late'), 'x'.repeat(5000));
  await sleep(200);
  sidecar.kill('SIGTERM');
  assert.equal(await ended(sidecar), 1, sidecar.output());
  assert.match(
    readFileSync(one.termination, 'utf8'),
    /^NotFlushed: default\/volume: 1 changes were not written back \(late\).* are sent when this container starts again/,
  );
  rmSync(join(place.work, 'store'));
  renameSync(join(place.work, 'gone'), join(place.work, 'store'));
  const again = one.start();
  await until(
    'running',
    () => again.output().includes('sync: running'),
    () => again.output(),
  );
  again.kill('SIGTERM');
  assert.equal(await ended(again), 0, again.output());

  const small = place.pod({ limitMiB: 2 });
  const refused = small.start();
  assert.equal(await ended(refused), 1);
  assert.match(
    readFileSync(small.termination, 'utf8'),
    /^the volume default\/volume needs 4 MiB on the pod's disk, and its limit is 2 MiB; nothing was downloaded\. Select less/,
  );
  assert.equal(existsSync(small.ready), false);
  const two = place.pod();
  const second = two.start();
  await until(
    'ready',
    () => existsSync(two.ready),
    () => second.output(),
  );
  assert.equal(contents(two.tree)['late'], 'x'.repeat(5000));
  second.kill('SIGTERM');
  await ended(second);
});
