/** Every decision about a volume, one line each. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume } from '../../api/volume.ts';
import { systemRandom } from '../../lib/random.ts';
import { type Format, serialiseFormat } from '../../meta/format.ts';
import { type FormatInput, newFormat } from '../../meta/format-input.ts';
import { decryptSecrets } from '../../meta/format-secrets.ts';
import { decide } from './decide.ts';
import { decideDeletion } from './deletion.ts';
import type { MetadataObservation, Observation, StorageObservation } from './observation.ts';
import { targetOf } from './target.ts';

const durability = { state: 'durable', message: 'safe' } as const;

function volume(more: { spec?: Record<string, unknown>; uuid?: string; annotations?: Record<string, string> } = {}): JuiceVolume {
  const parsed = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: {
      name: 'datasets',
      namespace: 'data',
      generation: 1,
      ...(more.annotations ? { annotations: more.annotations } : {}),
    },
    spec: {
      metadata: { redis: { addresses: ['redis:6379'] } },
      storage: { s3: { bucket: 'bucket', endpoint: 'http://minio:9000' } },
      ...more.spec,
    },
  });
  return more.uuid === undefined ? parsed : { ...parsed, status: { uuid: more.uuid } };
}

function format(more: Partial<FormatInput> = {}, members: Partial<Format> = {}): Format {
  const input = { name: 'datasets', storage: 's3', bucket: 'http://minio:9000/bucket', ...more };
  return { ...decryptSecrets(newFormat(input, systemRandom)), ...members };
}

const noQuotas = { own: [], others: undefined, failed: new Map(), done: new Set<string>() };
const client = (sid: number) => ({
  sid,
  expire: 0,
  version: '',
  hostName: `host-${sid}`,
  mountPoint: '/m',
  mountTime: '',
  processId: 1,
  generation: '',
});

const holds = (found: Format, more: Partial<Extract<MetadataObservation, { state: 'volume' }>> = {}): MetadataObservation => ({
  state: 'volume',
  format: found,
  usage: { bytes: 0, inodes: 0 },
  clients: [],
  staleSessions: 0,
  leaks: undefined,
  quotas: noQuotas,
  durability,
  holder: undefined,
  ...more,
});
const empty: MetadataObservation = { state: 'empty', durability };
const store = (marker?: string, firstObject?: string): StorageObservation => ({ state: 'reached', marker, firstObject });
const away: StorageObservation = { state: 'failed', reason: 'StorageUnreachable', message: 'away' };

function seen(
  of: JuiceVolume,
  metadata?: MetadataObservation,
  storage?: StorageObservation,
  more: Partial<Observation> = {},
): Observation {
  return {
    conflict: undefined,
    secrets: { ok: true, secrets: {} },
    target: targetOf(of, {}),
    metadata,
    storage,
    encryption: undefined,
    policyExists: undefined,
    ...more,
  };
}

const one = format();
const uuid = one.uuid;
const other = '00000000-0000-4000-8000-000000000000';
const plain = volume();
const known = volume({ uuid });

const table: readonly [string, JuiceVolume, Observation, step: string, ready: string, summary: string | undefined][] = [
  [
    'a Secret is missing',
    plain,
    { ...seen(plain), secrets: { ok: false, reason: 'SecretNotFound', message: 'x' }, target: undefined },
    'nothing',
    'SecretNotFound',
    'Reconciling',
  ],
  [
    'another volume has the right to the place',
    plain,
    seen(plain, undefined, undefined, { conflict: { with: 'a/b', over: 'redis://x' }, target: undefined, secrets: undefined }),
    'nothing',
    'Conflict',
    'Stalled',
  ],
  [
    'the database is away',
    known,
    seen(known, { state: 'failed', reason: 'MetadataUnreachable', message: 'x' }, store(uuid)),
    'nothing',
    'MetadataUnreachable',
    'Reconciling',
  ],
  [
    'the database refuses us',
    known,
    seen(known, { state: 'failed', reason: 'MetadataDenied', message: 'x' }, store(uuid)),
    'nothing',
    'MetadataDenied',
    'Reconciling',
  ],
  [
    'the metadata is of a newer version',
    plain,
    seen(plain, { state: 'unreadable', reason: 'NewerFormat', message: 'x', durability }, store()),
    'nothing',
    'NewerFormat',
    'Stalled',
  ],
  ['database and bucket are empty', plain, seen(plain, empty, store()), 'format', 'Progressing', 'Reconciling'],
  [
    'the database is empty and there is no bucket',
    plain,
    seen(plain, empty, { state: 'missing', message: 'x' }),
    'format',
    'Progressing',
    'Reconciling',
  ],
  [
    'the database is empty and the store is away',
    plain,
    seen(plain, empty, away),
    'nothing',
    'StorageUnreachable',
    'Reconciling',
  ],
  [
    'the database is empty and the bucket is not',
    plain,
    seen(plain, empty, store(undefined, 'chunks/0/0/1_0_4')),
    'nothing',
    'StorageNotEmpty',
    'Stalled',
  ],
  [
    'the database is empty and the bucket has a marker',
    plain,
    seen(plain, empty, store(other)),
    'nothing',
    'StorageNotEmpty',
    'Stalled',
  ],
  [
    'the database was emptied after the volume had been formatted',
    known,
    seen(known, empty, store(uuid)),
    'nothing',
    'VolumeLost',
    'Stalled',
  ],
  ['the database was emptied and the bucket too', known, seen(known, empty, store()), 'nothing', 'VolumeLost', 'Stalled'],
  ['the volume is there, unknown so far', plain, seen(plain, holds(one), store(uuid)), 'nothing', 'Succeeded', undefined],
  ['the volume is there and known', known, seen(known, holds(one), store(uuid)), 'nothing', 'Succeeded', undefined],
  ['the volume is there without its marker', known, seen(known, holds(one), store()), 'mark', 'Succeeded', undefined],
  [
    'the bucket of the volume is gone',
    known,
    seen(known, holds(one), { state: 'missing', message: 'x' }),
    'nothing',
    'StorageInvalid',
    'Reconciling',
  ],
  ['the store of the volume is away', known, seen(known, holds(one), away), 'nothing', 'StorageUnreachable', 'Reconciling'],
  [
    'the database holds another volume',
    volume({ uuid: other }),
    seen(plain, holds(one), store(other)),
    'nothing',
    'VolumeReplaced',
    'Stalled',
  ],
  ['the marker is of another volume', known, seen(known, holds(one), store(other)), 'nothing', 'FormatMismatch', 'Stalled'],
  [
    'another object stands for the volume',
    plain,
    seen(plain, holds(one, { holder: { with: 'a/b', over: 'x' } }), store(uuid)),
    'nothing',
    'Conflict',
    'Stalled',
  ],
  [
    'the block size differs',
    plain,
    seen(plain, holds(format({ blockSize: 1024 })), store()),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  [
    'the compression differs',
    known,
    seen(known, holds({ ...one, compression: 'lz4' }), store()),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  ['the name differs', plain, seen(plain, holds(format({ name: 'models' })), store()), 'nothing', 'FormatMismatch', 'Stalled'],
  [
    'the driver differs',
    plain,
    seen(plain, holds(format({ storage: 'file', bucket: '/x/' })), store()),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  [
    'the volume is encrypted',
    plain,
    seen(plain, holds(format({}, { encryptKey: 'PEM' })), store()),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  [
    'the bucket to adopt is another',
    plain,
    seen(plain, holds(format({ bucket: 'http://minio:9000/else' })), store()),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  [
    'the bucket to adopt is spelled otherwise',
    plain,
    seen(plain, holds({ ...one, bucket: 'http://bucket.minio.:9000' }), store(uuid)),
    'nothing',
    'FormatMismatch',
    'Stalled',
  ],
  [
    'the bucket was made by the minio driver',
    plain,
    seen(plain, holds({ ...one, storage: 'minio' }), store(uuid)),
    'nothing',
    'Succeeded',
    undefined,
  ],
  [
    'the endpoint of a known volume has moved',
    known,
    seen(known, holds({ ...one, bucket: 'http://old:9000/bucket' }), store(uuid)),
    'configure',
    'Succeeded',
    undefined,
  ],
  [
    'the trash is kept for another time',
    known,
    seen(known, holds({ ...one, trashDays: 7 }), store(uuid)),
    'configure',
    'Succeeded',
    undefined,
  ],
];

for (const [when, of, observation, step, reason, summary] of table)
  test(`when ${when}: ${step}, ${reason}${summary ? `, ${summary}` : ''}`, () => {
    const decision = decide(of, observation);
    assert.equal(decision.step.do, step);
    const [ready] = decision.verdicts;
    assert.deepEqual([ready?.type, ready?.reason, decision.ready], ['Ready', reason, reason === 'Succeeded']);
    const pair = decision.verdicts.filter(({ type }) => type === 'Reconciling' || type === 'Stalled');
    assert.deepEqual(
      pair.map(({ type, status, reason: why }) => [type, status, why]),
      summary ? [[summary, 'True', reason]] : [],
    );
    assert.ok(decision.verdicts.every(({ message }) => message !== ''));
  });

test('credentials are written to the settings only where they differ and the store lets us in', () => {
  const secrets = { accessKey: 'a', secretKey: 'b' };
  const observation = (found: Format, storage: StorageObservation): Observation => ({
    ...seen(known, holds(found), storage),
    secrets: { ok: true, secrets },
    target: targetOf(known, secrets),
  });
  assert.deepEqual(
    decide(known, observation({ ...one, accessKey: 'a', secretKey: 'old', sessionToken: 't' }, store(uuid))).step,
    {
      do: 'configure',
      changes: { secretKey: 'b', sessionToken: '' },
    },
  );
  assert.deepEqual(decide(known, observation({ ...one, accessKey: 'a', secretKey: 'b' }, store(uuid))).step, { do: 'nothing' });
  const denied: StorageObservation = { state: 'failed', reason: 'StorageDenied', message: 'no' };
  assert.deepEqual(decide(known, observation({ ...one, accessKey: 'a', secretKey: 'old' }, denied)).step, { do: 'nothing' });
});

const formats = fc.constantFrom(one, format({ blockSize: 1024 }), { ...one, uuid: other }, { ...one, trashDays: 9 });
const anyMetadata: fc.Arbitrary<MetadataObservation | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.constant(empty),
  formats.map((found) => holds(found)),
  fc
    .tuple(formats, fc.nat(3))
    .map(([found, sessions]) => holds(found, { clients: Array.from({ length: sessions }, (_, sid) => client(sid)) })),
  fc.constant<MetadataObservation>({ state: 'failed', reason: 'MetadataUnreachable', message: 'x' }),
  fc.constant<MetadataObservation>({ state: 'unreadable', reason: 'NewerFormat', message: 'x', durability }),
);
const anyStorage: fc.Arbitrary<StorageObservation | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.constant(away),
  fc.constant<StorageObservation>({ state: 'missing', message: 'x' }),
  fc
    .tuple(fc.constantFrom(undefined, uuid, other), fc.constantFrom(undefined, 'chunks/x'))
    .map(([marker, first]) => store(marker, first)),
);

test('whatever is seen: nothing is formatted that was known, holds data or lies in a used place', () => {
  fc.assert(
    fc.property(fc.constantFrom(plain, known), anyMetadata, anyStorage, (of, metadata, storage) => {
      const { step } = decide(of, seen(of, metadata, storage));
      if (step.do !== 'format') return;
      assert.equal(of.status?.uuid, undefined);
      assert.equal(metadata?.state, 'empty');
      assert.ok(
        storage?.state === 'missing' ||
          (storage?.state === 'reached' && storage.marker === undefined && storage.firstObject === undefined),
      );
    }),
  );
});

test('whatever is seen: data is destroyed only when confirmed, unused, and provably this volume’s', () => {
  const annotations = fc.constantFrom(
    undefined,
    { 'juicepod.io/confirm-delete': 'datasets' },
    { 'juicepod.io/confirm-delete': 'other' },
  );
  fc.assert(
    fc.property(
      fc.constantFrom('Retain', 'Delete'),
      annotations,
      fc.constantFrom(undefined, uuid),
      anyMetadata,
      anyStorage,
      (reclaimPolicy, marks, id, metadata, storage) => {
        const of = volume({
          spec: { reclaimPolicy },
          ...(marks ? { annotations: marks } : {}),
          ...(id ? { uuid: id } : {}),
        });
        const decision = decideDeletion(of, seen(of, metadata, storage));
        if (decision.do !== 'destroy') return;
        assert.deepEqual([reclaimPolicy, marks?.['juicepod.io/confirm-delete'], id], ['Delete', 'datasets', uuid]);
        const inDatabase = metadata?.state === 'volume' && metadata.format.uuid === uuid;
        if (metadata?.state === 'volume') assert.deepEqual([inDatabase, metadata.clients.length], [true, 0]);
        assert.ok(storage?.state === 'reached');
        assert.ok(inDatabase || storage.marker === uuid);
        assert.notEqual(storage.marker, other);
      },
    ),
  );
});

test('the same observation of a settled volume asks for nothing, twice', () => {
  const observation = seen(known, holds(one), store(uuid));
  assert.deepEqual(decide(known, observation), decide(known, observation));
  assert.ok(serialiseFormat(one).includes(uuid));
});
