/** Real servers for the tests, each an own instance on a free loopback port, ended with the test. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import {
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
} from 'node:fs';
import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheRoot, ensureDebian, ensureDebianFile, onPath, versitygw } from './tools.ts';
import { removeFolder } from './remove-folder.ts';

export interface Server extends AsyncDisposable {
  readonly port: number;
  readonly pid: number;
  readonly folder: string;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Below those that the kernel gives to outgoing connections and to whoever asks for any, else one of these would take it meanwhile. */
const PORTS = { from: 10_000, to: 30_000 };
/** A slow machine builds, tests and starts servers at once. Seconds. */
const START_SECONDS = 60;

/** A loopback port that nobody listens on. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    const server = createServer();
    const free = await new Promise<boolean>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

async function answers(host: string, port: number, child: ChildProcess, what: string, output: () => string): Promise<void> {
  for (const end = performance.now() + START_SECONDS * 1000; performance.now() < end;) {
    if (child.exitCode !== null) throw new Error(`${what} ended with ${child.exitCode}: ${output()}`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ port, host, timeout: 1000 });
      socket.once('connect', () => resolve(socket.destroy() !== undefined));
      socket.once('timeout', () => resolve(socket.destroy() === undefined));
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what} does not listen on ${host}:${port} after ${START_SECONDS} s: ${output()}`);
}

/** Starts a program that listens on a free port, in a folder of its own that goes with it. */
export async function start(
  what: string,
  command: string,
  args: (folder: string, port: number) => readonly string[],
  env: Readonly<Record<string, string>> = {},
  host = '127.0.0.1',
  prepare: (folder: string) => { readonly uid?: number; readonly gid?: number } = () => ({}),
): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), `juicepod-${what}-`));
  const port = await freePort();
  const owner = prepare(folder);
  // Into a file: a pipe that nobody reads (a test that blocks its event loop) would stop the server.
  const log = join(folder, `${what}.log`);
  const output = openSync(log, 'w');
  const child = spawn(command, args(folder, port), {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output],
    ...owner,
  });
  closeSync(output);
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
    removeFolder(folder);
  };
  // A test that dies must not leave the server behind.
  const onExit = (): void => void child.kill('SIGKILL');
  process.once('exit', onExit);
  void ended.then(() => process.off('exit', onExit));
  await answers(host, port, child, what, () => readFileSync(log, 'utf8').slice(-2000));
  return { port, pid: child.pid ?? 0, folder, stop, [Symbol.asyncDispose]: () => stop() };
}

/** A Redis of its own: nothing saved, nothing evicted. `url(db)` is the metadata URL. */
export async function startRedis(
  extra: readonly string[] | ((folder: string, port: number) => readonly string[]) = [],
): Promise<Server & { url(db?: number): string }> {
  ensureDebian('redis-server');
  const server = await start('redis', onPath('redis-server') ?? 'redis-server', (folder, port) => [
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
    ...(typeof extra === 'function' ? extra(folder, port) : extra),
  ]);
  return { ...server, url: (db = 0) => `redis://127.0.0.1:${server.port}/${db}` };
}

/** PostgreSQL does not run as root. */
const nobody: { readonly uid?: number; readonly gid?: number } = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

/**
 * A server's data folder, new: a copy of one that was made once and is kept in the cache, for making it takes seconds.
 * `make` fills an empty folder that belongs to `nobody`.
 */
function dataFolder(
  name: string,
  folder: string,
  make: (template: string) => void,
  finish: (data: string) => void = () => {},
): void {
  const template = join(cacheRoot, 'databases', name);
  if (!existsSync(template)) {
    const making = mkdtempSync(join(tmpdir(), `juicepod-${name}-`));
    try {
      if (nobody.uid !== undefined) chownSync(making, nobody.uid, nobody.gid ?? 0);
      make(making);
      mkdirSync(dirname(template), { recursive: true });
      const copy = `${template}.${process.pid}`;
      cpSync(making, copy, { recursive: true });
      try {
        renameSync(copy, template);
      } catch (error) {
        // Another process was faster.
        removeFolder(copy);
        if (!existsSync(template)) throw error;
      }
    } finally {
      removeFolder(making);
    }
  }
  const data = join(folder, 'data');
  // `cp` keeps no owner here; the whole of it then belongs to who runs the server.
  cpSync(template, data, { recursive: true });
  finish(data);
  if (nobody.uid !== undefined) execFileSync('chown', ['-R', `${nobody.uid}:${nobody.gid}`, folder]);
  execFileSync('chmod', ['0700', data]);
}

/** Where Debian puts the programs of its newest PostgreSQL. */
function postgresPrograms(): string {
  const root = '/usr/lib/postgresql';
  const versions = (existsSync(root) ? readdirSync(root) : []).toSorted((a, b) => Number(b) - Number(a));
  const found = versions.map((version) => join(root, version, 'bin')).find((bin) => existsSync(join(bin, 'initdb')));
  return found ?? dirname(onPath('initdb') ?? '');
}

