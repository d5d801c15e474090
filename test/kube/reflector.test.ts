/**
 * The reflector on a real kube-apiserver: that it fills its store by a stream where the server has that, in pages where the
 * server has not, and that either way it follows what happens.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { connect } from '../../src/kube/client.ts';
import { createReflector } from '../../src/kube/reflector.ts';
import { ConfigMaps, keyOf } from '../../src/kube/resources.ts';
import type { KubeObject, ListOptions, WatchOptions } from '../../src/kube/types.ts';
import { startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';
import { eventually } from './backends.ts';

const OBJECTS = 620;

for (const [how, flags] of [
  ['a stream, of a server that has it', []],
  ['pages, of a server without streams', ['--feature-gates=WatchList=false']],
] as const)
  test(`the store is filled by ${how}, and follows`, { timeout: 30 * 60_000 }, async (t) => {
    const server = await startApiServer({ flags }).catch((error: unknown) => {
      if (error instanceof ToolMissing) return undefined;
      throw error;
    });
    if (!server) return t.skip('Kubernetes cannot be built here');
    const client = connect({ kubeconfig: server.kubeconfig, requestsPerSecond: 1000, burst: 1000 });
    const metrics = new Registry();
    const stop = new AbortController();
    const namespace = 'default';
    const maps = client.resource(ConfigMaps);
    const put = (name: string, labels: Readonly<Record<string, string>>) =>
      maps.create({ metadata: { name, namespace, labels }, data: { text: 'not to be seen' } });
    let ended: Promise<void> | undefined;
    try {
      await eventually('the namespace is there', async () =>
        put('first', { kept: 'yes' }).then(
          () => true,
          () => false,
        ),
      );
      for (let index = 1; index < OBJECTS; index += 20)
        await Promise.all(Array.from({ length: 20 }, (_, each) => put(`n${index + each}`, each === 0 ? { kept: 'yes' } : {})));
      const calls: string[] = [];
      const partial = maps.metadataOnly();
      const watched = {
        resource: ConfigMaps,
        streamsLists: true,
        pages(options: ListOptions = {}) {
          calls.push(`list ${options.limit}`);
          return partial.pages(options);
        },
        watch(options: WatchOptions) {
          calls.push(options.initialEvents ? 'stream' : 'watch');
          return partial.watch(options);
        },
      };
      let objects = 0;
      const transform = (object: KubeObject): KubeObject | undefined => {
        objects++;
        assert.deepEqual(Object.keys(object).toSorted(), ['apiVersion', 'kind', 'metadata']);
        return object.metadata.labels?.['kept'] ? object : undefined;
      };
      const reflector = createReflector<KubeObject>({ client: watched, namespace, transform }, { metrics });
      ended = reflector.run(stop.signal);
      await reflector.synced();
      assert.ok(objects >= OBJECTS, `${objects} objects came`);
      assert.equal(reflector.store.size, 32, 'only those that were wanted are kept');
      assert.deepEqual(calls.slice(0, 2), flags.length === 0 ? ['stream'] : ['stream', 'list 500']);
      await maps.delete({ namespace, name: 'first' });
      await put('late', { kept: 'yes' });
      await eventually('what happened is seen', () => reflector.store.get('default/late') !== undefined);
      assert.equal(reflector.store.get('default/first'), undefined);
      assert.ok([...reflector.store.values()].every((each) => keyOf(each).startsWith('default/')));
      assert.deepEqual(calls, flags.length === 0 ? ['stream'] : ['stream', 'list 500', 'watch']);
    } finally {
      stop.abort(new Error('the test is over'));
      await ended;
      await client.close();
      await server.stop();
    }
  });
