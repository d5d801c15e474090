import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseMode, type ModeInput } from './mode.ts';
import { type Platform, platforms } from './platforms/index.ts';

const platform = (name: string): Platform => {
  const found = platforms.find((one) => one.name === name);
  assert.ok(found, name);
  return found;
};

const input = (name: string, rest: Partial<ModeInput> = {}): ModeInput => ({
  requested: 'auto',
  found: { platform: platform(name), by: 'a sign' },
  namespace: 'apps',
  enforced: undefined,
  ownUsers: false,
  ...rest,
});

/** The mode, or the reason of the refusal. */
const outcome = (from: ModeInput): string => {
  const chosen = chooseMode(from);
  return 'mode' in chosen ? chosen.mode : chosen.reason;
};

test('each platform has a mode for auto, and says which of the two it has at all', () => {
  const table = platforms.map(({ name }) => [
    name,
    ...(['auto', 'fuse', 'sync'] as const).map((requested) => outcome(input(name, { requested }))),
  ]);
  assert.deepEqual(table, [
    ['eks-fargate', 'sync', 'PlatformForbids', 'sync'],
    ['gke-autopilot', 'sync', 'fuse', 'sync'],
    ['azure-virtual-nodes', 'sync', 'PlatformForbids', 'sync'],
    ['alibaba-eci', 'sync', 'fuse', 'sync'],
    ['huawei-cci', 'PlatformForbids', 'PlatformForbids', 'PlatformForbids'],
    ['volcengine-vci', 'sync', 'PlatformForbids', 'sync'],
    ['tencent-tke', 'fuse', 'fuse', 'sync'],
    ['azure-virtual-nodes-addon', 'PlatformForbids', 'PlatformForbids', 'PlatformForbids'],
    ['virtual-node', 'sync', 'fuse', 'sync'],
    ['generic', 'fuse', 'fuse', 'sync'],
  ]);
});

test('what the namespace or the pod forbids makes auto choose sync, and refuses fuse with the way out', () => {
  const cases: readonly (readonly [Partial<ModeInput>, string])[] = [
    [{ enforced: 'baseline' }, 'PodSecurity'],
    [{ enforced: 'restricted' }, 'PodSecurity'],
    [{ ownUsers: true }, 'UserNamespace'],
  ];
  for (const [rest, reason] of cases) {
    assert.equal(outcome(input('generic', rest)), 'sync');
    assert.equal(outcome(input('generic', { ...rest, requested: 'fuse' })), reason);
    const refused = chooseMode(input('generic', { ...rest, requested: 'fuse' }));
    assert.match('message' in refused ? refused.message : '', /; write mode: sync, or /);
  }
  assert.equal(outcome(input('generic', { enforced: 'privileged' })), 'fuse');
});

test('auto is never worse than both: it is refused only where sync is', () => {
  for (const { name } of platforms)
    for (const enforced of [undefined, 'privileged', 'baseline', 'restricted'])
      for (const ownUsers of [false, true]) {
        const of = (requested: ModeInput['requested']): string => outcome(input(name, { requested, enforced, ownUsers }));
        assert.ok(['fuse', 'sync'].includes(of('auto')) || of('sync') === of('auto'), `${name} ${enforced} ${ownUsers}`);
        // What auto takes can be asked for by name, too.
        if (['fuse', 'sync'].includes(of('auto'))) assert.equal(of(of('auto') as 'fuse' | 'sync'), of('auto'));
      }
});

test('the reason is told in words, with what the platform was recognised by', () => {
  const { why } = chooseMode(input('eks-fargate')) as { why: string };
  assert.match(why, /Fargate runs no privileged container .*\(the pod is for EKS Fargate, told by a sign\)/);
});
