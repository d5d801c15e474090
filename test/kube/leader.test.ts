/**
 * Processes that compete for a Lease on a real kube-apiserver, and are killed, frozen and told to end. By the versions that etcd
 * gives: whoever wrote held the lease at that moment.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from '../../src/kube/client.ts';
import { ConfigMaps, Leases } from '../../src/kube/resources.ts';
import type { KubeClient, KubeObject, Resource } from '../../src/kube/types.ts';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { until } from '../until.ts';

interface Seen {
  readonly version: number;
  readonly who: string;
}
type Lease = KubeObject & { readonly spec?: { readonly holderIdentity?: string } };
type Work = KubeObject & { readonly data?: Readonly<Record<string, string>> };

/** Every state that an object goes through, in order. */
function record(
  client: KubeClient,
  resource: Resource,
  name: string,
  who: (object: Lease & Work) => string,
  signal: AbortSignal,
): Seen[] {
  const seen: Seen[] = [];
  const watch = async (): Promise<void> => {
    const options = { namespace: 'default', fieldSelector: `metadata.name=${name}`, resourceVersion: '', initialEvents: true };
    for await (const event of client.resource<Lease & Work>(resource).watch({ ...options, signal }))
      if (event.type !== 'BOOKMARK')
        seen.push({ version: Number(event.object.metadata.resourceVersion), who: who(event.object) });
  };
  void watch().catch(() => {});
  return seen;
}

class Contender {
  readonly name: string;
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;

  constructor(api: ApiServer, name: string) {
    this.name = name;
    const program = join(import.meta.dirname, 'leading.ts');
    const args = ['--disable-warning=ExperimentalWarning', program, api.kubeconfig, name];
    this.child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    this.exit = new Promise((done) => this.child.once('exit', (code) => done(code)));
  }
}

test('of processes that are killed, frozen and told to end, only the one that the lease names writes, and another follows', async (t) => {
  const api = await startApiServer().catch((error: unknown) => {
    if (error instanceof ToolMissing) return undefined;
    throw error;
  });
  if (!api) return t.skip('Kubernetes cannot be built here');
  const all: Contender[] = [];
  const stop = new AbortController();
  const client = connect({ kubeconfig: api.kubeconfig });
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    for (const { child } of all) child.kill('SIGKILL');
    await Promise.all(all.map((each) => each.exit));
    await client.close();
    await api.stop();
  });
  const join = (name: string): Contender => {
    const contender = new Contender(api, name);
    all.push(contender);
    return contender;
  };
  const leases = record(client, Leases, 'lock', ({ spec }) => spec?.holderIdentity ?? '', stop.signal);
  const writes = record(client, ConfigMaps, 'work', ({ data }) => data?.['by'] ?? '', stop.signal);
  /** The one that writes, when it is another than before. */
  const leader = async (before: readonly Contender[]): Promise<Contender> => {
    const from = writes.length;
    const isNew = ({ who }: Seen): boolean => before.every(({ name }) => name !== who);
    await until('another one leads and works', () => writes.slice(from).some(isNew));
    return all.find(({ name }) => name === writes.slice(from).find(isNew)?.who) as Contender;
  };

  join('a');
  join('b');
  const first = await leader([]);
  first.child.kill('SIGKILL');
  const second = await leader([first]);
  const third = join('c');

  // Between two writes: one that is on its way already is taken, whenever it arrives.
  const written = writes.length;
  await until('it writes once more', () => writes.length > written);
  second.child.kill('SIGSTOP');
  assert.equal(await leader([first, second]), third);
  const sofar = writes.length;
  second.child.kill('SIGCONT');
  assert.equal(await second.exit, 3, 'it finds out that it lost the lease, and ends');
  await until('the other one goes on', () => writes.length > sofar + 5);

  const fourth = join('d');
  third.child.kill('SIGTERM');
  assert.equal(await third.exit, 0);
  assert.equal(await leader([third]), fourth);
  fourth.child.kill('SIGTERM');
  assert.equal(await fourth.exit, 0);
  await until('the lease is given back', () => leases.at(-1)?.who === '');

  for (const { version, who } of writes) {
    const holder = leases.findLast((each) => each.version < version)?.who;
    assert.equal(holder, who, `write ${version} was by ${who} while ${holder} held the lease`);
  }
  assert.deepEqual(
    leases.map((each) => each.who).filter((each, index, names) => each !== names[index - 1]),
    [first.name, second.name, 'c', '', 'd', ''],
  );
});
