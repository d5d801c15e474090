import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLIENT } from './names.ts';
import type { Settings } from './settings.ts';
import { admit, cluster, pod, volume } from './testing/fixtures.ts';

interface Client {
  readonly name: string;
  readonly args: readonly string[];
  readonly ports?: readonly unknown[];
}

function clientOf(spec: Readonly<Record<string, unknown>>, settings: Partial<Settings> = {}): Client {
  const { result } = admit(pod('data=/data', spec), cluster([volume('data')]), { settings });
  const { initContainers } = result['spec'] as { readonly initContainers: readonly Client[] };
  const client = initContainers.find(({ name }) => name === CLIENT);
  assert.ok(client);
  return client;
}

const PORT = { name: 'juicefs-metrics', protocol: 'TCP' };

test('the client serves metrics at a port that has a name', () => {
  const { args, ports } = clientOf({});
  assert.deepEqual(args.slice(-2), ['--metrics', ':9567']);
  assert.deepEqual(ports, [{ ...PORT, containerPort: 9567 }]);
  const other = clientOf({}, { metricsPort: 9999 });
  assert.deepEqual(other.args.slice(-2), ['--metrics', ':9999']);
  assert.deepEqual(other.ports, [{ ...PORT, containerPort: 9999 }]);
});

test('it serves none where nobody wants it, nor on the network of a node, where two pods would collide', () => {
  for (const client of [clientOf({}, { metricsPort: 0 }), clientOf({ hostNetwork: true })]) {
    assert.ok(!client.args.includes('--metrics'));
    assert.equal(client.ports, undefined);
  }
});
