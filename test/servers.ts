/** Real servers for the tests, each an own instance on a free loopback port, ended with the test. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ensureDebian, onPath, versitygw } from './tools.ts';

export interface Server extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  readonly folder: string;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** A loopback port that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

async function answers(host: string, port: number, child: ChildProcess, what: string, output: () => string): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt++) {
    if (child.exitCode !== null) throw new Error(`${what} ended with ${child.exitCode}: ${output()}`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, host);
      socket.once('connect', () => resolve(socket.destroy() !== undefined));
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what} does not listen on ${host}:${port}: ${output()}`);
}

async function start(
  what: string,
  command: string,
  args: (folder: string, port: number) => readonly string[],
  env: Readonly<Record<string, string>> = {},
  host = '127.0.0.1',
): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), `juicepod-${what}-`));
  const port = await freePort();
  // Into a file: a pipe that nobody reads (a test that blocks its event loop) would stop the server.
  const log = join(folder, `${what}.log`);
  const output = openSync(log, 'w');
  const child = spawn(command, args(folder, port), {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  // A test that dies must not leave the server behind.
  const onExit = (): void => void child.kill('SIGKILL');
  process.once('exit', onExit);
  void ended.then(() => process.off('exit', onExit));
  await answers(host, port, child, what, () => readFileSync(log, 'utf8').slice(-2000));
  return { port, pid: child.pid ?? 0, folder, stop, [Symbol.asyncDispose]: () => stop() };
}

/** A Redis of its own: nothing saved, nothing evicted. `url(db)` is the metadata URL. */
export async function startRedis(extra: readonly string[] = []): Promise<Server & { url(db?: number): string }> {
  ensureDebian('redis-server');
  const server = await start('redis', onPath('redis-server') ?? 'redis-server', (_folder, port) => [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
    '--maxmemory-policy',
    'noeviction',
    ...extra,
  ]);
  return { ...server, url: (db = 0) => `redis://127.0.0.1:${server.port}/${db}` };
}

export interface S3Server extends Server {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** Makes a bucket (a folder of the gateway). */
  createBucket(name: string): void;
  /** Makes a further key that may do everything. */
  createKey(accessKey: string, secretKey: string): Promise<void>;
  /** Takes a key away that was made; it is refused from the next request on. */
  deleteKey(accessKey: string): Promise<void>;
}

/**
 * An S3 server (versitygw over a directory) that checks signatures.
 *
 * @param host the address to listen on. @default 127.0.0.1
 */
export async function startS3(host = '127.0.0.1'): Promise<S3Server> {
  const binary = await versitygw();
  const accounts = mkdtempSync(join(tmpdir(), 'juicepod-s3-accounts-'));
  const accessKey = 'testaccess';
  const secretKey = 'testsecretkey';
  const server = await start(
    's3',
    binary,
    (folder, port) => [
      '--port',
      `${host}:${port}`,
      '--access',
      accessKey,
      '--secret',
      secretKey,
      '--iam-dir',
      accounts,
      '--iam-cache-disable',
      'posix',
      folder,
    ],
    {},
    host,
  );
  const endpoint = `http://${host}:${server.port}`;
  const admin = async (...args: readonly string[]): Promise<void> => {
    const login = ['--access', accessKey, '--secret', secretKey, '--endpoint-url', endpoint];
    await promisify(execFile)(binary, ['admin', ...login, ...args], { timeout: 20_000 });
  };
  const stop = async (signal?: NodeJS.Signals): Promise<void> => {
    await server.stop(signal);
    rmSync(accounts, { recursive: true, force: true });
  };
  return {
    ...server,
    stop,
    [Symbol.asyncDispose]: () => stop(),
    endpoint,
    accessKey,
    secretKey,
    createBucket: (name) => void mkdirSync(join(server.folder, name)),
    createKey: (access, secret) => admin('create-user', '--access', access, '--secret', secret, '--role', 'admin'),
    deleteKey: (access) => admin('delete-user', '--access', access),
  };
}
