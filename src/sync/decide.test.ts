import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Action, type Change, decide } from './decide.ts';

const changes: readonly Change[] = ['none', 'same', 'meta', 'data'];
const all = changes.flatMap((local) => changes.map((remote) => ({ local, remote, action: decide(true, local, remote) })));

test('a content that only one side has is never what gives way', () => {
  const drops: Partial<Record<Action, 'local' | 'remote'>> = {
    pull: 'local',
    'delete-local': 'local',
    push: 'remote',
    'delete-remote': 'remote',
  };
  for (const { local, remote, action } of all) {
    const loser = drops[action];
    if (loser === 'local') assert.notEqual(local, 'data', `${local}/${remote}: ${action}`);
    if (loser === 'remote') assert.notEqual(remote, 'data', `${local}/${remote}: ${action}`);
  }
});

test('a delete wins only where the other side is as it was', () => {
  for (const { local, remote, action } of all) {
    assert.equal(action === 'delete-remote', local === 'none' && remote === 'same');
    assert.equal(action === 'delete-local', remote === 'none' && local === 'same');
  }
});

test('two contents are compared, and nothing happens only where nothing changed', () => {
  assert.equal(decide(true, 'data', 'data'), 'compare');
  assert.equal(decide(false, 'data', 'data'), 'compare');
  assert.equal(decide(false, 'data', 'none'), 'push');
  assert.equal(decide(false, 'none', 'data'), 'pull');
  assert.equal(decide(false, 'none', 'none'), 'nothing');
  assert.deepEqual(
    all.filter(({ action }) => action === 'nothing'),
    [{ local: 'same', remote: 'same', action: 'nothing' }],
  );
});
