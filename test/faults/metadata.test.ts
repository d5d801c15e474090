/** A mount whose metadata server stops, dies and comes back, forgets or is somebody else's; and a volume that goes away under it. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { appendFile, mkdir, open, readdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { refuses, run, succeeds, until } from '../cli/command.ts';
import { cannotMount, freshVolume, fuseMounts, type Mounted, startMount } from '../mounted.ts';
import { freePort, startRedis } from '../servers.ts';
import { ensureDebian, onPath } from '../tools.ts';
import { removeFolder } from '../remove-folder.ts';

/**
 * A Redis that keeps its data over its death, on a port that stays the same. A shell that was there before starts it: a child of
 * this process would begin by closing the files that are open here, which waits for the mount, which waits for Redis.
 */
class LastingRedis implements AsyncDisposable {
  readonly port: number;
  readonly #folder = mkdtempSync(join(tmpdir(), 'juicepod-redis-'));
  readonly #shell: ChildProcess;
  #pid = 0;

  private constructor(port: number) {
    this.port = port;
    const redis = `${onPath('redis-server') ?? 'redis-server'} --port ${port} --bind 127.0.0.1 --dir "$0"`;
    const start = `${redis} --appendonly yes --appendfsync always >> "$0/log" 2>&1 & echo $!`;
    this.#shell = spawn('sh', ['-c', `while read -r _; do ${start}; done`, this.#folder], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
  }

  static async start(): Promise<LastingRedis> {
    ensureDebian('redis-server');
    const redis = new LastingRedis(await freePort());
    await redis.start();
    return redis;
  }

