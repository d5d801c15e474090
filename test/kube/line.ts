/**
 * A line between a client and a server on loopback that breaks on demand: bytes pass as they come (so TLS does too), until the
 * connections are cut, new ones are refused, or nobody reads on.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, createServer, type Socket } from 'node:net';
import { parse } from 'yaml';
import type { ApiServer } from '../cluster/api-server.ts';

export interface Line extends AsyncDisposable {
  readonly port: number;
  /** Resets all connections, and refuses new ones. */
  cut(): void;
  /** Lets connections be made again. */
  mend(): void;
  /** What the server sends is not read any more: its buffers fill. */
  stall(): void;
  /** It is read on. */
  flow(): void;
}

export async function startLine(port: number): Promise<Line> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let [broken, stalled] = [false, false];
  const server = createServer((client) => {
    if (broken) return void client.resetAndDestroy();
    const onward = connect(port, '127.0.0.1');
    const pair = [client, onward] as const;
    pairs.add(pair);
    for (const [from, to] of [
      [client, onward],
      [onward, client],
    ] as const) {
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        if (!to.write(bytes)) from.pause();
      });
      to.on('drain', () => {
        if (!(stalled && from === onward)) from.resume();
      });
      from.on('end', () => to.end());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
    }
    if (stalled) onward.pause();
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  const reset = (): void => {
    for (const [client, onward] of pairs) {
      client.resetAndDestroy();
      onward.destroy();
    }
  };
  return {
    port: typeof address === 'object' && address ? address.port : 0,
    cut() {
      broken = true;
      reset();
    },
    mend: () => void (broken = false),
    stall() {
      stalled = true;
      for (const [, onward] of pairs) onward.pause();
    },
    flow() {
      stalled = false;
      for (const [, onward] of pairs) onward.resume();
    },
    async [Symbol.asyncDispose]() {
      reset();
      await new Promise((done) => server.close(done));
    },
  };
}

/** A line to the API server, and a kubeconfig that goes by it. */
export async function lineTo(api: ApiServer): Promise<Line & { readonly kubeconfig: string }> {
  const line = await startLine(Number(new URL(api.url).port));
  const config = parse(readFileSync(api.kubeconfig, 'utf8')) as { clusters: { cluster: { server: string } }[] };
  for (const { cluster } of config.clusters) cluster.server = `https://127.0.0.1:${line.port}`;
  const kubeconfig = join(api.folder, `kubeconfig-${line.port}`);
  writeFileSync(kubeconfig, JSON.stringify(config));
  return { ...line, kubeconfig };
}
