/**
 * What the controller kit takes for granted of an API server, run over the fake one and over a real kube-apiserver with
 * etcd, through the same HTTP transport: where the two differ, the fake is wrong and every test that trusts it too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Registry } from 'prom-client';
import { systemClock } from '../../src/lib/clock.ts';
import { connect } from '../../src/kube/client.ts';
import { type ConditionInput, setCondition } from '../../src/kube/conditions.ts';
import { ApiError, isAlreadyExists, isConflict, isGone, isInvalid, isNotFound } from '../../src/kube/errors.ts';
import { createRecorder } from '../../src/kube/events.ts';
import { addFinalizer, removeFinalizer } from '../../src/kube/finalizer.ts';
import { createLeader } from '../../src/kube/leader.ts';
import { controllerRef } from '../../src/kube/owner.ts';
import { createReflector } from '../../src/kube/reflector.ts';
import {
  ConfigMaps,
  CustomResourceDefinitions,
  Events,
  Leases,
  Namespaces,
  Secrets,
  keyOf,
  refOf,
} from '../../src/kube/resources.ts';
import type { FakeApiServer } from '../../src/kube/testing/fake-apiserver.ts';
import type { FakeFrontend } from '../../src/kube/testing/fake-transport.ts';
import type { Condition, KubeClient, KubeObject, WatchEvent } from '../../src/kube/types.ts';
import { ToolMissing } from '../tools.ts';
import {
  type Backend,
  type ConfigMap,
  type Widget,
  Widgets,
  definition,
  eventually,
  startFake,
  startReal,
  take,
} from './backends.ts';

for (const [backendName, start] of [
  ['fake API server', startFake],
  ['real kube-apiserver and etcd', startReal],
] as const)
  describe(`client over the ${backendName}`, { timeout: 30 * 60_000 }, () => {
    let backend: Backend;
    let client: KubeClient;
    let missing: string | undefined;
    const metrics = new Registry();
    let names = 0;
    const fresh = (): string => `thing-${++names}`;
    const namespace = 'default';

    before(async () => {
      try {
        backend = await start();
      } catch (error) {
        if (!(error instanceof ToolMissing)) throw error;
        missing = error.message;
        return;
      }
      client = connect({
        kubeconfig: backend.kubeconfig,
        requestsPerSecond: 1000,
        burst: 1000,
        metrics,
        fieldManager: 'suite',
      });
      await client.resource(CustomResourceDefinitions).apply(definition);
      if (backend.fake) return;
      await eventually('widgets are served', async () =>
        client
          .resource(Widgets)
          .list({ namespace })
          .then(
            () => true,
            () => false,
          ),
      );
      await eventually(
        'the namespace is there',
        async () => (await client.resource(Namespaces).find({ name: namespace })) !== undefined,
      );
    });
    after(async () => {
      await client?.close();
      await backend?.close();
    });
    const check = (name: string, body: () => Promise<void>): void =>
      void it(name, async (t) => (missing === undefined ? body() : t.skip(missing)));

    const maps = () => client.resource<ConfigMap>(ConfigMaps);
    const widgets = () => client.resource<Widget>(Widgets);

    check('an object that is created can be got, with what the server adds, and unknown names are NotFound', async () => {
      const name = fresh();
      const made = await maps().create({ metadata: { name, namespace }, data: { a: '1' } });
      assert.ok(made.metadata.uid && made.metadata.resourceVersion && made.metadata.creationTimestamp);
      const got = await maps().get({ namespace, name });
      assert.deepEqual(got, made);
      assert.equal(got.kind, 'ConfigMap');
      assert.equal(await maps().find({ namespace, name: 'nothing' }), undefined);
      await assert.rejects(maps().get({ namespace, name: 'nothing' }), (error) => isNotFound(error));
      await assert.rejects(
        maps().create({ metadata: { name, namespace } }),
        (error) => isAlreadyExists(error) && !isConflict(error),
      );
    });

    check('a replace based on an old version is a Conflict, one without a version is not', async () => {
      const name = fresh();
      const first = await maps().create({ metadata: { name, namespace }, data: { a: '1' } });
      await maps().replace({ metadata: { name, namespace }, data: { a: '2' } });
      await assert.rejects(
        maps().replace({ ...first, data: { a: '3' } }),
        (error) => isConflict(error) && !isAlreadyExists(error),
      );
      assert.equal((await maps().get({ namespace, name })).data?.['a'], '2');
    });

    check('lists come in pages of one snapshot, items know their kind', async () => {
      const labels = { suite: fresh() };
      const wanted: string[] = [];
      for (let index = 0; index < 7; index++) {
        const name = fresh();
        wanted.push(name);
        await maps().create({ metadata: { name, namespace, labels } });
      }
      const labelSelector = `suite=${labels.suite}`;
      const pages: string[][] = [];
      const late = fresh();
      for await (const page of maps().pages({ namespace, labelSelector, limit: 3 })) {
        if (pages.length === 0) await maps().create({ metadata: { name: late, namespace, labels } });
        pages.push(page.items.map((item) => item.metadata.name));
        assert.ok(page.items.every((item) => item.kind === 'ConfigMap' && item.apiVersion === 'v1'));
      }
      assert.deepEqual(
        pages.map((page) => page.length),
        [3, 3, 1],
      );
      assert.deepEqual(pages.flat().toSorted(), wanted.toSorted());
      const all = await maps().list({ labelSelector });
      assert.equal(all.items.length, 8);
      const one = await maps().list({ namespace, fieldSelector: `metadata.name=${late}` });
      assert.deepEqual(
        one.items.map((item) => item.metadata.name),
        [late],
      );
    });

    check('a watch tells what happened after its version, by selector', async () => {
      const labels = { suite: fresh() };
      const labelSelector = `suite=${labels.suite}`;
      const { resourceVersion } = await maps().list({ namespace, labelSelector });
      const [a, b] = [fresh(), fresh()];
      await maps().create({ metadata: { name: a, namespace, labels }, data: { n: '1' } });
      await maps().create({ metadata: { name: b, namespace } });
      await maps().replace({ metadata: { name: b, namespace, labels } });
      await maps().replace({ metadata: { name: a, namespace } });
      await maps().delete({ namespace, name: b });
      const events = await take(
        maps().watch({ namespace, labelSelector, resourceVersion, timeoutSeconds: 30 }),
        (seen) => seen.length === 4,
      );
      const short = (event: WatchEvent<ConfigMap>): string =>
        event.type === 'BOOKMARK' ? event.type : `${event.type} ${event.object.metadata.name}`;
      assert.deepEqual(events.map(short), [`ADDED ${a}`, `ADDED ${b}`, `DELETED ${a}`, `DELETED ${b}`]);
      const versions = events.map((event) => (event.type === 'BOOKMARK' ? 0 : Number(event.object.metadata.resourceVersion)));
      assert.deepEqual(
        versions,
        versions.toSorted((left, right) => left - right),
        'every event carries a later version',
      );
    });

    check('a watch may begin with the objects there are, and says where they end', async () => {
      const labels = { suite: fresh() };
      const labelSelector = `suite=${labels.suite}`;
      const [a, b] = [fresh(), fresh()];
      const made = await maps().create({ metadata: { name: a, namespace, labels } });
      const events: string[] = [];
      let end = '';
      for await (const event of maps()
        .metadataOnly()
        .watch({ namespace, labelSelector, resourceVersion: '', initialEvents: true, timeoutSeconds: 30 })) {
        if (event.type === 'BOOKMARK') {
          if (!event.initialEventsEnd) continue;
          end = event.resourceVersion;
          events.push('end');
          await maps().create({ metadata: { name: b, namespace, labels } });
          continue;
        }
        events.push(`${event.type} ${event.object.metadata.name} ${event.object.kind}`);
        if (event.object.metadata.name === b) break;
      }
      assert.deepEqual(events, [`ADDED ${a} PartialObjectMetadata`, 'end', `ADDED ${b} PartialObjectMetadata`]);
      assert.ok(Number(end) >= Number(made.metadata.resourceVersion), 'the end is as late as what is there');
    });

    check('a watch is ended by its signal, and its connection with it', async () => {
      const { resourceVersion } = await maps().list({ namespace });
      const controller = new AbortController();
      const reading = take(maps().watch({ namespace, resourceVersion, signal: controller.signal }), () => false);
      setTimeout(() => controller.abort(new Error('enough watched')), 50);
      await assert.rejects(reading, /enough watched/);
      if (backend.fakeServer) await eventually('no watch is left', () => backend.fakeServer?.storage.watchers.size === 0);
    });

    check('a version that was never reached is refused as too large', async () => {
      await assert.rejects(
        maps().list({ namespace, resourceVersion: '999999999999', limit: 0 }),
        (error) =>
          error instanceof ApiError && error.code === 504 && error.details?.causes?.[0]?.reason === 'ResourceVersionTooLarge',
      );
    });

    check('server-side apply owns its fields: what it names no more is removed, what others own is kept', async () => {
      const name = fresh();
      const intent = { metadata: { name, namespace, labels: { ours: '1' } }, data: { a: '1', b: '1' } };
      const made = await maps().apply(intent, { fieldManager: 'one' });
      const again = await maps().apply(intent, { fieldManager: 'one' });
      assert.equal(again.metadata.resourceVersion, made.metadata.resourceVersion, 'the same intent writes nothing');
      await maps().apply({ metadata: { name, namespace }, data: { c: '1' } }, { fieldManager: 'two' });
      const less = await maps().apply({ metadata: { name, namespace }, data: { a: '2' } }, { fieldManager: 'one' });
      assert.deepEqual(less.data, { a: '2', c: '1' });
      assert.equal(less.metadata.labels, undefined);
    });

    check('an apply of a field that another owns is a Conflict without force, and takes it over with it', async () => {
      const name = fresh();
      await maps().apply({ metadata: { name, namespace }, data: { a: 'one' } }, { fieldManager: 'one' });
      const theirs = { metadata: { name, namespace }, data: { a: 'two' } };
      await assert.rejects(
        maps().apply(theirs, { fieldManager: 'two', force: false }),
        (error) => isConflict(error) && (error as ApiError).details?.causes?.[0]?.field === '.data.a',
      );
      const taken = await maps().apply(theirs, { fieldManager: 'two' });
      assert.deepEqual(taken.data, { a: 'two' });
      const without = await maps().apply({ metadata: { name, namespace } }, { fieldManager: 'one' });
      assert.deepEqual(without.data, { a: 'two' }, 'a field that was taken over is not removed by its former owner');
    });

    check('an apply that names a uid never creates the object, nor touches another of its name', async () => {
      const name = fresh();
      const uid = '11111111-2222-4333-8444-555555555555';
      await assert.rejects(maps().apply({ metadata: { name, namespace, uid }, data: {} }), (error) => isConflict(error));
      assert.equal(await maps().find({ namespace, name }), undefined);
      const other = await maps().create({ metadata: { name, namespace } });
      await assert.rejects(maps().apply({ metadata: { name, namespace, uid }, data: { a: '1' } }), (error) => isInvalid(error));
      await assert.rejects(maps().replace({ metadata: { name, namespace, uid }, data: { a: '1' } }), (error) =>
        isConflict(error),
      );
      assert.deepEqual(await maps().get({ namespace, name }), other);
    });

    check('a spec counts generations, a status does not, and neither writes the other', async () => {
      const name = fresh();
      const made = await widgets().create({ metadata: { name, namespace }, spec: { size: 1 }, status: { seen: 9 } });
      assert.equal(made.metadata.generation, 1);
      assert.equal(made.status, undefined);
      const input: ConditionInput = {
        type: 'Ready',
        status: 'True',
        reason: 'Made',
        message: 'all is well',
        observedGeneration: 1,
      };
      const conditions = setCondition([], input, 0);
      const stated = await widgets().applyStatus(
        { metadata: { name, namespace }, status: { seen: 1, conditions }, spec: { size: 2 } },
        { fieldManager: 'status' },
      );
      assert.equal(stated.metadata.generation, 1);
      assert.deepEqual(stated.spec, { size: 1 });
      assert.deepEqual(stated.status, { seen: 1, conditions });
      const other = setCondition([], { ...input, type: 'Other' }, 0);
      const both = await widgets().applyStatus(
        { metadata: { name, namespace }, status: { conditions: other } },
        { fieldManager: 'other' },
      );
      assert.deepEqual(
        both.status?.conditions?.map((each) => each.type),
        ['Ready', 'Other'],
        'each manager sends its own conditions only',
      );
      const changed = await widgets().apply({ metadata: { name, namespace }, spec: { color: 'red' } });
      assert.equal(changed.metadata.generation, 2);
      assert.deepEqual(changed.spec, { size: 1, color: 'red' });
      assert.deepEqual(changed.status, both.status);
    });

    check('a condition that its manager sends no more is gone whole, one of another manager stays', async () => {
      const name = fresh();
      await widgets().create({ metadata: { name, namespace } });
      const input: ConditionInput = { type: 'Ready', status: 'True', reason: 'Made', message: 'all is well' };
      const send = (conditions: readonly Condition[], fieldManager: string): Promise<Widget> =>
        widgets().applyStatus({ metadata: { name, namespace }, status: { conditions } }, { fieldManager });
      await send(setCondition([], { ...input, type: 'Theirs' }, 0), 'other');
      const ready = setCondition([], input, 0);
      await send(setCondition(ready, { ...input, type: 'Reconciling' }, 0), 'status');
      const less = await send(ready, 'status');
      assert.deepEqual(less.status?.conditions?.map((each) => Object.keys(each).length + each.type).toSorted(), [
        '5Ready',
        '5Theirs',
      ]);
    });

    check('the status of what is not there cannot be applied', async () => {
      await assert.rejects(widgets().applyStatus({ metadata: { name: 'nothing', namespace }, status: { seen: 1 } }), (error) =>
        isNotFound(error),
      );
    });

    check('a JSON Patch whose test fails is refused and changes nothing', async () => {
      const name = fresh();
      await maps().create({ metadata: { name, namespace }, data: { a: '1' } });
      const patched = await maps().patch({ namespace, name }, [
        { op: 'test', path: '/data/a', value: '1' },
        { op: 'replace', path: '/data/a', value: '2' },
        { op: 'add', path: '/data/b', value: '3' },
      ]);
      assert.deepEqual(patched.data, { a: '2', b: '3' });
      await assert.rejects(
        maps().patch({ namespace, name }, [
          { op: 'test', path: '/data/a', value: '1' },
          { op: 'remove', path: '/data/b' },
        ]),
        (error) => isInvalid(error),
      );
      assert.deepEqual((await maps().get({ namespace, name })).data, { a: '2', b: '3' });
    });

    check('a finalizer keeps an object until it is removed; other finalizers survive', async () => {
      const name = fresh();
      const made = await widgets().create({ metadata: { name, namespace, finalizers: ['example.com/other'] } });
      await widgets().patch({ namespace, name }, [{ op: 'add', path: '/metadata/labels', value: { changed: 'meanwhile' } }]);
      const held = await addFinalizer(widgets(), made, 'juicepod.io/test');
      assert.deepEqual(
        held?.metadata.finalizers,
        ['example.com/other', 'juicepod.io/test'],
        'though it was based on an old version',
      );
      await widgets().delete({ namespace, name }, { uid: made.metadata.uid });
      const deleting = await widgets().get({ namespace, name });
      assert.ok(deleting.metadata.deletionTimestamp);
      await assert.rejects(
        addFinalizer(widgets(), deleting, 'juicepod.io/late'),
        (error) => isInvalid(error),
        'a deleted object takes no new finalizer',
      );
      const let1 = await removeFinalizer(widgets(), deleting, 'juicepod.io/test');
      assert.deepEqual(let1?.metadata.finalizers, ['example.com/other']);
      await removeFinalizer(widgets(), deleting, 'example.com/other');
      assert.equal(await widgets().find({ namespace, name }), undefined);
      assert.equal(await removeFinalizer(widgets(), deleting, 'example.com/other'), undefined, 'gone is done');
    });

    check('a delete with the uid of another object is a Conflict; deleting what is gone is no error', async () => {
      const name = fresh();
      await maps().create({ metadata: { name, namespace } });
      await assert.rejects(maps().delete({ namespace, name }, { uid: '11111111-2222-4333-8444-555555555555' }), (error) =>
        isConflict(error),
      );
      await maps().delete({ namespace, name });
      await maps().delete({ namespace, name });
      assert.equal(await maps().find({ namespace, name }), undefined);
    });

    check('a dry run answers what would be and stores nothing', async () => {
      const name = fresh();
      const made = await maps().apply({ metadata: { name, namespace }, data: { a: '1' } }, { dryRun: true });
      assert.deepEqual(made.data, { a: '1' });
      assert.equal(await maps().find({ namespace, name }), undefined);
    });

    check('metadata only means that no data of a Secret is ever received', async () => {
      const name = fresh();
      const labels = { suite: fresh() };
      const secrets = client.resource(Secrets);
      const made = await secrets.create({
        metadata: { name, namespace, labels },
        stringData: { password: 'hidden' },
        data: { p: 'eA==' },
      });
      const partial = secrets.metadataOnly();
      const got = await partial.get(refOf(made));
      assert.deepEqual(Object.keys(got).toSorted(), ['apiVersion', 'kind', 'metadata']);
      assert.equal(got.metadata.uid, made.metadata.uid);
      const listed = await partial.list({ namespace, labelSelector: `suite=${labels.suite}` });
      assert.equal(listed.items.length, 1);
      assert.deepEqual(Object.keys(listed.items[0] ?? {}).toSorted(), ['apiVersion', 'kind', 'metadata']);
      await secrets.patch(refOf(made), [{ op: 'add', path: '/metadata/annotations', value: { a: 'b' } }]);
      const [event] = await take(
        partial.watch({
          namespace,
          labelSelector: `suite=${labels.suite}`,
          resourceVersion: listed.resourceVersion,
          timeoutSeconds: 30,
        }),
        (seen) => seen.length === 1,
      );
      assert.ok(event && event.type === 'MODIFIED');
      assert.deepEqual(Object.keys(event.object).toSorted(), ['apiVersion', 'kind', 'metadata']);
      assert.equal(event.object.metadata.annotations?.['a'], 'b');
    });

    check('a child knows its controller', async () => {
      const owner = await widgets().create({ metadata: { name: fresh(), namespace } });
      const name = fresh();
      const child = await maps().apply({
        metadata: { name, namespace, ownerReferences: [controllerRef(owner, Widgets)] },
        data: { a: '1' },
      });
      assert.deepEqual(child.metadata.ownerReferences, [controllerRef(owner, Widgets)]);
    });

    check('fields that nobody here knows survive a read and a patch', async () => {
      const name = fresh();
      await widgets().create({ metadata: { name, namespace }, spec: { future: { deep: [1, { x: null }, 'y'] } } });
      const patched = await widgets().patch({ namespace, name }, [{ op: 'add', path: '/spec/mine', value: true }]);
      assert.deepEqual(patched.spec, { future: { deep: [1, { x: null }, 'y'] }, mine: true });
    });

    check('a guarded client refuses to write and still reads', async () => {
      const name = fresh();
      await maps().create({ metadata: { name, namespace } });
      const guarded = client
        .guarded(() => {
          throw new Error('not the leader');
        })
        .resource(ConfigMaps);
      await guarded.get({ namespace, name });
      for (const write of [
        () => guarded.create({ metadata: { name: fresh(), namespace } }),
        () => guarded.apply({ metadata: { name, namespace } }),
        () => guarded.patch({ namespace, name }, []),
        () => guarded.replace({ metadata: { name, namespace } }),
        () => guarded.delete({ namespace, name }),
      ])
        await assert.rejects(write, /not the leader/);
      assert.ok(await maps().find({ namespace, name }));
    });

    check('a reflector follows the server, and a relist finds what it missed', async () => {
      const suite = fresh();
      const metadata = (name: string) => ({ name, namespace, labels: { suite } });
      const first = await maps().create({ metadata: metadata(fresh()), data: { a: '1' } });
      const reflector = createReflector({ client: maps(), labelSelector: `suite=${suite}` });
      const stop = new AbortController();
      const ended = reflector.run(stop.signal);
      await reflector.synced();
      assert.deepEqual([...reflector.store.keys()], [keyOf(first)]);
      const second = await maps().create({ metadata: metadata(fresh()) });
      await maps().delete(refOf(first));
      await eventually('the store shows the second only', () => {
        const keys = [...reflector.store.keys()];
        return keys.length === 1 && keys[0] === keyOf(second);
      });
      assert.equal(reflector.store.get(keyOf(second))?.metadata.managedFields, undefined);
      stop.abort(new Error('done'));
      await ended;
    });

    check('one of two candidates leads; when it stops, the other follows at once', async () => {
      const name = fresh();
      const candidate = (identity: string) =>
        createLeader({ client, namespace, name, identity, retryPeriodMs: 100, renewDeadlineMs: 2000, leaseDurationMs: 3000 });
      const order: string[] = [];
      const run = (identity: string, stop: AbortController): Promise<'released' | 'lost'> =>
        candidate(identity).run(async (signal) => {
          order.push(identity);
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        }, stop.signal);
      const [one, two] = [new AbortController(), new AbortController()];
      const first = run('one', one);
      await eventually('one leads', () => order.length === 1);
      const second = run('two', two);
      await systemClock.sleep(400);
      assert.deepEqual(order, ['one']);
      one.abort(new Error('stop'));
      assert.equal(await first, 'released');
      await eventually('two leads', () => order.length === 2);
      const lease = await client
        .resource<KubeObject & { readonly spec: Record<string, unknown> }>(Leases)
        .get({ namespace, name });
      assert.equal(lease.spec['holderIdentity'], 'two');
      assert.equal(lease.spec['leaseDurationSeconds'], 3);
      two.abort(new Error('stop'));
      assert.equal(await second, 'released');
    });

    check('an event and its repeat are one object with a series', async () => {
      const regarding = await widgets().create({ metadata: { name: fresh(), namespace } });
      const recorder = createRecorder({ client, controller: 'juicepod.io/suite', instance: 'test' });
      const event = { regarding, type: 'Warning', reason: 'Broken', action: 'Format', note: 'it is broken' } as const;
      recorder.record(event);
      recorder.record(event);
      recorder.record({ ...event, type: 'Normal', reason: 'Mended', note: 'n'.repeat(3000) });
      await recorder.close();
      type Event = KubeObject & { readonly reason: string; readonly note: string; readonly series?: { readonly count: number } };
      const { items } = await client.resource<Event>(Events).list({ namespace });
      const mine = items.filter((item) => item.metadata.name.startsWith(`${regarding.metadata.name}.`));
      assert.deepEqual(mine.map((each) => `${each.reason} ${each.series?.count ?? 'once'}`).toSorted(), [
        'Broken 2',
        'Mended once',
      ]);
      assert.ok(mine.every((each) => Buffer.byteLength(each.note) <= 1024));
    });

    check('requests are counted by code, method and host', async () => {
      const text = await metrics.metrics();
      assert.match(text, /rest_client_requests_total\{code="200",method="GET",host="127\.0\.0\.1:\d+"\} \d+/);
      assert.match(text, /rest_client_requests_total\{code="404",method="GET",host="127\.0\.0\.1:\d+"\} \d+/);
      assert.doesNotMatch(text, /secret/);
    });

    // A real server that was just started has forgotten nothing yet.
    if (start === startFake)
      check('a watch from a version that is compacted away is Gone', async () => {
        const { fake, fakeServer } = backend as { fake: FakeFrontend; fakeServer: FakeApiServer };
        fakeServer.storage.compact();
        for (const early of [true, false]) {
          fake.goneEarly = early;
          await assert.rejects(
            take(maps().watch({ namespace, resourceVersion: '1001' }), () => false),
            (error) => isGone(error),
          );
        }
      });
  });
