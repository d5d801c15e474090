/** The API server that other suites build on, and that its end leaves nothing behind. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { ToolMissing } from '../tools.ts';
import { type ApiServer, startApiServer } from './api-server.ts';
import { kubernetesVersion } from './build.ts';

test('an API server of its own takes objects and is gone afterwards', async (t) => {
  let server: ApiServer;
  try {
    server = await startApiServer();
  } catch (error) {
    if (error instanceof ToolMissing) return t.skip(error.message);
    throw error;
  }
  try {
    assert.ok((await server.kubectl(['version'])).includes(`Server Version: ${kubernetesVersion()}`));
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'c', image: 'i' }] } };
    await server.kubectl(['apply', '-f', '-'], JSON.stringify(pod));
    assert.equal(await server.kubectl(['get', 'pod', 'p', '-o', 'jsonpath={.status.phase}']), 'Pending');
    await assert.rejects(server.kubectl(['get', 'pod', 'other']), /NotFound/);
  } finally {
    await server.stop();
  }
  assert.equal(existsSync(server.folder), false);
  await assert.rejects(fetch(server.url), /fetch failed/);
});