  async start(): Promise<void> {
    const told = new Promise<Buffer>((done) => this.#shell.stdout?.once('data', done));
    this.#shell.stdin?.write('start\n');
    this.#pid = Number((await told).toString());
    await until('Redis listens', () => listens(this.port));
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.#pid, signal);
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await until('Redis has ended', async () => !(await listens(this.port)));
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/1`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (await listens(this.port)) await this.kill();
    this.#shell.stdin?.end();
    removeFolder(this.#folder);
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => done(socket.destroy() !== undefined));
    socket.once('error', () => done(false));
  });
}

/** A volume on that Redis, mounted. */
async function volumeOn(redis: LastingRedis, options: readonly string[] = []): Promise<Mounted> {
  const work = mkdtempSync(join(tmpdir(), 'juicepod-away-'));
  await succeeds(['format', redis.url, 'vol-a', '--bucket', join(work, 'objects')]);
  const mounted = await startMount(redis.url, join(work, 'mnt'), work, { mount: options });
  return {
    ...mounted,
    async [Symbol.asyncDispose]() {
      await mounted[Symbol.asyncDispose]();
      removeFolder(work);
    },
  };
}

for (const [how, away, back] of [
  ['stands still', (redis: LastingRedis) => redis.signal('SIGSTOP'), (redis: LastingRedis) => redis.signal('SIGCONT')],
  ['dies and starts again with its data', (redis: LastingRedis) => redis.kill(), (redis: LastingRedis) => redis.start()],
] as const)
  test(`operations wait while Redis ${how}, and then each has happened exactly once`, { skip: cannotMount }, async () => {
    await using redis = await LastingRedis.start();
    await using volume = await volumeOn(redis);
    const at = (name: string): string => join(volume.folder, name);
    await mkdir(at('directory'));
    for (const name of ['renamed', 'removed', 'appended']) await writeFile(at(name), name);
    const held = await open(at('held'), 'w');
    await held.write('before ');
    await away(redis);
    let answered = 0;
    // Four at a time: that is what this process's own pool of threads can wait for.
    const work = [
      () => mkdir(at('new-directory')),
      () => rename(at('renamed'), at('directory/renamed')),
      () => unlink(at('removed')),
      () => appendFile(at('appended'), ' once'),
    ].map((operation) => operation().then(() => answered++));
    await until('the client has noticed, or the operations have reached it', async () => {
      await new Promise((done) => setTimeout(done, 300));
      return true;
    });
    assert.equal(answered, 0);
    await back(redis);
    await Promise.all(work);
    await held.write('after');
    await held.sync();
    await held.close();
    assert.deepEqual((await readdir(volume.folder)).filter((name) => !name.startsWith('.')).toSorted(), [
      'appended',
      'directory',
      'held',
      'new-directory',
    ]);
    assert.deepEqual(await readdir(at('directory')), ['renamed']);
    assert.equal(await readFile(at('appended'), 'utf8'), 'appended once');
    assert.equal(await readFile(at('held'), 'utf8'), 'before after');
    assert.equal((await stat(at('directory'))).nlink, 2);
    await volume.unmount();
    const { Sessions } = JSON.parse(await succeeds(['status', redis.url, '--output', 'json'])) as { Sessions: unknown[] };
    assert.deepEqual(Sessions, []);
  });

test(
  'a mount started while its Redis is away is refused; one started when it is back finds everything',
  { skip: cannotMount },
  async () => {
    await using redis = await LastingRedis.start();
    const work = mkdtempSync(join(tmpdir(), 'juicepod-away-'));
    try {
      await succeeds(['format', redis.url, 'vol-a', '--bucket', join(work, 'objects')]);
      await redis.kill();
      const mount = ['mount', redis.url, join(work, 'mnt'), '--cache-dir', join(work, 'cache')];
      await refuses(mount, /Redis at .* does not answer/);
      assert.deepEqual(fuseMounts(work), []);
      await redis.start();
      await using mounted = await startMount(redis.url, join(work, 'mnt'), work);
      writeFileSync(join(mounted.folder, 'file'), 'content');
    } finally {
      removeFolder(work);
    }
  },
);

test(
  'a client that is killed while Redis is away takes over when it is back, and loses nothing',
  { skip: cannotMount },
  async () => {
    await using redis = await LastingRedis.start();
    await using volume = await volumeOn(redis);
    const file = await open(join(volume.folder, 'file'), 'w');
    await file.write('synced ');
    await file.sync();
    await file.write('written ');
    const { Pid } = JSON.parse(await readFile(join(volume.folder, '.config'), 'utf8')) as { Pid: number };
    await redis.kill();
    process.kill(Pid, 'SIGKILL');
    await until('the client is gone', () => {
      try {
        process.kill(Pid, 0);
        return false;
      } catch {
        return true;
      }
    });
    const more = file.write('later');
    await redis.start();
    await more;
    await file.sync();
    await file.close();
    assert.equal(await readFile(join(volume.folder, 'file'), 'utf8'), 'synced written later');
  },
);

test(
  'Redis that would drop keys is told not to, and one that does not let itself be told is warned of',
  { skip: cannotMount },
  async () => {
    for (const [extra, wanted] of [
      [[], /maxmemory-policy is now noeviction/],
      [['--rename-command', 'CONFIG', ''], /set maxmemory-policy to noeviction/],
    ] as const) {
      await using redis = await startRedis(['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru', ...extra]);
      const work = mkdtempSync(join(tmpdir(), 'juicepod-evict-'));
      try {
        await succeeds(['format', redis.url(1), 'vol-a', '--bucket', join(work, 'objects')]);
        // Somebody sets it again, as a managed service may.
        if (extra.length === 0)
          execFileSync('redis-cli', ['-p', String(redis.port), 'config', 'set', 'maxmemory-policy', 'allkeys-lru']);
        await using mounted = await startMount(redis.url(1), join(work, 'mnt'), work);
        await mounted.unmount();
        assert.match(readFileSync(join(work, 'mount.log'), 'utf8'), wanted);
      } finally {
        removeFolder(work);
      }
    }
  },
);

test('Redis that is out of memory says ENOSPC, and works again when there is some', { skip: cannotMount }, async () => {
  await using redis = await startRedis();
  const work = mkdtempSync(join(tmpdir(), 'juicepod-oom-'));
  try {
    await succeeds(['format', redis.url(1), 'vol-a', '--bucket', join(work, 'objects')]);
    await using mounted = await startMount(redis.url(1), join(work, 'mnt'), work);
    writeFileSync(join(mounted.folder, 'file'), 'content');
    const memory = (limit: string): void =>
      void execFileSync('redis-cli', ['-p', String(redis.port), 'config', 'set', 'maxmemory', limit]);
    memory('1');
    assert.throws(() => writeFileSync(join(mounted.folder, 'more'), 'content'), { code: 'ENOSPC' });
    assert.equal(readFileSync(join(mounted.folder, 'file'), 'utf8'), 'content');
    memory('0');
    writeFileSync(join(mounted.folder, 'more'), 'content');
  } finally {
    removeFolder(work);
  }
});

for (const [what, change] of [
  ['is deleted', () => {}],
  [
    'is formatted anew',
    async (url: string, work: string) => {
      await succeeds(['format', url, 'vol-b', '--bucket', join(work, 'other')]);
    },
  ],
] as const)
  test(`a mount whose volume ${what} ends with 11, unmounted`, { skip: cannotMount }, async () => {
    await using volume = await freshVolume('redis', { mount: ['--heartbeat', '1s'] });
    writeFileSync(join(volume.folder, 'file'), 'content');
    const ended = new Promise<number | null>((done) => volume.child.once('exit', done));
    const { port, pathname } = new URL(volume.metaUrl);
    execFileSync('redis-cli', ['-p', port, '-n', pathname.slice(1), 'flushdb']);
    await change(volume.metaUrl, volume.work);
    assert.equal(await ended, 11);
    assert.deepEqual(fuseMounts(volume.folder), []);
    assert.match(readFileSync(join(volume.work, 'mount.log'), 'utf8'), /the volume is lost; unmounting/);
    const { code } = await run(['umount', volume.folder]);
    assert.equal(code, 1);
    assert.deepEqual(readdirSync(volume.folder), []);
  });