/** A PostgreSQL of its own, not synced to the disk. `url()` is the metadata URL of its database, to which options may be added. */
export async function startPostgres(extra: readonly string[] = []): Promise<Server & { url(): string }> {
  ensureDebianFile('/usr/lib/postgresql', 'postgresql');
  const bin = postgresPrograms();
  const make = (data: string): void => {
    const args = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale', 'C', '--no-sync'];
    execFileSync(join(bin, 'initdb'), args, { stdio: 'pipe', ...nobody });
  };
  const args = (folder: string, port: number): string[] => {
    const settings = {
      port,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: folder,
      fsync: 'off',
      full_page_writes: 'off',
      synchronous_commit: 'off',
      shared_buffers: '32MB',
      max_connections: 200,
    };
    return [
      '-D',
      join(folder, 'data'),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ...extra,
    ];
  };
  const prepare = (folder: string): typeof nobody => {
    dataFolder(`postgres-${bin.split('/').at(-2)}`, folder, make);
    return nobody;
  };
  const server = await start('postgres', join(bin, 'postgres'), args, {}, '127.0.0.1', prepare);
  const stop = async (signal: NodeJS.Signals = 'SIGQUIT'): Promise<void> => server.stop(signal);
  // It listens before it lets anybody in.
  const ready = (): Promise<boolean> =>
    promisify(execFile)(join(bin, 'pg_isready'), ['-q', '-h', '127.0.0.1', '-p', String(server.port)]).then(
      () => true,
      () => false,
    );
  for (const end = performance.now() + START_SECONDS * 1000; !(await ready());) {
    if (performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
    else {
      await stop();
      throw new Error(`postgres on port ${server.port} lets nobody in`);
    }
  }
  const url = (): string => `postgres://postgres@127.0.0.1:${server.port}/postgres`;
  return { ...server, stop, [Symbol.asyncDispose]: () => stop(), url };
}

/** A MariaDB of its own, not synced to the disk. `url()` is the metadata URL of its database, to which options may be added. */
export async function startMariadb(extra: readonly string[] = []): Promise<Server & { url(): string }> {
  ensureDebian('mariadbd', 'my_print_defaults');
  const make = (data: string): void => {
    const args = [
      '--no-defaults',
      `--datadir=${data}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      '--innodb-log-file-size=16M',
    ];
    execFileSync(onPath('mariadb-install-db') ?? 'mariadb-install-db', args, { stdio: 'pipe', ...nobody });
  };
  const args = (folder: string, port: number): string[] => [
    '--no-defaults',
    `--datadir=${join(folder, 'data')}`,
    `--socket=${join(folder, 'mariadb.sock')}`,
    `--pid-file=${join(folder, 'mariadb.pid')}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    '--character-set-server=utf8mb4',
    '--innodb-flush-log-at-trx-commit=0',
    '--innodb-flush-method=nosync',
    '--innodb-buffer-pool-size=64M',
    '--innodb-file-per-table=0',
    '--innodb-doublewrite=0',
    '--innodb-log-file-size=16M',
    '--performance-schema=OFF',
    '--max-connections=200',
    '--skip-name-resolve',
    ...extra,
  ];
  const prepare = (folder: string): typeof nobody => {
    // A database is a folder.
    dataFolder('mariadb', folder, make, (data) =>
      ['juicefs', 'spare'].forEach((name) => mkdirSync(join(data, name), { recursive: true })),
    );
    return nobody;
  };
  const server = await start('mariadb', onPath('mariadbd') ?? 'mariadbd', args, {}, '127.0.0.1', prepare);
  // An orderly end would write everything that a test is done with.
  const stop = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => server.stop(signal);
  const url = (): string => `mysql://root@(127.0.0.1:${server.port})/juicefs`;
  return { ...server, stop, [Symbol.asyncDispose]: () => stop(), url };
}

/** The databases that a volume can be in. */
export type EngineName = 'redis' | 'sqlite' | 'postgres' | 'mysql';

/** A database of its own with room for two volumes. `folder` is where one that is a file goes. */
export async function startDatabase(
  engine: EngineName,
  folder: string,
): Promise<AsyncDisposable & { readonly url: string; readonly spareUrl: string }> {
  if (engine === 'sqlite')
    return {
      url: `sqlite3://${join(folder, 'meta.db')}`,
      spareUrl: `sqlite3://${join(folder, 'spare.db')}`,
      [Symbol.asyncDispose]: async () => {},
    };
  if (engine === 'redis') {
    const redis = await startRedis();
    return { url: redis.url(1), spareUrl: redis.url(2), [Symbol.asyncDispose]: () => redis.stop() };
  }
  const server = await (engine === 'postgres' ? startPostgres() : startMariadb());
  if (engine === 'postgres') {
    const where = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres'];
    try {
      execFileSync(join(postgresPrograms(), 'createdb'), [...where, 'spare'], { stdio: 'pipe' });
    } catch (error) {
      await server.stop();
      throw error;
    }
  }
  // Another database: the official client loads into none that holds any table.
  const spareUrl = server.url().replace(/\w+$/, 'spare');
  return { url: server.url(), spareUrl, [Symbol.asyncDispose]: () => server.stop() };
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
 * @param extra further arguments of the gateway
 */
export async function startS3(host = '127.0.0.1', extra: readonly string[] = []): Promise<S3Server> {
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
      ...extra,
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
    removeFolder(accounts);
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
