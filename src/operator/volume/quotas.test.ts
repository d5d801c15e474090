/** Decisions about limits: random specs and volumes, driven until nothing is left to do, end with what the spec says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseJuiceVolume } from '../../api/kinds.ts';
import type { JuiceVolume, VolumeStatus } from '../../api/volume.ts';
import type { Quota } from '../../meta/quotas.ts';
import type { QuotasSeen } from './observation.ts';
import { claims, nameOf, ownQuotas, quotaActions, quotaId, quotaStatusOf, wantedQuotas } from './quotas.ts';

function volume(quota: Record<string, unknown> | undefined, status?: VolumeStatus): JuiceVolume {
  const parsed = parseJuiceVolume({
    apiVersion: 'juicepod.io/v1alpha1',
    kind: 'JuiceVolume',
    metadata: { name: 'datasets', namespace: 'data' },
    spec: { metadata: { sqlite: { path: '/m.db' } }, storage: { file: { path: '/b' } }, ...(quota ? { quota } : {}) },
  });
  return status ? { ...parsed, status } : parsed;
}

const limits = fc.record({ inodes: fc.integer({ min: 1, max: 3 }) });
const quota = fc.record({
  users: fc
    .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 4 }), limits), { selector: ([uid]) => uid })
    .map((list) => list.map(([uid, limit]) => ({ uid, ...limit }))),
  directories: fc
    .uniqueArray(fc.tuple(fc.constantFrom('/a', '/b', '/gone'), limits), { selector: ([path]) => path })
    .map((list) => list.map(([path, limit]) => ({ path, ...limit }))),
});

/** The limits of a volume: by id, the inodes allowed. Of `/gone` there can be none. */
type World = Map<string, number>;

function look(of: JuiceVolume, world: World, failed: QuotasSeen['failed'], done: ReadonlySet<string>): QuotasSeen {
  const all = [...world].map(([id, inodes]): Quota => {
    const [kind = '', name = ''] = id.split(' ');
    const owner = kind === 'User' ? ({ kind: 'user', uid: Number(name) } as const) : ({ kind: 'directory', path: name } as const);
    return { owner, capacity: 0, inodes, usedBytes: 0, usedInodes: 0 };
  });
  const own = new Set(ownQuotas(of).map(quotaId));
  return { own: all.filter((each) => own.has(quotaId(nameOf(each.owner)))), others: all, failed, done };
}

/** One reconcile; `stop` ends it after so many actions, before the status is written. */
function reconcile(of: JuiceVolume, world: World, stop = Number.POSITIVE_INFINITY): JuiceVolume {
  const claimed = claims(of);
  const at = claimed ? { ...of, status: claimed } : of;
  const failed = new Map<string, { missing: boolean; message: string }>();
  const done = new Set<string>();
  let count = 0;
  for (;;) {
    const actions = quotaActions(at, look(at, world, failed, done));
    if (actions.length === 0) break;
    for (const action of actions) {
      if (count++ >= stop) return at;
      const id = quotaId(action.quota);
      if (action.quota.name === '/gone') failed.set(id, { missing: true, message: 'no such directory' });
      else {
        if (action.do === 'set') world.set(id, action.quota.inodes);
        if (action.do === 'remove') world.delete(id);
        done.add(id);
      }
    }
  }
  const quotas = quotaStatusOf(at, look(at, world, failed, done));
  const { quotas: _, ...rest } = at.status ?? {};
  return { ...at, status: quotas ? { ...rest, quotas } : rest };
}

test('whatever the spec was before, and wherever it was stopped, the volume ends with what the spec says, and others keep theirs', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.option(quota, { nil: undefined }), fc.integer({ min: 0, max: 6 })), { minLength: 1, maxLength: 5 }),
      (history) => {
        const world: World = new Map([
          ['User 9', 99],
          ['Directory /theirs', 77],
        ]);
        let status: VolumeStatus | undefined;
        // Stopped again and again, the spec changing meanwhile; then once not.
        for (const [spec, stop] of history) status = reconcile(volume(spec, status), world, stop).status;
        for (const spec of [history.at(-1)?.[0], undefined]) {
          const settled = reconcile(volume(spec, status), world);
          status = settled.status;
          const wanted = wantedQuotas(settled.spec).filter(({ name }) => name !== '/gone');
          const expected = new Map([
            ['User 9', 99],
            ['Directory /theirs', 77],
            ...wanted.map((each) => [quotaId(each), each.inodes] as const),
          ]);
          assert.deepEqual(world, expected);
          for (const entry of status?.quotas ?? []) {
            assert.equal(entry.managed, !['9', '/theirs'].includes(entry.name));
            assert.equal(entry.state, entry.name === '/gone' ? 'Pending' : 'Applied');
          }
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('a limit that was set and perhaps not counted is counted again, once', () => {
  const of = volume({ users: [{ uid: 1, inodes: 5 }] });
  const claimed = { ...of, status: claims(of) ?? {} };
  const there = look(claimed, new Map([['User 1', 5]]), new Map(), new Set());
  assert.deepEqual(
    quotaActions(claimed, there).map((each) => each.do),
    ['recount'],
  );
  assert.deepEqual(quotaActions(claimed, { ...there, done: new Set(['User 1']) }), []);
  const other = look(claimed, new Map([['User 1', 4]]), new Map(), new Set());
  const [action] = quotaActions(claimed, other);
  assert.ok(action?.do === 'set' && action.recount);
});
