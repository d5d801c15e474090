import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { createClient } from './client.ts';
import { ApiError } from './errors.ts';
import { createRecorder, cutBytes } from './events.ts';
import { ConfigMaps, Events } from './resources.ts';
import { FakeApiServer } from './testing/fake-apiserver.ts';
import { FakeClock, seededRandom } from './testing/fake-clock.ts';
import { FakeFrontend } from './testing/fake-transport.ts';
import type { KubeObject } from './types.ts';

type Event = KubeObject & { readonly note: string; readonly series?: { readonly count: number } };

function setup() {
  const clock = new FakeClock();
  const server = new FakeApiServer({ clock });
  const frontend = new FakeFrontend(server);
  const metrics = new Registry();
  const recorder = createRecorder({
    client: createClient(frontend.transport()),
    controller: 'juicepod.io/volume',
    instance: 'pod-1',
    clock,
    random: seededRandom(1),
    metrics,
  });
  const regarding = server.create(ConfigMaps, { metadata: { name: 'a', namespace: 'x' } });
  const record = (note: string): void =>
    recorder.record({ regarding, type: 'Warning', reason: 'Broken', action: 'Format', note });
  const events = (): readonly Event[] => server.objects(Events) as readonly Event[];
  return { clock, server, frontend, recorder, metrics, record, events };
}

test('repeats within six minutes are one event with a count, later ones a new event', async () => {
  const { clock, record, events } = setup();
  record('it is broken');
  await clock.advance(60_000);
  assert.equal(events()[0]?.series, undefined);
  record('it is broken');
  await clock.advance(60_000);
  record('it is broken');
  await clock.advance(1000);
  assert.deepEqual(
    events().map((each) => each.series?.count),
    [3],
  );
  await clock.advance(400_000);
  record('it is broken');
  record('it is broken otherwise');
  await clock.advance(1000);
  assert.equal(events().length, 3);
});

test('an object that floods is cut off after 25 writes; what was not written is counted in the series', async () => {
  const { clock, record, events, metrics } = setup();
  for (let index = 0; index < 100; index++) record('again');
  await clock.advance(1000);
  assert.equal(events()[0]?.series?.count, 100);
  assert.match(await metrics.metrics(), /juice_events_dropped_total\{controller="juicepod.io\/volume",reason="spam"\} 75/);
  await clock.advance(300_000);
  record('again');
  await clock.advance(1000);
  assert.equal(events()[0]?.series?.count, 101);
});

test('a repeat of an event that somebody deleted is written anew', async () => {
  const { clock, server, record, events } = setup();
  record('it is broken');
  await clock.advance(1000);
  const [first] = events();
  server.delete(Events, { namespace: 'x', name: first?.metadata.name ?? '' });
  record('it is broken');
  await clock.advance(1000);
  assert.equal(events().length, 1);
});

test('a server that is away for a moment costs no event, one that refuses costs that event only', async () => {
  const { clock, frontend, record, events, recorder } = setup();
  let failures = 2;
  frontend.fault = () => (failures-- > 0 ? 'reset' : undefined);
  record('first');
  await clock.advance(10_000);
  assert.equal(events().length, 1);
  frontend.fault = () => new ApiError(403, 'the namespace is being terminated', { reason: 'Forbidden' });
  record('second');
  await clock.advance(10_000);
  frontend.fault = undefined;
  record('third');
  await recorder.close();
  assert.deepEqual(
    events()
      .map((each) => each.note)
      .toSorted(),
    ['first', 'third'],
  );
});

test('closing ends in five seconds, however the server behaves', async () => {
  const { clock, frontend, record, recorder, metrics } = setup();
  frontend.fault = () => 'silence';
  record('first');
  record('second');
  let closed = false;
  const closing = recorder.close().then(() => (closed = true));
  await clock.advance(4900);
  assert.equal(closed, false);
  await clock.advance(200);
  await closing;
  assert.match(await metrics.metrics(), /juice_events_dropped_total\{controller="juicepod.io\/volume",reason="closed"\} 1/);
});

test('text is cut by bytes and never inside a character', () => {
  assert.equal(cutBytes('abc', 3), 'abc');
  assert.equal(cutBytes('ééééé', 9), 'ééé…');
  assert.ok(Buffer.byteLength(cutBytes('😀'.repeat(400), 1024)) <= 1024);
  assert.doesNotMatch(cutBytes('😀'.repeat(400), 1024), /\uFFFD/);
});
