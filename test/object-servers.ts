/** Real object stores of other kinds than the S3 server of servers.ts, each an own instance on a free loopback port. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Server, start } from './servers.ts';
import { azurite, ensureDebian, minio, onPath } from './tools.ts';

export interface KeyedServer extends Server {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

const accessKey = 'testaccess';
const secretKey = 'testsecretkey';

/** A MinIO over a directory. With `domain` buckets may stand before it in the host name. */
export async function startMinio(domain?: string): Promise<KeyedServer> {
  const binary = await minio();
  const server = await start(
    'minio',
    binary,
    (folder, port) => ['server', '--quiet', '--address', `127.0.0.1:${port}`, join(folder, 'data')],
    {
      MINIO_ROOT_USER: accessKey,
      MINIO_ROOT_PASSWORD: secretKey,
      MINIO_BROWSER: 'off',
      MINIO_UPDATE: 'off',
      ...(domain ? { MINIO_DOMAIN: domain } : {}),
    },
  );
  const endpoint = `http://127.0.0.1:${server.port}`;
  // It listens before it serves: then who does not say who he is is refused.
  const ready = (): Promise<boolean> =>
    fetch(endpoint).then(
      ({ status }) => status === 403,
      () => false,
    );
  for (let attempt = 0; !(await ready()); attempt++) {
    if (attempt < 300) await new Promise((resolve) => setTimeout(resolve, 50));
    else {
      await server.stop();
      throw new Error(`MinIO on port ${server.port} does not become ready`);
    }
  }
  return { ...server, endpoint, accessKey, secretKey };
}

/** rclone's WebDAV server over a directory, with a user. */
export async function startWebdav(): Promise<KeyedServer> {
  ensureDebian('rclone');
  const server = await start('webdav', onPath('rclone') ?? 'rclone', (folder, port) => {
    mkdirSync(join(folder, 'data'));
    const login = ['--user', accessKey, '--pass', secretKey];
    return ['serve', 'webdav', '--addr', `127.0.0.1:${port}`, ...login, '--config', '/dev/null', join(folder, 'data')];
  });
  return { ...server, endpoint: `http://127.0.0.1:${server.port}`, accessKey, secretKey };
}

/** The emulator's account; known to everybody. Source: Azurite's README. */
const AZURE_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

/** Azurite's Blob service. */
export async function startAzurite(): Promise<Server & { readonly connection: string }> {
  const folder = await azurite();
  const server = await start('azurite', process.execPath, (data, port) => [
    join(folder, 'dist/src/blob/main.js'),
    '--silent',
    '--disableTelemetry',
    '--blobHost',
    '127.0.0.1',
    '--blobPort',
    String(port),
    '--location',
    data,
  ]);
  const endpoint = `http://127.0.0.1:${server.port}/devstoreaccount1`;
  const connection = `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=${AZURE_KEY};BlobEndpoint=${endpoint};`;
  return { ...server, connection };
}
