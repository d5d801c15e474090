/** A line to an API server, and a kubeconfig that goes by it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { ApiServer } from '../cluster/api-server.ts';
import { Line } from '../line.ts';

export async function lineTo(api: ApiServer): Promise<{ readonly line: Line; readonly kubeconfig: string }> {
  const line = await Line.start(Number(new URL(api.url).port));
  const config = parse(readFileSync(api.kubeconfig, 'utf8')) as { clusters: { cluster: { server: string } }[] };
  for (const { cluster } of config.clusters) cluster.server = `https://127.0.0.1:${line.port}`;
  const kubeconfig = join(api.folder, `kubeconfig-${line.port}`);
  writeFileSync(kubeconfig, JSON.stringify(config));
  return { line, kubeconfig };
}
