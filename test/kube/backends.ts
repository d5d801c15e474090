/** The two API servers that the client suite runs over, a kind of its own to write to, and how it waits. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeApiServer } from '../../src/kube/testing/fake-apiserver.ts';
import { FakeFrontend } from '../../src/kube/testing/fake-transport.ts';
import type { Condition, KubeObject, Resource } from '../../src/kube/types.ts';
import { systemClock } from '../../src/lib/clock.ts';
import { startApiServer } from '../cluster/api-server.ts';

export const Widgets: Resource = {
  group: 'test.juicepod.io',
  version: 'v1',
  plural: 'widgets',
  kind: 'Widget',
  namespaced: true,
};
export type Widget = KubeObject & {
  readonly spec?: Record<string, unknown>;
  readonly status?: { readonly conditions?: Condition[] };
};
export type ConfigMap = KubeObject & { readonly data?: Record<string, string> };

const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
export const definition = {
  metadata: { name: 'widgets.test.juicepod.io' },
  spec: {
    group: Widgets.group,
    scope: 'Namespaced',
    names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: free,
              status: {
                type: 'object',
                properties: {
                  seen: { type: 'integer' },
                  conditions: {
                    type: 'array',
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['type'],
                    items: { ...free, properties: { type: { type: 'string' } }, required: ['type'] },
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
};

export interface Backend {
  readonly kubeconfig: string;
  /** Only the fake can be told to forget. */
  readonly fake?: FakeFrontend;
  readonly fakeServer?: FakeApiServer;
  close(): Promise<void>;
}

export async function startFake(): Promise<Backend> {
  const fakeServer = new FakeApiServer({ resources: [Widgets] });
  const fake = new FakeFrontend(fakeServer);
  const http = await fake.listen();
  const folder = mkdtempSync(join(tmpdir(), 'juicepod-kubeconfig-'));
  const kubeconfig = join(folder, 'config');
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: http.url } }],
      users: [{ name: 'u', user: { token: 'secret' } }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'c',
    }),
  );
  return {
    kubeconfig,
    fake,
    fakeServer,
    close: async () => {
      await http.close();
      rmSync(folder, { recursive: true });
    },
  };
}

export async function startReal(): Promise<Backend> {
  const server = await startApiServer();
  return { kubeconfig: server.kubeconfig, close: () => server.stop() };
}

/** Reads a watch until `enough`, with what the signal of the iteration is. */
export async function take<T>(stream: AsyncIterable<T>, enough: (seen: readonly T[]) => boolean): Promise<T[]> {
  const seen: T[] = [];
  for await (const each of stream) {
    seen.push(each);
    if (enough(seen)) break;
  }
  return seen;
}

export async function eventually(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 1800; attempt++) {
    if (await check()) return;
    await systemClock.sleep(50);
  }
  assert.fail(`did not come about: ${what}`);
}
