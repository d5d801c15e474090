import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { boundedName, mountSecretName } from './names.ts';

test('a mount Secret is named after its volume, and after the namespace where that is another', () => {
  assert.equal(mountSecretName('data', 'datasets', 'data'), 'juicepod-mount-datasets');
  assert.equal(mountSecretName('data', 'datasets', 'training'), 'juicepod-mount.data.datasets');
});

test('volumes whose joined names look alike have Secrets of their own', () => {
  assert.notEqual(mountSecretName('a-b', 'b', 'x'), mountSecretName('a', 'b-b', 'x'));
  assert.notEqual(mountSecretName('a', 'b', 'x'), mountSecretName('x', 'a-b', 'x'));
  assert.notEqual(mountSecretName('a', 'b', 'x'), mountSecretName('x', 'a.b', 'x'));
});

test('boundedName() keeps short names, bounds long ones, and never makes two long ones equal', () => {
  const name = fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,120}[a-z0-9]$/);
  fc.assert(
    fc.property(name, name, (a, b) => {
      const short = boundedName(a);
      assert.ok(short.length <= 63);
      assert.match(short, /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/);
      if (a.length <= 63) assert.equal(short, a);
      if (a !== b) assert.notEqual(short, boundedName(b));
    }),
  );
});
