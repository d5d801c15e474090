import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspectPod } from './inspect.ts';

type Json = Readonly<Record<string, unknown>>;

const sidecar = (name: string, rest: Json = { restartPolicy: 'Always' }): Json => ({ name, ...rest });
const whole = [sidecar('juicepod-holder'), sidecar('juicepod-client')];

const pod = (initContainers: readonly Json[] | undefined, metadata: Json = {}, rest: Json = {}): Json => ({
  metadata: { annotations: { 'juicepod.io/volumes': 'a=/a', 'juicepod.io/plan': '{}' }, ...metadata },
  spec: { ...(initContainers ? { initContainers } : {}), containers: [{ name: 'main' }] },
  ...rest,
});

test('a pod that has what it asked for, or asks for nothing, is no finding', () => {
  const fine: readonly unknown[] = [
    pod(whole),
    pod([...whole, sidecar('juicepod-sync')]),
    pod([sidecar('juicepod-sync')]),
    pod([sidecar('istio-proxy'), ...whole, { name: 'fetch' }]),
    pod(undefined, { annotations: {} }),
    pod(undefined, { labels: { 'juicepod.io/inject': 'false' } }),
    pod(undefined, { annotations: { 'juicepod.io/volumes': 'a=/a', 'kubernetes.io/config.mirror': 'x' } }),
    pod(undefined, {}, { status: { phase: 'Succeeded' } }),
    pod(undefined, {}, { status: { phase: 'Failed' } }),
    undefined,
    { metadata: 7, spec: [] },
  ];
  for (const one of fine) assert.equal(inspectPod(one), undefined, JSON.stringify(one));
});

test('each thing that can be wrong is told by its reason', () => {
  const cases: readonly (readonly [Json, string, RegExp])[] = [
    [pod(undefined), 'NotInjected', /created without Juicepod's sidecars/],
    [pod([{ name: 'fetch' }], { annotations: { 'juicepod.io/volumes': 'a=/a' } }), 'NotInjected', /delete it/],
    [pod([sidecar('juicepod-client')]), 'SidecarMissing', /a sidecar/],
    [pod(whole, { annotations: { 'juicepod.io/volumes': 'a=/a' } }), 'SidecarMissing', /juicepod\.io\/plan/],
    [pod([sidecar('juicepod-holder', {}), sidecar('juicepod-client')]), 'SidecarNotRestarted', /juicepod-holder/],
    [pod([sidecar('juicepod-sync', { restartPolicy: null })]), 'SidecarNotRestarted', /juicepod-sync/],
  ];
  for (const [one, reason, message] of cases) {
    const finding = inspectPod(one);
    assert.equal(finding?.reason, reason, JSON.stringify(one));
    assert.match(finding?.message ?? '', message);
    assert.ok(Buffer.byteLength(finding?.message ?? '') < 1024, 'longer than an event may be');
  }
});
