/** Pod Security `restricted`, as the API server itself checks it, over a pod that was injected for it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { type ApiServer, startApiServer } from '../cluster/api-server.ts';
import { ToolMissing } from '../tools.ts';

type Json = Record<string, unknown>;

test(
  'the API server admits an injected pod where Pod Security is restricted, and would not one with a privilege more',
  { timeout: 300_000 },
  async (t) => {
    let started: ApiServer;
    try {
      started = await startApiServer();
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      return t.skip(error.message);
    }
    await using server = started;
    const label = { 'pod-security.kubernetes.io/enforce': 'restricted' };
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'strict', labels: label } };
    await server.kubectl(['create', '-f', '-'], JSON.stringify(namespace));
    const injected = join(import.meta.dirname, '../golden/admission/restricted.injected.yaml');
    const pods = parseAllDocuments(readFileSync(injected, 'utf8')).map((document) => document.toJS() as Json | null);
    const pod = pods.find((each) => each?.['kind'] === 'Pod') as {
      metadata: Json;
      spec: { initContainers: Json[]; automountServiceAccountToken?: boolean };
    };
    assert.deepEqual(
      pod.spec.initContainers.map((container) => container['name']),
      ['juicepod-sync'],
    );
    pod.metadata['namespace'] = 'strict';
    await server.kubectl(['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod));
    for (const change of [
      { privileged: true, allowPrivilegeEscalation: true },
      { capabilities: { drop: ['ALL'], add: ['SYS_ADMIN'] } },
      { runAsUser: 0, runAsNonRoot: false },
    ]) {
      const [sidecar] = pod.spec.initContainers;
      const worse = { ...sidecar, securityContext: { ...(sidecar?.['securityContext'] as Json), ...change } };
      await assert.rejects(
        server.kubectl(
          ['create', '--dry-run=server', '-f', '-'],
          JSON.stringify({ ...pod, spec: { ...pod.spec, initContainers: [worse] } }),
        ),
        (error: { stderr?: string }) => /violates PodSecurity "restricted/.test(error.stderr ?? ''),
      );
    }
  },
);
